// SPDX-License-Identifier: Apache-2.0
//! A processor whose owner attacks the enclave: interrupts it between any two
//! instructions, or claims that an exception happened there. For tests of what
//! an enclave believes (rule S12); silicon lets an attacker interrupt and unmap
//! pages, but not forge #UD: here everything can be claimed.
//!
//! Only in strict mode: the enclave runs single-stepped.

use std::arch::asm;
use std::fmt::Debug;
use std::sync::Arc;

use sgx::ssa::{EXINFO_OFFSET, ExitInfo, GPRSGX_OFFSET, gpr};
use thiserror::Error;

use crate::Mode;
use crate::enclave::EmulatedEnclave;
use crate::leaf::Fault;
use crate::memory::machine;
use crate::processor::aex::{Cause, Interrupted, TRAP_FLAG};

/// What an attacker does between two instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// Nothing.
    Nothing,
    /// An asynchronous exit without a cause.
    Interrupt,
    /// An asynchronous exit that claims this exception.
    Exception {
        /// Exception vector.
        vector: u8,
        /// Error code, for #PF and #GP.
        error: u32,
        /// Faulting address, for #PF.
        address: u64,
    },
}

/// Decides what happens between instructions. Called in a signal handler:
/// implementations neither allocate nor lock.
pub trait Attacker: Send + Sync + Debug {
    /// The enclave is about to execute the instruction at `rip` with `cssa`
    /// frames in use.
    fn before_instruction(&self, rip: u64, cssa: u64) -> Injection;
    /// The enclave asks to be resumed. Anything but [`Injection::Nothing`] is
    /// claimed at once, before an instruction runs.
    fn before_resume(&self) -> Injection;
}

/// Why an attack cannot be mounted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttackError {
    /// Fast mode does not single-step.
    #[error("an attacker needs strict mode")]
    FastMode,
    /// There is one already.
    #[error("the enclave has an attacker already")]
    Twice,
}

impl EmulatedEnclave {
    /// Lets `attacker` decide from now on. Call before any thread is attached.
    ///
    /// # Errors
    /// [`AttackError`].
    pub fn attack(&self, attacker: Arc<dyn Attacker>) -> Result<(), AttackError> {
        if self.mode != Mode::Strict {
            return Err(AttackError::FastMode);
        }
        self.attacker.set(attacker).map_err(|_| AttackError::Twice)
    }

    /// Whether every instruction traps.
    pub(crate) fn is_attacked(&self) -> bool {
        self.attacker.get().is_some()
    }
}

/// Sets or clears RFLAGS.TF of the calling thread. With TF set every host
/// instruction up to the enclave traps too; the handler lets them pass.
#[inline(always)]
pub(crate) fn single_step(on: bool) {
    if on {
        // SAFETY: changes TF only; the trap's handler is installed.
        unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    } else {
        // SAFETY: as above.
        unsafe { asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    }
}

/// A single step inside the enclave. Returns whether the host runs next.
pub(crate) fn step(at: &mut Interrupted<'_>) -> bool {
    let Some(attacker) = at.enclave.attacker.get() else {
        return false;
    };
    let rip = at.rip();
    let cause = match attacker.before_instruction(rip, at.block.cssa) {
        Injection::Nothing => return false,
        Injection::Interrupt => Cause::Interrupt,
        Injection::Exception {
            vector,
            error,
            address,
        } => Cause::Exception(Fault {
            vector,
            error,
            address,
        }),
    };
    let registers = at.registers();
    let rflags = at.get(libc::REG_EFL) & !TRAP_FLAG;
    at.exit(cause, &registers, rip, rflags);
    true
}

/// What an attacker makes of ERESUME of the state in `frame`: `Some` is the
/// outcome instead (whether it claims an exception). Else the resumed code runs
/// single-stepped.
pub(crate) fn resume(enclave: &EmulatedEnclave, frame: u64) -> Option<bool> {
    let attacker = enclave.attacker.get()?;
    let word = |offset: usize| (machine(frame) + offset) as *mut u64;
    let flags = word(GPRSGX_OFFSET + gpr::RFLAGS);
    // SAFETY: the frame is a usable page of the enclave (checked by the caller).
    let rflags = unsafe { flags.read_unaligned() };
    // SAFETY: as above.
    unsafe { flags.write_unaligned(rflags | TRAP_FLAG) };
    let (info, address, error) = match attacker.before_resume() {
        Injection::Nothing => return None,
        Injection::Interrupt => (ExitInfo::default(), 0, 0),
        Injection::Exception {
            vector,
            error,
            address,
        } => {
            let info = ExitInfo {
                vector,
                exit_type: ExitInfo::HARDWARE,
                valid: true,
            };
            (info, address, error)
        }
    };
    // SAFETY: as above.
    unsafe { flags.write_unaligned(rflags & !TRAP_FLAG) };
    // SAFETY: as above.
    unsafe { word(GPRSGX_OFFSET + gpr::EXITINFO).write_unaligned(info.to_bits().into()) };
    // SAFETY: as above.
    unsafe { word(EXINFO_OFFSET).write_unaligned(address) };
    // SAFETY: as above.
    unsafe { word(EXINFO_OFFSET + 8).write_unaligned(error.into()) };
    Some(info.valid)
}
