// SPDX-License-Identifier: Apache-2.0
//! Sockets that the host holds. Their timeouts are kept inside and applied by
//! polling: the host's own clock decides nothing.

mod name;
mod transfer;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::call::Op;

use super::address::{self, Address};
use super::option::{self, Form};
use super::timeout::Timeout;
use super::{Domain, Flags, Half, Identity, Kind, Received, Socket};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Word};
use crate::sync::Lock;
use crate::vfs::OpenFlags;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{Change, Class, File};
use crate::vfs::hostfs::handle::{HostHandle, counted};
use crate::vfs::readiness::{Events, Readiness};
use crate::vfs::stat::Stat;

const NONBLOCK: u64 = OpenFlags::NONBLOCK.bits() as u64;

/// A host socket.
#[derive(Debug)]
pub struct HostSocket {
    handle: HostHandle,
    identity: Identity,
    inode: u64,
    is_listening: AtomicBool,
    /// The program's O_NONBLOCK.
    is_nonblocking: AtomicBool,
    receive_timeout: Timeout,
    send_timeout: Timeout,
    /// The AF_UNIX name that the program bound, as it wrote it.
    bound: Lock<Option<Address>>,
}

impl HostSocket {
    /// socket(2); `flags` may hold SOCK_NONBLOCK.
    ///
    /// # Errors
    /// The host's errno.
    pub fn new(cx: &Context<'_>, identity: Identity, flags: u64) -> Result<Arc<Self>, Errno> {
        let words = &mut [
            Word::Value(identity.domain.number().into()),
            Word::Value(u64::from(identity.kind.number()) | flags & NONBLOCK),
            Word::Value(identity.protocol.into()),
        ];
        let fd = cx.host(Op::Socket, words)?;
        let handle = HostHandle::from_result(cx.machine, fd)?;
        Ok(Arc::new(Self::of(handle, identity, flags)))
    }

    fn of(handle: HostHandle, identity: Identity, flags: u64) -> Self {
        Self {
            handle,
            identity,
            inode: super::next_inode(),
            is_listening: AtomicBool::new(false),
            is_nonblocking: AtomicBool::new(flags & NONBLOCK != 0),
            receive_timeout: Timeout::default(),
            send_timeout: Timeout::default(),
            bound: Lock::new(None),
        }
    }

    fn fd(&self) -> HostFd {
        self.handle.fd()
    }

    /// The host must not block in calls that are to end after a timeout.
    fn tell_flags(&self, cx: &Context<'_>) -> Result<(), Errno> {
        let nonblock = self.is_nonblocking.load(Ordering::Acquire)
            || self.receive_timeout.is_set()
            || self.send_timeout.is_set();
        let mut flags = OpenFlags::empty();
        flags.set(OpenFlags::NONBLOCK, nonblock);
        self.handle.set_flags(cx, flags)
    }

    /// Calls until the answer is not `EAGAIN`, unless the caller must not wait.
    fn patiently<T>(
        &self,
        cx: &Context<'_>,
        nonblock: bool,
        events: Events,
        mut call: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut deadline = None;
        loop {
            match call() {
                Err(Errno::EINTR) if !cx.interrupted() => {}
                Err(Errno::EAGAIN) if !nonblock => {
                    let timeout = if events.contains(Events::OUT) {
                        &self.send_timeout
                    } else {
                        &self.receive_timeout
                    };
                    let until = match deadline {
                        Some(known) => known,
                        None => *deadline.insert(timeout.deadline(cx)),
                    };
                    match self.wait(cx, events, until) {
                        Err(Errno::ETIMEDOUT) => return Err(Errno::EAGAIN),
                        other => other?,
                    }
                }
                other => return other,
            }
        }
    }

