// SPDX-License-Identifier: Apache-2.0

use alloc::vec;
use alloc::vec::Vec;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::vfs::OpenFile;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::opened::Whence;
use crate::vfs::stat::Time;
use crate::vfs::testing::Bench;

fn open(bench: &Bench, path: &str, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
    let names = bench.task.process.files.namespace();
    names.open(&bench.cx(), b"/", path.as_bytes(), flags, 0o640)
}

fn read_all(bench: &Bench, file: &OpenFile, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let count = file
        .read(&bench.cx(), &mut Sink::Kernel(&mut bytes))
        .unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn files_are_read_written_and_cut_at_positions_kept_inside() {
    let bench = Bench::new();
    let cx = bench.cx();
    let flags = OpenFlags::CREATE | OpenFlags::READ_WRITE;
    let file = open(&bench, "/f", flags).unwrap();
    assert_eq!(file.write(&cx, Source::Kernel(b"hello world")), Ok(11));
    assert_eq!(file.seek(&cx, -5, Whence::Current), Ok(6));
    assert_eq!(read_all(&bench, &file, 100), b"world");
    assert_eq!(file.seek(&cx, 1 << 40, Whence::Set), Ok(1 << 40));
    assert_eq!(read_all(&bench, &file, 1), b"");
    assert_eq!(file.seek(&cx, -1, Whence::Set), Err(Errno::EINVAL));
    file.file.truncate(&cx, 5).unwrap();
    let on_disk = fs::read(bench.machine.root.path().join("f")).unwrap();
    assert_eq!(on_disk, b"hello");
}

#[test]
fn appending_moves_the_position_to_the_end() {
    let bench = Bench::new();
    let cx = bench.cx();
    fs::write(bench.machine.root.path().join("log"), "one\n").unwrap();
    let file = open(&bench, "/log", OpenFlags::WRITE_ONLY | OpenFlags::APPEND).unwrap();
    file.write(&cx, Source::Kernel(b"two\n")).unwrap();
    fs::write(
        bench.machine.root.path().join("log"),
        "longer than before\n",
    )
    .unwrap();
    file.write(&cx, Source::Kernel(b"three\n")).unwrap();
    assert_eq!(file.seek(&cx, 0, Whence::Current), Ok(25));
}

#[test]
fn large_reads_take_several_calls_and_no_more() {
    let bench = Bench::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 249) as u8).collect();
    fs::write(bench.machine.root.path().join("big"), &bytes).unwrap();
    let file = open(&bench, "/big", OpenFlags::empty()).unwrap();
    assert!(read_all(&bench, &file, 4 << 20) == bytes);
    assert_eq!(bench.machine.count(Op::Pread), 3);
}

#[test]
fn closing_the_last_description_closes_the_host_descriptor() {
    let bench = Bench::new();
    fs::write(bench.machine.root.path().join("f"), "x").unwrap();
    let before = bench.machine.open_fds();
    let file = open(&bench, "/f", OpenFlags::empty()).unwrap();
    let same = Arc::clone(&file);
    drop(file);
    assert_eq!(bench.machine.open_fds(), before + 1);
    drop(same);
    assert_eq!(bench.machine.open_fds(), before);
}

#[test]
fn times_and_modes_reach_the_host() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let bench = Bench::new();
    let cx = bench.cx();
    let path = bench.machine.root.path().join("f");
    fs::write(&path, "x").unwrap();
    let names = bench.task.process.files.namespace();
    let time = Time {
        seconds: 1_000_000,
        nanos: 5,
    };
    let change = Change::Times(NewTime::Omit, NewTime::At(time));
    names.change(&cx, b"/", b"/f", true, change).unwrap();
    names
        .change(&cx, b"/", b"/f", true, Change::Mode(0o600))
        .unwrap();
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000, 5));
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
}

#[test]
fn names_can_be_made_and_removed() {
    let bench = Bench::new();
    let cx = bench.cx();
    let names = bench.task.process.files.namespace();
    let root = bench.machine.root.path();
    names.mkdir(&cx, b"/", b"/d", 0o755).unwrap();
    names.symlink(&cx, b"d", b"/", b"/l").unwrap();
    fs::write(root.join("d/f"), "x").unwrap();
    names
        .link(&cx, (b"/", b"/l/f"), (b"/", b"/d/g"), false)
        .unwrap();
    names
        .rename(&cx, (b"/", b"/d/g"), (b"/", b"/d/h"), 0)
        .unwrap();
    assert!(root.join("d/h").exists());
    assert_eq!(names.unlink(&cx, b"/", b"/d", true), Err(Errno::ENOTEMPTY));
    names.unlink(&cx, b"/", b"/d/h", false).unwrap();
    names.unlink(&cx, b"/", b"/d/f", false).unwrap();
    names.unlink(&cx, b"/", b"/d", true).unwrap();
    // The directory was cached while it existed.
    assert_eq!(
        names.stat(&cx, b"/", b"/d/f", true).unwrap_err(),
        Errno::ENOENT
    );
}

#[test]
fn a_file_that_becomes_a_directory_is_a_lie() {
    let bench = Bench::new();
    fs::write(bench.machine.root.path().join("f"), "x").unwrap();
    let file = open(&bench, "/f", OpenFlags::empty()).unwrap();
    let directory = Stat::new(FileType::Directory, 0o755, 3).encode();
    bench.machine.lie(move |op, words| match (op, words) {
        (Op::Fstat, [_, Word::Out(out)]) => {
            out.copy_from_slice(&directory);
            Some(Ok(0))
        }
        _ => None,
    });
    assert_eq!(file.file.stat(&bench.cx()), Err(Errno::EIO));
}

#[test]
fn descriptors_that_are_the_standard_streams_are_a_lie() {
    let bench = Bench::new();
    for lie in [0, 2, u64::from(u32::MAX), 1 << 40] {
        bench
            .machine
            .lie(move |op, _| (op == Op::Open).then_some(Ok(lie)));
        assert_eq!(
            open(&bench, "/f", OpenFlags::empty()).unwrap_err(),
            Errno::EIO
        );
    }
}

proptest! {
    #[test]
    fn no_count_and_no_bytes_of_the_host_break_a_read(
        count in any::<u64>(),
        records in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bench = Bench::new();
        fs::write(bench.machine.root.path().join("f"), "0123456789").unwrap();
        fs::create_dir(bench.machine.root.path().join("d")).unwrap();
        let file = open(&bench, "/f", OpenFlags::empty()).unwrap();
        let directory = open(&bench, "/d", OpenFlags::empty()).unwrap();
        bench.machine.lie(move |op, words| match (op, words) {
            (Op::Pread, _) => Some(Ok(count)),
            (Op::Getdents, [_, Word::Out(out)]) => {
                out[..records.len()].copy_from_slice(&records);
                Some(Ok(records.len() as u64))
            }
            _ => None,
        });
        let mut bytes = [0; 16];
        match file.read(&bench.cx(), &mut Sink::Kernel(&mut bytes)) {
            Ok(found) => prop_assert_eq!(found as u64, count),
            Err(errno) => prop_assert_eq!(errno, Errno::EIO),
        }
        // Records that parse are repeated without end, so there must be a bound.
        let _ = directory.read_directory(&bench.cx(), |_, _| false);
    }
}
