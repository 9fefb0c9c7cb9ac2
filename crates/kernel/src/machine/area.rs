// SPDX-License-Identifier: Apache-2.0
//! The copy layer: the only code that names host addresses (rule S17).
//!
//! Each thread's call area was checked once, at its first entry, to lie outside
//! ELRANGE. Every transfer is in aligned 8-byte words both ways (the mitigation
//! for stale-data errata that needs no VERW); every word of the host is fetched
//! once; an LFENCE stands between the check of a result and its use.

use core::arch::x86_64::_mm_lfence;

use enclave_abi::call::{
    AREA_LEN, ARGS, ARGS_OFFSET, DATA_LEN, DATA_OFFSET, OP_OFFSET, Op, RESULT_OFFSET,
};
use enclave_abi::entry::AbortReason;

use super::copy::{copy_bytes, copy_words};
use super::entry::machine_exit;
use super::thread::{DataPage, slot};
use crate::errno::Errno;
use crate::host::{UserSlice, Word, answer};

/// Data kept free for the small buffers of a call when a large one is cut.
const RESERVE: usize = 0x4000;

/// Whether a call area may be used: whole, aligned, outside ELRANGE, in the
/// lower half of the address space.
pub(crate) fn acceptable(addr: u64, len: u64, elrange: u64) -> bool {
    len >= AREA_LEN as u64
        && addr.is_multiple_of(64)
        && addr >= elrange
        && addr
            .checked_add(AREA_LEN as u64)
            .is_some_and(|end| end < 1 << 47)
}

/// The calling thread's area, checked at its first entry.
#[derive(Clone, Copy)]
struct Area(u64);

impl Area {
    fn current() -> Self {
        Self(DataPage::current().get(slot::AREA))
    }

    fn put(self, offset: usize, word: u64) {
        let at = self.0 as usize + offset;
        // SAFETY: `offset` is an aligned place in the call area, which is host
        // memory: nothing of Rust's lies there.
        unsafe { core::ptr::with_exposed_provenance_mut::<u64>(at).write_volatile(word) };
    }

    fn get(self, offset: usize) -> u64 {
        let at = self.0 as usize + offset;
        // SAFETY: as in `put`; one fetch.
        unsafe { core::ptr::with_exposed_provenance::<u64>(at).read_volatile() }
    }

    /// Copies `len` bytes from enclave address `from` to the data part; `EFAULT`
    /// if `from` faults.
    fn put_bytes(self, offset: usize, from: u64, len: usize) -> Result<(), Errno> {
        let to = self.0 + (DATA_OFFSET + offset) as u64;
        let words = len / 8;
        // SAFETY: the caller checked `offset + len <= DATA_LEN`; reads that fault end the copy.
        let left = unsafe { copy_words(to, from, words as u64) };
        if left != 0 {
            return Err(Errno::EFAULT);
        }
        let tail = len % 8;
        if tail != 0 {
            let mut word = [0_u8; 8];
            let at = core::ptr::from_mut(&mut word) as u64;
            // SAFETY: `tail` < 8 bytes into a local array; a fault ends the copy.
            if unsafe { copy_bytes(at, from + (words * 8) as u64, tail as u64) } != 0 {
                return Err(Errno::EFAULT);
            }
            let word = u64::from_le_bytes(core::hint::black_box(word));
            self.put(DATA_OFFSET + offset + words * 8, word);
        }
        Ok(())
    }

