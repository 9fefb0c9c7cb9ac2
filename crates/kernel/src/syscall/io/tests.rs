// SPDX-License-Identifier: Apache-2.0
//! Calls as programs make them: by number, through memory.

mod files;
mod locks;
mod names;
mod waiting;

use alloc::vec::Vec;

use linux_raw_sys::general as nr;

use crate::errno::Errno;
use crate::vfs::testing::{Bench, USER};

/// Where tests keep paths and structures in the program's memory.
const PATH: u64 = 0;
const OTHER: u64 = 0x2000;
const BUFFER: u64 = 0x10_000;

const RDWR_CREATE: u64 = 0o102;
const HERE: u64 = -100_i64 as u64;

impl Bench {
    fn sys(&self, number: u32, args: &[u64]) -> Result<u64, Errno> {
        self.call(number.into(), args)
    }

    fn open_file(&self, path: &str, flags: u64) -> Result<u64, Errno> {
        let path = self.text(PATH, path);
        self.sys(nr::__NR_openat, &[HERE, path, flags, 0o644])
    }

    fn write_file(&self, fd: u64, bytes: &[u8]) -> Result<u64, Errno> {
        let at = self.put(BUFFER, bytes);
        self.sys(nr::__NR_write, &[fd, at, bytes.len() as u64])
    }

    fn read_file(&self, fd: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let count = self.sys(nr::__NR_read, &[fd, USER + BUFFER, len as u64])?;
        Ok(self.take(BUFFER, count as usize))
    }

    fn with_path(&self, number: u32, path: &str, rest: &[u64]) -> Result<u64, Errno> {
        let mut args = Vec::from([self.text(PATH, path)]);
        args.extend_from_slice(rest);
        self.sys(number, &args)
    }

    fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.take(at, 8).try_into().unwrap())
    }
}
