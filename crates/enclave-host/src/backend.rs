// SPDX-License-Identifier: Apache-2.0
//! What stands below the instruction set: the emulated processor or
//! `/dev/sgx_enclave`. Nothing above this line asks which one it is.

pub mod device;
pub mod emulated;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sgx::secinfo::SecInfo;
use sgx::sigstruct::Sigstruct;
use thiserror::Error;

use crate::image::Image;

/// A handler for asynchronous signals, called on the signal stack after the
/// enclave has been left.
pub type SignalCallback = unsafe extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::ucontext_t);

/// Why a backend cannot load or run an enclave.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The machine has no SGX device.
    #[error("no SGX device found: tried {}", device::PATHS.join(", "))]
    NoDevice,
    /// There is a device, but not of the Linux kernel's own driver.
    #[error(
        "{path} belongs to an SGX driver outside the Linux kernel; Linux 6.0 or later with /dev/sgx_enclave is needed"
    )]
    ForeignDriver {
        /// Its path.
        path: &'static str,
    },
    /// The device refused something.
    #[error("{path} refused {step}")]
    Device {
        /// Its path.
        path: &'static str,
        /// What was asked for.
        step: &'static str,
        /// The answer.
        source: std::io::Error,
    },
    /// The emulated processor could not build the enclave.
    #[error("emulated processor cannot load the enclave")]
    Emulated(#[from] sgx_emu::enclave::EnclaveError),
    /// The attack that a test asked for is not possible.
    #[cfg(feature = "hostile")]
    #[error("cannot attack the enclave")]
    Attack(#[from] sgx_emu::hostile::AttackError),
    /// A host thread could not become a processor.
    #[error("cannot prepare a thread for the enclave")]
    Attach(#[from] sgx_emu::processor::AttachError),
    /// A signal handler could not be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] std::io::Error),
}

/// How an entry into the enclave ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// EEXIT, with RDI and RSI.
    Exit {
        /// RDI: an [`enclave_abi::entry::Exit`] number.
        number: u64,
        /// RSI.
        argument: u64,
    },
    /// An asynchronous exit: another SSA frame is in use.
    Asynchronous {
        /// Whether an exception caused it, rather than a signal: resuming alone
        /// would raise it again.
        exception: bool,
    },
    /// Work is pending; the enclave was not entered.
    NotEntered,
    /// The instruction faulted.
    Refused,
}

/// What ECREATE needs besides the image.
#[derive(Clone, Debug)]
pub struct Identity {
    /// CONFIGID.
    pub config_id: [u8; 64],
    /// State components that image and machine share.
    pub xfrm: u64,
}

/// An enclave between ECREATE and EINIT.
pub trait Building {
    /// EADD of `pages` pages from `offset` on; each is EEXTENDed if `measured`.
    /// `bytes` is absent for zero pages.
    ///
    /// # Errors
    /// [`BackendError`].
    fn add_pages(
        &mut self,
        offset: u64,
        pages: u32,
        secinfo: &SecInfo,
        bytes: Option<&[u8]>,
        measured: bool,
    ) -> Result<(), BackendError>;

    /// EINIT. `gate` is the address of the kernel's ENCLU.
    ///
    /// # Errors
    /// [`BackendError`].
    fn init(
        self: Box<Self>,
        sigstruct: &[u8; Sigstruct::SIZE],
        gate: u64,
    ) -> Result<Arc<dyn Backend>, BackendError>;
}

/// An enclave after EINIT.
pub trait Backend: Send + Sync {
    /// Routes exceptions to the enclave and `signals` to `callback`.
    ///
    /// # Errors
    /// [`BackendError::Signals`].
    fn install_signals(
        &self,
        signals: &[i32],
        callback: SignalCallback,
    ) -> Result<(), BackendError>;

    /// Makes the calling thread able to enter the TCS at `tcs`; `None` while
    /// another thread is in it. While `pending` is not zero the enclave is not
    /// entered.
    ///
    /// # Errors
    /// [`BackendError`].
    fn attach(
        &self,
        tcs: u64,
        pending: &Arc<AtomicU64>,
    ) -> Result<Option<Box<dyn Processor>>, BackendError>;

    /// EMODPR: keeps at most these SECINFO permissions.
    ///
    /// # Errors
    /// A positive errno.
    fn restrict(&self, address: u64, len: u64, permissions: u64) -> Result<(), i32>;

    /// EMODT to PT_TRIM.
    ///
    /// # Errors
    /// A positive errno.
    fn trim(&self, address: u64, len: u64) -> Result<(), i32>;

    /// EREMOVE of trimmed pages.
    ///
    /// # Errors
    /// A positive errno.
    fn remove(&self, address: u64, len: u64) -> Result<(), i32>;
}

/// A thread that may enter one TCS. It stays on its thread.
pub trait Processor {
    /// EENTER.
    fn enter(&mut self, rdi: u64, rsi: u64, rdx: u64) -> Outcome;
    /// ERESUME.
    fn resume(&mut self) -> Outcome;
}

/// EADDs every page of the image and EINITs it.
///
/// # Errors
/// [`BackendError`].
pub fn load(
    mut building: Box<dyn Building>,
    image: &Image,
    sigstruct: &[u8; Sigstruct::SIZE],
) -> Result<Arc<dyn Backend>, BackendError> {
    for run in &image.header().runs {
        let bytes = image.run_bytes(run);
        building.add_pages(run.offset, run.pages, &run.secinfo, bytes, run.measured)?;
    }
    building.init(sigstruct, image.header().gate)
}
