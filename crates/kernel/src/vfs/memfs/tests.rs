// SPDX-License-Identifier: Apache-2.0

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::Record;
use crate::vfs::testing::Bench;

fn fs(bench: &Bench) -> Arc<MemFs> {
    MemFs::new(&bench.cx(), b"/tmp", 0o1777, &Quota::new(1 << 20))
}

fn open(bench: &Bench, fs: &MemFs, path: &str, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
    match fs.open(&bench.cx(), path.as_bytes(), flags, 0o644)? {
        Opened::File(file) | Opened::Directory(file) => Ok(file),
        Opened::Same(_) => panic!("memory has no links to descriptors"),
    }
}

const NEW: OpenFlags = OpenFlags::CREATE.union(OpenFlags::READ_WRITE);

fn content(bench: &Bench, file: &Arc<dyn File>) -> Vec<u8> {
    let size = file.stat(&bench.cx()).unwrap().size as usize;
    let mut bytes = vec![0xee; size + 10];
    let count = file
        .read_at(&bench.cx(), 0, &mut Sink::Kernel(&mut bytes))
        .unwrap();
    assert_eq!(count, size);
    bytes.truncate(count);
    bytes
}

fn write(bench: &Bench, file: &Arc<dyn File>, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
    file.write_at(&bench.cx(), at, Source::Kernel(bytes))
}

#[test]
fn holes_read_as_zeros_and_truncation_cuts() {
    let bench = Bench::new();
    let fs = fs(&bench);
    let file = open(&bench, &fs, "/tmp/a", NEW).unwrap();
    write(&bench, &file, 100_000, b"end").unwrap();
    let bytes = content(&bench, &file);
    assert_eq!(bytes.len(), 100_003);
    assert!(bytes[..100_000].iter().all(|byte| *byte == 0));
    file.truncate(&bench.cx(), 100_001).unwrap();
    file.truncate(&bench.cx(), 100_003).unwrap();
    assert_eq!(&content(&bench, &file)[100_000..], b"e\0\0");
}

#[test]
fn removed_files_live_until_they_are_closed() {
    let bench = Bench::new();
    let fs = fs(&bench);
    let file = open(&bench, &fs, "/tmp/a", NEW).unwrap();
    write(&bench, &file, 0, b"kept").unwrap();
    fs.unlink(&bench.cx(), b"/tmp/a", false).unwrap();
    assert_eq!(fs.stat(&bench.cx(), b"/tmp/a"), Err(Errno::ENOENT));
    assert_eq!(content(&bench, &file), b"kept");
    assert_eq!(file.stat(&bench.cx()).unwrap().links, 0);
    assert_ne!(fs.quota.usage().1, 0);
    drop(file);
    assert_eq!(fs.quota.usage().1, 0, "the memory comes back");
}

#[test]
fn the_quota_holds() {
    let bench = Bench::new();
    let fs = fs(&bench);
    let file = open(&bench, &fs, "/tmp/a", NEW).unwrap();
    let mut at = 0;
    let errno = loop {
        match write(&bench, &file, at, &[1; 65536]) {
            Ok(count) => at += count as u64,
            Err(errno) => break errno,
        }
    };
    assert_eq!(errno, Errno::ENOSPC);
    assert!(at <= 1 << 20);
}

#[test]
fn names_follow_the_rules_of_rename() {
    let bench = Bench::new();
    let cx = bench.cx();
    let fs = fs(&bench);
    fs.mkdir(&cx, b"/tmp/d", 0o755).unwrap();
    fs.mkdir(&cx, b"/tmp/e", 0o755).unwrap();
    open(&bench, &fs, "/tmp/d/f", NEW).unwrap();
    assert_eq!(
        fs.rename(&cx, b"/tmp/e", b"/tmp/d", 0),
        Err(Errno::ENOTEMPTY)
    );
    assert_eq!(
        fs.rename(&cx, b"/tmp/d/f", b"/tmp/e", 0),
        Err(Errno::EISDIR)
    );
    assert_eq!(
        fs.rename(&cx, b"/tmp/d", b"/tmp/d/f", 0),
        Err(Errno::ENOTDIR)
    );
    assert_eq!(fs.rename(&cx, b"/tmp/d", b"/tmp/e", 0), Ok(()));
    assert_eq!(fs.stat(&cx, b"/tmp/d"), Err(Errno::ENOENT));
    assert!(fs.stat(&cx, b"/tmp/e/f").is_ok());
    assert_eq!(fs.stat(&cx, b"/tmp").unwrap().links, 3);
    open(&bench, &fs, "/tmp/g", NEW).unwrap();
    assert_eq!(
        fs.rename(&cx, b"/tmp/g", b"/tmp/e/f", RENAME_NOREPLACE),
        Err(Errno::EEXIST)
    );
    let (g, f) = (
        fs.stat(&cx, b"/tmp/g").unwrap().inode,
        fs.stat(&cx, b"/tmp/e/f").unwrap().inode,
    );
    fs.rename(&cx, b"/tmp/g", b"/tmp/e/f", RENAME_EXCHANGE)
        .unwrap();
    assert_eq!(fs.stat(&cx, b"/tmp/g").unwrap().inode, f);
    assert_eq!(fs.stat(&cx, b"/tmp/e/f").unwrap().inode, g);
    assert_eq!(fs.unlink(&cx, b"/tmp/e", true), Err(Errno::ENOTEMPTY));
    assert_eq!(fs.unlink(&cx, b"/tmp/e", false), Err(Errno::EISDIR));
    assert_eq!(fs.unlink(&cx, b"/tmp/g", true), Err(Errno::ENOTDIR));
}

