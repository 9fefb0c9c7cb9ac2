// SPDX-License-Identifier: Apache-2.0

use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::general as nr;

use super::{BUFFER, OTHER, RDWR_CREATE};
use crate::errno::Errno;
use crate::vfs::testing::{Bench, USER};

#[test]
fn descriptors_are_lowest_first_and_shared_by_dup() {
    let bench = Bench::new();
    let a = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let b = bench.open_file("/tmp/b", RDWR_CREATE).unwrap();
    assert_eq!((a, b), (0, 1));
    bench.sys(nr::__NR_close, &[a]).unwrap();
    assert_eq!(bench.sys(nr::__NR_dup, &[b]), Ok(0));
    bench.write_file(0, b"shared").unwrap();
    assert_eq!(bench.sys(nr::__NR_lseek, &[b, 0, 1]), Ok(6));
    assert_eq!(bench.sys(nr::__NR_dup2, &[b, 10]), Ok(10));
    assert_eq!(bench.sys(nr::__NR_dup3, &[b, b, 0]), Err(Errno::EINVAL));
    assert_eq!(bench.sys(nr::__NR_fcntl, &[b, 0, 20]), Ok(20));
    assert_eq!(bench.sys(nr::__NR_fcntl, &[b, 1030, 20]), Ok(21));
    assert_eq!(bench.sys(nr::__NR_fcntl, &[21, 1]), Ok(1));
    assert_eq!(bench.sys(nr::__NR_fcntl, &[20, 1]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_close_range, &[10, u64::MAX, 0]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_fcntl, &[10, 1]), Err(Errno::EBADF));
    assert_eq!(bench.sys(nr::__NR_close, &[10]), Err(Errno::EBADF));
    assert_eq!(
        bench.sys(nr::__NR_read, &[u64::MAX, USER, 1]),
        Err(Errno::EBADF)
    );
}

#[test]
fn the_limit_of_descriptors_holds() {
    let bench = Bench::new();
    bench.task.process.files.table().lock().set_limit(3);
    for _ in 0..3 {
        bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    }
    assert_eq!(bench.open_file("/tmp/a", 0), Err(Errno::EMFILE));
    assert_eq!(bench.sys(nr::__NR_dup2, &[0, 3]), Err(Errno::EBADF));
    assert_eq!(bench.sys(nr::__NR_fcntl, &[0, 0, 3]), Err(Errno::EINVAL));
}

#[test]
fn access_modes_hold() {
    let bench = Bench::new();
    let writer = bench.open_file("/tmp/a", 0o101).unwrap();
    let reader = bench.open_file("/tmp/a", 0).unwrap();
    assert_eq!(bench.read_file(writer, 1), Err(Errno::EBADF));
    assert_eq!(bench.write_file(reader, b"x"), Err(Errno::EBADF));
    assert_eq!(
        bench.sys(nr::__NR_ftruncate, &[reader, 0]),
        Err(Errno::EINVAL)
    );
    let name = bench.open_file("/tmp/a", 0o10000000).unwrap();
    assert_eq!(bench.read_file(name, 1), Err(Errno::EBADF));
    assert_eq!(bench.sys(nr::__NR_fstat, &[name, USER + BUFFER]), Ok(0));
}

#[test]
fn vectors_are_gathered_and_scattered() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let pair = |a: (u64, u64), b: (u64, u64)| {
        let mut bytes = vec![];
        for (at, len) in [a, b] {
            bytes.extend_from_slice(&(USER + BUFFER + at).to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        bench.put(OTHER, &bytes)
    };
    bench.put(BUFFER, b"hello world");
    let list = pair((0, 5), (5, 6));
    assert_eq!(bench.sys(nr::__NR_writev, &[fd, list, 2]), Ok(11));
    let list = pair((100, 3), (200, 100));
    assert_eq!(bench.sys(nr::__NR_preadv, &[fd, list, 2, 6, 0]), Ok(5));
    assert_eq!(bench.take(BUFFER + 100, 3), b"wor");
    assert_eq!(bench.take(BUFFER + 200, 2), b"ld");
    assert_eq!(bench.sys(nr::__NR_pwritev, &[fd, list, 1, 0, 0]), Ok(3));
    assert_eq!(
        bench.sys(nr::__NR_readv, &[fd, list, 1025]),
        Err(Errno::EINVAL)
    );
    let list = pair((0, u64::MAX), (0, 1));
    assert_eq!(
        bench.sys(nr::__NR_readv, &[fd, list, 2]),
        Err(Errno::EINVAL)
    );
}

#[test]
fn addresses_outside_the_program_fault() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    bench.write_file(fd, b"0123456789").unwrap();
    bench.sys(nr::__NR_lseek, &[fd, 0, 0]).unwrap();
    for bad in [0, 8, u64::MAX - 4] {
        assert_eq!(bench.sys(nr::__NR_read, &[fd, bad, 5]), Err(Errno::EFAULT));
        assert_eq!(bench.sys(nr::__NR_write, &[fd, bad, 5]), Err(Errno::EFAULT));
        assert_eq!(bench.sys(nr::__NR_fstat, &[fd, bad]), Err(Errno::EFAULT));
        assert_eq!(bench.sys(nr::__NR_open, &[bad, 0, 0]), Err(Errno::EFAULT));
    }
    assert_eq!(bench.sys(nr::__NR_lseek, &[fd, 0, 1]), Ok(0));
}

