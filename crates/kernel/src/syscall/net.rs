// SPDX-License-Identifier: Apache-2.0
//! Calls on sockets.

mod create;
mod message;
mod options;
#[cfg(test)]
mod tests;
mod transfer;

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as nr;

use crate::context::Context;
use crate::errno::Errno;
use crate::net::address::MAX_LEN;
use crate::net::{Address, Flags, Half, Socket};
use crate::syscall::io::usable;
use crate::vfs::OpenFile;
use crate::vfs::file::Class;

/// Serves a call on sockets; `None` if the number is none of them.
pub fn dispatch(cx: &Context<'_>, number: u64, args: [u64; 6]) -> Option<Result<u64, Errno>> {
    let [a, b, c, d, e, _] = args;
    Some(match u32::try_from(number).ok()? {
        nr::__NR_socket => create::socket(cx, a, b, c),
        nr::__NR_socketpair => create::pair(cx, a, b, c, d),
        nr::__NR_bind => bind(cx, a, b, c),
        nr::__NR_connect => connect(cx, a, b, c),
        nr::__NR_listen => listen(cx, a, b),
        nr::__NR_accept => create::accept(cx, a, b, c, 0),
        nr::__NR_accept4 => create::accept(cx, a, b, c, d),
        nr::__NR_getsockname => name(cx, a, b, c, |it, cx| it.local_address(cx)),
        nr::__NR_getpeername => name(cx, a, b, c, |it, cx| it.peer_address(cx)),
        nr::__NR_setsockopt => options::set(cx, a, b, c, d, e),
        nr::__NR_getsockopt => options::get(cx, a, b, c, d, e),
        nr::__NR_sendto => transfer::sendto(cx, args),
        nr::__NR_recvfrom => transfer::recvfrom(cx, args),
        nr::__NR_sendmsg => message::sendmsg(cx, a, b, c),
        nr::__NR_recvmsg => message::recvmsg(cx, a, b, c),
        nr::__NR_sendmmsg => message::sendmmsg(cx, a, b, c, d),
        nr::__NR_recvmmsg => message::recvmmsg(cx, a, b, c, d, e),
        nr::__NR_shutdown => shutdown(cx, a, b),
        _ => return None,
    })
}

/// The description behind a descriptor, which is a socket's.
fn open(cx: &Context<'_>, fd: u64) -> Result<Arc<OpenFile>, Errno> {
    let file = usable(cx, fd)?;
    socket(&file)?;
    Ok(file)
}

fn socket(file: &OpenFile) -> Result<&dyn Socket, Errno> {
    match file.file.class() {
        Class::Socket(socket) => Ok(socket),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// The call's flags with what the description says about blocking.
fn with_mode(file: &OpenFile, mut flags: Flags) -> Flags {
    if file.is_nonblocking() {
        flags |= Flags::DONTWAIT;
    }
    flags
}

/// Reads an address of `len` bytes.
fn address(cx: &Context<'_>, addr: u64, len: u64) -> Result<Address, Errno> {
    let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
    if len > MAX_LEN {
        return Err(Errno::EINVAL);
    }
    Address::from_program(&cx.read_vec(addr, len)?)
}

/// Room for an address in a program: where, how long, and where its length goes.
struct AddressRoom {
    addr: u64,
    len: usize,
    len_addr: u64,
}

impl AddressRoom {
    /// `None` if the program wants no address. Looked at before anything happens,
    /// so that a bad pointer costs no connection.
    fn read(cx: &Context<'_>, addr: u64, len_addr: u64) -> Result<Option<Self>, Errno> {
        if addr == 0 {
            return Ok(None);
        }
        let len = cx.read_u32(len_addr)? as i32;
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        Ok(Some(Self {
            addr,
            len,
            len_addr,
        }))
    }

    /// Writes what fits and the whole length.
    fn fill(&self, cx: &Context<'_>, address: Option<&Address>) -> Result<(), Errno> {
        let bytes: Vec<u8> = address.map(Address::encode).unwrap_or_default();
        let kept = bytes.get(..self.len.min(bytes.len())).unwrap_or_default();
        cx.write(self.addr, kept)?;
        cx.write_u32(self.len_addr, bytes.len() as u32)
    }
}

fn bind(cx: &Context<'_>, fd: u64, addr: u64, len: u64) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    socket(&file)?.bind(cx, &address(cx, addr, len)?)?;
    Ok(0)
}

fn connect(cx: &Context<'_>, fd: u64, addr: u64, len: u64) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let address = address(cx, addr, len)?;
    socket(&file)?.connect(cx, &address, file.is_nonblocking())?;
    Ok(0)
}

fn listen(cx: &Context<'_>, fd: u64, backlog: u64) -> Result<u64, Errno> {
    // Linux: net.core.somaxconn; a negative number means as many as possible.
    const MOST: u32 = 4096;
    let file = open(cx, fd)?;
    socket(&file)?.listen(cx, (backlog as u32).min(MOST))?;
    Ok(0)
}

fn name(
    cx: &Context<'_>,
    fd: u64,
    addr: u64,
    len_addr: u64,
    ask: fn(&dyn Socket, &Context<'_>) -> Result<Address, Errno>,
) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let room = AddressRoom::read(cx, addr, len_addr)?.ok_or(Errno::EFAULT)?;
    let address = ask(socket(&file)?, cx)?;
    room.fill(cx, Some(&address))?;
    Ok(0)
}

fn shutdown(cx: &Context<'_>, fd: u64, how: u64) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    socket(&file)?.shutdown(cx, Half::from_number(how)?)?;
    Ok(0)
}