    /// Waits for events at the host. It may lie about them: callers call again.
    fn wait(&self, cx: &Context<'_>, events: Events, deadline: Option<u64>) -> Result<(), Errno> {
        loop {
            let timeout = match deadline {
                None => u64::MAX,
                Some(deadline) => match deadline.checked_sub(cx.now()) {
                    None | Some(0) => return Err(Errno::ETIMEDOUT),
                    Some(left) => left,
                },
            };
            let mut request = (self.fd().word() as u32).to_le_bytes().to_vec();
            request.extend_from_slice(&(events.bits() as u16).to_le_bytes());
            request.extend_from_slice(&[0, 0]);
            let mut answer = [0; 8];
            let words = &mut [
                Word::In(&request),
                Word::Out(&mut answer),
                Word::Value(timeout),
            ];
            match cx.host(Op::Poll, words) {
                Err(Errno::EINTR) if !cx.interrupted() => {}
                Ok(0) => {}
                other => return other.map(|_| ()),
            }
        }
    }

    fn pending_error(&self, cx: &Context<'_>) -> Result<(), Errno> {
        let answer = self.ask(cx, option::SOCKET, option::name::ERROR, 4)?;
        match error_number(&answer)? {
            0 => Ok(()),
            number => Err(Errno::new(number).ok_or(Errno::EIO)?),
        }
    }

    /// getsockopt at the host; the answer has exactly `len` bytes.
    fn ask(&self, cx: &Context<'_>, level: u32, name: u32, len: usize) -> Result<Vec<u8>, Errno> {
        let mut room = vec![0; len];
        let words = &mut [
            Word::Fd(self.fd()),
            Word::Value(level.into()),
            Word::Value(name.into()),
            Word::Out(&mut room),
        ];
        let count = cx.host(Op::Getsockopt, words)?;
        if counted(count, len)? == len {
            Ok(room)
        } else {
            Err(Errno::EIO)
        }
    }

    fn name(&self, cx: &Context<'_>, op: Op) -> Result<Address, Errno> {
        let mut room = [0; 4 + address::MAX_LEN];
        cx.host(op, &mut [Word::Fd(self.fd()), Word::Out(&mut room)])?;
        told_address(&room, self.identity.domain)
    }

    fn timeout(&self, name: u32) -> Option<&Timeout> {
        match name {
            option::name::RCVTIMEO | option::name::RCVTIMEO_NEW => Some(&self.receive_timeout),
            option::name::SNDTIMEO | option::name::SNDTIMEO_NEW => Some(&self.send_timeout),
            _ => None,
        }
    }

    /// What of the socket the kernel knows itself.
    fn known(&self, level: u32, name: u32) -> Option<Vec<u8>> {
        if level != option::SOCKET {
            return None;
        }
        let number = match name {
            option::name::TYPE => self.identity.kind.number(),
            option::name::DOMAIN => self.identity.domain.number().into(),
            option::name::PROTOCOL => self.identity.protocol,
            option::name::ACCEPTCONN => self.is_listening.load(Ordering::Acquire).into(),
            option::name::PEERCRED if self.identity.domain == Domain::Unix => {
                return Some(nobody());
            }
            _ => return self.timeout(name).map(Timeout::encode),
        };
        Some(number.to_le_bytes().to_vec())
    }
}

/// `struct ucred` of a peer outside: what unix(7) says about processes of
/// another namespace. The host's word about users would mean nothing inside.
fn nobody() -> Vec<u8> {
    const OVERFLOW_ID: u32 = 65534;
    [0, OVERFLOW_ID, OVERFLOW_ID]
        .iter()
        .flat_map(|id: &u32| id.to_le_bytes())
        .collect()
}

/// An errno as SO_ERROR tells it, 0 for none.
fn error_number(answer: &[u8]) -> Result<i32, Errno> {
    let number = answer.first_chunk::<4>().ok_or(Errno::EIO)?;
    match i32::from_le_bytes(*number) {
        number @ 0..=4095 => Ok(number),
        _ => Err(Errno::EIO),
    }
}

/// Length and address as `accept` and the name calls tell them. Only AF_UNIX
/// knows sockets without a name.
fn told_address(room: &[u8; 4 + address::MAX_LEN], domain: Domain) -> Result<Address, Errno> {
    let (len, bytes) = room.split_first_chunk::<4>().ok_or(Errno::EIO)?;
    match Address::from_host(bytes, u32::from_le_bytes(*len), domain)? {
        Some(address) => Ok(address),
        None if domain == Domain::Unix => Ok(Address::Unnamed),
        None => Err(Errno::EIO),
    }
}