#[test]
fn sendfile_and_copy_file_range_copy() {
    let bench = Bench::new();
    let from = bench.open_file("/tmp/from", RDWR_CREATE).unwrap();
    let to = bench.open_file("/tmp/to", RDWR_CREATE).unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at % 241) as u8).collect();
    bench.write_file(from, &bytes).unwrap();
    let at = bench.put(OTHER, &100_000_u64.to_le_bytes());
    assert_eq!(
        bench.sys(nr::__NR_sendfile, &[to, from, at, 1 << 20]),
        Ok(100_000)
    );
    assert_eq!(bench.word(OTHER), 200_000);
    bench.sys(nr::__NR_lseek, &[to, 0, 0]).unwrap();
    assert_eq!(bench.read_file(to, 200_000).unwrap(), bytes[100_000..]);
    bench.sys(nr::__NR_lseek, &[from, 10, 0]).unwrap();
    assert_eq!(
        bench.sys(nr::__NR_copy_file_range, &[from, 0, to, 0, 50, 0]),
        Ok(50)
    );
    assert_eq!(bench.sys(nr::__NR_lseek, &[from, 0, 1]), Ok(60));
}

#[test]
fn a_copy_into_a_full_pipe_leaves_the_rest_in_the_file() {
    let bench = Bench::new();
    let from = bench.open_file("/tmp/from", RDWR_CREATE).unwrap();
    bench.write_file(from, &[7; 100_000]).unwrap();
    bench.sys(nr::__NR_lseek, &[from, 0, 0]).unwrap();
    bench.sys(nr::__NR_pipe2, &[USER + OTHER, 0o4000]).unwrap();
    let sent = bench.sys(nr::__NR_sendfile, &[2, from, 0, 100_000]);
    assert_eq!(sent, Ok(65_536));
    assert_eq!(bench.sys(nr::__NR_lseek, &[from, 0, 1]), Ok(65_536));
}

#[test]
fn lengths_are_set_and_reserved() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    assert_eq!(bench.with_path(nr::__NR_truncate, "/tmp/a", &[100]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_fallocate, &[fd, 0, 50, 100]), Ok(0));
    bench.sys(nr::__NR_fstat, &[fd, USER + BUFFER]).unwrap();
    assert_eq!(bench.word(BUFFER + 48), 150);
    assert_eq!(
        bench.sys(nr::__NR_fallocate, &[fd, 0, 0, 0]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        bench.sys(nr::__NR_ftruncate, &[fd, u64::MAX]),
        Err(Errno::EINVAL)
    );
    assert_eq!(bench.sys(nr::__NR_fsync, &[fd]), Ok(0));
}

#[test]
fn memory_files_have_no_name() {
    let bench = Bench::new();
    let fd = bench.with_path(nr::__NR_memfd_create, "x", &[1]).unwrap();
    bench.write_file(fd, b"abc").unwrap();
    bench.sys(nr::__NR_lseek, &[fd, 1, 0]).unwrap();
    assert_eq!(bench.read_file(fd, 9).unwrap(), b"bc");
    assert_eq!(bench.sys(nr::__NR_fcntl, &[fd, 1]), Ok(1));
    assert_eq!(
        bench.with_path(nr::__NR_memfd_create, "x", &[4]),
        Err(Errno::EINVAL),
        "huge pages"
    );
}

#[test]
fn unnamed_files_are_made_in_directories() {
    let bench = Bench::new();
    for directory in ["/tmp", "/"] {
        let fd = bench.open_file(directory, 0o20200002).unwrap();
        bench.write_file(fd, b"abc").unwrap();
        bench.sys(nr::__NR_lseek, &[fd, 0, 0]).unwrap();
        assert_eq!(bench.read_file(fd, 9).unwrap(), b"abc", "{directory}");
        assert_eq!(bench.open_file(directory, 0o20200000), Err(Errno::EINVAL));
    }
}

#[test]
fn flags_can_be_read_and_set() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE | 0o2000).unwrap();
    assert_eq!(bench.sys(nr::__NR_fcntl, &[fd, 3]), Ok(0o102002));
    bench.sys(nr::__NR_fcntl, &[fd, 4, 0o4000]).unwrap();
    assert_eq!(bench.sys(nr::__NR_fcntl, &[fd, 3]), Ok(0o104002));
    let on = bench.put(OTHER, &0_u32.to_le_bytes());
    bench.sys(nr::__NR_ioctl, &[fd, 0x5421, on]).unwrap();
    assert_eq!(bench.sys(nr::__NR_fcntl, &[fd, 3]), Ok(0o100002));
    assert_eq!(
        bench.sys(nr::__NR_ioctl, &[fd, 0x5401, USER]),
        Err(Errno::ENOTTY)
    );
}

#[test]
fn what_is_not_served_says_so() {
    let bench = Bench::new();
    assert_eq!(bench.sys(nr::__NR_splice, &[]), Err(Errno::ENOSYS));
    assert_eq!(bench.sys(nr::__NR_inotify_init1, &[0]), Err(Errno::ENOSYS));
    assert_eq!(
        bench.with_path(nr::__NR_mknod, "/tmp/f", &[0o10644, 0]),
        Err(Errno::EPERM)
    );
    assert!(
        crate::syscall::io::dispatch(&bench.cx(), 99_999, [0; 6]).is_none(),
        "unknown numbers are left to others"
    );
}
