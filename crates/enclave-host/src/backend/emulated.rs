// SPDX-License-Identifier: Apache-2.0
//! The emulated processor as a backend.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sgx::secinfo::SecInfo;
use sgx::sigstruct::Sigstruct;
use sgx_emu::Mode;
use sgx_emu::enclave::{Builder, Content, Creation, EmulatedEnclave};
use sgx_emu::keys::KeySource;
use sgx_emu::processor::{AttachError, Cpuid};

use super::{Backend, BackendError, Building, Identity, Outcome, Processor, SignalCallback};
use crate::image::Image;

/// How the emulation runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fast or strict.
    pub mode: Mode,
    /// What CPUID does inside.
    pub cpuid: Cpuid,
    /// Who attacks the enclave.
    #[cfg(feature = "hostile")]
    pub attacker: Option<Arc<dyn sgx_emu::hostile::Attacker>>,
}

/// ECREATE on the emulated processor.
///
/// # Errors
/// [`BackendError::Emulated`].
pub fn create(
    image: &Image,
    identity: &Identity,
    options: Options,
    keys: Arc<dyn KeySource>,
) -> Result<Box<dyn Building>, BackendError> {
    let header = image.header();
    let mut attributes = header.attributes;
    attributes.xfrm = identity.xfrm;
    let creation = Creation {
        size: header.elrange,
        ssa_frame_size: header.ssa_frame_size,
        miscselect: header.miscselect,
        attributes,
        config_id: identity.config_id,
        config_svn: 0,
    };
    Ok(Box::new(EmulatedBuilding {
        builder: Builder::create(&creation, options.mode)?,
        options,
        keys,
    }))
}

struct EmulatedBuilding {
    builder: Builder,
    options: Options,
    keys: Arc<dyn KeySource>,
}

impl Building for EmulatedBuilding {
    fn add_pages(
        &mut self,
        offset: u64,
        pages: u32,
        secinfo: &SecInfo,
        bytes: Option<&[u8]>,
        measured: bool,
    ) -> Result<(), BackendError> {
        let content = bytes.map_or(Content::Zero(pages), Content::Bytes);
        Ok(self.builder.add(offset, secinfo, content, measured)?)
    }

    fn init(
        self: Box<Self>,
        sigstruct: &[u8; Sigstruct::SIZE],
        gate: u64,
    ) -> Result<Arc<dyn Backend>, BackendError> {
        let enclave = self.builder.init(sigstruct, gate, self.keys)?;
        #[cfg(feature = "hostile")]
        if let Some(attacker) = self.options.attacker {
            enclave.attack(attacker)?;
        }
        Ok(Arc::new(Emulated {
            enclave,
            cpuid: self.options.cpuid,
        }))
    }
}

struct Emulated {
    enclave: Arc<EmulatedEnclave>,
    cpuid: Cpuid,
}

impl Backend for Emulated {
    fn install_signals(
        &self,
        signals: &[i32],
        callback: SignalCallback,
    ) -> Result<(), BackendError> {
        sgx_emu::signal::install(signals, callback).map_err(BackendError::Signals)
    }

    fn attach(
        &self,
        tcs: u64,
        pending: &Arc<AtomicU64>,
    ) -> Result<Option<Box<dyn Processor>>, BackendError> {
        match sgx_emu::processor::Processor::attach(&self.enclave, tcs, pending, self.cpuid) {
            Ok(processor) => Ok(Some(Box::new(processor))),
            Err(AttachError::Busy { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn restrict(&self, address: u64, len: u64, permissions: u64) -> Result<(), i32> {
        self.enclave
            .restrict(address, len, permissions)
            .map_err(|error| error.errno())
    }

    fn trim(&self, address: u64, len: u64) -> Result<(), i32> {
        self.enclave
            .trim(address, len)
            .map_err(|error| error.errno())
    }

    fn remove(&self, address: u64, len: u64) -> Result<(), i32> {
        self.enclave
            .remove(address, len)
            .map_err(|error| error.errno())
    }
}

impl Processor for sgx_emu::processor::Processor {
    fn enter(&mut self, rdi: u64, rsi: u64, rdx: u64) -> Outcome {
        Self::enter(self, rdi, rsi, rdx).into()
    }

    fn resume(&mut self) -> Outcome {
        Self::resume(self).into()
    }
}

impl From<sgx_emu::processor::Outcome> for Outcome {
    fn from(outcome: sgx_emu::processor::Outcome) -> Self {
        use sgx_emu::processor::Outcome as Emulated;
        match outcome {
            Emulated::Exit { number, argument } => Self::Exit { number, argument },
            Emulated::Asynchronous { exception } => Self::Asynchronous { exception },
            Emulated::NotEntered => Self::NotEntered,
            Emulated::Refused => Self::Refused,
        }
    }
}
