// SPDX-License-Identifier: Apache-2.0
//! Socket calls as programs make them, over the real loopback.

mod hostile;
mod messages;
mod streams;

use alloc::vec::Vec;

use enclave_abi::call::Op;
use linux_raw_sys::general as nr;

use crate::errno::Errno;
use crate::vfs::testing::{Bench, USER};

const UNIX: u64 = 1;
const INET: u64 = 2;
const INET6: u64 = 10;
const STREAM: u64 = 1;
const DGRAM: u64 = 2;
const NONBLOCK: u64 = 0o4000;
const CLOEXEC: u64 = 0o2_000_000;
const PEEK: u64 = 0x2;
const TRUNC: u64 = 0x20;
const DONTWAIT: u64 = 0x40;
const WAITALL: u64 = 0x100;
const NOSIGNAL: u64 = 0x4000;

/// Where tests put addresses and their lengths.
const ADDRESS: u64 = 0x1000;
const LENGTH: u64 = 0x2000;
const DATA: u64 = 0x1_0000;

/// A program that makes socket calls.
struct Program(Bench);

impl Program {
    fn new() -> Self {
        Self(Bench::new())
    }

    /// Another thread of it.
    fn thread(&self) -> Self {
        Self(self.0.other())
    }

    fn call(&self, number: u32, args: &[u64]) -> Result<u64, Errno> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        crate::syscall::dispatch(&self.0.cx(), number.into(), all)
    }

    fn socket(&self, domain: u64, kind: u64) -> u64 {
        self.call(nr::__NR_socket, &[domain, kind, 0]).unwrap()
    }

    fn named(&self, number: u32, fd: u64, address: &[u8]) -> Result<u64, Errno> {
        let at = self.0.put(ADDRESS, address);
        self.call(number, &[fd, at, address.len() as u64])
    }

    /// What a call that tells an address tells, with room for `room` bytes.
    fn told(&self, number: u32, fd: u64, room: u32) -> Result<(u64, Vec<u8>), Errno> {
        self.0.put(LENGTH, &room.to_le_bytes());
        self.0.put(ADDRESS, &[0xee; 128]);
        let result = self.call(number, &[fd, USER + ADDRESS, USER + LENGTH])?;
        let len = u32::from_le_bytes(self.0.take(LENGTH, 4).try_into().unwrap());
        let kept = len.min(room) as usize;
        Ok((result, self.0.take(ADDRESS, kept)))
    }

    fn listener(&self, domain: u64) -> (u64, Vec<u8>) {
        let fd = self.socket(domain, STREAM);
        self.named(nr::__NR_bind, fd, &loopback(domain, 0)).unwrap();
        self.call(nr::__NR_listen, &[fd, 16]).unwrap();
        let (_, address) = self.told(nr::__NR_getsockname, fd, 128).unwrap();
        (fd, address)
    }

    /// Two connected ends: the client's and the server's.
    fn connection(&self) -> (u64, u64) {
        let (listener, address) = self.listener(INET);
        let client = self.socket(INET, STREAM);
        self.named(nr::__NR_connect, client, &address).unwrap();
        let server = self.call(nr::__NR_accept, &[listener, 0, 0]).unwrap();
        (client, server)
    }

    fn send(&self, fd: u64, bytes: &[u8], flags: u64) -> Result<u64, Errno> {
        let at = self.0.put(DATA, bytes);
        self.call(nr::__NR_sendto, &[fd, at, bytes.len() as u64, flags, 0, 0])
    }

    fn receive(&self, fd: u64, len: usize, flags: u64) -> Result<Vec<u8>, Errno> {
        let args = [fd, USER + DATA, len as u64, flags, 0, 0];
        let count = self.call(nr::__NR_recvfrom, &args)?;
        Ok(self.0.take(DATA, count as usize))
    }

    fn set(&self, fd: u64, level: u64, option: u64, value: &[u8]) -> Result<u64, Errno> {
        let at = self.0.put(ADDRESS, value);
        let args = [fd, level, option, at, value.len() as u64];
        self.call(nr::__NR_setsockopt, &args)
    }

    fn option(&self, fd: u64, level: u64, option: u64) -> Result<Vec<u8>, Errno> {
        self.0.put(LENGTH, &64_u32.to_le_bytes());
        let args = [fd, level, option, USER + ADDRESS, USER + LENGTH];
        self.call(nr::__NR_getsockopt, &args)?;
        let len = u32::from_le_bytes(self.0.take(LENGTH, 4).try_into().unwrap());
        Ok(self.0.take(ADDRESS, len as usize))
    }

    fn number(&self, fd: u64, level: u64, option: u64) -> Result<u32, Errno> {
        let value = self.option(fd, level, option)?;
        Ok(u32::from_le_bytes(value.try_into().unwrap()))
    }

    /// Whether SIGPIPE waits for the thread; it is taken back.
    fn got_sigpipe(&self) -> bool {
        const SIGPIPE: u32 = 13;
        let waits = self.0.task.pending.set() & 1 << (SIGPIPE - 1) != 0;
        self.0.task.pending.take(1 << (SIGPIPE - 1));
        waits
    }

    fn calls(&self, op: Op) -> u64 {
        self.0.machine.count(op)
    }
}

/// The loopback address of a family.
fn loopback(domain: u64, port: u16) -> Vec<u8> {
    let mut bytes = (domain as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(&port.to_be_bytes());
    if domain == INET {
        bytes.extend_from_slice(&[127, 0, 0, 1]);
        bytes.resize(16, 0);
    } else {
        bytes.resize(23, 0);
        bytes.push(1);
        bytes.resize(28, 0);
    }
    bytes
}

fn timeval(micros: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&micros.to_le_bytes());
    bytes
}
