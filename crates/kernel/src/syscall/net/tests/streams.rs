// SPDX-License-Identifier: Apache-2.0
//! Connections.

use alloc::vec;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_connection_carries_bytes_both_ways_until_its_end() {
    let program = Program::new();
    for domain in [INET, INET6] {
        if domain == INET6 && std::net::TcpListener::bind("[::1]:0").is_err() {
            std::eprintln!("skipped: this machine has no IPv6 loopback");
            continue;
        }
        let (listener, address) = program.listener(domain);
        let client = program.socket(domain, STREAM | CLOEXEC);
        program.named(nr::__NR_connect, client, &address).unwrap();
        let (server, from) = program.told(nr::__NR_accept4, listener, 128).unwrap();
        let (_, own) = program.told(nr::__NR_getsockname, client, 128).unwrap();
        let (_, peer) = program.told(nr::__NR_getpeername, client, 128).unwrap();
        assert_eq!(
            (from, peer),
            (own, address),
            "both ends agree on their names"
        );

        assert_eq!(program.send(client, b"question", 0), Ok(8));
        assert_eq!(program.receive(server, 100, PEEK).unwrap(), b"question");
        assert_eq!(program.receive(server, 100, 0).unwrap(), b"question");
        let answer = program.0.put(DATA, b"answer");
        let written = program.call(nr::__NR_write, &[server, answer, 6]);
        assert_eq!(written, Ok(6));
        let read = program.call(nr::__NR_read, &[client, USER + DATA + 64, 100]);
        assert_eq!(read, Ok(6));
        assert_eq!(program.0.take(DATA + 64, 6), b"answer");

        program.call(nr::__NR_shutdown, &[server, 1]).unwrap();
        assert_eq!(program.receive(client, 100, 0).unwrap(), b"");
        for fd in [client, server, listener] {
            program.call(nr::__NR_close, &[fd]).unwrap();
        }
    }
    assert_eq!(program.0.machine.open_fds(), 0, "every socket was closed");
}

#[test]
fn addresses_are_cut_to_the_programs_room_and_their_length_told() {
    let program = Program::new();
    let (listener, _) = program.listener(INET);
    let (_, cut) = program.told(nr::__NR_getsockname, listener, 3).unwrap();
    assert_eq!(cut.len(), 3);
    assert_eq!(program.0.take(LENGTH, 4), 16_u32.to_le_bytes());
    assert_eq!(program.0.take(ADDRESS + 3, 1), [0xee], "nothing beyond it");
    let negative = program.told(nr::__NR_getsockname, listener, u32::MAX);
    assert_eq!(negative, Err(Errno::EINVAL));
}

#[test]
fn nonblocking_sockets_answer_at_once() {
    let program = Program::new();
    let (listener, address) = program.listener(INET);
    program
        .call(nr::__NR_fcntl, &[listener, 4, NONBLOCK])
        .unwrap();
    let none = program.call(nr::__NR_accept4, &[listener, 0, 0, NONBLOCK]);
    assert_eq!(none, Err(Errno::EAGAIN));
    let client = program.socket(INET, STREAM | NONBLOCK);
    match program.named(nr::__NR_connect, client, &address) {
        Ok(0) | Err(Errno::EINPROGRESS) => {}
        other => panic!("{other:?}"),
    }
    // A connection over the loopback is made by the time it is accepted.
    let server = loop {
        match program.call(nr::__NR_accept4, &[listener, 0, 0, NONBLOCK]) {
            Err(Errno::EAGAIN) => thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!(program.number(client, 1, 4), Ok(0), "SO_ERROR");
    assert_eq!(program.receive(server, 10, 0), Err(Errno::EAGAIN));
    assert_eq!(program.receive(client, 10, 0), Err(Errno::EAGAIN));
    let blocking = program.call(nr::__NR_fcntl, &[server, 4, 0]);
    assert_eq!(blocking, Ok(0));
    assert_eq!(program.receive(server, 10, DONTWAIT), Err(Errno::EAGAIN));
}

#[test]
fn timeouts_end_calls_that_would_block() {
    let program = Program::new();
    let (client, server) = program.connection();
    for option in [20, 66] {
        program.set(client, 1, option, &timeval(30_000)).unwrap();
        assert_eq!(
            program.option(client, 1, option),
            Ok(timeval(30_000).into())
        );
        let start = Instant::now();
        assert_eq!(program.receive(client, 10, 0), Err(Errno::EAGAIN));
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(program.receive(client, 10, WAITALL), Err(Errno::EAGAIN));
    }
    program.send(server, b"abc", 0).unwrap();
    assert_eq!(
        program.receive(client, 10, WAITALL).unwrap(),
        b"abc",
        "what has come is not lost"
    );
    let (listener, _) = program.listener(INET);
    program.set(listener, 1, 20, &timeval(10_000)).unwrap();
    let accepted = program.call(nr::__NR_accept, &[listener, 0, 0]);
    assert_eq!(accepted, Err(Errno::EAGAIN));
    // Without the timeout the host blocks again.
    program.set(client, 1, 20, &timeval(0)).unwrap();
    let writer = program.thread();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        writer.send(server, b"late", 0).unwrap();
    });
    let polls = program.calls(Op::Poll);
    assert_eq!(program.receive(client, 10, 0).unwrap(), b"late");
    assert_eq!(program.calls(Op::Poll), polls);
    sender.join().unwrap();
}

