// SPDX-License-Identifier: Apache-2.0

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::thread;
use std::time::{Duration, Instant};

use enclave_abi::call::Op;

use super::*;
use crate::vfs::testing::Bench;

const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const PACKET: u64 = 5;
const SIGPIPE: u64 = 1 << 12;

fn pair(bench: &Bench, kind: u64) -> [Arc<PairEnd>; 2] {
    PairEnd::pair(&bench.cx(), Identity::new(1, kind, 0).unwrap())
}

fn send(bench: &Bench, end: &PairEnd, bytes: &[u8], flags: Flags) -> Result<usize, Errno> {
    end.send(&bench.cx(), Source::Kernel(bytes), None, flags)
}

fn receive(bench: &Bench, end: &PairEnd, len: usize, flags: Flags) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let got = end.receive(&bench.cx(), &mut Sink::Kernel(&mut bytes), flags)?;
    bytes.truncate(got.count);
    Ok(bytes)
}

fn now(bench: &Bench, end: &PairEnd) -> Events {
    match end.readiness(&bench.cx()) {
        Readiness::Inside(inside) => inside.now,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_of_a_pair_leaves_the_enclave() {
    let bench = Bench::new();
    for kind in [STREAM, DATAGRAM, PACKET] {
        let [a, b] = pair(&bench, kind);
        send(&bench, &a, b"one way", Flags::empty()).unwrap();
        send(&bench, &b, b"or other", Flags::empty()).unwrap();
        let got = receive(&bench, &b, 100, Flags::empty());
        assert_eq!(got.unwrap(), b"one way");
        let got = receive(&bench, &a, 100, Flags::empty());
        assert_eq!(got.unwrap(), b"or other");
    }
    for op in Op::ALL {
        let is_local = matches!(op, Op::Park | Op::Unpark | Op::ClockGettime);
        assert!(is_local || bench.machine.count(*op) == 0, "{op:?}");
    }
    assert_eq!(bench.machine.open_fds(), 0);
}

#[test]
fn streams_flow_and_messages_keep_their_borders() {
    let bench = Bench::new();
    let [a, b] = pair(&bench, STREAM);
    send(&bench, &a, b"ab", Flags::empty()).unwrap();
    send(&bench, &a, b"cd", Flags::empty()).unwrap();
    assert_eq!(receive(&bench, &b, 9, Flags::PEEK).unwrap(), b"abcd");
    assert_eq!(receive(&bench, &b, 3, Flags::empty()).unwrap(), b"abc");
    assert_eq!(receive(&bench, &b, 3, Flags::empty()).unwrap(), b"d");
    for kind in [DATAGRAM, PACKET] {
        let [a, b] = pair(&bench, kind);
        send(&bench, &a, b"abcd", Flags::empty()).unwrap();
        send(&bench, &a, b"", Flags::empty()).unwrap();
        send(&bench, &a, b"ef", Flags::empty()).unwrap();
        let mut two = [0; 2];
        let flags = Flags::TRUNC | Flags::PEEK;
        let got = b.receive(&bench.cx(), &mut Sink::Kernel(&mut two), flags);
        let got = got.unwrap();
        assert_eq!((got.count, got.told), (2, 4));
        assert!(got.flags.contains(Flags::TRUNC));
        assert_eq!(receive(&bench, &b, 2, Flags::empty()).unwrap(), b"ab");
        assert_eq!(receive(&bench, &b, 9, Flags::empty()).unwrap(), b"");
        assert_eq!(receive(&bench, &b, 9, Flags::empty()).unwrap(), b"ef");
        assert_eq!(receive(&bench, &b, 9, Flags::DONTWAIT), Err(Errno::EAGAIN));
    }
}

#[test]
fn the_end_of_the_other_end_is_noticed() {
    let bench = Bench::new();
    let [a, b] = pair(&bench, STREAM);
    send(&bench, &a, b"last", Flags::empty()).unwrap();
    drop(a);
    assert_eq!(receive(&bench, &b, 9, Flags::empty()).unwrap(), b"last");
    assert_eq!(receive(&bench, &b, 9, Flags::empty()).unwrap(), b"");
    let events = now(&bench, &b);
    assert!(events.contains(Events::IN | Events::HUP | Events::RDHUP));
    let sent = send(&bench, &b, b"x", Flags::NOSIGNAL);
    assert_eq!(sent, Err(Errno::EPIPE));
    assert_eq!(bench.task.pending.set() & SIGPIPE, 0);
    assert_eq!(send(&bench, &b, b"x", Flags::empty()), Err(Errno::EPIPE));
    assert_eq!(bench.task.pending.set() & SIGPIPE, SIGPIPE);

    let [a, b] = pair(&bench, PACKET);
    drop(a);
    assert_eq!(receive(&bench, &b, 9, Flags::empty()).unwrap(), b"");
    assert_eq!(send(&bench, &b, b"x", Flags::empty()), Err(Errno::EPIPE));

    let [a, b] = pair(&bench, DATAGRAM);
    drop(a);
    let sent = send(&bench, &b, b"x", Flags::empty());
    assert_eq!(sent, Err(Errno::ECONNREFUSED));
    let got = receive(&bench, &b, 9, Flags::DONTWAIT);
    assert_eq!(got, Err(Errno::EAGAIN), "datagrams have no end");
}

#[test]
fn halves_are_shut_one_by_one() {
    let bench = Bench::new();
    let [a, b] = pair(&bench, STREAM);
    a.shutdown(&bench.cx(), Half::Write).unwrap();
    assert_eq!(receive(&bench, &b, 9, Flags::empty()).unwrap(), b"");
    let sent = send(&bench, &a, b"x", Flags::NOSIGNAL);
    assert_eq!(sent, Err(Errno::EPIPE));
    send(&bench, &b, b"still", Flags::empty()).unwrap();
    assert_eq!(receive(&bench, &a, 9, Flags::empty()).unwrap(), b"still");
    assert!(!now(&bench, &a).contains(Events::HUP));
    a.shutdown(&bench.cx(), Half::Read).unwrap();
    assert_eq!(receive(&bench, &a, 9, Flags::empty()).unwrap(), b"");
    let sent = send(&bench, &b, b"x", Flags::NOSIGNAL);
    assert_eq!(sent, Err(Errno::EPIPE));
    assert!(now(&bench, &a).contains(Events::HUP));
}

#[test]
fn threads_wait_for_one_another() {
    let bench = Bench::new();
    for kind in [STREAM, PACKET] {
        let [a, b] = pair(&bench, kind);
        let other = bench.other();
        let total = 600_000;
        let sender = thread::spawn(move || {
            let piece = [5; 3000];
            for _ in 0..total / piece.len() {
                assert_eq!(send(&other, &a, &piece, Flags::empty()), Ok(3000));
            }
        });
        let mut got = 0;
        loop {
            match receive(&bench, &b, 10_000, Flags::empty()).unwrap().len() {
                0 => break,
                count => got += count,
            }
        }
        assert_eq!(got, total);
        sender.join().unwrap();
    }
}

#[test]
fn a_full_pair_is_told_and_timeouts_end_waiting() {
    let bench = Bench::new();
    for kind in [STREAM, DATAGRAM] {
        let [a, b] = pair(&bench, kind);
        let piece = [1; 4000];
        while send(&bench, &a, &piece, Flags::DONTWAIT).is_ok() {}
        let sent = send(&bench, &a, &piece, Flags::DONTWAIT);
        assert_eq!(sent, Err(Errno::EAGAIN));
        assert!(!now(&bench, &a).contains(Events::OUT));
        let timeval = [0_u64.to_le_bytes(), 20_000_u64.to_le_bytes()].concat();
        for option in [option::name::SNDTIMEO, option::name::RCVTIMEO] {
            a.set_option(&bench.cx(), option::SOCKET, option, &timeval)
                .unwrap();
        }
        let start = Instant::now();
        let sent = send(&bench, &a, &piece, Flags::empty());
        assert_eq!(sent, Err(Errno::EAGAIN));
        let got = receive(&bench, &a, 9, Flags::empty());
        assert_eq!(got, Err(Errno::EAGAIN));
        assert!(start.elapsed() >= Duration::from_millis(40));
        while receive(&bench, &b, 1 << 20, Flags::DONTWAIT).is_ok() {}
        assert!(now(&bench, &a).contains(Events::OUT));
        assert_eq!(send(&bench, &a, &piece, Flags::empty()), Ok(4000));
    }
    let [a, _b] = pair(&bench, DATAGRAM);
    let sent = send(&bench, &a, &vec![0; 300_000], Flags::empty());
    assert_eq!(sent, Err(Errno::EMSGSIZE));
}

#[test]
fn pairs_know_what_they_are() {
    let bench = Bench::new();
    let [a, _b] = pair(&bench, PACKET);
    let number = |option| {
        let value = a.option(&bench.cx(), option::SOCKET, option).unwrap();
        u32::from_le_bytes(*value.first_chunk::<4>().unwrap())
    };
    assert_eq!(number(option::name::TYPE), 5);
    assert_eq!(number(option::name::DOMAIN), 1);
    assert_eq!(number(option::name::ERROR), 0);
    assert_eq!(number(option::name::PEERCRED), 1, "pid of the maker");
    a.set_option(
        &bench.cx(),
        option::SOCKET,
        option::name::SNDBUF,
        &20_000_u32.to_le_bytes(),
    )
    .unwrap();
    assert_eq!(number(option::name::SNDBUF), 20_000);
    let passcred = a.set_option(&bench.cx(), option::SOCKET, 16, &[1, 0, 0, 0]);
    assert_eq!(passcred, Err(Errno::ENOPROTOOPT));
    assert_eq!(a.local_address(&bench.cx()), Ok(Address::Unnamed));
    let connected = a.connect(&bench.cx(), &Address::Unnamed, false);
    assert_eq!(connected, Err(Errno::EISCONN));
}
