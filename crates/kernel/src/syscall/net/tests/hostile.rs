// SPDX-License-Identifier: Apache-2.0
//! What a lying host can do: nothing but refuse.

use alloc::sync::Arc;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::host::Word;

/// Fills an output buffer of a call with as many bytes as fit.
fn fill(word: &mut Word<'_>, bytes: &[u8]) {
    if let Word::Out(room) = word {
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
    }
}

#[test]
fn a_descriptor_that_cannot_be_is_refused() {
    let program = Program::new();
    let (listener, address) = program.listener(INET);
    for fd in [0, 2, 1 << 31, u64::MAX] {
        program
            .0
            .machine
            .lie(move |op, _| (op == Op::Socket || op == Op::Accept).then_some(Ok(fd)));
        let made = program.call(nr::__NR_socket, &[INET, STREAM, 0]);
        assert_eq!(made, Err(Errno::EIO), "{fd}");
        let accepted = program.call(nr::__NR_accept, &[listener, 0, 0]);
        assert_eq!(accepted, Err(Errno::EIO), "{fd}");
    }
    drop(address);
}

#[test]
fn an_impossible_socket_error_is_refused() {
    let program = Program::new();
    let fd = program.socket(INET, STREAM);
    for (answer, len) in [(4096_u32, 4), (u32::MAX, 4), (0, 3), (0, 5)] {
        program.0.machine.lie(move |op, words| {
            if op != Op::Getsockopt {
                return None;
            }
            fill(&mut words[3], &answer.to_le_bytes());
            Some(Ok(len))
        });
        assert_eq!(program.number(fd, 1, 4), Err(Errno::EIO), "{answer} {len}");
    }
}

#[test]
fn more_bytes_than_asked_for_are_refused() {
    let program = Program::new();
    let (client, _server) = program.connection();
    program
        .0
        .machine
        .lie(|op, _| matches!(op, Op::Recv | Op::Send).then_some(Ok(11)));
    assert_eq!(program.receive(client, 10, 0), Err(Errno::EIO));
    assert_eq!(program.send(client, &[0; 10], 0), Err(Errno::EIO));
}

#[test]
fn a_negative_amount_of_waiting_bytes_is_refused() {
    let program = Program::new();
    let (client, _server) = program.connection();
    program.0.machine.lie(|op, words| {
        (op == Op::Ioctl).then(|| {
            fill(&mut words[3], &[0xff; 4]);
            Ok(0)
        })
    });
    let asked = program.call(nr::__NR_ioctl, &[client, 0x541b, USER + DATA]);
    assert_eq!(asked, Err(Errno::EIO));
}

#[test]
fn a_cut_message_that_is_not_cut_is_refused() {
    let program = Program::new();
    let (client, _server) = program.connection();
    program.0.machine.lie(|op, words| {
        (op == Op::Recv).then(|| {
            fill(&mut words[2], &[0, 0, 0, 0, 0x20, 0, 0, 0]);
            Ok(3)
        })
    });
    assert_eq!(program.receive(client, 10, 0), Err(Errno::EIO));
}

#[test]
fn whatever_the_host_tells_about_senders_is_checked() {
    let program = Program::new();
    let sockets = [
        (INET, program.socket(INET, DGRAM)),
        (INET6, program.socket(INET6, DGRAM)),
        (UNIX, program.socket(UNIX, DGRAM)),
    ];
    let answer = Arc::new(Mutex::new((0_u64, Vec::new())));
    let told = Arc::clone(&answer);
    program.0.machine.lie(move |op, words| {
        let (count, info) = &*told.lock().unwrap();
        match op {
            Op::Recv => fill(&mut words[2], info),
            Op::Getsockname | Op::Getpeername => fill(&mut words[1], info),
            _ => return None,
        }
        Some(Ok(if op == Op::Recv { *count } else { 0 }))
    });
    let host = (
        0..40_u64,
        prop::collection::vec(any::<u8>(), 136),
        0..200_u32,
        prop::sample::select(alloc::vec![0_u8, 1, 2, 10]),
    );
    let mut runner = TestRunner::new(Config::default());
    let result = runner.run(&host, |(count, mut info, len, family)| {
        info[..4].copy_from_slice(&len.to_le_bytes());
        info[8..10].copy_from_slice(&[family, 0]);
        let flags = u32::from_le_bytes(info[4..8].try_into().unwrap());
        *answer.lock().unwrap() = (count, info.clone());
        for (domain, fd) in sockets {
            program.0.put(LENGTH, &200_u32.to_le_bytes());
            let args = [fd, USER + DATA, 32, 0, USER + ADDRESS, USER + LENGTH];
            let received = program.call(nr::__NR_recvfrom, &args);
            let told = u32::from_le_bytes(program.0.take(LENGTH, 4).try_into().unwrap());
            match received {
                Ok(got) => {
                    prop_assert!(got == count && got <= 32);
                    prop_assert!(told <= 128);
                    prop_assert!(flags & 0x20 == 0 || got == 32);
                    if told > 0 {
                        prop_assert_eq!(program.0.take(ADDRESS, 1)[0], domain as u8);
                    }
                    let whole = if domain == INET { 16 } else { 28 };
                    prop_assert!(domain == UNIX || told == 0 || told == whole);
                }
                Err(errno) => prop_assert_eq!(errno, Errno::EIO),
            }
            match program.told(nr::__NR_getsockname, fd, 200) {
                Ok((_, name)) => prop_assert_eq!(u64::from(name[0]), domain),
                Err(errno) => prop_assert_eq!(errno, Errno::EIO),
            }
        }
        Ok(())
    });
    result.unwrap();
}
