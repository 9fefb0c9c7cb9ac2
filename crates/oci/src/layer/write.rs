// SPDX-License-Identifier: Apache-2.0
//! Writes new layers: the same entries and level always give the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use tar::{EntryType, Header};

use super::LayerBlob;
use super::entry::{Metadata, Timestamp};
use super::pax::{XATTR_PREFIX, push_record};
use crate::compression::{BUFFER, Compression, Encoder, Level};
use crate::digest::HashingWriter;
use crate::path::RootPath;
use crate::slice::FileSlice;

const BLOCK: usize = 512;
/// Fields of 12 octal digits hold numbers below 2^33 (11 digits and a NUL).
const OCTAL_12: u64 = 1 << 33;
/// Fields of 8 octal digits hold numbers below 2^21 (7 digits and a NUL).
const OCTAL_8: u64 = 1 << 21;

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A kept hard link would point to an entry that was left out.
    #[error("Hard link '{link}' would lose its target '{target}'")]
    DanglingLink {
        /// The link.
        link: RootPath,
        /// What it points to.
        target: RootPath,
    },
    /// Writing, compressing or reading content failed.
    #[error("Cannot write a layer")]
    Io(#[from] io::Error),
    /// Entries must come in the order of their paths, each once.
    #[error("Entry '{path}' does not come after the one before it")]
    Order {
        /// The entry.
        path: RootPath,
    },
    /// The content is not as long as stated.
    #[error("Content of '{path}' is not {expected} bytes long")]
    Size {
        /// The entry.
        path: RootPath,
        /// The stated size.
        expected: u64,
    },
}

/// What a new entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewEntry<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Length of the content in bytes.
        size: u64,
    },
    /// Another name of a file that this layer already holds.
    HardLink {
        /// That file.
        target: &'a RootPath,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: &'a [u8],
    },
    /// Hides this path of lower layers.
    Whiteout,
}

type Stored = HashingWriter<BufWriter<File>>;

/// Writes one layer into a private unlinked file.
pub struct LayerWriter {
    out: HashingWriter<Encoder<Stored>>,
    compression: Compression,
    last: Option<RootPath>,
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWriter")
            .field("compression", &self.compression)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl LayerWriter {
    /// Starts a layer in an unlinked file below `temp`.
    ///
    /// # Errors
    /// [`WriteError::Io`] if the file or the compressor cannot be made.
    pub fn new(temp: &Path, level: Level) -> Result<Self, WriteError> {
        let file = BufWriter::with_capacity(BUFFER, tempfile::tempfile_in(temp)?);
        Ok(Self {
            out: HashingWriter::new(level.encoder(HashingWriter::new(file))?),
            compression: level.compression(),
            last: None,
        })
    }

    /// Adds an entry. `content` is read for files only.
    ///
    /// # Errors
    /// [`WriteError::Order`] unless paths ascend, [`WriteError::Size`] if the
    /// content has another length than stated, [`WriteError::Io`].
    pub fn append(
        &mut self,
        path: &RootPath,
        entry: &NewEntry<'_>,
        metadata: &Metadata,
        content: impl Read,
    ) -> Result<(), WriteError> {
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(WriteError::Order { path: path.clone() });
        }
        self.put(path, entry, metadata, content)?;
        self.last = Some(path.clone());
        Ok(())
    }

    /// Adds a file whose content `write` produces; it must write exactly
    /// `size` bytes.
    ///
    /// # Errors
    /// What `write` fails with, and [`WriteError`] as for [`Self::append`].
    pub fn append_with<E: From<WriteError>>(
        &mut self,
        path: &RootPath,
        size: u64,
        metadata: &Metadata,
        write: impl FnOnce(&mut FileWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(WriteError::Order { path: path.clone() }.into());
        }
        let entry = NewEntry::File { size };
        self.out
            .write_all(&headers(path, &entry, metadata))
            .map_err(WriteError::from)?;
        let mut file = FileWriter {
            out: &mut self.out,
            left: size,
        };
        write(&mut file)?;
        if file.left != 0 {
            return Err(WriteError::Size {
                path: path.clone(),
                expected: size,
            }
            .into());
        }
        self.pad(size)?;
        self.last = Some(path.clone());
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        path: &RootPath,
        entry: &NewEntry<'_>,
        metadata: &Metadata,
        mut content: impl Read,
    ) -> Result<(), WriteError> {
        self.out.write_all(&headers(path, entry, metadata))?;
        let NewEntry::File { size } = *entry else {
            return Ok(());
        };
        let wrong_size = || WriteError::Size {
            path: path.clone(),
            expected: size,
        };
        let copied = copy(&mut content.by_ref().take(size), &mut self.out)?;
        if copied != size || content.read(&mut [0])? != 0 {
            return Err(wrong_size());
        }
        self.pad(size)
    }

