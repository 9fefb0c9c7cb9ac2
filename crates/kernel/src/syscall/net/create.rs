// SPDX-License-Identifier: Apache-2.0
//! Calls that make sockets.

use alloc::format;
use alloc::sync::Arc;

use super::{AddressRoom, open, socket as socket_of};
use crate::context::Context;
use crate::errno::Errno;
use crate::net::host::HostSocket;
use crate::net::pair::PairEnd;
use crate::net::{Domain, Identity};
use crate::syscall::io::create::add as add_nameless;
use crate::vfs::OpenFlags;
use crate::vfs::file::{Class, File};

const CLOEXEC: u64 = OpenFlags::CLOEXEC.bits() as u64;
const NONBLOCK: u64 = OpenFlags::NONBLOCK.bits() as u64;
/// Flags beside the type of a new socket.
const FLAGS: u64 = CLOEXEC | NONBLOCK;

/// Splits the `type` argument into type and flags.
fn kind(argument: u64) -> Result<(u64, u64), Errno> {
    const TYPES: u64 = 0xf;
    let argument = argument & u64::from(u32::MAX);
    if argument & !(TYPES | FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((argument & TYPES, argument & FLAGS))
}

fn add(cx: &Context<'_>, file: Arc<dyn File>, flags: u64) -> Result<u64, Errno> {
    let inode = match file.class() {
        Class::Socket(socket) => socket.inode(),
        _ => 0,
    };
    let name = format!("socket:[{inode}]").into_bytes();
    add_nameless(cx, file, flags, OpenFlags::READ_WRITE, &name)
}

pub(super) fn socket(
    cx: &Context<'_>,
    domain: u64,
    argument: u64,
    protocol: u64,
) -> Result<u64, Errno> {
    let (kind, flags) = kind(argument)?;
    let identity = Identity::new(domain, kind, protocol)?;
    add(cx, HostSocket::new(cx, identity, flags)?, flags)
}

pub(super) fn pair(
    cx: &Context<'_>,
    domain: u64,
    argument: u64,
    protocol: u64,
    out: u64,
) -> Result<u64, Errno> {
    let (kind, flags) = kind(argument)?;
    let identity = Identity::new(domain, kind, protocol)?;
    if identity.domain != Domain::Unix {
        return Err(Errno::EOPNOTSUPP);
    }
    let [first, second] = PairEnd::pair(cx, identity);
    let first = add(cx, first, flags)?;
    let both = add(cx, second, flags).and_then(|second| {
        let mut numbers = (first as u32).to_le_bytes().to_vec();
        numbers.extend_from_slice(&(second as u32).to_le_bytes());
        cx.write(out, &numbers).inspect_err(|_| close(cx, second))
    });
    if let Err(errno) = both {
        close(cx, first);
        return Err(errno);
    }
    Ok(0)
}

fn close(cx: &Context<'_>, fd: u64) {
    let closed = cx.process().files.table().lock().remove(fd);
    drop(closed);
}

pub(super) fn accept(
    cx: &Context<'_>,
    fd: u64,
    addr: u64,
    len_addr: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let flags = flags & u64::from(u32::MAX);
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = open(cx, fd)?;
    let room = AddressRoom::read(cx, addr, len_addr)?;
    let listener = socket_of(&file)?;
    let (accepted, from) = listener.accept(cx, file.is_nonblocking(), flags)?;
    let accepted = add(cx, accepted, flags)?;
    if let Some(room) = room {
        room.fill(cx, Some(&from))
            .inspect_err(|_| close(cx, accepted))?;
    }
    Ok(accepted)
}
