// SPDX-License-Identifier: Apache-2.0
//! Socket pairs. Nothing of them ever leaves the enclave.

mod channel;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use channel::Channel;

use super::address::Address;
use super::option::{self, Form};
use super::timeout::Timeout;
use super::{Flags, Half, Identity, Kind, Received, Socket, raise_sigpipe};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{Change, Class, File};
use crate::vfs::readiness::{Events, Inside, Readiness};
use crate::vfs::stat::Stat;

/// One end of a pair.
#[derive(Debug)]
pub struct PairEnd {
    identity: Identity,
    inode: u64,
    machine: &'static dyn Machine,
    incoming: Channel,
    outgoing: Channel,
    /// This end reads no more.
    is_read_shut: AtomicBool,
    /// This end writes no more.
    is_write_shut: AtomicBool,
    receive_timeout: Timeout,
    send_timeout: Timeout,
    /// Who made the pair: pid.
    creator: u32,
    /// Options without an effect on AF_UNIX, kept as Linux keeps them.
    kept: Lock<BTreeMap<u32, Vec<u8>>>,
}

impl PairEnd {
    /// socketpair(2).
    #[must_use]
    pub fn pair(cx: &Context<'_>, identity: Identity) -> [Arc<Self>; 2] {
        let first = Channel::new(identity.kind);
        let second = Channel::new(identity.kind);
        let end = |incoming: &Channel, outgoing: &Channel| {
            Arc::new(Self {
                identity,
                inode: super::next_inode(),
                machine: cx.machine,
                incoming: incoming.clone(),
                outgoing: outgoing.clone(),
                is_read_shut: AtomicBool::new(false),
                is_write_shut: AtomicBool::new(false),
                receive_timeout: Timeout::default(),
                send_timeout: Timeout::default(),
                creator: cx.process().pid,
                kept: Lock::new(BTreeMap::new()),
            })
        };
        [end(&first, &second), end(&second, &first)]
    }

    fn shut_read(&self) {
        if !self.is_read_shut.swap(true, Ordering::AcqRel) {
            self.incoming.close_reader(self.machine);
        }
    }

    fn shut_write(&self) {
        if !self.is_write_shut.swap(true, Ordering::AcqRel) {
            self.outgoing.close_writer(self.machine);
        }
    }

    fn timeout(&self, name: u32) -> Option<&Timeout> {
        match name {
            option::name::RCVTIMEO | option::name::RCVTIMEO_NEW => Some(&self.receive_timeout),
            option::name::SNDTIMEO | option::name::SNDTIMEO_NEW => Some(&self.send_timeout),
            _ => None,
        }
    }

    /// Runs `step` until it does not answer `EAGAIN`, asleep in between.
    fn patiently<T>(
        cx: &Context<'_>,
        nonblock: bool,
        timeout: &Timeout,
        mut step: impl FnMut() -> Result<T, Errno>,
        sleep: impl Fn(Option<u64>) -> Result<(), Errno>,
    ) -> Result<T, Errno> {
        let mut deadline = None;
        loop {
            match step() {
                Err(Errno::EAGAIN) if !nonblock => {
                    let until = match deadline {
                        Some(known) => known,
                        None => *deadline.insert(timeout.deadline(cx)),
                    };
                    match sleep(until) {
                        Err(Errno::ETIMEDOUT) => return Err(Errno::EAGAIN),
                        other => other?,
                    }
                }
                other => return other,
            }
        }
    }

    fn receive_once(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        flags: Flags,
    ) -> Result<Received, Errno> {
        let peek = flags.contains(Flags::PEEK);
        let nonblock = flags.contains(Flags::DONTWAIT);
        let taken = Self::patiently(
            cx,
            nonblock,
            &self.receive_timeout,
            || {
                if self.is_read_shut.load(Ordering::Acquire) {
                    return Ok(channel::END);
                }
                self.incoming.take(cx, to, peek)
            },
            |until| {
                self.incoming
                    .wait_readable(cx, until, || self.is_read_shut.load(Ordering::Acquire))
            },
        )?;
        let mut told = Flags::empty();
        if !self.identity.is_stream() {
            told.set(Flags::TRUNC, taken.whole > taken.count);
            told.set(
                Flags::EOR,
                self.identity.kind == Kind::Packet && !taken.is_end,
            );
        }
        let is_measured = flags.contains(Flags::TRUNC) && !self.identity.is_stream();
        Ok(Received {
            count: taken.count,
            told: if is_measured {
                taken.whole
            } else {
                taken.count
            },
            from: None,
            flags: told,
        })
    }

