// SPDX-License-Identifier: Apache-2.0
//! sendto and recvfrom.

use super::{AddressRoom, address, open, socket, with_mode};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::UserSlice;
use crate::net::Flags;
use crate::vfs::buffer::{Sink, Source};

/// Most bytes of one transfer (Linux: MAX_RW_COUNT).
const MAX_TRANSFER: u64 = 0x7fff_f000;

fn slice(addr: u64, len: u64) -> UserSlice {
    UserSlice {
        addr,
        len: len.min(MAX_TRANSFER) as usize,
    }
}

pub(super) fn sendto(cx: &Context<'_>, args: [u64; 6]) -> Result<u64, Errno> {
    let [fd, buf, len, flags, addr, addr_len] = args;
    let file = open(cx, fd)?;
    let flags = with_mode(&file, Flags::of_send(flags)?);
    let to = if addr == 0 {
        None
    } else {
        Some(address(cx, addr, addr_len)?)
    };
    let source = Source::User(cx.machine, slice(buf, len));
    let sent = socket(&file)?.send(cx, source, to.as_ref(), flags)?;
    Ok(sent as u64)
}

pub(super) fn recvfrom(cx: &Context<'_>, args: [u64; 6]) -> Result<u64, Errno> {
    let [fd, buf, len, flags, addr, len_addr] = args;
    let file = open(cx, fd)?;
    let flags = with_mode(&file, Flags::of_receive(flags)?);
    let room = AddressRoom::read(cx, addr, len_addr)?;
    let mut sink = Sink::User(cx.machine, slice(buf, len));
    let received = socket(&file)?.receive(cx, &mut sink, flags)?;
    if let Some(room) = room {
        room.fill(cx, received.from.as_ref())?;
    }
    Ok(received.told as u64)
}
