// SPDX-License-Identifier: Apache-2.0
//! What a system call knows about who calls it.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use enclave_abi::call::Op;

use crate::errno::Errno;
use crate::host::{Machine, Word};
use crate::process::{Process, Task};

/// Longest path a program may pass, with its NUL.
pub const PATH_MAX: usize = 4096;

/// The caller of a system call.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The way out of the kernel.
    pub machine: &'static dyn Machine,
    /// The calling thread.
    pub task: &'a Arc<Task>,
}

impl core::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Context")
            .field("tid", &self.task.tid)
            .finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// The calling process.
    #[must_use]
    pub fn process(&self) -> &'a Arc<Process> {
        &self.task.process
    }

    /// Whether a signal waits that the program would notice: blocking calls
    /// then return `EINTR`, and the system-call boundary decides about restarts.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        crate::signal::send::absorb_hints(self.machine);
        self.task.interrupted()
    }

    /// CLOCK_MONOTONIC in nanoseconds; never goes back.
    #[must_use]
    pub fn now(&self) -> u64 {
        crate::process::time::monotonic(self.machine)
    }

    /// Reads `N` bytes of a program.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_array<const N: usize>(&self, addr: u64) -> Result<[u8; N], Errno> {
        let mut out = [0; N];
        self.machine.read_user(addr, &mut out)?;
        Ok(out)
    }

    /// Reads a `u32` of a program.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_u32(&self, addr: u64) -> Result<u32, Errno> {
        Ok(u32::from_le_bytes(self.read_array(addr)?))
    }

    /// Reads a `u64` of a program.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_u64(&self, addr: u64) -> Result<u64, Errno> {
        Ok(u64::from_le_bytes(self.read_array(addr)?))
    }

    /// Reads `len` bytes of a program; the caller bounds `len`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_vec(&self, addr: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut out = vec![0; len];
        self.machine.read_user(addr, &mut out)?;
        Ok(out)
    }

    /// Reads a NUL-terminated string of at most `max` bytes, NUL included.
    ///
    /// # Errors
    /// `EFAULT`; `ENAMETOOLONG` without a NUL in `max` bytes.
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        let mut at = addr;
        while out.len() < max {
            // Never cross a page that the string may not reach.
            let room = 4096 - (at % 4096) as usize;
            let step = room.min(max - out.len()).min(256);
            let mut piece = [0; 256];
            let piece = &mut piece[..step];
            self.machine.read_user(at, piece)?;
            if let Some(end) = piece.iter().position(|&b| b == 0) {
                out.extend_from_slice(&piece[..end]);
                return Ok(out);
            }
            out.extend_from_slice(piece);
            at = at.checked_add(step as u64).ok_or(Errno::EFAULT)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub fn read_path(&self, addr: u64) -> Result<Vec<u8>, Errno> {
        self.read_cstr(addr, PATH_MAX)
    }

    /// Writes bytes to a program.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.machine.write_user(addr, bytes)
    }

    /// Writes a `u32` to a program.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write_u32(&self, addr: u64, value: u32) -> Result<(), Errno> {
        self.write(addr, &value.to_le_bytes())
    }

    /// Writes a `u64` to a program.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write_u64(&self, addr: u64, value: u64) -> Result<(), Errno> {
        self.write(addr, &value.to_le_bytes())
    }

    /// A host call.
    ///
    /// # Errors
    /// The host's errno.
    pub fn host(&self, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
        self.machine.host_call(op, words)
    }
}
