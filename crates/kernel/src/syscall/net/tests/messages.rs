// SPDX-License-Identifier: Apache-2.0
//! Datagrams and message headers.

use super::*;

const HEADERS: u64 = 0x3000;
const VECTORS: u64 = 0x5000;
const NAMES: u64 = 0x7000;

impl Program {
    /// Writes a `struct msghdr` (in a `struct mmsghdr`) with these buffers.
    fn header(&self, index: u64, name: &[u8], parts: &[(u64, u64)], control: &[u8]) -> u64 {
        let name_at = self.0.put(NAMES + index * 128, name);
        let vector_at = VECTORS + index * 256;
        for (at, (addr, len)) in parts.iter().enumerate() {
            self.0
                .put(vector_at + at as u64 * 16, &(USER + addr).to_le_bytes());
            self.0
                .put(vector_at + at as u64 * 16 + 8, &len.to_le_bytes());
        }
        let control_at = self.0.put(0x9000, control);
        let words = [
            if name.is_empty() { 0 } else { name_at },
            name.len() as u64,
            USER + vector_at,
            parts.len() as u64,
            if control.is_empty() { 0 } else { control_at },
            control.len() as u64,
            0xffff_ffff,
            0,
        ];
        let at = HEADERS + index * 64;
        for (word, value) in words.iter().enumerate() {
            self.0.put(at + word as u64 * 8, &value.to_le_bytes());
        }
        USER + at
    }

    fn header_u32(&self, index: u64, offset: u64) -> u32 {
        let bytes = self.0.take(HEADERS + index * 64 + offset, 4);
        u32::from_le_bytes(bytes.try_into().unwrap())
    }

    fn udp(&self) -> (u64, Vec<u8>) {
        let fd = self.socket(INET, DGRAM);
        self.named(nr::__NR_bind, fd, &loopback(INET, 0)).unwrap();
        let (_, address) = self.told(nr::__NR_getsockname, fd, 128).unwrap();
        (fd, address)
    }

    fn send_to(&self, fd: u64, bytes: &[u8], address: &[u8]) -> Result<u64, Errno> {
        let at = self.0.put(DATA, bytes);
        let to = self.0.put(ADDRESS, address);
        let args = [fd, at, bytes.len() as u64, 0, to, address.len() as u64];
        self.call(nr::__NR_sendto, &args)
    }
}

#[test]
fn datagrams_keep_their_borders_and_tell_who_sent_them() {
    let program = Program::new();
    let ((a, a_name), (b, b_name)) = (program.udp(), program.udp());
    for message in [b"first".as_slice(), b"", b"third"] {
        let sent = program.send_to(a, message, &b_name);
        assert_eq!(sent, Ok(message.len() as u64));
    }
    program.0.put(LENGTH, &128_u32.to_le_bytes());
    let args = [b, USER + DATA, 100, 0, USER + ADDRESS, USER + LENGTH];
    assert_eq!(program.call(nr::__NR_recvfrom, &args), Ok(5));
    assert_eq!(program.0.take(ADDRESS, 16), a_name);
    assert_eq!(program.receive(b, 100, 0).unwrap(), b"");
    assert_eq!(program.receive(b, 100, 0).unwrap(), b"third");
    // Connected and dissolved again, as getaddrinfo does.
    program.named(nr::__NR_connect, a, &b_name).unwrap();
    assert_eq!(program.send(a, b"x", 0), Ok(1));
}

#[test]
fn trunc_tells_the_whole_length_and_cuts() {
    let program = Program::new();
    let ((a, _), (b, b_name)) = (program.udp(), program.udp());
    program.send_to(a, b"0123456789", &b_name).unwrap();
    program.0.put(DATA, b"................");
    let peeked = program.call(nr::__NR_recvfrom, &[b, USER + DATA, 4, PEEK | TRUNC, 0, 0]);
    assert_eq!(peeked, Ok(10));
    assert_eq!(program.0.take(DATA, 6), b"0123..");
    let header = program.header(0, b"", &[(DATA, 4)], b"");
    assert_eq!(program.call(nr::__NR_recvmsg, &[b, header, 0]), Ok(4));
    assert_eq!(program.header_u32(0, 48), TRUNC as u32, "msg_flags");
}

