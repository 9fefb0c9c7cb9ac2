// SPDX-License-Identifier: Apache-2.0
//! Directories made by the namespace, names opened with O_PATH, and the form of
//! directory records.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::file::{Change, File, Record};
use crate::vfs::filesystem::FileSystem;
use crate::vfs::stat::Stat;

/// A directory with nothing of its own.
#[derive(Debug)]
pub(crate) struct Bare(Stat);

impl Bare {
    pub(crate) fn new(stat: Stat) -> Self {
        Self(stat)
    }
}

impl File for Bare {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.0)
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        Ok(Vec::new())
    }
}

/// A directory with names that other file systems add.
#[derive(Debug)]
pub(crate) struct Merged {
    inner: Arc<dyn File>,
    extra: Vec<Record>,
}

impl Merged {
    pub(crate) fn new(inner: Arc<dyn File>, extra: Vec<Record>) -> Self {
        Self { inner, extra }
    }
}

impl File for Merged {
    fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno> {
        self.inner.stat(cx)
    }

    fn list(&self, cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        let mut all = self.inner.list(cx)?;
        all.retain(|record| self.extra.iter().all(|extra| extra.name != record.name));
        all.extend_from_slice(&self.extra);
        Ok(all)
    }

    fn change(&self, cx: &Context<'_>, change: Change) -> Result<(), Errno> {
        self.inner.change(cx, change)
    }

    fn sync(&self, cx: &Context<'_>, data_only: bool) -> Result<(), Errno> {
        self.inner.sync(cx, data_only)
    }

    fn statfs(&self, cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        self.inner.statfs(cx)
    }
}

/// A name opened with O_PATH.
#[derive(Debug)]
pub(crate) struct Name {
    fs: Arc<dyn FileSystem>,
    path: Vec<u8>,
    found: Stat,
}

impl Name {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, path: &[u8], found: Stat) -> Self {
        Self {
            fs,
            path: path.to_vec(),
            found,
        }
    }
}

impl File for Name {
    fn stat(&self, cx: &Context<'_>) -> Result<Stat, Errno> {
        // A name that is gone still says what it was.
        match self.fs.stat(cx, &self.path) {
            Err(Errno::ENOENT) => Ok(self.found),
            other => other,
        }
    }

    fn statfs(&self, cx: &Context<'_>) -> Result<[u8; 120], Errno> {
        self.fs.statfs(cx, &self.path)
    }

    fn list(&self, _cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        Err(Errno::EBADF)
    }
}

/// Bytes of a `struct linux_dirent64` with this name: the fixed part is 19
/// bytes, the name ends in NUL, records are padded to 8 bytes.
#[must_use]
pub fn record_len(name: &[u8]) -> usize {
    (19 + name.len() + 1).next_multiple_of(8)
}

/// Appends a `struct linux_dirent64`; `next` is the position after it.
pub fn encode_record(out: &mut Vec<u8>, record: &Record, next: u64) {
    let len = record_len(&record.name);
    let end = out.len() + len;
    out.extend_from_slice(&record.inode.to_le_bytes());
    out.extend_from_slice(&next.to_le_bytes());
    // Names are at most 255 bytes, so records at most 280.
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.push(record.kind.record());
    out.extend_from_slice(&record.name);
    out.resize(end, 0);
}

/// Reads the host's `struct linux_dirent64` records and checks every one:
/// lengths inside the buffer, a NUL, no `/`, a name of 1 to 255 bytes. Records
/// of unknown type are told apart by `classify`.
///
/// # Errors
/// `EIO` for nonsense; `classify`'s errors.
pub fn decode_records(
    mut bytes: &[u8],
    mut classify: impl FnMut(&[u8]) -> Result<crate::vfs::stat::FileType, Errno>,
) -> Result<Vec<Record>, Errno> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (inode, rest) = bytes.split_first_chunk::<8>().ok_or(Errno::EIO)?;
        let (_next, rest) = rest.split_first_chunk::<8>().ok_or(Errno::EIO)?;
        let (len, rest) = rest.split_first_chunk::<2>().ok_or(Errno::EIO)?;
        let (kind, _) = rest.split_first_chunk::<1>().ok_or(Errno::EIO)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let record = bytes.get(..len).ok_or(Errno::EIO)?;
        let name = record.get(19..).ok_or(Errno::EIO)?;
        let end = name.iter().position(|byte| *byte == 0).ok_or(Errno::EIO)?;
        let name = name.get(..end).unwrap_or_default();
        if name.is_empty() || name.len() > super::path::MAX_NAME || name.contains(&b'/') {
            return Err(Errno::EIO);
        }
        if name != b"." && name != b".." {
            let kind = match crate::vfs::stat::FileType::from_record(kind[0]) {
                Some(kind) => kind,
                None => classify(name)?,
            };
            out.push(Record {
                name: name.to_vec(),
                inode: u64::from_le_bytes(*inode).max(1),
                kind,
            });
        }
        bytes = bytes.get(len..).unwrap_or_default();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::vfs::stat::FileType;

    fn unknown(_: &[u8]) -> Result<FileType, Errno> {
        Ok(FileType::Regular)
    }

    #[test]
    fn records_survive_and_dots_are_dropped() {
        let record = |name: &[u8], kind| Record {
            name: name.to_vec(),
            inode: 7,
            kind,
        };
        let given = vec![
            record(b"a", FileType::Regular),
            record(b"longer name", FileType::Directory),
            record(&[b'x'; 255], FileType::Symlink),
        ];
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &record(b".", FileType::Directory), 1);
        for (at, one) in given.iter().enumerate() {
            encode_record(&mut bytes, one, at as u64 + 2);
        }
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(decode_records(&bytes, unknown).unwrap(), given);
    }

    #[test]
    fn names_with_slashes_and_broken_lengths_are_refused() {
        let mut bytes = Vec::new();
        let bad = Record {
            name: b"a/b".to_vec(),
            inode: 1,
            kind: FileType::Regular,
        };
        encode_record(&mut bytes, &bad, 1);
        assert_eq!(decode_records(&bytes, unknown), Err(Errno::EIO));
        let good = Record {
            name: b"ab".to_vec(),
            ..bad
        };
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &good, 1);
        bytes[16] = 0;
        assert_eq!(decode_records(&bytes, unknown), Err(Errno::EIO));
        bytes[16] = 200;
        assert_eq!(decode_records(&bytes, unknown), Err(Errno::EIO));
    }

    proptest! {
        #[test]
        fn no_host_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(records) = decode_records(&bytes, unknown) {
                for record in records {
                    prop_assert!(!record.name.contains(&b'/') && !record.name.is_empty());
                }
            }
        }
    }
}