    /// Copies `len` bytes of the data part to enclave address `to`.
    fn get_bytes(self, offset: usize, to: u64, len: usize) -> Result<(), Errno> {
        let from = self.0 + (DATA_OFFSET + offset) as u64;
        let words = len / 8;
        // SAFETY: the caller checked `offset + len <= DATA_LEN` and that `to` is
        // memory of the kernel's caller or of a program; writes that fault end the copy.
        if unsafe { copy_words(to, from, words as u64) } != 0 {
            return Err(Errno::EFAULT);
        }
        let tail = len % 8;
        if tail != 0 {
            let word = self.get(DATA_OFFSET + offset + words * 8).to_le_bytes();
            let at = core::ptr::from_ref(&word) as u64;
            // SAFETY: `tail` < 8 bytes from a local array.
            if unsafe { copy_bytes(to + (words * 8) as u64, at, tail as u64) } != 0 {
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }
}

/// Reads the start block that the launcher put into the first thread's area.
pub(crate) fn read_start(len: usize) -> alloc::vec::Vec<u8> {
    let mut out = alloc::vec![0; len.min(DATA_LEN)];
    let to = out.as_mut_ptr() as u64;
    if Area::current().get_bytes(0, to, out.len()).is_err() {
        super::abort(AbortReason::KernelFault);
    }
    out
}

/// Checks and opens a program's buffer before a call, so that nothing needs a
/// host call of its own between staging and leaving.
fn prepare(slice: UserSlice, len: usize, write: bool) -> Result<(), Errno> {
    super::user::prepare(slice.addr, len, write)
}

/// Performs one host call.
pub(crate) fn call(op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
    let mut lens = [0_usize; ARGS];
    let mut places = [0_usize; ARGS];
    let mut buffers = 0;
    let mut next = 0;
    // First pass: lengths and places, and the programs' pages.
    for word in words.iter() {
        let (wanted, user) = match word {
            Word::Value(_) | Word::Fd(_) => continue,
            Word::In(bytes) => (bytes.len(), None),
            Word::Out(bytes) => (bytes.len(), None),
            Word::InUser(slice) => (slice.len, Some((*slice, false))),
            Word::OutUser(slice) => (slice.len, Some((*slice, true))),
        };
        let room = (DATA_LEN - RESERVE).saturating_sub(next);
        let len = if wanted <= RESERVE / 4 {
            wanted
        } else {
            wanted.min(room)
        };
        if let Some((slice, write)) = user {
            prepare(slice, len, write)?;
        }
        let end = next + len.next_multiple_of(8);
        if buffers >= ARGS / 2 || end > DATA_LEN {
            return Err(Errno::EINVAL);
        }
        (lens[buffers], places[buffers]) = (len, next);
        next = end;
        buffers += 1;
    }
    // Second pass: stage.
    let area = Area::current();
    area.put(OP_OFFSET, op as u64);
    let mut arg = 0;
    let mut push = |value: u64| {
        if arg < ARGS {
            area.put(ARGS_OFFSET + arg * 8, value);
            arg += 1;
        }
    };
    let mut buffer = 0;
    for word in words.iter() {
        let from = match word {
            Word::Value(value) => {
                push(*value);
                continue;
            }
            Word::Fd(fd) => {
                push(fd.word());
                continue;
            }
            Word::In(bytes) => Some(bytes.as_ptr() as u64),
            Word::InUser(slice) => Some(slice.addr),
            Word::Out(_) | Word::OutUser(_) => None,
        };
        if let Some(from) = from {
            area.put_bytes(places[buffer], from, lens[buffer])?;
        }
        push(places[buffer] as u64);
        push(lens[buffer] as u64);
        buffer += 1;
    }
    for rest in arg..ARGS {
        area.put(ARGS_OFFSET + rest * 8, 0);
    }
    // SAFETY: the area holds a complete call; the thread's state is RUNNING.
    let hints = unsafe { machine_exit() };
    super::exception::take_hints(hints);
    let result = area.get(RESULT_OFFSET).cast_signed();
    let checked = answer::check(op, result, lens.get(..buffers).unwrap_or(&[]));
    // SAFETY: SSE2 is part of every x86-64 CPU.
    unsafe { _mm_lfence() };
    let value = match checked {
        Ok(Ok(value)) => value,
        Ok(Err(errno)) => return Err(errno),
        Err(answer::Impossible) => super::abort(AbortReason::HostLied),
    };
    let mut buffer = 0;
    for word in words.iter_mut() {
        let to = match word {
            Word::Value(_) | Word::Fd(_) => continue,
            Word::In(_) | Word::InUser(_) => None,
            Word::Out(bytes) => Some(bytes.as_mut_ptr() as u64),
            Word::OutUser(slice) => Some(slice.addr),
        };
        if let Some(to) = to {
            let len = answer::filled(op, value, buffer, lens[buffer]);
            area.get_bytes(places[buffer], to, len)?;
        }
        buffer += 1;
    }
    Ok(value)
}

/// Stages the call that ends this host thread; the caller then leaves for good.
pub(crate) fn stage_thread_exit() {
    let area = Area::current();
    area.put(OP_OFFSET, Op::ThreadExit as u64);
    for rest in 0..ARGS {
        area.put(ARGS_OFFSET + rest * 8, 0);
    }
}

/// How long a thread that waits for a lock gives way, in nanoseconds.
const PAUSE: u64 = 20_000;

/// Gives way to other host threads for a moment.
pub(crate) fn pause() {
    let _ = call(Op::Park, &mut [Word::Value(PAUSE)]);
}
