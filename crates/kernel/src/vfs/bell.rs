// SPDX-License-Identifier: Apache-2.0
//! A host eventfd that ends a thread's sleep in the host.

use core::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::call::Op;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Machine, Word};
use crate::sync::Wake;
use crate::vfs::hostfs::handle::HostHandle;

/// A bell. It carries no data; a bell that the host rings or mutes costs time only.
#[derive(Debug)]
pub(crate) struct Bell {
    handle: HostHandle,
    is_rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new(cx: &Context<'_>) -> Result<Self, Errno> {
        const CLOEXEC_NONBLOCK: u64 = 0o2004000;
        let words = &mut [Word::Value(0), Word::Value(CLOEXEC_NONBLOCK)];
        let fd = cx.host(Op::Eventfd, words)?;
        Ok(Self {
            handle: HostHandle::from_result(cx.machine, fd)?,
            is_rung: AtomicBool::new(false),
        })
    }

    pub(crate) fn fd(&self) -> HostFd {
        self.handle.fd()
    }

    pub(crate) fn ring(&self, machine: &dyn Machine) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            let one = 1_u64.to_le_bytes();
            let words = &mut [Word::Fd(self.handle.fd()), Word::In(&one)];
            let _ = machine.host_call(Op::Write, words);
        }
    }

    /// Makes it silent again. What it announced must be looked at after this.
    pub(crate) fn quiet(&self, cx: &Context<'_>) {
        let mut count = [0; 8];
        let words = &mut [Word::Fd(self.handle.fd()), Word::Out(&mut count)];
        let _ = cx.host(Op::Read, words);
        self.is_rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(&self, machine: &dyn Machine) {
        self.ring(machine);
    }
}
