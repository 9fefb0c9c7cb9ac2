// SPDX-License-Identifier: Apache-2.0
//! Socket calls for tests: IPv4 and paths.

use alloc::vec;
use alloc::vec::Vec;
use std::net::{Ipv4Addr, SocketAddrV4};

use enclave_abi::call::Op;
use rustix::net::{
    self, AddressFamily, Protocol, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix,
    SocketFlags, SocketType,
};

use super::{done, errno, room, value};
use crate::errno::Errno;
use crate::host::Word;
use crate::vfs::testing::TestMachine;

fn parse(bytes: &[u8]) -> SocketAddrAny {
    match bytes[0] {
        1 => {
            let path = &bytes[2..];
            let end = path
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(path.len());
            SocketAddrUnix::new(&path[..end]).unwrap().into()
        }
        2 => {
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            SocketAddrV4::new(ip, port).into()
        }
        family => panic!("family {family}"),
    }
}

fn write(address: Option<SocketAddrAny>) -> Vec<u8> {
    let Some(address) = address else {
        return Vec::new();
    };
    match SocketAddrV4::try_from(address) {
        Ok(v4) => {
            let mut bytes = vec![2, 0];
            bytes.extend_from_slice(&v4.port().to_be_bytes());
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.resize(16, 0);
            bytes
        }
        Err(_) => vec![1, 0],
    }
}

fn with_len(address: Option<SocketAddrAny>) -> Vec<u8> {
    let address = write(address);
    let mut bytes = (address.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&address);
    bytes.resize(4 + 128, 0);
    bytes
}

pub(super) fn perform(m: &TestMachine, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
    match (op, words) {
        (Op::Socket, [domain, kind, protocol]) => {
            let domain = AddressFamily::from_raw(value(domain) as u16);
            let kind = value(kind) as u32;
            let flags = SocketFlags::from_bits_retain(kind & !0xf);
            let kind = SocketType::from_raw(kind & 0xf);
            let protocol = core::num::NonZeroU32::new(value(protocol) as u32);
            let protocol = protocol.map(Protocol::from_raw);
            net::socket_with(domain, kind, flags, protocol)
                .map(|fd| m.keep(fd))
                .map_err(errno)
        }
        (Op::Bind, [fd, address]) => {
            let address = parse(&m.bytes_in(address)?);
            done(net::bind(m.handle(fd)?.as_ref(), &address))
        }
        (Op::Connect, [fd, address]) => {
            let address = parse(&m.bytes_in(address)?);
            done(net::connect(m.handle(fd)?.as_ref(), &address))
        }
        (Op::Listen, [fd, backlog]) => {
            done(net::listen(m.handle(fd)?.as_ref(), value(backlog) as i32))
        }
        (Op::Accept, [fd, out, flags]) => {
            let flags = SocketFlags::from_bits_retain(value(flags) as u32);
            let listener = m.handle(fd)?;
            let (fd, address) = net::acceptfrom_with(listener.as_ref(), flags).map_err(errno)?;
            m.put_out(out, &with_len(address))?;
            Ok(m.keep(fd))
        }
        (Op::Getsockname, [fd, out]) => {
            let address = net::getsockname(m.handle(fd)?.as_ref()).map_err(errno)?;
            m.put_out(out, &with_len(Some(address)))?;
            Ok(0)
        }
        (Op::Getpeername, [fd, out]) => {
            let address = net::getpeername(m.handle(fd)?.as_ref()).map_err(errno)?;
            m.put_out(out, &with_len(address))?;
            Ok(0)
        }
        (Op::Setsockopt, [fd, level, option, _]) => {
            let socket = m.handle(fd)?;
            match (value(level), value(option)) {
                (1, 2) => done(net::sockopt::set_socket_reuseaddr(socket.as_ref(), true)),
                (6, 1) => done(net::sockopt::set_tcp_nodelay(socket.as_ref(), true)),
                (level, option) => panic!("socket option {level} {option}"),
            }
        }
        (Op::Getsockopt, [fd, level, option, out]) => {
            let socket = m.handle(fd)?;
            let answer: u32 = match (value(level), value(option)) {
                (1, 4) => match net::sockopt::socket_error(socket.as_ref()).map_err(errno)? {
                    Ok(()) => 0,
                    Err(error) => error.raw_os_error() as u32,
                },
                (1, 3) => net::sockopt::socket_type(socket.as_ref())
                    .map_err(errno)?
                    .as_raw(),
                (level, option) => panic!("socket option {level} {option}"),
            };
            m.put_out(out, &answer.to_le_bytes())?;
            Ok(4)
        }
        (Op::Send, [fd, data, address, flags]) => {
            let data = m.bytes_in(data)?;
            let address = m.bytes_in(address)?;
            let flags = SendFlags::from_bits_retain(value(flags) as u32);
            let socket = m.handle(fd)?;
            let sent = if address.is_empty() {
                net::send(socket.as_ref(), &data, flags)
            } else {
                net::sendto(socket.as_ref(), &data, flags, &parse(&address))
            };
            sent.map(|count| count as u64).map_err(errno)
        }
        (Op::Recv, [fd, out, info, flags]) => {
            let mut bytes = vec![0; room(out)];
            let flags = RecvFlags::from_bits_retain(value(flags) as u32);
            let socket = m.handle(fd)?;
            let (count, full, address) =
                net::recvfrom(socket.as_ref(), &mut bytes, flags).map_err(errno)?;
            m.put_out(out, &bytes[..count])?;
            let address = write(address);
            let told: u32 = if full > count { 0x20 } else { 0 };
            let mut told_info = (address.len() as u32).to_le_bytes().to_vec();
            told_info.extend_from_slice(&told.to_le_bytes());
            told_info.extend_from_slice(&address);
            told_info.resize(8 + 128, 0);
            m.put_out(info, &told_info)?;
            Ok(count as u64)
        }
        (Op::Shutdown, [fd, how]) => {
            let how = match value(how) {
                0 => Shutdown::Read,
                1 => Shutdown::Write,
                _ => Shutdown::Both,
            };
            done(net::shutdown(m.handle(fd)?.as_ref(), how))
        }
        (op, words) => panic!("{op:?} with {words:?} is not performed in tests"),
    }
}