    fn send_all(&self, cx: &Context<'_>, from: Source<'_>, flags: Flags) -> Result<usize, Errno> {
        let nonblock = flags.contains(Flags::DONTWAIT);
        let mut done = 0;
        loop {
            let rest = from.part(done, usize::MAX);
            let sent = Self::patiently(
                cx,
                nonblock,
                &self.send_timeout,
                || {
                    if self.is_write_shut.load(Ordering::Acquire) {
                        return Err(Errno::EPIPE);
                    }
                    self.outgoing.put(cx, rest)
                },
                |until| {
                    let len = rest.len();
                    self.outgoing.wait_writable(cx, until, len, || {
                        self.is_write_shut.load(Ordering::Acquire)
                    })
                },
            );
            match sent {
                Ok(count) => {
                    done += count;
                    if done >= from.len() || count == 0 || !self.identity.is_stream() {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(Errno::EPIPE) => return Err(self.broken(cx, flags)),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// What writing tells when nobody reads (unix(7)).
    fn broken(&self, cx: &Context<'_>, flags: Flags) -> Errno {
        match self.identity.kind {
            Kind::Stream => {
                raise_sigpipe(cx, flags);
                Errno::EPIPE
            }
            Kind::Datagram if !self.is_write_shut.load(Ordering::Acquire) => Errno::ECONNREFUSED,
            Kind::Datagram | Kind::Packet => Errno::EPIPE,
        }
    }

    fn size(&self, name: u32) -> usize {
        match name {
            option::name::SNDBUF => self.outgoing.capacity(),
            _ => self.incoming.capacity(),
        }
    }

    fn credentials(&self) -> Vec<u8> {
        // Programs are root of their own enclave.
        [self.creator, 0, 0]
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect()
    }
}

impl Drop for PairEnd {
    fn drop(&mut self) {
        self.shut_write();
        self.shut_read();
    }
}

impl Socket for PairEnd {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn inode(&self) -> u64 {
        self.inode
    }

    fn bind(&self, _cx: &Context<'_>, _address: &Address) -> Result<(), Errno> {
        // A name would let others outside reach it.
        Err(Errno::EOPNOTSUPP)
    }

    fn connect(&self, _cx: &Context<'_>, _address: &Address, _nb: bool) -> Result<(), Errno> {
        Err(Errno::EISCONN)
    }

    fn listen(&self, _cx: &Context<'_>, _backlog: u32) -> Result<(), Errno> {
        match self.identity.kind {
            Kind::Datagram => Err(Errno::EOPNOTSUPP),
            Kind::Stream | Kind::Packet => Err(Errno::EINVAL),
        }
    }

    fn accept(
        &self,
        _cx: &Context<'_>,
        _nonblock: bool,
        _flags: u64,
    ) -> Result<(Arc<dyn File>, Address), Errno> {
        match self.identity.kind {
            Kind::Datagram => Err(Errno::EOPNOTSUPP),
            Kind::Stream | Kind::Packet => Err(Errno::EINVAL),
        }
    }

    fn local_address(&self, _cx: &Context<'_>) -> Result<Address, Errno> {
        Ok(Address::Unnamed)
    }

    fn peer_address(&self, _cx: &Context<'_>) -> Result<Address, Errno> {
        Ok(Address::Unnamed)
    }

    fn set_option(
        &self,
        _cx: &Context<'_>,
        level: u32,
        name: u32,
        value: &[u8],
    ) -> Result<(), Errno> {
        if level != option::SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(timeout) = self.timeout(name) {
            return timeout.set(value);
        }
        let form = option::form(level, name, &self.identity).ok_or(Errno::ENOPROTOOPT)?;
        let value = form.to_host(value)?;
        match name {
            option::name::SNDBUF => self.outgoing.set_capacity(&value),
            option::name::RCVBUF => self.incoming.set_capacity(&value),
            _ => {
                self.kept.lock().insert(name, value);
            }
        }
        Ok(())
    }

    fn option(&self, _cx: &Context<'_>, level: u32, name: u32) -> Result<Vec<u8>, Errno> {
        if level != option::SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(timeout) = self.timeout(name) {
            return Ok(timeout.encode());
        }
        let number = match name {
            option::name::TYPE => self.identity.kind.number(),
            option::name::DOMAIN => self.identity.domain.number().into(),
            option::name::PROTOCOL | option::name::ACCEPTCONN | option::name::ERROR => 0,
            option::name::SNDBUF | option::name::RCVBUF => self.size(name) as u32,
            option::name::PEERCRED => return Ok(self.credentials()),
            _ => {
                let len = option::form(level, name, &self.identity)
                    .and_then(Form::answer_len)
                    .ok_or(Errno::ENOPROTOOPT)?;
                let kept = self.kept.lock().get(&name).cloned();
                return Ok(kept.unwrap_or_else(|| alloc::vec![0; len]));
            }
        };
        Ok(number.to_le_bytes().to_vec())
    }

    fn send(
        &self,
        cx: &Context<'_>,
        from: Source<'_>,
        to: Option<&Address>,
        flags: Flags,
    ) -> Result<usize, Errno> {
        if to.is_some() {
            return Err(Errno::EISCONN);
        }
        if flags.contains(Flags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.send_all(cx, from, flags)
    }

    fn receive(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        flags: Flags,
    ) -> Result<Received, Errno> {
        if flags.contains(Flags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut all = self.receive_once(cx, to, flags)?;
        let is_whole = self.identity.is_stream()
            && flags.contains(Flags::WAITALL)
            && !flags.contains(Flags::PEEK);
        while is_whole && all.count < to.len() && all.count > 0 {
            let mut rest = to.part(all.count, usize::MAX);
            match self.receive_once(cx, &mut rest, flags) {
                Ok(more) if more.count > 0 => all.count += more.count,
                _ => break,
            }
            all.told = all.count;
        }
        Ok(all)
    }

    fn shutdown(&self, _cx: &Context<'_>, half: Half) -> Result<(), Errno> {
        if half != Half::Write {
            self.shut_read();
        }
        if half != Half::Read {
            self.shut_write();
        }
        Ok(())
    }
}

impl File for PairEnd {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(super::stat(self.inode))
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, nonblock: bool) -> Result<usize, Errno> {
        if to.is_empty() {
            return Ok(0);
        }
        let mut flags = Flags::empty();
        flags.set(Flags::DONTWAIT, nonblock);
        Ok(self.receive_once(cx, to, flags)?.count)
    }

    fn write(&self, cx: &Context<'_>, from: Source<'_>, nonblock: bool) -> Result<usize, Errno> {
        let mut flags = Flags::empty();
        flags.set(Flags::DONTWAIT, nonblock);
        self.send_all(cx, from, flags)
    }

    fn change(&self, _cx: &Context<'_>, _change: Change) -> Result<(), Errno> {
        Ok(())
    }

    fn ioctl(&self, cx: &Context<'_>, request: u64, arg: u64) -> Result<u64, Errno> {
        const FIONREAD: u64 = 0x541b;
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        cx.write_u32(arg, self.incoming.pending() as u32)?;
        Ok(0)
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        let (has_data, no_writer) = self.incoming.read_state();
        let (has_room, no_reader) = self.outgoing.write_state();
        let is_connected = self.identity.kind != Kind::Datagram;
        let reads_end = self.is_read_shut.load(Ordering::Acquire) || is_connected && no_writer;
        let writes_end = self.is_write_shut.load(Ordering::Acquire) || no_reader;
        let mut now = Events::empty();
        now.set(Events::READ, has_data || reads_end);
        now.set(Events::RDHUP, reads_end);
        now.set(Events::WRITE, has_room || writes_end);
        now.set(Events::HUP, is_connected && reads_end && writes_end);
        Readiness::Inside(Inside {
            now,
            queues: [
                Some(self.incoming.readable()),
                Some(self.outgoing.writable()),
            ],
            at: None,
        })
    }

    fn class(&self) -> Class<'_> {
        Class::Socket(self)
    }
}
