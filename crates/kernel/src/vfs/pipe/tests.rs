// SPDX-License-Identifier: Apache-2.0

use alloc::vec;
use alloc::vec::Vec;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::vfs::testing::Bench;

fn read(bench: &Bench, pipe: &Pipe, len: usize, nonblock: bool) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let count = pipe.read(&bench.cx(), &mut Sink::Kernel(&mut bytes), nonblock)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn write(bench: &Bench, pipe: &Pipe, bytes: &[u8], nonblock: bool) -> Result<usize, Errno> {
    pipe.write(&bench.cx(), Source::Kernel(bytes), nonblock)
}

#[test]
fn bytes_arrive_in_order_and_the_end_is_seen() {
    let bench = Bench::new();
    let [reader, writer] = Pipe::pair(bench.machine);
    assert_eq!(write(&bench, &writer, b"hello ", true), Ok(6));
    assert_eq!(write(&bench, &writer, b"world", true), Ok(5));
    assert_eq!(read(&bench, &reader, 100, true).unwrap(), b"hello world");
    assert_eq!(read(&bench, &reader, 1, true), Err(Errno::EAGAIN));
    drop(writer);
    assert_eq!(read(&bench, &reader, 1, false).unwrap(), b"");
}

#[test]
fn a_pipe_without_readers_breaks() {
    let bench = Bench::new();
    let [reader, writer] = Pipe::pair(bench.machine);
    drop(reader);
    assert_eq!(write(&bench, &writer, b"x", false), Err(Errno::EPIPE));
    assert!(bench.task.interrupted(), "SIGPIPE is pending");
}

#[test]
fn a_full_pipe_takes_no_torn_small_writes() {
    let bench = Bench::new();
    let [reader, writer] = Pipe::pair(bench.machine);
    assert_eq!(write(&bench, &writer, &[7; 70_000], true), Ok(65_536));
    assert_eq!(write(&bench, &writer, b"x", true), Err(Errno::EAGAIN));
    read(&bench, &reader, 100, true).unwrap();
    assert_eq!(write(&bench, &writer, &[8; 200], true), Err(Errno::EAGAIN));
    assert_eq!(write(&bench, &writer, &[8; 100], true), Ok(100));
}

#[test]
fn large_writes_wait_for_readers() {
    let bench = Bench::new();
    let [reader, writer] = Pipe::pair(bench.machine);
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let expected = sent.clone();
    let other = bench.other();
    let thread = thread::spawn(move || write(&other, &writer, &sent, false));
    let mut got = Vec::new();
    loop {
        let piece = read(&bench, &reader, 10_000, false).unwrap();
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
    }
    assert_eq!(thread.join().unwrap(), Ok(300_000));
    assert_eq!(got, expected);
}

#[test]
fn a_signal_ends_a_blocked_read() {
    let bench = Bench::new();
    let [reader, _writer] = Pipe::pair(bench.machine);
    let other = bench.other();
    let thread = thread::spawn(move || read(&other, &reader, 1, false));
    thread::sleep(std::time::Duration::from_millis(20));
    bench.task.raise(bench.machine, 10);
    assert_eq!(thread.join().unwrap(), Err(Errno::EINTR));
}

#[test]
fn readiness_follows_the_state() {
    let bench = Bench::new();
    let cx = bench.cx();
    let [reader, writer] = Pipe::pair(bench.machine);
    let now = |pipe: &Pipe| match pipe.readiness(&cx) {
        Readiness::Inside(inside) => inside.now,
        other => panic!("{other:?}"),
    };
    assert_eq!(now(&reader), Events::empty());
    assert_eq!(now(&writer), Events::WRITE);
    write(&bench, &writer, &[0; 65_536], true).unwrap();
    assert_eq!(now(&reader), Events::READ);
    assert_eq!(now(&writer), Events::empty());
    drop(writer);
    assert_eq!(now(&reader), Events::READ | Events::HUP);
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(pieces in prop::collection::vec((1..5000_usize, 1..5000_usize), 1..40)) {
        let bench = Bench::new();
        let [reader, writer] = Pipe::pair(bench.machine);
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (put, take) in pieces {
            let bytes: Vec<u8> = (0..put).map(|at| ((sent.len() + at) % 253) as u8).collect();
            if let Ok(count) = write(&bench, &writer, &bytes, true) {
                sent.extend_from_slice(&bytes[..count]);
            }
            if let Ok(bytes) = read(&bench, &reader, take, true) {
                got.extend(bytes);
            }
        }
        drop(writer);
        while let Ok(bytes) = read(&bench, &reader, 9999, true) {
            if bytes.is_empty() {
                break;
            }
            got.extend(bytes);
        }
        prop_assert_eq!(sent, got);
    }
}
