// SPDX-License-Identifier: Apache-2.0
//! Socket calls for tests.

use alloc::vec;
use alloc::vec::Vec;
use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

use enclave_abi::call::Op;
use rustix::io;
use rustix::net::{
    self, AddressFamily, Protocol, RecvAncillaryBuffer, RecvFlags, SendFlags, Shutdown,
    SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
};

use super::{done, errno, room, value};
use crate::errno::Errno;
use crate::host::Word;
use crate::vfs::testing::TestMachine;

/// Paths lie below the test's directory, as the launcher's do below its root.
fn parse(m: &TestMachine, bytes: &[u8]) -> SocketAddrAny {
    let port = || u16::from_be_bytes([bytes[2], bytes[3]]);
    match bytes[0] {
        1 if bytes.get(2).is_some_and(|first| *first != 0) => {
            let path = bytes[2..].split(|byte| *byte == 0).next().unwrap();
            let root = m.root.path().as_os_str().as_bytes();
            let path = [root, path].concat();
            SocketAddrUnix::new(path).unwrap().into()
        }
        1 => SocketAddrUnix::new_abstract_name(&bytes[3..])
            .unwrap()
            .into(),
        2 => {
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            SocketAddrV4::new(ip, port()).into()
        }
        10 => {
            let ip: [u8; 16] = bytes[8..24].try_into().unwrap();
            SocketAddrV6::new(ip.into(), port(), 0, 0).into()
        }
        family => panic!("family {family}"),
    }
}

fn write(m: &TestMachine, address: Option<SocketAddrAny>) -> Vec<u8> {
    let Some(address) = address else {
        return Vec::new();
    };
    if let Ok(v4) = SocketAddrV4::try_from(address.clone()) {
        let mut bytes = vec![2, 0];
        bytes.extend_from_slice(&v4.port().to_be_bytes());
        bytes.extend_from_slice(&v4.ip().octets());
        bytes.resize(16, 0);
        return bytes;
    }
    if let Ok(v6) = SocketAddrV6::try_from(address.clone()) {
        let mut bytes = vec![10, 0];
        bytes.extend_from_slice(&v6.port().to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&v6.ip().octets());
        bytes.resize(28, 0);
        return bytes;
    }
    let unix = SocketAddrUnix::try_from(address).unwrap();
    let mut bytes = vec![1, 0];
    if let Some(path) = unix.path_bytes() {
        let root = m.root.path().as_os_str().as_bytes();
        bytes.extend_from_slice(path.strip_prefix(root).unwrap());
        bytes.push(0);
    }
    bytes
}

fn with_len(m: &TestMachine, address: Option<SocketAddrAny>) -> Vec<u8> {
    let address = write(m, address);
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
            let address = parse(m, &m.bytes_in(address)?);
            done(net::bind(m.handle(fd)?.as_ref(), &address))
        }
        (Op::Connect, [fd, address]) => {
            let address = parse(m, &m.bytes_in(address)?);
            done(net::connect(m.handle(fd)?.as_ref(), &address))
        }
        (Op::Listen, [fd, backlog]) => {
            done(net::listen(m.handle(fd)?.as_ref(), value(backlog) as i32))
        }
        (Op::Accept, [fd, out, flags]) => {
            let flags = SocketFlags::from_bits_retain(value(flags) as u32);
            let listener = m.handle(fd)?;
            let (fd, address) = net::acceptfrom_with(listener.as_ref(), flags).map_err(errno)?;
            m.put_out(out, &with_len(m, address))?;
            Ok(m.keep(fd))
        }
        (Op::Getsockname, [fd, out]) => {
            let address = net::getsockname(m.handle(fd)?.as_ref()).map_err(errno)?;
            m.put_out(out, &with_len(m, Some(address)))?;
            Ok(0)
        }
        (Op::Getpeername, [fd, out]) => {
            let address = net::getpeername(m.handle(fd)?.as_ref()).map_err(errno)?;
            m.put_out(out, &with_len(m, address))?;
            Ok(0)
        }
        (Op::Setsockopt, [fd, level, option, given]) => {
            let socket = m.handle(fd)?;
            let given = m.bytes_in(given)?;
            let on = given[0] != 0;
            done(match (value(level), value(option)) {
                (1, 2) => net::sockopt::set_socket_reuseaddr(socket.as_ref(), on),
                (1, 9) => net::sockopt::set_socket_keepalive(socket.as_ref(), on),
                (6, 1) => net::sockopt::set_tcp_nodelay(socket.as_ref(), on),
                (41, 26) => net::sockopt::set_ipv6_v6only(socket.as_ref(), on),
                (level, option) => panic!("socket option {level} {option}"),
            })
        }
        (Op::Getsockopt, [fd, level, option, out]) => {
            let socket = m.handle(fd)?;
            let answer: io::Result<u32> = match (value(level), value(option)) {
                (1, 4) => net::sockopt::socket_error(socket.as_ref())
                    .map(|error| error.map_or_else(|errno| errno.raw_os_error() as u32, |()| 0)),
                (1, 2) => net::sockopt::socket_reuseaddr(socket.as_ref()).map(u32::from),
                (1, 9) => net::sockopt::socket_keepalive(socket.as_ref()).map(u32::from),
                (6, 1) => net::sockopt::tcp_nodelay(socket.as_ref()).map(u32::from),
                (level, option) => panic!("socket option {level} {option}"),
            };
            m.put_out(out, &answer.map_err(errno)?.to_le_bytes())?;
            Ok(4)
        }
        (Op::Ioctl, [fd, request, _, out]) => {
            assert_eq!(value(request), 0x541b, "FIONREAD");
            let waiting = io::ioctl_fionread(m.handle(fd)?.as_ref()).map_err(errno)?;
            m.put_out(out, &(waiting as u32).to_le_bytes())?;
            Ok(0)
        }
        (Op::Send, [fd, data, address, flags]) => {
            let data = m.bytes_in(data)?;
            let address = m.bytes_in(address)?;
            let flags = SendFlags::from_bits_retain(value(flags) as u32);
            let socket = m.handle(fd)?;
            let sent = if address.is_empty() {
                net::send(socket.as_ref(), &data, flags)
            } else {
                net::sendto(socket.as_ref(), &data, flags, &parse(m, &address))
            };
            sent.map(|count| count as u64).map_err(errno)
        }
        (Op::Recv, [fd, out, info, flags]) => {
            let mut bytes = vec![0; room(out)];
            let flags = RecvFlags::from_bits_retain(value(flags) as u32);
            let socket = m.handle(fd)?;
            let got = net::recvmsg(
                socket.as_ref(),
                &mut [io::IoSliceMut::new(&mut bytes)],
                &mut RecvAncillaryBuffer::default(),
                flags,
            )
            .map_err(errno)?;
            m.put_out(out, &bytes[..got.bytes])?;
            let address = write(m, got.address);
            let told = got.flags.bits();
            let mut told_info = (address.len() as u32).to_le_bytes().to_vec();
            told_info.extend_from_slice(&told.to_le_bytes());
            told_info.extend_from_slice(&address);
            told_info.resize(8 + 128, 0);
            m.put_out(info, &told_info)?;
            Ok(got.bytes as u64)
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
