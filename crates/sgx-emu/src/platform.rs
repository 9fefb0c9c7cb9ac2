// SPDX-License-Identifier: Apache-2.0
//! What this machine's CPU and kernel can do for the emulation.

use std::arch::asm;
use std::io;

const ARCH_CPUID: libc::c_long = 0x1012;
const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const PR_SYS_DISPATCH_ON: libc::c_ulong = 1;
const PR_SYS_DISPATCH_OFF: libc::c_ulong = 0;
/// End of the user half of the address space.
const USER_END: u64 = 1 << 47;

/// The outcome of asking for each facility.
#[derive(Debug)]
pub struct Support {
    /// Syscall User Dispatch: makes `syscall` inside the enclave an exception.
    /// Without it there is no emulation.
    pub syscall_dispatch: Result<(), io::Error>,
    /// CPUID faulting: makes CPUID inside the enclave an exception.
    pub cpuid_faulting: Result<(), io::Error>,
    /// The state components that the kernel saves for processes.
    pub xcr0: u64,
}

/// Asks kernel and CPU. Leaves everything as it was.
#[must_use]
pub fn probe() -> Support {
    let syscall_dispatch = dispatch_syscalls_below(0x1000).and_then(|()| allow_all_syscalls());
    let cpuid_faulting = set_cpuid_faulting(true).and_then(|()| set_cpuid_faulting(false));
    Support {
        syscall_dispatch,
        cpuid_faulting,
        xcr0: xcr0(),
    }
}

/// Makes system calls from `0..end` raise SIGSYS in the calling thread.
pub(crate) fn dispatch_syscalls_below(end: u64) -> io::Result<()> {
    // The range given is the one from which system calls stay allowed: no
    // selector byte, and the handler's own sigreturn works (kernel documentation,
    // admin-guide/syscall-user-dispatch).
    // SAFETY: changes only how the kernel treats system calls of this thread.
    let done = unsafe {
        libc::prctl(
            PR_SET_SYSCALL_USER_DISPATCH,
            PR_SYS_DISPATCH_ON,
            end,
            USER_END - end,
            0,
        )
    };
    check(done.into())
}

/// Ends what [`dispatch_syscalls_below`] began.
pub(crate) fn allow_all_syscalls() -> io::Result<()> {
    // SAFETY: as above.
    let done = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) };
    check(done.into())
}

/// Makes CPUID raise #GP in the calling thread and in threads that it starts.
pub(crate) fn set_cpuid_faulting(on: bool) -> io::Result<()> {
    // SAFETY: changes only how CPUID behaves in this thread.
    check(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_CPUID, libc::c_long::from(!on)) })
}

fn check(done: libc::c_long) -> io::Result<()> {
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// XCR0.
#[must_use]
pub fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every x86-64 machine with AVX, which XFRM requires, has XGETBV
    // enabled; Linux enables OSXSAVE on all of them.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// This thread's FS and GS base.
pub(crate) fn segment_bases() -> (u64, u64) {
    let (fs, gs): (u64, u64);
    // SAFETY: Linux enables FSGSBASE where the CPU has it (AT_HWCAP2 bit 1),
    // which `Support` users check through `has_fsgsbase`.
    unsafe {
        asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs, options(nomem, nostack));
    }
    (fs, gs)
}

/// Whether user code may read and write FS and GS bases.
#[must_use]
pub fn has_fsgsbase() -> bool {
    const HWCAP2_FSGSBASE: libc::c_ulong = 1 << 1;
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}