#[test]
fn headers_gather_scatter_and_name() {
    let program = Program::new();
    let ((a, a_name), (b, b_name)) = (program.udp(), program.udp());
    program.0.put(DATA, b"left");
    program.0.put(DATA + 100, b"right");
    let header = program.header(0, &b_name, &[(DATA, 4), (DATA + 100, 5)], b"");
    assert_eq!(program.call(nr::__NR_sendmsg, &[a, header, 0]), Ok(9));
    let header = program.header(0, &[0; 100], &[(DATA + 200, 6), (DATA + 300, 50)], &[9; 64]);
    assert_eq!(program.call(nr::__NR_recvmsg, &[b, header, 0]), Ok(9));
    assert_eq!(program.0.take(DATA + 200, 6), b"leftri");
    assert_eq!(program.0.take(DATA + 300, 3), b"ght");
    assert_eq!(program.0.take(NAMES, 16), a_name);
    assert_eq!(program.header_u32(0, 8), 16, "msg_namelen");
    assert_eq!(program.header_u32(0, 40), 0, "msg_controllen");
    assert_eq!(program.header_u32(0, 48), 0, "msg_flags");
}

#[test]
fn many_messages_go_and_come_in_one_call() {
    let program = Program::new();
    let ((a, _), (b, b_name)) = (program.udp(), program.udp());
    for (index, text) in [b"one".as_slice(), b"two", b"three"].iter().enumerate() {
        let at = DATA + index as u64 * 64;
        program.0.put(at, text);
        program.header(index as u64, &b_name, &[(at, text.len() as u64)], b"");
    }
    let sent = program.call(nr::__NR_sendmmsg, &[a, USER + HEADERS, 3, 0]);
    assert_eq!(sent, Ok(3));
    assert_eq!(program.header_u32(2, 56), 5, "msg_len");
    for index in 0..4 {
        program.header(index, b"", &[(DATA + 0x1000 + index * 64, 64)], b"");
    }
    const WAITFORONE: u64 = 0x1_0000;
    let got = program.call(nr::__NR_recvmmsg, &[b, USER + HEADERS, 4, WAITFORONE, 0]);
    assert_eq!(got, Ok(3));
    assert_eq!(program.0.take(DATA + 0x1000 + 128, 5), b"three");
    let none = program.call(nr::__NR_recvmmsg, &[b, USER + HEADERS, 4, DONTWAIT, 0]);
    assert_eq!(none, Err(Errno::EAGAIN));
}

#[test]
fn control_messages_are_refused_and_empty_ones_are_not() {
    let program = Program::new();
    let ((a, _), (_b, b_name)) = (program.udp(), program.udp());
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, one descriptor.
    let mut rights = 20_u64.to_le_bytes().to_vec();
    rights.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let header = program.header(0, &b_name, &[(DATA, 1)], &rights);
    let refused = program.call(nr::__NR_sendmsg, &[a, header, 0]);
    assert_eq!(refused, Err(Errno::EOPNOTSUPP));
    assert_eq!(program.calls(Op::Send), 0, "nothing left");
    let header = program.header(0, &b_name, &[(DATA, 1)], &[0; 8]);
    assert_eq!(program.call(nr::__NR_sendmsg, &[a, header, 0]), Ok(1));
}

#[test]
fn flags_outside_the_list_are_refused() {
    let program = Program::new();
    let (a, _) = program.udp();
    const FASTOPEN: u64 = 0x2000_0000;
    const ERRQUEUE: u64 = 0x2000;
    assert_eq!(program.send(a, b"x", FASTOPEN), Err(Errno::EOPNOTSUPP));
    assert_eq!(program.receive(a, 1, ERRQUEUE), Err(Errno::EOPNOTSUPP));
}

#[test]
fn waiting_bytes_are_counted() {
    let program = Program::new();
    let ((a, _), (b, b_name)) = (program.udp(), program.udp());
    program.send_to(a, b"12345", &b_name).unwrap();
    const FIONREAD: u64 = 0x541b;
    const TCGETS: u64 = 0x5401;
    program
        .call(nr::__NR_ioctl, &[b, FIONREAD, USER + DATA])
        .unwrap();
    assert_eq!(program.0.take(DATA, 4), 5_u32.to_le_bytes());
    let terminal = program.call(nr::__NR_ioctl, &[b, TCGETS, USER + DATA]);
    assert_eq!(terminal, Err(Errno::ENOTTY));
}
