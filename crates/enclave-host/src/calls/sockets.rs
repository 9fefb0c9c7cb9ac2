// SPDX-License-Identifier: Apache-2.0
//! Sockets. Addresses travel as `u32` length and up to 128 bytes.

use enclave_abi::call::Op;

use super::descriptors::last_error;
use super::{Answer, Host, blocking, new_fd, raw_fd};
use crate::area::CallArea;

const ADDRESS_MAX: usize = 128;

pub(super) fn serve(host: &Host, op: Op, area: &mut CallArea) -> Answer {
    match op {
        Op::Socket => {
            let (domain, kind, protocol) = (area.word(0), area.word(1), area.word(2));
            let kind = kind as i32 | libc::SOCK_CLOEXEC;
            // SAFETY: no pointers.
            let made = checked(unsafe { libc::socket(domain as i32, kind, protocol as i32) })?;
            new_fd(made as i32)
        }
        Op::Bind => {
            let address = area.input(1)?;
            // SAFETY: pointer and length come from one slice.
            checked(unsafe {
                libc::bind(
                    raw_fd(host, area, 0)?,
                    address.as_ptr().cast(),
                    address.len() as u32,
                )
            })
        }
        Op::Connect => {
            let fd = raw_fd(host, area, 0)?;
            let (address, len) = area.raw(1)?;
            // SAFETY: pointer and length name bytes of the area.
            unsafe {
                blocking(
                    host,
                    libc::SYS_connect,
                    [fd as u64, address as u64, len as u64, 0, 0, 0],
                )
            }
        }
        Op::Listen => {
            // SAFETY: no pointers.
            checked(unsafe { libc::listen(raw_fd(host, area, 0)?, area.word(1) as i32) })
        }
        Op::Accept => accept(host, area),
        Op::Getsockname | Op::Getpeername => name(host, op, area),
        Op::Setsockopt => {
            let value = area.input(3)?;
            let (fd, level, option) = (raw_fd(host, area, 0)?, area.word(1), area.word(2));
            // SAFETY: pointer and length come from one slice.
            checked(unsafe {
                libc::setsockopt(
                    fd,
                    level as i32,
                    option as i32,
                    value.as_ptr().cast(),
                    value.len() as u32,
                )
            })
        }
        Op::Getsockopt => {
            let (fd, level, option) = (raw_fd(host, area, 0)?, area.word(1), area.word(2));
            let value = area.output(3)?;
            let mut len = value.len() as u32;
            // SAFETY: pointer and length come from one slice.
            checked(unsafe {
                libc::getsockopt(
                    fd,
                    level as i32,
                    option as i32,
                    value.as_mut_ptr().cast(),
                    &raw mut len,
                )
            })?;
            Ok(i64::from(len))
        }
        Op::Send => send(host, area),
        Op::Recv => receive(host, area),
        _ => {
            // SAFETY: no pointers.
            checked(unsafe { libc::shutdown(raw_fd(host, area, 0)?, area.word(1) as i32) })
        }
    }
}

fn checked(result: i32) -> Answer {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(i64::from(result))
    }
}

fn put_address(
    area: &mut CallArea,
    index: usize,
    offset: usize,
    address: &[u8],
    len: u32,
) -> Result<(), i32> {
    let out = area.output(index)?;
    out.get_mut(..4)
        .ok_or(libc::EFAULT)?
        .copy_from_slice(&len.to_le_bytes());
    let kept = address.get(..len as usize).unwrap_or(address);
    let room = out
        .get_mut(offset..offset + kept.len())
        .ok_or(libc::EFAULT)?;
    room.copy_from_slice(kept);
    Ok(())
}

fn accept(host: &Host, area: &mut CallArea) -> Answer {
    let fd = raw_fd(host, area, 0)?;
    let flags = area.word(3) as i32 | libc::SOCK_CLOEXEC;
    let mut address = [0; ADDRESS_MAX];
    let mut len = ADDRESS_MAX as u32;
    let args = [
        fd as u64,
        address.as_mut_ptr() as u64,
        &raw mut len as u64,
        flags as u64,
        0,
        0,
    ];
    // SAFETY: both pointers are valid for the call.
    let accepted = unsafe { blocking(host, libc::SYS_accept4, args) }?;
    let accepted = new_fd(accepted as i32)?;
    put_address(area, 1, 4, &address, len).inspect_err(|_| {
        // SAFETY: made for the enclave, which never hears of it.
        unsafe { libc::close(accepted as i32) };
    })?;
    Ok(accepted)
}

fn name(host: &Host, op: Op, area: &mut CallArea) -> Answer {
    let fd = raw_fd(host, area, 0)?;
    let mut address = [0; ADDRESS_MAX];
    let mut len = ADDRESS_MAX as u32;
    let ask = if op == Op::Getsockname {
        libc::getsockname
    } else {
        libc::getpeername
    };
    // SAFETY: both pointers are valid for the call.
    checked(unsafe { ask(fd, address.as_mut_ptr().cast(), &raw mut len) })?;
    put_address(area, 1, 4, &address, len)?;
    Ok(0)
}

fn send(host: &Host, area: &CallArea) -> Answer {
    let fd = raw_fd(host, area, 0)?;
    let (data, data_len) = area.raw(1)?;
    let (address, address_len) = area.raw(3)?;
    let address = if address_len == 0 { 0 } else { address as u64 };
    // The host process must survive: the enclave raises SIGPIPE itself.
    let flags = area.word(5) | libc::MSG_NOSIGNAL as u64;
    // SAFETY: pointers and lengths name bytes of the area.
    unsafe {
        blocking(
            host,
            libc::SYS_sendto,
            [
                fd as u64,
                data as u64,
                data_len as u64,
                flags,
                address,
                address_len as u64,
            ],
        )
    }
}

fn receive(host: &Host, area: &mut CallArea) -> Answer {
    let fd = raw_fd(host, area, 0)?;
    let (data, data_len) = area.raw(1)?;
    let mut address = [0; ADDRESS_MAX];
    let mut vector = libc::iovec {
        iov_base: data.cast(),
        iov_len: data_len,
    };
    // SAFETY: a message header of zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = ADDRESS_MAX as u32;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    let args = [fd as u64, &raw mut message as u64, area.word(5), 0, 0, 0];
    // SAFETY: the header and everything it points to is valid for the call.
    let received = unsafe { blocking(host, libc::SYS_recvmsg, args) }?;
    let (len, flags) = (message.msg_namelen, message.msg_flags);
    put_address(area, 3, 8, &address, len)?;
    let out = area.output(3)?.get_mut(4..8).ok_or(libc::EFAULT)?;
    out.copy_from_slice(&flags.to_le_bytes());
    Ok(received)
}
