// SPDX-License-Identifier: Apache-2.0
//! A machine with registers and memory but no enclave, for tests of signals
//! and traps.

use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use enclave_abi::call::Op;
use enclave_abi::entry::AbortReason;
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{Cpu, Machine, Word};
use crate::process::Task;
use crate::process::frame::Frame;
use crate::vfs::ProcessFiles;

/// First address of the program's memory.
pub(crate) const BASE: u64 = 0x10_0000;
const LEN: usize = 1 << 20;

/// The machine.
pub(crate) struct FakeCpu {
    memory: Mutex<Vec<u8>>,
    /// What [`Cpu::save_vector`] gives.
    pub(crate) vector: Mutex<Vec<u8>>,
    /// What [`Cpu::load_vector`] got.
    pub(crate) loaded: Mutex<Vec<u8>>,
    pub(crate) xfrm: u64,
    pub(crate) hints: AtomicU64,
    pub(crate) attention: AtomicU64,
    clock: AtomicU64,
}

impl FakeCpu {
    pub(crate) fn new(xfrm: u64) -> &'static Self {
        Box::leak(Box::new(Self {
            memory: Mutex::new(std::vec![0; LEN]),
            vector: Mutex::new(std::vec![0; 2752]),
            loaded: Mutex::default(),
            xfrm,
            hints: AtomicU64::new(0),
            attention: AtomicU64::new(0),
            clock: AtomicU64::new(0),
        }))
    }

    /// A context for `task` on this machine.
    pub(crate) fn cx<'a>(&'static self, task: &'a Arc<Task>) -> Context<'a> {
        Context {
            machine: self,
            task,
        }
    }

    /// A process with one thread.
    pub(crate) fn task(&self) -> Arc<Task> {
        Task::detached(1, ProcessFiles::default())
    }
}

fn range(addr: u64, len: usize) -> Result<core::ops::Range<usize>, Errno> {
    let start = addr.checked_sub(BASE).ok_or(Errno::EFAULT)? as usize;
    let end = start.checked_add(len).filter(|&end| end <= LEN);
    Ok(start..end.ok_or(Errno::EFAULT)?)
}

impl Machine for FakeCpu {
    fn host_call(&self, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
        match (op, words) {
            (Op::ClockGettime, [_, Word::Out(out)]) => {
                let now = self.clock.fetch_add(1_000_000, Ordering::SeqCst);
                out[..8].copy_from_slice(&(now / 1_000_000_000).to_le_bytes());
                out[8..].copy_from_slice(&(now % 1_000_000_000).to_le_bytes());
                Ok(0)
            }
            (Op::Park, _) => Err(Errno::ETIMEDOUT),
            _ => Ok(0),
        }
    }

    fn read_user(&self, from: u64, to: &mut [u8]) -> Result<(), Errno> {
        to.copy_from_slice(&self.memory.lock().unwrap()[range(from, to.len())?]);
        Ok(())
    }

    fn write_user(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        self.memory.lock().unwrap()[range(to, from.len())?].copy_from_slice(from);
        Ok(())
    }

    fn random(&self, out: &mut [u8]) {
        out.fill(4);
    }

    fn report(&self, _: &TargetInfo, _: &[u8; 64]) -> Report {
        unreachable!("these tests make no reports")
    }

    fn key(&self, _: &KeyRequest) -> Result<[u8; 16], Errno> {
        Err(Errno::EINVAL)
    }

    fn cpu(&self) -> Option<&dyn Cpu> {
        Some(self)
    }
}

impl Cpu for FakeCpu {
    fn attention(&self, _: &Task) {
        self.attention.fetch_add(1, Ordering::SeqCst);
    }

    fn take_hints(&self) -> u64 {
        self.hints.swap(0, Ordering::SeqCst)
    }

    fn set_fs_base(&self, _: u64) {}

    fn fs_base(&self) -> u64 {
        0
    }

    fn save_vector(&self) -> Vec<u8> {
        self.vector.lock().unwrap().clone()
    }

    fn load_vector(&self, image: &[u8]) {
        *self.loaded.lock().unwrap() = image.to_vec();
    }

    fn vector_mask(&self) -> u64 {
        self.xfrm
    }

    fn start_thread(&self, _: &Arc<Task>, _: &Frame, _: u64) -> Result<(), Errno> {
        Err(Errno::EAGAIN)
    }

    fn end_thread(&self) -> ! {
        panic!("the thread ended")
    }

    fn abort(&self, reason: AbortReason) -> ! {
        panic!("aborted: {reason:?}")
    }
}
