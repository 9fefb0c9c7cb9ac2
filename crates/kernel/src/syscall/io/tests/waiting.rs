// SPDX-License-Identifier: Apache-2.0

use alloc::vec::Vec;
use std::thread;
use std::time::{Duration, Instant};

use linux_raw_sys::general as nr;

use super::{BUFFER, OTHER};
use crate::errno::Errno;
use crate::vfs::testing::{Bench, USER};

const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;

fn pipe(bench: &Bench) -> (u64, u64) {
    bench.sys(nr::__NR_pipe, &[USER + OTHER]).unwrap();
    let fds = bench.word(OTHER);
    (fds & 0xffff_ffff, fds >> 32)
}

fn poll(bench: &Bench, fds: &[(u64, u16)], timeout: i64) -> Result<Vec<u16>, Errno> {
    let mut bytes = Vec::new();
    for (fd, events) in fds {
        bytes.extend_from_slice(&(*fd as u32).to_le_bytes());
        bytes.extend_from_slice(&events.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    let at = bench.put(BUFFER, &bytes);
    bench.sys(nr::__NR_poll, &[at, fds.len() as u64, timeout as u64])?;
    Ok((0..fds.len() as u64)
        .map(|entry| {
            let told = bench.take(BUFFER + entry * 8 + 6, 2);
            u16::from_le_bytes(told.try_into().unwrap())
        })
        .collect())
}

/// A descriptor that only the host knows about: a FIFO of the host, opened for both.
fn host_fifo(bench: &Bench) -> u64 {
    let path = bench.machine.root.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    bench.open_file("/fifo", 2).unwrap()
}

#[test]
fn poll_tells_about_files_inside_and_at_the_host_together() {
    let bench = Bench::new();
    let (reader, writer) = pipe(&bench);
    let fifo = host_fifo(&bench);
    let all = [(reader, POLLIN), (writer, POLLOUT), (fifo, POLLIN)];
    assert_eq!(poll(&bench, &all, 0).unwrap(), [0, POLLOUT, 0]);
    bench.write_file(fifo, b"x").unwrap();
    assert_eq!(poll(&bench, &all, -1).unwrap(), [0, POLLOUT, POLLIN]);
    bench.write_file(writer, b"x").unwrap();
    let all = [(reader, POLLIN), (fifo, POLLIN), (77, POLLIN)];
    assert_eq!(poll(&bench, &all, -1).unwrap(), [POLLIN, POLLIN, 0x20]);
    let negative = [(u64::from(u32::MAX), POLLIN)];
    assert_eq!(poll(&bench, &negative, 0).unwrap(), [0]);
}

#[test]
fn a_write_inside_ends_a_poll_that_sleeps_at_the_host() {
    let bench = Bench::new();
    let (reader, writer) = pipe(&bench);
    let fifo = host_fifo(&bench);
    let before = bench.machine.open_fds();
    let other = bench.other();
    let waiting = thread::spawn(move || {
        // Its own memory, so that the threads do not share a buffer.
        let bytes = [
            (reader as u32).to_le_bytes(),
            [1, 0, 0, 0],
            (fifo as u32).to_le_bytes(),
            [1, 0, 0, 0],
        ]
        .concat();
        let at = other.put(0x40_000, &bytes);
        other.sys(nr::__NR_poll, &[at, 2, u64::MAX]).unwrap();
        other.take(0x40_000, 16)
    });
    thread::sleep(Duration::from_millis(30));
    bench.write_file(writer, b"x").unwrap();
    let told = waiting.join().unwrap();
    assert_eq!((told[6], told[14]), (1, 0));
    assert_eq!(bench.machine.open_fds(), before, "the bell is closed");
}

#[test]
fn a_host_that_lies_to_poll_tells_nothing_that_was_not_asked() {
    use crate::host::Word;
    use enclave_abi::call::Op;
    let bench = Bench::new();
    let fifo = host_fifo(&bench);
    bench.machine.lie(|op, words| match (op, words) {
        (Op::Poll, [_, Word::Out(out), _]) => {
            out.fill(0xff);
            Some(Ok(1))
        }
        _ => None,
    });
    // ERR and HUP come unasked; NVAL never, for the descriptor is open.
    assert_eq!(poll(&bench, &[(fifo, POLLIN)], -1).unwrap(), [1 | 8 | 16]);
    bench
        .machine
        .lie(|op, _| (op == Op::Poll).then_some(Ok(1000)));
    assert_eq!(poll(&bench, &[(fifo, POLLIN)], -1), Err(Errno::EIO));
}

#[test]
fn timeouts_are_kept_and_told() {
    let bench = Bench::new();
    let (reader, _) = pipe(&bench);
    let start = Instant::now();
    assert_eq!(poll(&bench, &[(reader, POLLIN)], 30).unwrap(), [0]);
    assert!(start.elapsed() >= Duration::from_millis(30));
    // select tells the time that is left.
    let mut timeout = 10_u64.to_le_bytes().to_vec();
    timeout.extend_from_slice(&0_u64.to_le_bytes());
    let (_, writer) = pipe(&bench);
    let set = bench.put(BUFFER, &(1_u64 << writer).to_le_bytes());
    let time = bench.put(OTHER, &timeout);
    let ready = bench.sys(nr::__NR_select, &[writer + 1, 0, set, 0, time]);
    assert_eq!(ready, Ok(1));
    assert_eq!(bench.word(BUFFER), 1 << writer);
    assert_eq!(bench.word(OTHER), 9);
    let bad = bench.put(BUFFER, &(1_u64 << 40).to_le_bytes());
    assert_eq!(
        bench.sys(nr::__NR_select, &[41, bad, 0, 0, 0]),
        Err(Errno::EBADF)
    );
}

#[test]
fn a_signal_ends_ppoll_under_its_own_mask_only() {
    use core::sync::atomic::Ordering;
    let bench = Bench::new();
    let (reader, _) = pipe(&bench);
    bench.task.mask.store(1 << 9, Ordering::Release);
    bench.task.raise(bench.machine, 10);
    let entry = [(reader as u32).to_le_bytes(), [1, 0, 0, 0]].concat();
    let at = bench.put(BUFFER, &entry);
    let mut short = 0_u64.to_le_bytes().to_vec();
    short.extend_from_slice(&20_000_000_u64.to_le_bytes());
    let time = bench.put(OTHER, &short);
    assert_eq!(bench.sys(nr::__NR_ppoll, &[at, 1, time, 0, 8]), Ok(0));
    let time = bench.put(OTHER, &short);
    let open = bench.put(OTHER + 64, &0_u64.to_le_bytes());
    assert_eq!(
        bench.sys(nr::__NR_ppoll, &[at, 1, time, open, 8]),
        Err(Errno::EINTR)
    );
    assert_eq!(*bench.task.saved_mask.lock(), Some(1 << 9));
    assert_eq!(
        bench.sys(nr::__NR_ppoll, &[at, 1, time, open, 4]),
        Err(Errno::EINVAL)
    );
}

#[test]
fn epoll_works_by_number() {
    let bench = Bench::new();
    let set = bench.sys(nr::__NR_epoll_create1, &[0o2000000]).unwrap();
    let (reader, writer) = pipe(&bench);
    let mut event = 1_u32.to_le_bytes().to_vec();
    event.extend_from_slice(&0xabcd_u64.to_le_bytes());
    let event = bench.put(BUFFER, &event);
    let control = |operation, fd| bench.sys(nr::__NR_epoll_ctl, &[set, operation, fd, event]);
    assert_eq!(control(1, reader), Ok(0));
    assert_eq!(control(1, reader), Err(Errno::EEXIST));
    assert_eq!(control(3, writer), Err(Errno::ENOENT));
    assert_eq!(control(1, set), Err(Errno::EINVAL));
    assert_eq!(control(9, reader), Err(Errno::EINVAL));
    bench.write_file(writer, b"x").unwrap();
    let wait = |max: u64| bench.sys(nr::__NR_epoll_wait, &[set, USER + BUFFER, max, 100]);
    assert_eq!(wait(8), Ok(1));
    assert_eq!(bench.word(BUFFER + 4), 0xabcd);
    assert_eq!(wait(0), Err(Errno::EINVAL));
    assert_eq!(control(2, reader), Ok(0));
    assert_eq!(
        bench.sys(nr::__NR_epoll_wait, &[set, USER + BUFFER, 8, 0]),
        Ok(0)
    );
    let regular = bench.open_file("/tmp/f", super::RDWR_CREATE).unwrap();
    assert_eq!(control(1, regular), Err(Errno::EPERM));
    assert_eq!(
        bench.sys(nr::__NR_epoll_wait, &[reader, USER + BUFFER, 8, 0]),
        Err(Errno::EINVAL)
    );
}

#[test]
fn counters_and_timers_work_by_number() {
    let bench = Bench::new();
    let counter = bench.sys(nr::__NR_eventfd2, &[3, 0o4000]).unwrap();
    assert_eq!(bench.read_file(counter, 8).unwrap(), 3_u64.to_le_bytes());
    assert_eq!(bench.read_file(counter, 8), Err(Errno::EAGAIN));
    let timer = bench.sys(nr::__NR_timerfd_create, &[1, 0]).unwrap();
    let mut setting = Vec::new();
    for word in [0_u64, 5_000_000, 0, 10_000_000] {
        setting.extend_from_slice(&word.to_le_bytes());
    }
    let at = bench.put(OTHER, &setting);
    bench
        .sys(nr::__NR_timerfd_settime, &[timer, 0, at, 0])
        .unwrap();
    let start = Instant::now();
    assert_eq!(poll(&bench, &[(timer, POLLIN)], -1).unwrap(), [POLLIN]);
    assert!(start.elapsed() >= Duration::from_millis(9));
    bench.read_file(timer, 8).unwrap();
    bench
        .sys(nr::__NR_timerfd_gettime, &[timer, USER + OTHER])
        .unwrap();
    assert_eq!(bench.word(OTHER + 8), 5_000_000);
    assert_eq!(
        bench.sys(nr::__NR_timerfd_create, &[99, 0]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        bench.sys(nr::__NR_timerfd_gettime, &[counter, USER]),
        Err(Errno::EINVAL)
    );
}
