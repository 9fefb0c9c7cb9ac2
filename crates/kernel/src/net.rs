// SPDX-License-Identifier: Apache-2.0
//! Sockets: the host's, and pairs that stay inside.
//!
//! | module | what |
//! |---|---|
//! | [`address`] | addresses of programs and of the host, checked |
//! | [`option`] | the closed list of socket options |
//! | [`host`] | sockets that the host holds |
//! | [`pair`] | two ends inside the enclave |
//!
//! What arrives over a host socket is the host's word: this module keeps
//! structure (lengths, families, flags), programs keep secrets with TLS.

pub mod address;
pub mod host;
pub(crate) mod messages;
pub mod option;
pub mod pair;
pub(crate) mod timeout;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;

pub use address::Address;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::File;
use crate::vfs::stat::{FileType, Stat};

/// Address families that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// AF_UNIX.
    Unix,
    /// AF_INET.
    V4,
    /// AF_INET6.
    V6,
}

impl Domain {
    /// From the call's number; `EAFNOSUPPORT` for all others, netlink included.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`.
    pub fn from_number(number: u64) -> Result<Self, Errno> {
        match number as u32 {
            1 => Ok(Self::Unix),
            2 => Ok(Self::V4),
            10 => Ok(Self::V6),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// Linux's number.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Unix => 1,
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SOCK_STREAM: bytes.
    Stream,
    /// SOCK_DGRAM: messages without a connection.
    Datagram,
    /// SOCK_SEQPACKET: messages over a connection.
    Packet,
}

impl Kind {
    /// Linux's number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::Packet => 5,
        }
    }
}

/// What a socket is from its making on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Address family.
    pub domain: Domain,
    /// What it carries.
    pub kind: Kind,
    /// Protocol number as SO_PROTOCOL tells it.
    pub protocol: u32,
}

impl Identity {
    /// Checks the arguments of `socket`; flags of `kind` are masked off before.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`; `EPERM` for raw sockets.
    pub fn new(domain: u64, kind: u64, protocol: u64) -> Result<Self, Errno> {
        const TCP: u32 = 6;
        const UDP: u32 = 17;
        const PF_UNIX: u32 = 1;
        let domain = Domain::from_number(domain)?;
        let kind = match (kind, domain) {
            (1, _) => Kind::Stream,
            (2, _) => Kind::Datagram,
            (5, Domain::Unix) => Kind::Packet,
            (3, Domain::V4 | Domain::V6) => return Err(Errno::EPERM),
            // unix(7): raw is another word for datagrams.
            (3, Domain::Unix) => Kind::Datagram,
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        let protocol = match (domain, kind, protocol as u32) {
            (Domain::Unix, _, 0 | PF_UNIX) => 0,
            (Domain::V4 | Domain::V6, Kind::Stream, 0 | TCP) => TCP,
            (Domain::V4 | Domain::V6, Kind::Datagram, 0 | UDP) => UDP,
            _ => return Err(Errno::EPROTONOSUPPORT),
        };
        Ok(Self {
            domain,
            kind,
            protocol,
        })
    }

    /// Whether bytes, not messages, are carried.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }
}

bitflags! {
    /// Flags of sending and receiving, with Linux's numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Urgent data.
        const OOB = 0x1;
        /// Leave what is received.
        const PEEK = 0x2;
        /// Do not use a gateway.
        const DONTROUTE = 0x4;
        /// Tell the message's whole length; told: the message was cut.
        const TRUNC = 0x20;
        /// Do not block.
        const DONTWAIT = 0x40;
        /// End of record.
        const EOR = 0x80;
        /// Wait until the room is full.
        const WAITALL = 0x100;
        /// The other end got the last message (a hint).
        const CONFIRM = 0x800;
        /// No SIGPIPE.
        const NOSIGNAL = 0x4000;
        /// More follows at once.
        const MORE = 0x8000;
        /// recvmmsg: do not block after the first message.
        const WAITFORONE = 0x1_0000;
        /// Descriptors that are received close on exec; none ever are.
        const CMSG_CLOEXEC = 0x4000_0000;
    }
}

impl Flags {
    const SENDS: Self = Self::OOB
        .union(Self::DONTROUTE)
        .union(Self::DONTWAIT)
        .union(Self::EOR)
        .union(Self::CONFIRM)
        .union(Self::NOSIGNAL)
        .union(Self::MORE);
    const RECEIVES: Self = Self::OOB
        .union(Self::PEEK)
        .union(Self::TRUNC)
        .union(Self::DONTWAIT)
        .union(Self::WAITALL)
        .union(Self::NOSIGNAL)
        .union(Self::WAITFORONE)
        .union(Self::CMSG_CLOEXEC);

    /// Flags of a sending call.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for flags that are not served, such as MSG_FASTOPEN.
    pub fn of_send(bits: u64) -> Result<Self, Errno> {
        Self::known(bits, Self::SENDS)
    }

