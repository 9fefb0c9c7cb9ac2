// SPDX-License-Identifier: Apache-2.0
//! The machine that really leaves the enclave.

use core::arch::x86_64::{_rdrand64_step, _rdseed64_step};

use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::call::Op;
use enclave_abi::entry::AbortReason;
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};

use super::{area, gate, user, vector};
use crate::errno::Errno;
use crate::host::{Cpu, Machine, Word};
use crate::process::Task;
use crate::process::frame::Frame;

/// The one machine.
#[derive(Debug)]
pub(crate) struct Enclave;

pub(crate) static ENCLAVE: Enclave = Enclave;

/// Attempts at RDRAND before the enclave gives up; Intel's guide asks for 10.
const TRIES: u32 = 100;

fn random_word() -> u64 {
    let mut word = 0;
    for _ in 0..TRIES {
        // SAFETY: RDSEED is part of the CPU baseline, checked by the launcher and legal here.
        if unsafe { _rdseed64_step(&mut word) } == 1 {
            return word;
        }
        // SAFETY: as above, for RDRAND.
        if unsafe { _rdrand64_step(&mut word) } == 1 {
            return word;
        }
        core::hint::spin_loop();
    }
    super::abort(AbortReason::NoEntropy)
}

impl Machine for Enclave {
    fn host_call(&self, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
        area::call(op, words)
    }

    fn read_user(&self, from: u64, to: &mut [u8]) -> Result<(), Errno> {
        user::read(from, to)
    }

    fn write_user(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        user::write(to, from)
    }

    fn update_user(
        &self,
        addr: u64,
        change: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<(u32, bool), Errno> {
        user::update(addr, change)
    }

    fn random(&self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            let word = random_word().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    fn report(&self, target: &TargetInfo, report_data: &[u8; 64]) -> Report {
        gate::report(target, report_data)
    }

    fn key(&self, request: &KeyRequest) -> Result<[u8; 16], Errno> {
        gate::key(request).map_err(|_| Errno::EINVAL)
    }

    fn cpu(&self) -> Option<&dyn Cpu> {
        Some(self)
    }
}

impl Cpu for Enclave {
    fn attention(&self, task: &Task) {
        super::exception::ask_attention(task);
    }

    fn take_hints(&self) -> u64 {
        super::exception::drain_hints()
    }

    fn set_fs_base(&self, base: u64) {
        // SAFETY: the kernel uses no FS; a non-canonical base was refused by the caller.
        unsafe {
            core::arch::asm!("wrfsbase {}", in(reg) base, options(nomem, nostack, preserves_flags));
        }
    }

    fn fs_base(&self) -> u64 {
        let base: u64;
        // SAFETY: reads a register.
        unsafe {
            core::arch::asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags));
        }
        base
    }

    fn save_vector(&self) -> Vec<u8> {
        vector::save().0.to_vec()
    }

    fn load_vector(&self, image: &[u8]) {
        let mut aligned = alloc::boxed::Box::new(vector::Image([0; vector::SIZE]));
        let len = image.len().min(vector::SIZE);
        aligned.0[..len].copy_from_slice(&image[..len]);
        vector::load(&aligned);
    }

    fn vector_mask(&self) -> u64 {
        vector::mask()
    }

    fn start_thread(&self, task: &Arc<Task>, frame: &Frame, fs_base: u64) -> Result<(), Errno> {
        super::boot::start_thread(task, frame, fs_base)
    }

    fn end_thread(&self) -> ! {
        super::boot::end_thread()
    }

    fn abort(&self, reason: AbortReason) -> ! {
        super::abort(reason)
    }
}
