// SPDX-License-Identifier: Apache-2.0
//! The state of one processor that assembly and signal handlers reach.
//!
//! Each processor has a region of [`REGION`] bytes at a multiple of its size:
//!
//! ```text
//! 0                 Block
//! 0x1000 .. 0x3000  the stack pointer that every EENTER has; IRETQ frames
//! 0x3000 .. 0x4000  XSAVE area of the trampoline
//! 0x4000 .. 0x8000  guard
//! 0x8000 .. REGION  signal stack
//! ```
//!
//! Masking RSP finds the block from the signal stack and from the stack that
//! EEXIT restores. The block lies outside the signal stack's range: ERESUME
//! runs with RSP in the block, and the kernel must not believe that it already
//! is on the signal stack, or it would overwrite it.

use std::mem::{offset_of, size_of};

use sgx::PAGE_SIZE;

/// Size and alignment of a region.
pub(crate) const REGION: usize = 256 << 10;
/// Where the stack pointer of every EENTER lies.
pub(crate) const SWITCH_STACK_TOP: usize = 0x3000 - 64;
/// Where the trampoline saves vector state.
pub(crate) const XSAVE_OFFSET: usize = 0x3000;
/// Where the guard starts.
pub(crate) const GUARD_OFFSET: usize = 0x4000;
/// Its length.
pub(crate) const GUARD_LEN: usize = 0x4000;
/// Where the signal stack starts.
pub(crate) const ALT_STACK_OFFSET: usize = 0x8000;
/// Marks a block.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SGXEMUCP");

pub(crate) const OUTCOME_EXIT: u64 = 0;
pub(crate) const OUTCOME_AEX: u64 = 1;
pub(crate) const OUTCOME_NOT_ENTERED: u64 = 2;
pub(crate) const OUTCOME_REFUSED: u64 = 3;

/// General registers in the order of GPRSGX: RAX, RCX, RDX, RBX, RSP, RBP, RSI,
/// RDI, R8 to R15.
pub(crate) type Registers = [u64; 16];
pub(crate) const RAX: usize = 0;
pub(crate) const RCX: usize = 1;
pub(crate) const RDX: usize = 2;
pub(crate) const RBX: usize = 3;
pub(crate) const RSP: usize = 4;
pub(crate) const RBP: usize = 5;

/// What IRETQ takes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct InterruptFrame {
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

/// See the module's documentation. Every field is a `u64` or a list of them.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) magic: u64,
    pub(crate) host_rsp: u64,
    pub(crate) host_fs: u64,
    pub(crate) host_gs: u64,
    pub(crate) aep: u64,
    pub(crate) switch_rsp: u64,
    pub(crate) entry: u64,
    pub(crate) tcs: u64,
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    /// Address of SSA frame `cssa`.
    pub(crate) ssa: u64,
    pub(crate) cssa: u64,
    /// Address of the owner's `AtomicU64`.
    pub(crate) pending: u64,
    pub(crate) xmask: u64,
    pub(crate) outcome: u64,
    /// Not zero while the trampoline runs Rust for a leaf.
    pub(crate) in_leaf: u64,
    /// RFLAGS.TF if the trampoline must return with a single-step trap.
    pub(crate) leaf_trap: u64,
    pub(crate) frame: InterruptFrame,
    pub(crate) regs: Registers,
    /// A fault that the leaf raised: 1, vector, error code, address.
    pub(crate) leaf_fault: [u64; 4],
    /// Not zero if the last AEX was caused by an exception.
    pub(crate) exception: u64,
    pub(crate) enclave: u64,
    pub(crate) ossa: u64,
    pub(crate) nssa: u64,
}

impl Block {
    /// Sets CSSA and the address that follows from it.
    pub(crate) fn set_cssa(&mut self, cssa: u64) {
        self.cssa = cssa;
        self.ssa = self.ossa + cssa * PAGE_SIZE as u64;
    }
}

const _: () = assert!(size_of::<Block>() <= 0x1000);
const _: () = assert!(offset_of!(Block, magic) == 0);