impl Socket for HostSocket {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn inode(&self) -> u64 {
        self.inode
    }

    fn bind(&self, cx: &Context<'_>, address: &Address) -> Result<(), Errno> {
        let outside = name::to_bind(cx, address)?;
        let words = &mut [Word::Fd(self.fd()), Word::In(&outside)];
        cx.host(Op::Bind, words)?;
        if self.identity.domain == Domain::Unix {
            // Without a name the host chooses one (autobind): ask it then.
            *self.bound.lock() = (*address != Address::Unnamed).then(|| address.clone());
        }
        Ok(())
    }

    fn connect(&self, cx: &Context<'_>, address: &Address, nonblock: bool) -> Result<(), Errno> {
        let outside = name::to_reach(cx, address)?;
        let mut deadline = None;
        loop {
            let words = &mut [Word::Fd(self.fd()), Word::In(&outside)];
            match cx.host(Op::Connect, words) {
                Ok(_) => return Ok(()),
                // Linux goes on waiting when a blocking connect is called again.
                Err(Errno::EINTR) if !cx.interrupted() => {}
                Err(Errno::EINPROGRESS | Errno::EALREADY) if !nonblock => {
                    let until = match deadline {
                        Some(known) => known,
                        None => *deadline.insert(self.send_timeout.deadline(cx)),
                    };
                    match self.wait(cx, Events::OUT, until) {
                        Err(Errno::ETIMEDOUT) => return Err(Errno::EINPROGRESS),
                        other => other?,
                    }
                    return self.pending_error(cx);
                }
                // AF_UNIX: the listener's queue is full.
                Err(Errno::EAGAIN) if !nonblock && self.identity.domain == Domain::Unix => {
                    let until = match deadline {
                        Some(known) => known,
                        None => *deadline.insert(self.send_timeout.deadline(cx)),
                    };
                    pause(cx, until)?;
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn listen(&self, cx: &Context<'_>, backlog: u32) -> Result<(), Errno> {
        let words = &mut [Word::Fd(self.fd()), Word::Value(backlog.into())];
        cx.host(Op::Listen, words)?;
        self.is_listening.store(true, Ordering::Release);
        Ok(())
    }

    fn accept(
        &self,
        cx: &Context<'_>,
        nonblock: bool,
        flags: u64,
    ) -> Result<(Arc<dyn File>, Address), Errno> {
        if self.identity.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut room = [0; 4 + address::MAX_LEN];
        let fd = self.patiently(cx, nonblock, Events::IN, || {
            let words = &mut [
                Word::Fd(self.fd()),
                Word::Out(&mut room),
                Word::Value(flags & NONBLOCK),
            ];
            cx.host(Op::Accept, words)
        })?;
        let handle = HostHandle::from_result(cx.machine, fd)?;
        let address = told_address(&room, self.identity.domain)?;
        let socket = Self::of(handle, self.identity, flags);
        *socket.bound.lock() = self.bound.lock().clone();
        if self.receive_timeout.is_set() || self.send_timeout.is_set() {
            socket.receive_timeout.copy(&self.receive_timeout);
            socket.send_timeout.copy(&self.send_timeout);
            socket.tell_flags(cx)?;
        }
        Ok((Arc::new(socket), address))
    }

    fn local_address(&self, cx: &Context<'_>) -> Result<Address, Errno> {
        let bound = self.bound.lock().clone();
        match bound {
            Some(address) => Ok(address),
            None => self.name(cx, Op::Getsockname),
        }
    }

    fn peer_address(&self, cx: &Context<'_>) -> Result<Address, Errno> {
        self.name(cx, Op::Getpeername)
    }

    fn set_option(
        &self,
        cx: &Context<'_>,
        level: u32,
        name: u32,
        value: &[u8],
    ) -> Result<(), Errno> {
        if level == option::SOCKET
            && let Some(timeout) = self.timeout(name)
        {
            timeout.set(value)?;
            return self.tell_flags(cx);
        }
        let form = option::form(level, name, &self.identity).ok_or(Errno::ENOPROTOOPT)?;
        let value = form.to_host(value)?;
        let words = &mut [
            Word::Fd(self.fd()),
            Word::Value(level.into()),
            Word::Value(name.into()),
            Word::In(&value),
        ];
        cx.host(Op::Setsockopt, words).map(|_| ())
    }

    fn option(&self, cx: &Context<'_>, level: u32, name: u32) -> Result<Vec<u8>, Errno> {
        if let Some(known) = self.known(level, name) {
            return Ok(known);
        }
        let len = option::form(level, name, &self.identity)
            .and_then(Form::answer_len)
            .ok_or(Errno::ENOPROTOOPT)?;
        let answer = self.ask(cx, level, name, len)?;
        if (level, name) == (option::SOCKET, option::name::ERROR) {
            error_number(&answer)?;
        }
        Ok(answer)
    }

    fn send(
        &self,
        cx: &Context<'_>,
        from: Source<'_>,
        to: Option<&Address>,
        flags: Flags,
    ) -> Result<usize, Errno> {
        self.send_all(cx, from, to, flags)
    }

    fn receive(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        flags: Flags,
    ) -> Result<Received, Errno> {
        self.receive_all(cx, to, flags)
    }

    fn shutdown(&self, cx: &Context<'_>, half: Half) -> Result<(), Errno> {
        let how = match half {
            Half::Read => 0,
            Half::Write => 1,
            Half::Both => 2,
        };
        let words = &mut [Word::Fd(self.fd()), Word::Value(how)];
        cx.host(Op::Shutdown, words).map(|_| ())
    }
}

/// Waits a little for something that nobody announces.
fn pause(cx: &Context<'_>, deadline: Option<u64>) -> Result<(), Errno> {
    const STEP_NS: u64 = 2_000_000;
    let now = cx.now();
    if deadline.is_some_and(|deadline| deadline <= now) {
        return Err(Errno::EAGAIN);
    }
    match crate::sync::Waiter::new(cx).park(cx, Some(now.saturating_add(STEP_NS))) {
        Ok(()) | Err(Errno::ETIMEDOUT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl File for HostSocket {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(super::stat(self.inode))
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, nonblock: bool) -> Result<usize, Errno> {
        if to.is_empty() {
            return Ok(0);
        }
        let mut flags = Flags::empty();
        flags.set(Flags::DONTWAIT, nonblock);
        Ok(self.receive_all(cx, to, flags)?.count)
    }

    fn write(&self, cx: &Context<'_>, from: Source<'_>, nonblock: bool) -> Result<usize, Errno> {
        let mut flags = Flags::empty();
        flags.set(Flags::DONTWAIT, nonblock);
        self.send_all(cx, from, None, flags)
    }

    fn change(&self, _cx: &Context<'_>, _change: Change) -> Result<(), Errno> {
        // fchmod and fchown of a socket change nothing that anybody could see.
        Ok(())
    }

    fn ioctl(&self, cx: &Context<'_>, request: u64, arg: u64) -> Result<u64, Errno> {
        const FIONREAD: u64 = 0x541b;
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let mut answer = [0; 4];
        let words = &mut [
            Word::Fd(self.fd()),
            Word::Value(request),
            Word::In(&[]),
            Word::Out(&mut answer),
        ];
        cx.host(Op::Ioctl, words)?;
        // Programs allocate that much.
        let waiting = i32::from_le_bytes(answer);
        if waiting < 0 {
            return Err(Errno::EIO);
        }
        cx.write(arg, &answer)?;
        Ok(0)
    }

    fn set_flags(&self, cx: &Context<'_>, flags: OpenFlags) -> Result<(), Errno> {
        let nonblock = flags.contains(OpenFlags::NONBLOCK);
        let before = self.is_nonblocking.swap(nonblock, Ordering::AcqRel);
        self.tell_flags(cx).inspect_err(|_| {
            self.is_nonblocking.store(before, Ordering::Release);
        })
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        Readiness::Host(self.fd())
    }

    fn host(&self) -> Option<HostFd> {
        Some(self.fd())
    }

    fn class(&self) -> Class<'_> {
        Class::Socket(self)
    }
}