    /// Adds records of another layer as they are.
    pub(super) fn copy_records(&mut self, records: &FileSlice) -> Result<(), WriteError> {
        copy(&mut records.reader(), &mut self.out)?;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), WriteError> {
        let zeros = [0; BLOCK];
        let used = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if used != 0 {
            self.out.write_all(zeros.get(used..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Ends the archive and returns the stored layer with both digests.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn finish(mut self) -> Result<LayerBlob, WriteError> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        let (encoder, diff_id, _) = self.out.finish();
        let (file, digest, _) = encoder.finish()?.finish();
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(LayerBlob {
            digest,
            diff_id,
            compression: self.compression,
            bytes: FileSlice::whole(file)?,
            is_private: true,
        })
    }
}

/// Takes the content of one file; more than was announced is refused.
pub struct FileWriter<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl std::fmt::Debug for FileWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Write for FileWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "more content than was announced",
            ));
        }
        let written = self.out.write(buf)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `io::copy` with a buffer that suits layers.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => {
                to.write_all(buffer.get(..read).unwrap_or_default())?;
                total += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The header of an entry, behind an extended header where one is needed.
fn headers(path: &RootPath, entry: &NewEntry<'_>, metadata: &Metadata) -> Vec<u8> {
    let mut name = path.relative().to_vec();
    let mut link: &[u8] = &[];
    let mut size = 0;
    let kind = match entry {
        NewEntry::Directory => {
            name.push(b'/');
            EntryType::Directory
        }
        NewEntry::File { size: given } => {
            size = *given;
            EntryType::Regular
        }
        NewEntry::HardLink { target } => {
            link = target.relative();
            EntryType::Link
        }
        NewEntry::Symlink { target } => {
            link = target;
            EntryType::Symlink
        }
        NewEntry::Whiteout => {
            name.splice(
                name.len() - path.file_name().len()..name.len() - path.file_name().len(),
                *b".wh.",
            );
            EntryType::Regular
        }
    };
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode & 0o7777);
    let mut number = |value: u64, limit: u64, key: &str| {
        if value < limit {
            return value;
        }
        push_record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        0
    };
    header.set_size(number(size, OCTAL_12, "size"));
    header.set_uid(number(metadata.uid.into(), OCTAL_8, "uid"));
    header.set_gid(number(metadata.gid.into(), OCTAL_8, "gid"));
    let seconds = u64::try_from(metadata.mtime.seconds).ok();
    match seconds.filter(|seconds| *seconds < OCTAL_12 && metadata.mtime.nanoseconds == 0) {
        Some(seconds) => header.set_mtime(seconds),
        None => {
            header.set_mtime(0);
            push_record(
                &mut records,
                b"mtime",
                format_time(metadata.mtime).as_bytes(),
            );
        }
    }
    let ustar = header.as_old_mut();
    if !fits(&mut ustar.name, &name) {
        push_record(&mut records, b"path", &name);
    }
    if !fits(&mut ustar.linkname, link) {
        push_record(&mut records, b"linkpath", link);
    }
    for (name, value) in &metadata.xattrs {
        push_record(&mut records, &[XATTR_PREFIX, name].concat(), value);
    }
    header.set_cksum();
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let mut extended = Header::new_ustar();
        extended.set_entry_type(EntryType::XHeader);
        extended.set_size(records.len() as u64);
        extended.set_mode(0o644);
        fits(&mut extended.as_old_mut().name, b"PaxHeaders/entry");
        extended.set_cksum();
        bytes.extend_from_slice(extended.as_bytes());
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

/// Fills a field, cutting what is too long; whether all of it fitted.
fn fits(field: &mut [u8], value: &[u8]) -> bool {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
    value.len() <= field.len()
}

fn format_time(time: Timestamp) -> String {
    let (mut seconds, mut nanoseconds) = (i128::from(time.seconds), time.nanoseconds);
    let sign = if seconds < 0 { "-" } else { "" };
    if seconds < 0 {
        seconds = -seconds;
        if nanoseconds != 0 {
            seconds -= 1;
            nanoseconds = 1_000_000_000 - nanoseconds;
        }
    }
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::{EntryKind, TarEntry};
    use crate::layer::walk::Walker;
    use crate::limits::Limits;
    use proptest::prelude::*;

    fn at(path: &str) -> RootPath {
        RootPath::parse(path).expect("test path")
    }

    fn writer() -> LayerWriter {
        LayerWriter::new(&std::env::temp_dir(), Level::None).expect("writer")
    }

    fn read_back(blob: &LayerBlob) -> Vec<TarEntry> {
        Walker::new(&blob.bytes, &Limits::default())
            .collect::<Result<_, _>>()
            .expect("own output")
    }

    #[test]
    fn unsorted_and_repeated_entries_are_refused() {
        let mut layer = writer();
        let metadata = Metadata::of_root(0o755);
        let entry = NewEntry::Directory;
        layer
            .append(&at("/b"), &entry, &metadata, io::empty())
            .expect("first");
        for path in ["/a", "/b"] {
            let error = layer.append(&at(path), &entry, &metadata, io::empty());
            assert!(matches!(error, Err(WriteError::Order { .. })), "{path}");
        }
    }

    #[test]
    fn content_must_have_the_stated_length() {
        for content in [&b"12"[..], b"1234"] {
            let error = writer().append(
                &at("/f"),
                &NewEntry::File { size: 3 },
                &Metadata::of_root(0o644),
                content,
            );
            assert!(matches!(error, Err(WriteError::Size { .. })));
        }
    }

    #[test]
    fn produced_content_must_have_the_announced_length() {
        let produce = |bytes: &'static [u8]| {
            let mut layer = writer();
            layer.append_with(&at("/f"), 3, &Metadata::of_root(0o644), |file| {
                file.write_all(bytes).map_err(WriteError::from)
            })?;
            layer.finish()
        };
        let blob = produce(b"123").expect("three bytes");
        let entries = read_back(&blob);
        let kind = entries.first().map(|entry| entry.kind.clone());
        assert_eq!(
            kind,
            Some(EntryKind::File {
                offset: 512,
                size: 3
            })
        );
        assert!(matches!(produce(b"12"), Err(WriteError::Size { .. })));
        assert!(matches!(produce(b"1234"), Err(WriteError::Io(_))));
    }

    #[test]
    fn whiteouts_are_named_beside_what_they_hide() {
        let mut layer = writer();
        layer
            .append(
                &at("/etc/hidden"),
                &NewEntry::Whiteout,
                &Metadata::of_root(0),
                io::empty(),
            )
            .expect("append");
        // A whiteout is an empty file, so its content is never read.
        let entries = read_back(&layer.finish().expect("finish"));
        assert_eq!(
            entries.first().map(|e| &e.path),
            Some(&at("/etc/.wh.hidden"))
        );
    }

    proptest! {
        #[test]
        fn every_entry_reads_back_as_written(
            name in "[a-z]{1,60}(/[a-zA-Z0-9 é]{1,90}){0,4}",
            target in proptest::collection::vec(1_u8.., 1..300),
            mode in 0_u32..0o10000,
            uid: u32,
            gid: u32,
            seconds in -5_000_000_000_i64..20_000_000_000,
            nanoseconds in 0_u32..1_000_000_000,
            value in proptest::collection::vec(any::<u8>(), 0..50),
            content in proptest::collection::vec(any::<u8>(), 0..2000),
            which in 0..3,
        ) {
            let path = at(&name);
            let metadata = Metadata {
                mode, uid, gid,
                mtime: Timestamp { seconds, nanoseconds },
                xattrs: [(b"user.test".to_vec(), value)].into(),
            };
            let entry = match which {
                0 => NewEntry::Directory,
                1 => NewEntry::File { size: content.len() as u64 },
                _ => NewEntry::Symlink { target: &target },
            };
            let mut layer = writer();
            layer.append(&path, &entry, &metadata, content.as_slice()).expect("append");
            let blob = layer.finish().expect("finish");
            let entries = read_back(&blob);
            prop_assert_eq!(entries.len(), 1);
            let read = entries.into_iter().next().expect("one");
            prop_assert_eq!(read.path, path);
            prop_assert_eq!(read.metadata, metadata);
            match read.kind {
                EntryKind::Directory => prop_assert_eq!(which, 0),
                EntryKind::File { offset, size } => {
                    let stored = blob.bytes.slice(offset, size).expect("inside");
                    prop_assert_eq!(stored.read_all(1 << 20).expect("read"), content);
                }
                EntryKind::Symlink { target: read } => prop_assert_eq!(read, target),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
