// SPDX-License-Identifier: Apache-2.0
//! sendmsg, recvmsg and their forms for many messages.
//!
//! No control messages are carried: descriptors mean nothing outside, and what
//! a host could say about users, routes or times would be its word alone.

use alloc::vec;

use super::{address, open, socket, with_mode};
use crate::context::Context;
use crate::errno::Errno;
use crate::net::{Address, Flags, Received, Socket};
use crate::syscall::io::vector::Parts;
use crate::vfs::buffer::{Sink, Source};

/// `struct msghdr`.
const HEADER_LEN: usize = 56;
/// `struct mmsghdr`: a header and the message's length.
const MANY_STRIDE: u64 = 64;
/// Most messages of one call (UIO_MAXIOV).
const MAX_MESSAGES: u64 = 1024;
/// A control message has at least this header.
const CONTROL_HEADER: u64 = 16;
/// Most bytes gathered from or for more than one buffer.
const GATHERED: usize = 1 << 20;

/// Offsets in `struct msghdr`.
mod at {
    pub(super) const NAME_LEN: u64 = 8;
    pub(super) const CONTROL_LEN: u64 = 40;
    pub(super) const FLAGS: u64 = 48;
    pub(super) const COUNT: u64 = 56;
}

struct Header {
    addr: u64,
    name: u64,
    name_len: u64,
    parts: Parts,
    control_len: u64,
}

