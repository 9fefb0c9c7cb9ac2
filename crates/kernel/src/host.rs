// SPDX-License-Identifier: Apache-2.0
//! The line between kernel logic and the machine below it.
//!
//! Logic never sees a raw pointer: user memory is named by [`UserSlice`], host
//! memory not at all. The copy layer behind [`Machine::host_call`] is the only
//! code that touches the call area (rule S17).

use enclave_abi::call::Op;
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};

use crate::errno::Errno;

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

    /// Fills with RDRAND/RDSEED output; ends the enclave if they fail (rule S20).
    fn random(&self, out: &mut [u8]);

    /// EREPORT.
    fn report(&self, target: &TargetInfo, report_data: &[u8; 64]) -> Report;

    /// EGETKEY.
    ///
    /// # Errors
    /// `EINVAL` if the CPU refuses the request.
    fn key(&self, request: &KeyRequest) -> Result<[u8; 16], Errno>;
}