#[test]
fn a_full_stream_ends_a_sender_with_a_timeout() {
    let program = Program::new();
    let (client, _server) = program.connection();
    program.set(client, 1, 21, &timeval(20_000)).unwrap();
    let bytes = vec![7; 4 << 20];
    let mut sent = 0;
    let end = loop {
        match program.send(client, &bytes, 0) {
            Ok(count) => sent += count,
            Err(errno) => break errno,
        }
        assert!(sent < 1 << 30, "somebody must be full some day");
    };
    assert_eq!(end, Errno::EAGAIN);
    assert!(sent > 0);
}

#[test]
fn waitall_fills_the_room() {
    let program = Program::new();
    let (client, server) = program.connection();
    let writer = program.thread();
    let sender = thread::spawn(move || {
        for piece in [b"ab", b"cd", b"ef"] {
            let at = writer.0.put(0x40_0000, piece);
            writer.call(nr::__NR_write, &[server, at, 2]).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(program.receive(client, 6, WAITALL).unwrap(), b"abcdef");
    sender.join().unwrap();
}

#[test]
fn long_writes_are_whole_and_vectors_are_not_torn() {
    let program = Program::new();
    let (client, server) = program.connection();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7) as u8).collect();
    let at = program.0.put(0x40_0000, &bytes);
    let writer = program.thread();
    let len = bytes.len() as u64;
    let sender = thread::spawn(move || {
        writer
            .call(nr::__NR_sendto, &[client, at, len, 0, 0, 0])
            .unwrap()
    });
    let mut all = Vec::new();
    while all.len() < bytes.len() {
        let more = program.receive(server, 1 << 20, 0).unwrap();
        assert!(!more.is_empty());
        all.extend_from_slice(&more);
    }
    assert!(all == bytes);
    assert_eq!(sender.join().unwrap(), len);
}

#[test]
fn a_broken_stream_raises_sigpipe_unless_told_not_to() {
    let program = Program::new();
    let (client, _server) = program.connection();
    program.call(nr::__NR_shutdown, &[client, 1]).unwrap();
    let sent = program.send(client, b"x", NOSIGNAL);
    assert_eq!((sent, program.got_sigpipe()), (Err(Errno::EPIPE), false));
    let sent = program.send(client, b"x", 0);
    assert_eq!((sent, program.got_sigpipe()), (Err(Errno::EPIPE), true));
    let at = program.0.put(DATA, b"x");
    let written = program.call(nr::__NR_write, &[client, at, 1]);
    assert_eq!((written, program.got_sigpipe()), (Err(Errno::EPIPE), true));
}

#[test]
fn options_are_told_inside_or_by_the_host() {
    let program = Program::new();
    let (listener, _) = program.listener(INET);
    let fd = program.socket(INET6, STREAM);
    assert_eq!(program.number(fd, 1, 3), Ok(1), "SO_TYPE");
    assert_eq!(program.number(fd, 1, 39), Ok(10), "SO_DOMAIN");
    assert_eq!(program.number(fd, 1, 38), Ok(6), "SO_PROTOCOL");
    assert_eq!(program.number(fd, 1, 30), Ok(0), "SO_ACCEPTCONN");
    assert_eq!(program.number(listener, 1, 30), Ok(1), "SO_ACCEPTCONN");
    assert_eq!(program.calls(Op::Getsockopt), 0);
    for (level, option) in [(1, 2), (1, 9), (6, 1)] {
        assert_eq!(program.number(fd, level, option), Ok(0));
        program.set(fd, level, option, &[1, 0, 0, 0]).unwrap();
        assert_eq!(program.number(fd, level, option), Ok(1));
    }
    assert_eq!(program.set(fd, 1, 2, &[1]), Err(Errno::EINVAL));
    for (level, option) in [(1, 16), (1, 25), (6, 31), (0, 8), (41, 49), (9, 9)] {
        let set = program.set(fd, level, option, &[1, 0, 0, 0]);
        assert_eq!(set, Err(Errno::ENOPROTOOPT), "{level} {option}");
        assert_eq!(
            program.number(fd, level, option),
            Err(Errno::ENOPROTOOPT),
            "{level} {option}"
        );
    }
}

#[test]
fn families_types_and_flags_outside_the_list_are_refused() {
    let program = Program::new();
    let make = |domain, kind, protocol| program.call(nr::__NR_socket, &[domain, kind, protocol]);
    assert_eq!(make(16, 3, 0), Err(Errno::EAFNOSUPPORT), "netlink");
    assert_eq!(make(17, 3, 0), Err(Errno::EAFNOSUPPORT), "packet");
    assert_eq!(make(40, 1, 0), Err(Errno::EAFNOSUPPORT), "vsock");
    assert_eq!(make(INET, 3, 1), Err(Errno::EPERM), "raw");
    assert_eq!(make(INET, 5, 0), Err(Errno::ESOCKTNOSUPPORT));
    assert_eq!(make(INET, 1, 262), Err(Errno::EPROTONOSUPPORT), "MPTCP");
    assert_eq!(make(INET, 1, 17), Err(Errno::EPROTONOSUPPORT));
    assert_eq!(make(INET, 1 | 0x100, 0), Err(Errno::EINVAL));
    assert_eq!(program.calls(Op::Socket), 0, "the host was never asked");
    let file = program.0.text(DATA, "/etc");
    assert_eq!(program.call(nr::__NR_listen, &[99, 1]), Err(Errno::EBADF));
    program.call(nr::__NR_eventfd2, &[0, 0]).unwrap();
    assert_eq!(program.call(nr::__NR_listen, &[0, 1]), Err(Errno::ENOTSOCK));
    let _ = file;
}

#[test]
fn sockets_at_paths_lie_in_the_hosts_regions_only() {
    let program = Program::new();
    let server = program.socket(UNIX, STREAM);
    program
        .named(nr::__NR_bind, server, b"\x01\0service.sock")
        .unwrap();
    assert!(program.0.machine.root.path().join("service.sock").exists());
    program.call(nr::__NR_listen, &[server, 4]).unwrap();
    let (_, own) = program.told(nr::__NR_getsockname, server, 128).unwrap();
    assert_eq!(own, b"\x01\0service.sock\0", "as the program wrote it");
    let client = program.socket(UNIX, STREAM);
    program
        .named(nr::__NR_connect, client, b"\x01\0/service.sock\0")
        .unwrap();
    let (accepted, from) = program.told(nr::__NR_accept, server, 128).unwrap();
    assert_eq!(from, b"\x01\0");
    program.send(client, b"hello", 0).unwrap();
    assert_eq!(program.receive(accepted, 10, 0).unwrap(), b"hello");
    let (_, peer) = program.told(nr::__NR_getpeername, client, 128).unwrap();
    assert_eq!(peer, b"\x01\0/service.sock\0");
    assert_eq!(
        program.option(accepted, 1, 17).unwrap(),
        [[0; 4], 65534_u32.to_le_bytes(), 65534_u32.to_le_bytes()].concat(),
        "the host's word about users means nothing"
    );

    let binds = program.calls(Op::Bind);
    let other = program.socket(UNIX, STREAM);
    let bound = program.named(nr::__NR_bind, other, b"\x01\0/tmp/x.sock");
    assert_eq!(bound, Err(Errno::EOPNOTSUPP), "memory is not the host's");
    assert_eq!(program.calls(Op::Bind), binds);
    let connects = program.calls(Op::Connect);
    let missing = program.named(nr::__NR_connect, other, b"\x01\0/tmp/x.sock");
    assert_eq!(missing, Err(Errno::ENOENT));
    assert_eq!(program.calls(Op::Connect), connects);
    let missing = program.named(nr::__NR_connect, other, b"\x01\0/none.sock");
    assert_eq!(missing, Err(Errno::ENOENT));
}

#[test]
fn a_signal_ends_a_blocked_call_and_a_false_alarm_does_not() {
    let program = Program::new();
    let (client, server) = program.connection();
    // The host says EINTR twice although nothing happened.
    let times = std::sync::atomic::AtomicU32::new(0);
    program.0.machine.lie(move |op, _| {
        let is_false_alarm =
            op == Op::Recv && times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
        is_false_alarm.then_some(Err(Errno::EINTR))
    });
    program.send(server, b"abc", 0).unwrap();
    assert_eq!(program.receive(client, 10, 0).unwrap(), b"abc");
    program
        .0
        .machine
        .lie(|op, _| (op == Op::Recv || op == Op::Accept).then_some(Err(Errno::EINTR)));
    const SIGTERM: u32 = 15;
    program.0.task.raise(program.0.machine, SIGTERM);
    assert_eq!(program.receive(client, 10, 0), Err(Errno::EINTR));
}