#[test]
fn links_share_one_inode() {
    let bench = Bench::new();
    let cx = bench.cx();
    let fs = fs(&bench);
    let file = open(&bench, &fs, "/tmp/a", NEW).unwrap();
    fs.link(&cx, b"/tmp/a", b"/tmp/b").unwrap();
    write(&bench, &file, 0, b"both").unwrap();
    let other = open(&bench, &fs, "/tmp/b", OpenFlags::empty()).unwrap();
    assert_eq!(content(&bench, &other), b"both");
    assert_eq!(fs.stat(&cx, b"/tmp/a").unwrap().links, 2);
    fs.unlink(&cx, b"/tmp/a", false).unwrap();
    assert_eq!(fs.stat(&cx, b"/tmp/b").unwrap().links, 1);
}

#[test]
fn injected_files_cannot_be_changed() {
    let bench = Bench::new();
    let cx = bench.cx();
    let quota = Quota::new(1000);
    let fs = MemFs::single(&cx, b"/etc/secret", 0o400, b"marker", &quota).unwrap();
    let file = open(&bench, &fs, "/etc/secret", OpenFlags::empty()).unwrap();
    assert_eq!(content(&bench, &file), b"marker");
    assert_eq!(
        open(&bench, &fs, "/etc/secret", OpenFlags::WRITE_ONLY).unwrap_err(),
        Errno::EROFS
    );
    assert_eq!(
        fs.change(&cx, b"/etc/secret", true, Change::Mode(0o777)),
        Err(Errno::EROFS)
    );
    assert_eq!(fs.unlink(&cx, b"/etc/secret", false), Err(Errno::EBUSY));
    assert!(MemFs::single(&cx, b"/x", 0o400, &[0; 1001], &quota).is_err());
}

#[test]
fn shared_mappings_are_written_back_within_the_file() {
    let bench = Bench::new();
    let fs = fs(&bench);
    let file = open(&bench, &fs, "/tmp/a", NEW).unwrap();
    write(&bench, &file, 0, b"0123456789").unwrap();
    let map = file.map_source(&bench.cx()).unwrap();
    assert!(map.bytes.can_write());
    map.bytes.write_at(bench.machine, 8, b"abcdef").unwrap();
    map.bytes.write_at(bench.machine, 4096, b"behind").unwrap();
    assert_eq!(content(&bench, &file), b"01234567ab");
}

/// A lower file that counts how often it is read.
#[derive(Debug)]
struct Counted(Vec<u8>, AtomicU64);

impl File for Counted {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Regular, 0o644, 5).with_size(self.0.len() as u64))
    }
    fn read_at(&self, _cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let rest = self.0.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to.put(0, &rest[..count])?;
        Ok(count)
    }
    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        Err(Errno::ENOTDIR)
    }
}

proptest! {
    #[test]
    fn content_over_a_lower_file_equals_a_plain_vector(
        lower in 0..200_000_usize,
        steps in prop::collection::vec((0..250_000_u64, 1..70_000_usize, 0..4_u8), 1..12),
    ) {
        let bench = Bench::new();
        let cx = bench.cx();
        let mut model: Vec<u8> = (0..lower).map(|at| (at % 250) as u8).collect();
        let below = Arc::new(Counted(model.clone(), AtomicU64::new(0)));
        let quota = Quota::new(8 << 20);
        let content = Content::over(&quota, below, lower as u64);
        for (round, (at, len, step)) in steps.into_iter().enumerate() {
            match step {
                0 => {
                    content.truncate(at).unwrap();
                    model.resize(at as usize, 0);
                }
                1 => {
                    let bytes = vec![round as u8 | 0x80; len];
                    content.append(&cx, Source::Kernel(&bytes)).unwrap();
                    model.extend(bytes);
                }
                _ => {
                    let bytes = vec![round as u8 | 0x40; len];
                    content.write(&cx, at, Source::Kernel(&bytes)).unwrap();
                    let end = at as usize + len;
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[at as usize..end].copy_from_slice(&bytes);
                }
            }
            let mut found = vec![0xee; model.len() + 1];
            let count = content.read(&cx, 0, &mut Sink::Kernel(&mut found)).unwrap();
            prop_assert_eq!(count, model.len());
            prop_assert!(found[..count] == model[..], "after step {}", round);
        }
        drop(content);
        prop_assert_eq!(quota.usage().1, 0);
    }
}