    /// Flags of a receiving call.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for flags that are not served, such as MSG_ERRQUEUE.
    pub fn of_receive(bits: u64) -> Result<Self, Errno> {
        Self::known(bits, Self::RECEIVES)
    }

    fn known(bits: u64, known: Self) -> Result<Self, Errno> {
        match Self::from_bits(bits as u32) {
            Some(flags) if known.contains(flags) => Ok(flags),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

/// What a receiving call tells besides the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes put into the room.
    pub count: usize,
    /// What the call returns: `count`, or with MSG_TRUNC the message's length.
    pub told: usize,
    /// Who sent it, if the socket tells.
    pub from: Option<Address>,
    /// MSG_TRUNC, MSG_EOR, MSG_OOB.
    pub flags: Flags,
}

/// Which half `shutdown` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// SHUT_RD.
    Read,
    /// SHUT_WR.
    Write,
    /// SHUT_RDWR.
    Both,
}

impl Half {
    /// From the call's number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn from_number(number: u64) -> Result<Self, Errno> {
        match number as u32 {
            0 => Ok(Self::Read),
            1 => Ok(Self::Write),
            2 => Ok(Self::Both),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// What socket calls do beyond reading and writing.
pub trait Socket: Send + Sync + core::fmt::Debug {
    /// What it is.
    fn identity(&self) -> Identity;

    /// bind(2).
    ///
    /// # Errors
    /// `EINVAL` if it has an address, `EADDRINUSE`; the host's errno.
    fn bind(&self, cx: &Context<'_>, address: &Address) -> Result<(), Errno>;

    /// connect(2).
    ///
    /// # Errors
    /// `EINPROGRESS` instead of blocking; the host's errno.
    fn connect(&self, cx: &Context<'_>, address: &Address, nonblock: bool) -> Result<(), Errno>;

    /// listen(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for datagrams; the host's errno.
    fn listen(&self, cx: &Context<'_>, backlog: u32) -> Result<(), Errno>;

    /// accept(2): the connection and who made it. `nonblock` is about waiting,
    /// `flags` (SOCK_NONBLOCK) about the new socket.
    ///
    /// # Errors
    /// `EAGAIN` instead of blocking, `EINVAL` if it does not listen; the host's errno.
    fn accept(
        &self,
        cx: &Context<'_>,
        nonblock: bool,
        flags: u64,
    ) -> Result<(Arc<dyn File>, Address), Errno>;

    /// Its own address.
    ///
    /// # Errors
    /// `EIO` for an address that cannot be; the host's errno.
    fn local_address(&self, cx: &Context<'_>) -> Result<Address, Errno>;

    /// The other end's address.
    ///
    /// # Errors
    /// `ENOTCONN`; as [`Self::local_address`].
    fn peer_address(&self, cx: &Context<'_>) -> Result<Address, Errno>;

    /// setsockopt(2).
    ///
    /// # Errors
    /// `ENOPROTOOPT` for what is not on the list, `EINVAL` for a bad value.
    fn set_option(
        &self,
        cx: &Context<'_>,
        level: u32,
        name: u32,
        value: &[u8],
    ) -> Result<(), Errno>;

    /// getsockopt(2).
    ///
    /// # Errors
    /// `ENOPROTOOPT` for what is not on the list, `EIO` for an impossible answer.
    fn option(&self, cx: &Context<'_>, level: u32, name: u32) -> Result<Vec<u8>, Errno>;

    /// send(2) and sendto(2). Raises SIGPIPE where Linux does.
    ///
    /// # Errors
    /// `EAGAIN` instead of blocking, `EPIPE`, `EMSGSIZE`; the host's errno.
    fn send(
        &self,
        cx: &Context<'_>,
        from: Source<'_>,
        to: Option<&Address>,
        flags: Flags,
    ) -> Result<usize, Errno>;

    /// recv(2) and recvfrom(2).
    ///
    /// # Errors
    /// `EAGAIN` instead of blocking; the host's errno.
    fn receive(&self, cx: &Context<'_>, to: &mut Sink<'_>, flags: Flags)
    -> Result<Received, Errno>;

    /// shutdown(2).
    ///
    /// # Errors
    /// `ENOTCONN`; the host's errno.
    fn shutdown(&self, cx: &Context<'_>, half: Half) -> Result<(), Errno>;

    /// Inode number: /proc/self/fd shows `socket:[N]`.
    fn inode(&self) -> u64;
}

/// An inode number for a new socket.
fn next_inode() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Metadata of any socket.
fn stat(inode: u64) -> Stat {
    const SOCKET_DEVICE: u64 = 8;
    let mut stat = Stat::new(FileType::Socket, 0o777, inode);
    stat.device = SOCKET_DEVICE;
    stat
}

/// Ends a program that writes where nobody reads, as far as it does not mind.
fn raise_sigpipe(cx: &Context<'_>, flags: Flags) {
    const SIGPIPE: u32 = 13;
    if !flags.contains(Flags::NOSIGNAL) {
        cx.task.raise(cx.machine, SIGPIPE);
    }
}
