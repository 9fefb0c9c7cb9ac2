// SPDX-License-Identifier: Apache-2.0

use alloc::string::String;
use alloc::vec::Vec;
use std::fs;

use linux_raw_sys::general as nr;

use super::{BUFFER, HERE, OTHER, RDWR_CREATE};
use crate::errno::Errno;
use crate::vfs::testing::{Bench, USER};

fn list(bench: &Bench, fd: u64, room: u64) -> Result<Vec<String>, Errno> {
    let len = bench.sys(nr::__NR_getdents64, &[fd, USER + BUFFER, room])?;
    let bytes = bench.take(BUFFER, len as usize);
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let len = u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]) as usize;
        let name = &bytes[at + 19..at + len];
        let end = name.iter().position(|byte| *byte == 0).unwrap();
        names.push(String::from_utf8(name[..end].to_vec()).unwrap());
        at += len;
    }
    Ok(names)
}

#[test]
fn directories_are_read_in_pieces() {
    let bench = Bench::new();
    bench.with_path(nr::__NR_mkdir, "/tmp/d", &[0o755]).unwrap();
    for name in 0..20 {
        let path = alloc::format!("/tmp/d/file-{name:02}");
        bench.open_file(&path, RDWR_CREATE).unwrap();
    }
    let fd = bench.open_file("/tmp/d", 0o200000).unwrap();
    let mut all = Vec::new();
    loop {
        let piece = list(&bench, fd, 100).unwrap();
        if piece.is_empty() {
            break;
        }
        all.extend(piece);
    }
    assert_eq!(all.len(), 22);
    assert_eq!(&all[..2], [".", ".."]);
    assert_eq!(list(&bench, fd, 100).unwrap().len(), 0);
    bench.sys(nr::__NR_lseek, &[fd, 0, 0]).unwrap();
    assert_eq!(list(&bench, fd, 10_000).unwrap().len(), 22);
    bench.sys(nr::__NR_lseek, &[fd, 0, 0]).unwrap();
    assert_eq!(list(&bench, fd, 10), Err(Errno::EINVAL));
    assert_eq!(bench.read_file(fd, 1), Err(Errno::EISDIR));
}

#[test]
fn paths_are_relative_to_the_working_directory_or_a_descriptor() {
    let bench = Bench::new();
    fs::create_dir_all(bench.machine.root.path().join("a/b")).unwrap();
    fs::write(bench.machine.root.path().join("a/b/f"), "x").unwrap();
    bench.with_path(nr::__NR_chdir, "/a", &[]).unwrap();
    assert_eq!(bench.sys(nr::__NR_getcwd, &[USER + BUFFER, 100]), Ok(3));
    assert_eq!(bench.take(BUFFER, 3), b"/a\0");
    assert_eq!(
        bench.sys(nr::__NR_getcwd, &[USER + BUFFER, 2]),
        Err(Errno::ERANGE)
    );
    assert!(bench.open_file("b/f", 0).is_ok());
    assert!(bench.open_file("../a/b/f", 0).is_ok());
    let directory = bench.open_file("b", 0o200000).unwrap();
    let path = bench.text(OTHER, "f");
    assert!(bench.sys(nr::__NR_openat, &[directory, path, 0, 0]).is_ok());
    let file = bench.open_file("b/f", 0).unwrap();
    assert_eq!(
        bench.sys(nr::__NR_openat, &[file, path, 0, 0]),
        Err(Errno::ENOTDIR)
    );
    bench.sys(nr::__NR_fchdir, &[directory]).unwrap();
    assert!(bench.open_file("f", 0).is_ok());
    assert_eq!(
        bench.with_path(nr::__NR_chdir, "f", &[]),
        Err(Errno::ENOTDIR)
    );
    assert_eq!(bench.with_path(nr::__NR_chdir, "", &[]), Err(Errno::ENOENT));
}

#[test]
fn the_mask_applies_to_what_is_made() {
    let bench = Bench::new();
    assert_eq!(bench.sys(nr::__NR_umask, &[0o077]), Ok(0o022));
    bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    bench.with_path(nr::__NR_mkdir, "/tmp/d", &[0o777]).unwrap();
    for (path, mode) in [("/tmp/a", 0o100_600), ("/tmp/d", 0o040_700)] {
        bench
            .with_path(nr::__NR_stat, path, &[USER + BUFFER])
            .unwrap();
        let found = u32::from_le_bytes(bench.take(BUFFER + 24, 4).try_into().unwrap());
        assert_eq!(found, mode, "{path}");
    }
}