impl Header {
    fn read(cx: &Context<'_>, addr: u64) -> Result<Self, Errno> {
        let bytes: [u8; HEADER_LEN] = cx.read_array(addr)?;
        let word = |index: usize| {
            bytes
                .get(index * 8..)
                .and_then(|rest| rest.first_chunk::<8>())
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        let name_len = word(1) & u64::from(u32::MAX);
        if (name_len as i32) < 0 {
            return Err(Errno::EINVAL);
        }
        let count = word(3);
        Ok(Self {
            addr,
            name: word(0),
            name_len,
            parts: Parts::read(cx, word(2), count).map_err(|errno| match errno {
                Errno::EINVAL if count > MAX_MESSAGES => Errno::EMSGSIZE,
                other => other,
            })?,
            control_len: word(5),
        })
    }

    fn write(&self, cx: &Context<'_>, offset: u64, value: &[u8]) -> Result<(), Errno> {
        cx.write(self.addr.saturating_add(offset), value)
    }
}

fn send(
    cx: &Context<'_>,
    socket: &dyn Socket,
    header: &Header,
    flags: Flags,
) -> Result<usize, Errno> {
    if header.control_len >= CONTROL_HEADER {
        return Err(Errno::EOPNOTSUPP);
    }
    let to = if header.name == 0 || header.name_len == 0 {
        None
    } else {
        Some(address(cx, header.name, header.name_len)?)
    };
    let send = |source: Source<'_>, flags| socket.send(cx, source, to.as_ref(), flags);
    match header.parts.slices.as_slice() {
        [] => send(Source::Kernel(&[]), flags),
        [one] => send(Source::User(cx.machine, *one), flags),
        _ if header.parts.len <= GATHERED => send(Source::Kernel(&header.parts.gather(cx)?), flags),
        _ if !socket.identity().is_stream() => Err(Errno::EMSGSIZE),
        many => {
            let mut done = 0;
            for slice in many {
                match send(Source::User(cx.machine, *slice), flags) {
                    Ok(count) => {
                        done += count;
                        if count < slice.len {
                            break;
                        }
                    }
                    Err(_) if done > 0 => break,
                    Err(errno) => return Err(errno),
                }
            }
            Ok(done)
        }
    }
}

fn receive(
    cx: &Context<'_>,
    socket: &dyn Socket,
    header: &Header,
    flags: Flags,
) -> Result<Received, Errno> {
    let received = match header.parts.slices.as_slice() {
        [] => socket.receive(cx, &mut Sink::Kernel(&mut []), flags)?,
        [one] => socket.receive(cx, &mut Sink::User(cx.machine, *one), flags)?,
        _ => {
            let mut bytes = vec![0; header.parts.len.min(GATHERED)];
            let received = socket.receive(cx, &mut Sink::Kernel(&mut bytes), flags)?;
            let kept = bytes.get(..received.count).unwrap_or_default();
            header.parts.scatter(cx, kept)?;
            received
        }
    };
    if header.name != 0 {
        let bytes = received
            .from
            .as_ref()
            .map(Address::encode)
            .unwrap_or_default();
        let room = usize::try_from(header.name_len).unwrap_or(0);
        cx.write(
            header.name,
            bytes.get(..room.min(bytes.len())).unwrap_or_default(),
        )?;
        header.write(cx, at::NAME_LEN, &(bytes.len() as u32).to_le_bytes())?;
    }
    header.write(cx, at::CONTROL_LEN, &0_u64.to_le_bytes())?;
    header.write(cx, at::FLAGS, &received.flags.bits().to_le_bytes())?;
    Ok(received)
}

pub(super) fn sendmsg(cx: &Context<'_>, fd: u64, addr: u64, flags: u64) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let flags = with_mode(&file, Flags::of_send(flags)?);
    let header = Header::read(cx, addr)?;
    Ok(send(cx, socket(&file)?, &header, flags)? as u64)
}

pub(super) fn recvmsg(cx: &Context<'_>, fd: u64, addr: u64, flags: u64) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let flags = with_mode(&file, Flags::of_receive(flags)?);
    let header = Header::read(cx, addr)?;
    Ok(receive(cx, socket(&file)?, &header, flags)?.told as u64)
}

/// Runs `step` for each header until one fails; the first failure is told only
/// if nothing was done before it.
fn each(
    addr: u64,
    count: u64,
    mut step: impl FnMut(u64, u64) -> Result<bool, Errno>,
) -> Result<u64, Errno> {
    let mut done = 0;
    while done < count.min(MAX_MESSAGES) {
        let header = addr.checked_add(done * MANY_STRIDE).ok_or(Errno::EFAULT)?;
        match step(header, done) {
            Ok(goes_on) => {
                done += 1;
                if !goes_on {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

pub(super) fn sendmmsg(
    cx: &Context<'_>,
    fd: u64,
    addr: u64,
    count: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let flags = with_mode(&file, Flags::of_send(flags)?);
    let socket = socket(&file)?;
    each(addr, count & u64::from(u32::MAX), |at, _| {
        let header = Header::read(cx, at)?;
        let sent = send(cx, socket, &header, flags)?;
        header.write(cx, at::COUNT, &(sent as u32).to_le_bytes())?;
        Ok(true)
    })
}

pub(super) fn recvmmsg(
    cx: &Context<'_>,
    fd: u64,
    addr: u64,
    count: u64,
    flags: u64,
    timeout: u64,
) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let flags = with_mode(&file, Flags::of_receive(flags)?);
    let deadline = deadline(cx, timeout)?;
    let socket = socket(&file)?;
    each(addr, count & u64::from(u32::MAX), |at, done| {
        let mut flags = flags;
        if done > 0 && flags.contains(Flags::WAITFORONE) {
            flags |= Flags::DONTWAIT;
        }
        let header = Header::read(cx, at)?;
        let received = receive(cx, socket, &header, flags)?;
        header.write(cx, at::COUNT, &(received.told as u32).to_le_bytes())?;
        // recvmmsg(2): the time is looked at after each message only.
        Ok(deadline.is_none_or(|deadline| cx.now() < deadline))
    })
}

/// A `struct timespec` from now on, in CLOCK_MONOTONIC.
fn deadline(cx: &Context<'_>, addr: u64) -> Result<Option<u64>, Errno> {
    const NS_PER_S: u64 = 1_000_000_000;
    if addr == 0 {
        return Ok(None);
    }
    let seconds = cx.read_u64(addr)?;
    let nanos = cx.read_u64(addr.checked_add(8).ok_or(Errno::EFAULT)?)?;
    if i64::try_from(seconds).is_err() || nanos >= NS_PER_S {
        return Err(Errno::EINVAL);
    }
    let ns = seconds.saturating_mul(NS_PER_S).saturating_add(nanos);
    Ok(Some(cx.now().saturating_add(ns)))
}
