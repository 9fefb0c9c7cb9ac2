// SPDX-License-Identifier: Apache-2.0
//! The line between kernel logic and the machine below it.
//!
//! Logic never sees a raw pointer: user memory is named by [`UserSlice`], host
//! memory not at all. The copy layer behind [`Machine::host_call`] is the only
//! code that touches the call area (rule S17).

pub mod answer;

use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::call::Op;
use enclave_abi::entry::AbortReason;
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};

use crate::errno::Errno;
use crate::process::Task;
use crate::process::frame::Frame;

/// A descriptor token that the host returned. It proves nothing: every use of it
/// yields untrusted bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostFd(u32);

impl HostFd {
    /// Standard input, output and error, which exist from the start.
    pub const STDIO: [Self; 3] = [Self(0), Self(1), Self(2)];

    /// Takes a result of a call that returns a descriptor.
    ///
    /// # Errors
    /// `EIO` if the host returned what can be no descriptor.
    pub fn from_result(result: u64) -> Result<Self, Errno> {
        match u32::try_from(result) {
            Ok(fd) if fd <= i32::MAX as u32 => Ok(Self(fd)),
            _ => Err(Errno::EIO),
        }
    }

    /// The token as an argument word.
    #[must_use]
    pub fn word(self) -> u64 {
        u64::from(self.0)
    }
}

/// Bytes of a program's memory. Not checked yet: each access checks that the
/// range lies in the programs' part of ELRANGE and is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSlice {
    /// First address.
    pub addr: u64,
    /// Length in bytes.
    pub len: usize,
}

/// One argument of a host call; the order is [`Op::args`]'.
#[derive(Debug)]
pub enum Word<'a> {
    /// A number.
    Value(u64),
    /// A descriptor token.
    Fd(HostFd),
    /// Bytes for the host, from the kernel.
    In(&'a [u8]),
    /// Room for bytes from the host, in the kernel.
    Out(&'a mut [u8]),
    /// Bytes for the host, from a program. They must be meant to leave.
    InUser(UserSlice),
    /// Room for bytes from the host, in a program.
    OutUser(UserSlice),
}

/// What kernel logic needs from below.
pub trait Machine: Send + Sync {
    /// Performs one host call. Buffers longer than the call area's data part are
    /// cut, so callers loop as with short reads. Results are checked against the
    /// rules of [`enclave_abi::call`]: a count above the room, or a number that
    /// is neither result nor errno, ends the enclave. Only as many bytes of an
    /// `Out` as the result says are copied in for calls that return counts; all
    /// of them for fixed-size structures.
    ///
    /// # Errors
    /// The host's errno.
    fn host_call(&self, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno>;

    /// Copies from a program.
    ///
    /// # Errors
    /// `EFAULT` if any byte is not mapped and readable.
    fn read_user(&self, from: u64, to: &mut [u8]) -> Result<(), Errno>;

    /// Copies to a program.
    ///
    /// # Errors
    /// `EFAULT` if any byte is not mapped and writable.
    fn write_user(&self, to: u64, from: &[u8]) -> Result<(), Errno>;

    /// Reads an aligned `u32` of a program and replaces it if `change` says so,
    /// both at once. Gives what was there and whether it was replaced.
    ///
    /// # Errors
    /// `EFAULT`.
    fn update_user(
        &self,
        addr: u64,
        change: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<(u32, bool), Errno> {
        let mut bytes = [0; 4];
        self.read_user(addr, &mut bytes)?;
        let old = u32::from_le_bytes(bytes);
        match change(old) {
            Some(new) => self
                .write_user(addr, &new.to_le_bytes())
                .map(|()| (old, true)),
            None => Ok((old, false)),
        }
    }

    /// Fills with RDRAND/RDSEED output; ends the enclave if they fail (rule S20).
    fn random(&self, out: &mut [u8]);

    /// EREPORT.
    fn report(&self, target: &TargetInfo, report_data: &[u8; 64]) -> Report;

    /// EGETKEY.
    ///
    /// # Errors
    /// `EINVAL` if the CPU refuses the request.
    fn key(&self, request: &KeyRequest) -> Result<[u8; 16], Errno>;

    /// What only a machine that runs programs can do.
    fn cpu(&self) -> Option<&dyn Cpu> {
        None
    }
}

/// Registers and threads of running programs.
pub trait Cpu: Send + Sync {
    /// Makes the task look at its signals soon, wherever it runs.
    fn attention(&self, task: &Task);

    /// Signals that the host has hinted at since the last look (bit n-1 = signal n).
    fn take_hints(&self) -> u64;

    /// Sets the calling program's FS base, which must be canonical.
    fn set_fs_base(&self, base: u64);

    /// The calling program's FS base.
    fn fs_base(&self) -> u64;

    /// The calling program's extended state in XSAVE standard form, but for
    /// xmm0-15, which are in its [`Frame`].
    fn save_vector(&self) -> Vec<u8>;

    /// Loads extended state from a well-formed XSAVE area.
    fn load_vector(&self, image: &[u8]);

    /// The state components in use: XFRM.
    fn vector_mask(&self) -> u64;

    /// Lets a free thread run `task` from these registers.
    ///
    /// # Errors
    /// `EAGAIN` if all threads of the image are in use.
    fn start_thread(&self, task: &Arc<Task>, frame: &Frame, fs_base: u64) -> Result<(), Errno>;

    /// Ends the calling thread; its task must have been cleaned up.
    fn end_thread(&self) -> !;

    /// Ends the enclave because something that cannot happen has happened.
    fn abort(&self, reason: AbortReason) -> !;
}
