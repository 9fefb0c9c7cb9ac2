// SPDX-License-Identifier: Apache-2.0
//! A sealed tree with its stored files, and a full reading of it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use shieldfs::entry::{DeviceNumber, Entry, Kind, Meta};
use shieldfs::key::{FspfKey, FspfTag};
use shieldfs::read::{Fspf, ReadError};
use shieldfs::region::Regions;
use shieldfs::seal::Sealer;
use shieldfs::xattr::Xattrs;

pub(crate) type Refusal = ReadError<Infallible>;
pub(crate) type Stored = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) const CHUNK: u32 = 4096;

/// An FSPF and the stored bytes of its files by path.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) fspf: Vec<u8>,
    pub(crate) tag: FspfTag,
    pub(crate) stored: Stored,
}

/// Everything a reader can learn about an entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) entry: Entry,
    pub(crate) xattrs: Xattrs,
    pub(crate) sites: Vec<u32>,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn key() -> FspfKey {
    FspfKey::from_bytes([0x42; 32])
}

pub(crate) fn meta() -> Meta {
    Meta {
        mode: 0o640,
        uid: 1000,
        gid: 2000,
        mtime_s: -1,
        mtime_ns: 999_999_999,
    }
}

pub(crate) fn sealer() -> Sealer {
    let regions = Regions::defaults().dir_encrypted(b"/app").unwrap();
    Sealer::with_chunk_size(key(), regions, CHUNK).unwrap()
}

/// Every kind of entry, in both protected classes.
pub(crate) fn small() -> Sample {
    let mut sealer = sealer();
    let mut stored = Stored::new();
    for dir in [&b"/app"[..], b"/etc", b"/tmp", b"/dev"] {
        sealer.add_dir(dir, Meta::with_mode(0o755)).unwrap();
    }
    let mut add = |path: &[u8], content: &[u8]| {
        let sink = stored.entry(path.to_vec()).or_default();
        sealer.add_file(path, meta(), content, sink).unwrap();
    };
    add(b"/etc/passwd", b"root:x:0:0::/:/bin/sh\n");
    add(b"/etc/empty", b"");
    add(b"/app/secret", b"the recipe");
    add(b"/app/\xff\xfe name", &[7; 4097]);
    sealer.add_symlink(b"/etc/link", meta(), b"../app").unwrap();
    sealer.add_hard_link(b"/app/again", b"/app/secret").unwrap();
    sealer.add_fifo(b"/etc/fifo", meta()).unwrap();
    sealer.add_socket(b"/etc/socket", meta()).unwrap();
    let (major, minor) = (8, 1);
    let number = DeviceNumber { major, minor };
    sealer
        .add_block_device(b"/etc/disk", meta(), number)
        .unwrap();
    sealer.add_char_device(b"/etc/tty", meta(), number).unwrap();
    let xattrs = Xattrs::from([(b"user.k".to_vec(), b"v".to_vec())]);
    sealer.set_xattrs(b"/etc/passwd", &xattrs).unwrap();
    sealer
        .set_sites(b"/app/secret", &[3, 0x0300, 4_000_000_000, 5])
        .unwrap();
    let sealed = sealer.finish().unwrap();
    Sample {
        fspf: sealed.bytes,
        tag: sealed.tag,
        stored,
    }
}

impl Sample {
    pub(crate) fn open(&self) -> Result<Fspf<&[u8]>, Refusal> {
        Fspf::open(&self.fspf[..], &key(), self.tag)
    }

    /// Reads the whole tree, its attributes and its contents.
    pub(crate) fn read_all(&self) -> Result<BTreeMap<Vec<u8>, Seen>, Refusal> {
        let mut fspf = self.open()?;
        let mut seen = BTreeMap::new();
        let mut pending = vec![b"/".to_vec()];
        while let Some(path) = pending.pop() {
            let entry = fspf.lookup(&path)?.expect("a listed path exists");
            if *entry.kind() == Kind::Directory {
                fspf.read_dir(&path, 0, |child| {
                    let slash: &[u8] = if path == b"/" { b"" } else { b"/" };
                    pending.push([&path, slash, child.name].concat());
                    true
                })?;
            }
            let content = match entry.file() {
                Some(_) => self.read_file(&mut fspf, &entry)?,
                None => Vec::new(),
            };
            let sites = match entry.file() {
                Some(_) => fspf.sites(&entry)?,
                None => Vec::new(),
            };
            let xattrs = fspf.xattrs(&entry)?;
            seen.insert(
                path,
                Seen {
                    entry,
                    xattrs,
                    sites,
                    content,
                },
            );
        }
        Ok(seen)
    }

    pub(crate) fn read_file(
        &self,
        fspf: &mut Fspf<&[u8]>,
        entry: &Entry,
    ) -> Result<Vec<u8>, Refusal> {
        let reader = fspf.open_file(entry)?;
        let stored = self.stored.get(entry.stored_path()).expect("stored");
        let mut content = Vec::new();
        let mut buffer = vec![0; reader.buffer_len()];
        for index in 0..reader.geometry().chunk_count() {
            let length = reader.read_chunk(fspf, index, stored, &mut buffer)?;
            content.extend_from_slice(&buffer[..length]);
        }
        Ok(content)
    }
}
