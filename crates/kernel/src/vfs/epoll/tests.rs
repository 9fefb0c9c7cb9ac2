// SPDX-License-Identifier: Apache-2.0

use alloc::vec;
use std::thread;
use std::time::{Duration, Instant};

use enclave_abi::call::Op;

use super::*;
use crate::host::Word;
use crate::vfs::OpenFlags;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::event::EventCounter;
use crate::vfs::hostfs::handle::HostHandle;
use crate::vfs::pipe::Pipe;
use crate::vfs::stat::FileType;
use crate::vfs::testing::Bench;

const IN: u32 = 1;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;

fn opened(bench: &Bench, file: Arc<dyn File>) -> Arc<OpenFile> {
    OpenFile::new(bench.machine, file, OpenFlags::READ_WRITE, b"test".to_vec())
}

fn pipe(bench: &Bench) -> [Arc<OpenFile>; 2] {
    Pipe::pair(bench.machine).map(|end| opened(bench, end))
}

/// A file that the host holds: an eventfd of the host.
fn host_file(bench: &Bench) -> Arc<OpenFile> {
    let fd = bench
        .cx()
        .host(Op::Eventfd, &mut [Word::Value(0), Word::Value(0o4000)])
        .unwrap();
    let handle = HostHandle::from_result(bench.machine, fd).unwrap();
    let file = crate::vfs::hostfs::stream_for_tests(handle, FileType::Fifo);
    opened(bench, file)
}

fn ring(bench: &Bench, file: &OpenFile) {
    let one = 1_u64.to_le_bytes();
    file.write(&bench.cx(), Source::Kernel(&one)).unwrap();
}

fn poll(bench: &Bench, set: &Epoll) -> Vec<u64> {
    let events = set.wait(&bench.cx(), 10, Some(0)).unwrap();
    events.iter().map(|event| event.data).collect()
}

#[test]
fn level_members_tell_until_they_are_drained() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Epoll::new();
    let [reader, writer] = pipe(&bench);
    set.add(&cx, 3, &reader, IN, 77).unwrap();
    assert_eq!(poll(&bench, &set), []);
    writer.write(&cx, Source::Kernel(b"ab")).unwrap();
    assert_eq!(poll(&bench, &set), [77]);
    assert_eq!(poll(&bench, &set), [77]);
    reader.read(&cx, &mut Sink::Kernel(&mut [0; 2])).unwrap();
    assert_eq!(poll(&bench, &set), []);
}

#[test]
fn edge_members_tell_once_per_change() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Epoll::new();
    let [reader, writer] = pipe(&bench);
    set.add(&cx, 3, &reader, IN | EDGE, 1).unwrap();
    writer.write(&cx, Source::Kernel(b"a")).unwrap();
    assert_eq!(poll(&bench, &set), [1]);
    assert_eq!(poll(&bench, &set), []);
    writer.write(&cx, Source::Kernel(b"b")).unwrap();
    assert_eq!(poll(&bench, &set), [1]);
}

#[test]
fn oneshot_members_tell_once_until_changed() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Epoll::new();
    for file in [pipe(&bench), [host_file(&bench), host_file(&bench)]] {
        let [reader, writer] = file;
        let source = if reader.file.host().is_some() {
            Arc::clone(&reader)
        } else {
            writer
        };
        set.add(&cx, 3, &reader, IN | ONESHOT, 5).unwrap();
        ring(&bench, &source);
        assert_eq!(poll(&bench, &set), [5]);
        ring(&bench, &source);
        assert_eq!(poll(&bench, &set), []);
        set.modify(&cx, 3, &reader, IN | ONESHOT, 6).unwrap();
        assert_eq!(poll(&bench, &set), [6]);
        set.remove(&cx, 3, &reader).unwrap();
    }
}

#[test]
fn members_inside_wake_a_thread_that_sleeps_in_the_host() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Arc::new(Epoll::new());
    let host = host_file(&bench);
    let [reader, writer] = pipe(&bench);
    set.add(&cx, 3, &host, IN, 1).unwrap();
    set.add(&cx, 4, &reader, IN, 2).unwrap();
    let other = bench.other();
    let waiting = Arc::clone(&set);
    let sleeper = thread::spawn(move || waiting.wait(&other.cx(), 10, None).unwrap());
    thread::sleep(Duration::from_millis(30));
    writer.write(&cx, Source::Kernel(b"x")).unwrap();
    let events = sleeper.join().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data, 2);
    ring(&bench, &host);
    let mut both = poll(&bench, &set);
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
}

