// SPDX-License-Identifier: Apache-2.0

use alloc::vec::Vec;

use linux_raw_sys::general as nr;

use super::{OTHER, RDWR_CREATE};
use crate::errno::Errno;
use crate::vfs::testing::{Bench, USER};

fn lock(
    bench: &Bench,
    fd: u64,
    command: u64,
    kind: u16,
    start: i64,
    len: i64,
) -> Result<u64, Errno> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let at = bench.put(OTHER, &bytes);
    bench.sys(nr::__NR_fcntl, &[fd, command, at])
}

#[test]
fn descriptions_lock_one_another_out() {
    let bench = Bench::new();
    let a = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let b = bench.open_file("/tmp/a", 2).unwrap();
    assert_eq!(lock(&bench, a, 37, 1, 0, 10), Ok(0));
    assert_eq!(lock(&bench, b, 37, 0, 5, 1), Err(Errno::EAGAIN));
    assert_eq!(lock(&bench, b, 37, 0, 10, 0), Ok(0));
    assert_eq!(lock(&bench, b, 36, 1, 0, 1), Ok(0));
    assert_eq!(bench.take(OTHER, 2), [1, 0], "a write lock is in the way");
    assert_eq!(bench.word(OTHER + 16), 10);
    bench.sys(nr::__NR_close, &[a]).unwrap();
    assert_eq!(lock(&bench, b, 37, 1, 0, 0), Ok(0));
}

#[test]
fn one_process_never_stands_in_its_own_way() {
    let bench = Bench::new();
    let a = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let b = bench.open_file("/tmp/a", 2).unwrap();
    assert_eq!(lock(&bench, a, 6, 1, 0, 0), Ok(0));
    assert_eq!(lock(&bench, b, 6, 1, 0, 0), Ok(0));
    assert_eq!(lock(&bench, b, 5, 1, 0, 0), Ok(0));
    assert_eq!(bench.take(OTHER, 2), [2, 0], "nothing is in the way");
    let reader = bench.open_file("/tmp/a", 0).unwrap();
    assert_eq!(lock(&bench, reader, 6, 1, 0, 0), Err(Errno::EBADF));
    assert_eq!(lock(&bench, b, 6, 9, 0, 0), Err(Errno::EINVAL));
    assert_eq!(lock(&bench, b, 6, 1, -1, 0), Err(Errno::EINVAL));
}

#[test]
fn flock_is_by_description() {
    let bench = Bench::new();
    let a = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let b = bench.open_file("/tmp/a", 2).unwrap();
    assert_eq!(bench.sys(nr::__NR_flock, &[a, 2]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_flock, &[b, 6]), Err(Errno::EAGAIN));
    assert_eq!(bench.sys(nr::__NR_flock, &[a, 8]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_flock, &[b, 6]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_flock, &[b, 3]), Err(Errno::EINVAL));
}

#[test]
fn host_files_are_locked_at_the_host() {
    let bench = Bench::new();
    std::fs::write(bench.machine.root.path().join("f"), "x").unwrap();
    let a = bench.open_file("/f", 2).unwrap();
    let b = bench.open_file("/f", 2).unwrap();
    assert_eq!(bench.sys(nr::__NR_flock, &[a, 2]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_flock, &[b, 6]), Err(Errno::EAGAIN));
    assert_eq!(bench.machine.count(enclave_abi::call::Op::Flock), 2);
    let _ = USER;
}
