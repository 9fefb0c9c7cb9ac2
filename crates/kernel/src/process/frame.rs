// SPDX-License-Identifier: Apache-2.0
//! A program's registers while its thread is in the kernel.

/// The thread is in a system call.
pub const REASON_SYSCALL: u64 = 0;
/// The program was interrupted, by an exception or to look at signals: all of
/// its registers must come back as they were.
pub const REASON_TRAP: u64 = 1;

/// General registers, xmm0-15 and why the program stopped. The upper parts of
/// the vector registers, x87 and MXCSR stay in the CPU.
#[repr(C, align(64))]
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "registers are named after themselves")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call's number; [`NO_CALL`] outside of calls.
    pub orig_rax: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
    /// [`REASON_SYSCALL`] or [`REASON_TRAP`].
    pub reason: u64,
    pub xmm: [u128; 16],
    /// The exception's vector; [`NO_VECTOR`] if there was none.
    pub vector: u64,
    /// Its error code (#PF).
    pub error: u64,
    /// The address it is about (#PF).
    pub address: u64,
    pub spare: u64,
}

/// No system call is being served.
pub const NO_CALL: u64 = u64::MAX;
/// No exception: the thread was interrupted to look at its signals.
pub const NO_VECTOR: u64 = u64::MAX;

/// RFLAGS that a program may choose: CF PF AF ZF SF TF DF OF AC.
pub const RFLAGS_USER: u64 = 0x0004_0dd5;

impl Frame {
    /// The arguments of a system call.
    #[must_use]
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}