#[test]
fn links_and_renames_work_by_descriptor() {
    let bench = Bench::new();
    bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let (a, b) = (bench.text(0, "/tmp/a"), bench.text(OTHER, "/tmp/b"));
    bench.sys(nr::__NR_link, &[a, b]).unwrap();
    bench
        .sys(nr::__NR_renameat2, &[HERE, b, HERE, a, 2])
        .unwrap();
    let c = bench.text(OTHER, "/tmp/c");
    bench.sys(nr::__NR_symlinkat, &[a, HERE, c]).unwrap();
    let len = bench.sys(nr::__NR_readlink, &[c, USER + BUFFER, 3]);
    assert_eq!(len, Ok(3), "cut to the room there is");
    assert_eq!(bench.take(BUFFER, 3), b"/tm");
    assert_eq!(
        bench.sys(nr::__NR_readlink, &[a, USER + BUFFER, 30]),
        Err(Errno::EINVAL)
    );
    bench.sys(nr::__NR_unlink, &[a]).unwrap();
    assert_eq!(
        bench.sys(nr::__NR_stat, &[c, USER + BUFFER]),
        Err(Errno::ENOENT),
        "what it points to is gone"
    );
    assert_eq!(bench.sys(nr::__NR_lstat, &[c, USER + BUFFER]), Ok(0));
    assert_eq!(bench.sys(nr::__NR_rmdir, &[c]), Err(Errno::ENOTDIR));
    assert_eq!(
        bench.sys(nr::__NR_unlinkat, &[HERE, c, 1]),
        Err(Errno::EINVAL)
    );
}

#[test]
fn an_empty_path_means_the_descriptor_when_asked() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let empty = bench.text(OTHER, "");
    let stat = |flags| bench.sys(nr::__NR_newfstatat, &[fd, empty, USER + BUFFER, flags]);
    assert_eq!(stat(0x1000), Ok(0));
    assert_eq!(stat(0), Err(Errno::ENOENT));
    let statx = bench.sys(nr::__NR_statx, &[fd, empty, 0x1000, 0x7ff, USER + BUFFER]);
    assert_eq!(statx, Ok(0));
    assert_eq!(bench.take(BUFFER, 4), 0x7ff_u32.to_le_bytes());
    assert_eq!(stat(0x8000_0000), Err(Errno::EINVAL));
}

#[test]
fn times_are_set_by_path_and_descriptor() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let times = |a: (i64, u64), b: (i64, u64)| {
        let mut bytes = Vec::new();
        for (seconds, nanos) in [a, b] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
            bytes.extend_from_slice(&nanos.to_le_bytes());
        }
        bench.put(OTHER, &bytes)
    };
    let modified = || {
        bench.sys(nr::__NR_fstat, &[fd, USER + BUFFER]).unwrap();
        (bench.word(BUFFER + 88), bench.word(BUFFER + 96))
    };
    let at = times((1, 2), (3, 4));
    bench.sys(nr::__NR_utimensat, &[fd, 0, at, 0]).unwrap();
    assert_eq!(modified(), (3, 4));
    let at = times((5, 6), (7, 0x3fff_fffe));
    let path = bench.text(0, "/tmp/a");
    bench.sys(nr::__NR_utimensat, &[HERE, path, at, 0]).unwrap();
    assert_eq!(modified(), (3, 4), "omitted");
    let at = times((5, 6), (7, 1_000_000_000));
    assert_eq!(
        bench.sys(nr::__NR_utimensat, &[HERE, path, at, 0]),
        Err(Errno::EINVAL)
    );
    let at = times((8, 9), (10, 11));
    bench.sys(nr::__NR_utimes, &[path, at]).unwrap();
    assert_eq!(modified(), (10, 11_000));
}

#[test]
fn attributes_are_listed_as_none_where_there_are_none() {
    let bench = Bench::new();
    bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    assert_eq!(
        bench.with_path(nr::__NR_listxattr, "/tmp/a", &[USER + BUFFER, 100]),
        Ok(0)
    );
    let name = bench.text(OTHER, "user.x");
    assert_eq!(
        bench.with_path(nr::__NR_getxattr, "/tmp/a", &[name, USER + BUFFER, 100]),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        bench.with_path(nr::__NR_setxattr, "/tmp/a", &[name, USER, 1, 0]),
        Err(Errno::EOPNOTSUPP)
    );
}

#[test]
fn permissions_are_checked_and_changed() {
    let bench = Bench::new();
    let fd = bench.open_file("/tmp/a", RDWR_CREATE).unwrap();
    let access = |mode| bench.with_path(nr::__NR_access, "/tmp/a", &[mode]);
    assert_eq!(access(4 | 2), Ok(0));
    assert_eq!(access(1), Err(Errno::EACCES));
    bench.sys(nr::__NR_fchmod, &[fd, 0o755]).unwrap();
    assert_eq!(access(1), Ok(0));
    assert_eq!(access(8), Err(Errno::EINVAL));
    bench
        .with_path(nr::__NR_chown, "/tmp/a", &[5, u64::from(u32::MAX)])
        .unwrap();
    bench.sys(nr::__NR_fstat, &[fd, USER + BUFFER]).unwrap();
    assert_eq!(bench.take(BUFFER + 28, 8), [5, 0, 0, 0, 0, 0, 0, 0]);
}