#[test]
fn a_host_member_added_later_wakes_a_thread_that_sleeps_inside() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Arc::new(Epoll::new());
    let [reader, _writer] = pipe(&bench);
    set.add(&cx, 4, &reader, IN, 2).unwrap();
    let other = bench.other();
    let waiting = Arc::clone(&set);
    let sleeper = thread::spawn(move || waiting.wait(&other.cx(), 10, None).unwrap());
    thread::sleep(Duration::from_millis(30));
    let host = host_file(&bench);
    ring(&bench, &host);
    set.add(&cx, 3, &host, IN, 9).unwrap();
    assert_eq!(sleeper.join().unwrap()[0].data, 9);
}

#[test]
fn closed_members_are_forgotten() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Epoll::new();
    let counter = opened(&bench, Arc::new(EventCounter::new(1, false)));
    set.add(&cx, 3, &counter, IN, 1).unwrap();
    assert_eq!(poll(&bench, &set), [1]);
    drop(counter);
    assert_eq!(poll(&bench, &set), []);
    let host = host_file(&bench);
    ring(&bench, &host);
    set.add(&cx, 3, &host, IN, 2).unwrap();
    drop(host);
    assert_eq!(poll(&bench, &set), []);
}

#[test]
fn timers_end_a_wait() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Epoll::new();
    let timer = Arc::new(crate::vfs::timer::Timer::new(false));
    timer.set(&cx, 30_000_000, 0, false);
    let file = opened(&bench, timer);
    set.add(&cx, 3, &file, IN, 4).unwrap();
    let start = Instant::now();
    let events = set.wait(&cx, 10, None).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(events[0].data, 4);
}

#[test]
fn timeouts_end_a_wait() {
    let bench = Bench::new();
    let cx = bench.cx();
    for with_host in [false, true] {
        let set = Epoll::new();
        let host = host_file(&bench);
        if with_host {
            set.add(&cx, 3, &host, IN, 1).unwrap();
        }
        let start = Instant::now();
        let events = set.wait(&cx, 10, Some(cx.now() + 20_000_000)).unwrap();
        assert!(events.is_empty());
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}

#[test]
fn sets_cannot_contain_one_another() {
    let bench = Bench::new();
    let cx = bench.cx();
    let sets: Vec<_> = (0..2)
        .map(|_| opened(&bench, Arc::new(Epoll::new())))
        .collect();
    let set = |at: usize| match sets[at].file.class() {
        Class::Epoll(set) => set,
        _ => unreachable!(),
    };
    set(0).add(&cx, 3, &sets[1], IN, 1).unwrap();
    assert_eq!(set(1).add(&cx, 3, &sets[0], IN, 1), Err(Errno::ELOOP));
    assert_eq!(set(0).add(&cx, 4, &sets[0], IN, 1), Err(Errno::ELOOP));
}

#[test]
fn a_set_inside_a_set_tells_what_its_members_tell() {
    let bench = Bench::new();
    let cx = bench.cx();
    let inner = opened(&bench, Arc::new(Epoll::new()));
    let outer = Epoll::new();
    let Class::Epoll(set) = inner.file.class() else {
        unreachable!()
    };
    let [reader, writer] = pipe(&bench);
    set.add(&cx, 3, &reader, IN, 1).unwrap();
    outer.add(&cx, 4, &inner, IN, 2).unwrap();
    assert_eq!(poll(&bench, &outer), []);
    writer.write(&cx, Source::Kernel(b"x")).unwrap();
    assert_eq!(poll(&bench, &outer), [2]);
}

#[test]
fn lies_about_keys_counts_and_events_are_caught() {
    let bench = Bench::new();
    let cx = bench.cx();
    let set = Epoll::new();
    let host = host_file(&bench);
    set.add(&cx, 3, &host, IN, 1).unwrap();
    bench
        .machine
        .lie(|op, _| (op == Op::EpollWait).then_some(Ok(500)));
    assert_eq!(set.wait(&cx, 10, Some(0)), Err(Errno::EIO));
    // Events nobody asked for, a key nobody has.
    bench.machine.lie(|op, words| match (op, words) {
        (Op::EpollWait, [_, Word::Out(out), _]) => {
            let mut bytes = vec![];
            for key in [u64::MAX, 12_345_678] {
                bytes.extend_from_slice(&u32::MAX.to_le_bytes());
                bytes.extend_from_slice(&key.to_le_bytes());
            }
            out[..24].copy_from_slice(&bytes);
            Some(Ok(2))
        }
        _ => None,
    });
    assert_eq!(set.wait(&cx, 10, Some(0)), Ok(vec![]));
}
