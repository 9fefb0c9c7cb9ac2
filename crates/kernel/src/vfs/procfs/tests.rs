// SPDX-License-Identifier: Apache-2.0

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::vfs::OpenFlags;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::testing::Bench;

fn read(bench: &Bench, path: &str) -> Result<String, Errno> {
    let file = crate::vfs::open(&bench.cx(), path.as_bytes(), OpenFlags::empty())?;
    let mut bytes = vec![0; 100_000];
    let count = file.read(&bench.cx(), &mut Sink::Kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(String::from_utf8(bytes).unwrap())
}

fn bench() -> Bench {
    let bench = Bench::with_system();
    *bench.task.process.program.lock() = crate::process::Program {
        path: b"/usr/bin/program with spaces".to_vec(),
        argv: vec![b"program".to_vec(), b"".to_vec(), b"x".to_vec()],
        env: vec![b"A=1".to_vec()],
        auxv: vec![1, 2, 3],
    };
    bench
}

#[test]
fn a_process_sees_what_it_was_started_with() {
    let bench = bench();
    assert_eq!(
        read(&bench, "/proc/self/cmdline").unwrap(),
        "program\0\0x\0"
    );
    assert_eq!(read(&bench, "/proc/1/environ").unwrap(), "A=1\0");
    let names = bench.task.process.files.namespace();
    let exe = names
        .readlink(&bench.cx(), b"/", b"/proc/self/exe")
        .unwrap();
    assert_eq!(exe, b"/usr/bin/program with spaces");
    assert_eq!(
        read(&bench, "/proc/self/comm").unwrap(),
        "program with sp\n"
    );
    assert_eq!(
        names.readlink(&bench.cx(), b"/", b"/proc/self").unwrap(),
        b"1"
    );
}

#[test]
fn a_converted_program_stands_at_its_own_path() {
    let bench = bench();
    let names = bench.task.process.files.namespace();
    for (stored, seen) in [
        (&b"/ensconce/program/usr/bin/app"[..], &b"/usr/bin/app"[..]),
        (b"/ensconce/programs/app", b"/ensconce/programs/app"),
    ] {
        bench.task.process.program.lock().path = stored.to_vec();
        let exe = names
            .readlink(&bench.cx(), b"/", b"/proc/self/exe")
            .unwrap();
        assert_eq!(exe, seen);
    }
}

#[test]
fn every_listed_name_exists_and_has_the_listed_type() {
    let bench = bench();
    let cx = bench.cx();
    let names = bench.task.process.files.namespace();
    let mut todo: Vec<Vec<u8>> = vec![b"/proc".to_vec(), b"/sys".to_vec(), b"/dev".to_vec()];
    let mut seen = 0;
    while let Some(path) = todo.pop() {
        let directory = names
            .open(&cx, b"/", &path, OpenFlags::DIRECTORY, 0)
            .unwrap();
        for record in directory.file.list(&cx).unwrap() {
            let child = crate::vfs::path::join(&path, &record.name);
            let stat = names.stat(&cx, b"/", &child, false);
            let stat = stat.unwrap_or_else(|errno| panic!("{child:?}: {errno:?}"));
            assert_eq!(stat.kind(), record.kind, "{child:?}");
            assert_eq!(stat.inode, record.inode, "{child:?}");
            seen += 1;
            let is_deep = path.windows(5).any(|part| part == b"/task");
            if record.kind == FileType::Directory && !is_deep {
                todo.push(child);
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn nothing_of_proc_can_be_written_but_settings() {
    let bench = bench();
    let cx = bench.cx();
    let open = |path: &[u8]| crate::vfs::open(&cx, path, OpenFlags::WRITE_ONLY);
    assert_eq!(open(b"/proc/self/status").unwrap_err(), Errno::EACCES);
    let setting = open(b"/proc/self/oom_score_adj").unwrap();
    assert_eq!(setting.write(&cx, Source::Kernel(b"5")), Ok(1));
    let names = bench.task.process.files.namespace();
    assert_eq!(
        names.unlink(&cx, b"/", b"/proc/self/status", false),
        Err(Errno::EPERM)
    );
    assert_eq!(
        names.mkdir(&cx, b"/", b"/proc/new", 0o755),
        Err(Errno::EACCES)
    );
}

#[test]
fn files_are_opened_anew_and_keep_their_own_position() {
    let bench = bench();
    let cx = bench.cx();
    std::fs::write(bench.machine.root.path().join("f"), "content").unwrap();
    let file = crate::vfs::open(&cx, b"/f", OpenFlags::empty()).unwrap();
    let fd = bench.task.process.files.add(file, false).unwrap();
    for _ in 0..2 {
        let path = alloc::format!("/proc/self/fd/{fd}");
        assert_eq!(read(&bench, &path).unwrap(), "content");
    }
}

#[test]
fn strange_numbers_name_no_process() {
    let bench = bench();
    for name in ["01", "+1", "4294967297", "77", "-1", ""] {
        let path = alloc::format!("/proc/{name}/status");
        assert!(read(&bench, &path).is_err(), "{name}");
    }
}

#[test]
fn tables_have_the_form_that_parsers_expect() {
    let bench = bench();
    let info = read(&bench, "/proc/cpuinfo").unwrap();
    assert!(info.contains("processor\t: 0\n") && info.contains(" sse2 "));
    let memory = read(&bench, "/proc/meminfo").unwrap();
    assert!(memory.starts_with("MemTotal:"));
    assert!(memory.lines().all(|line| line.contains(':')));
    let stat = read(&bench, "/proc/self/stat").unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    assert_eq!(rest.split_whitespace().count(), 50);
    let status = read(&bench, "/proc/self/status").unwrap();
    assert!(status.contains("\nThreads:\t1\n") && status.contains("\nPid:\t1\n"));
    assert_eq!(read(&bench, "/proc/sys/kernel/ostype").unwrap(), "Linux\n");
}
