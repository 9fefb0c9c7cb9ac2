// SPDX-License-Identifier: Apache-2.0
//! Walks the entries of a decompressed layer without trusting any of them.
//!
//! Headers are decoded field by field by the `tar` crate; finding them,
//! extension records and every bound are ours, because where an entry starts
//! and which name wins must not be open to two readings.

use std::io;

use tar::Header;

use super::entry::{EntryKind, Metadata, TarEntry, Timestamp};
use super::pax::{Overrides, PaxError};
use crate::limits::Limits;
use crate::path::{MAX_PATH, PathError, RootPath, printable};
use crate::slice::FileSlice;

const BLOCK: u64 = 512;
/// Extension headers in front of one entry; real archives have at most four.
const MAX_EXTENSIONS: usize = 16;

/// Why an archive is refused. `offset` is in bytes from its start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// A header whose checksum is wrong.
    #[error("Archive has a damaged header at byte {offset}")]
    Checksum {
        /// Where.
        offset: u64,
    },
    /// Content where none may be: readers disagree about what follows.
    #[error("'{path}' at byte {offset} is no regular file and yet has {size} bytes of content")]
    Content {
        /// Where.
        offset: u64,
        /// The entry.
        path: RootPath,
        /// The stated size.
        size: u64,
    },
    /// An extension record larger than the limit, or too many of them.
    #[error("Archive has too large or too many extension records at byte {offset}")]
    Extension {
        /// Where.
        offset: u64,
    },
    /// A field that is not a number, or one that no file system can hold.
    #[error("Archive has an unusable {field} at byte {offset}")]
    Field {
        /// Where.
        offset: u64,
        /// Which field.
        field: &'static str,
    },
    /// Reading the decompressed layer failed.
    #[error("Cannot read the layer at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// The reason.
        source: io::Error,
    },
    /// An entry's name or hard link target.
    #[error("Archive has an unusable path '{path}' at byte {offset}")]
    Path {
        /// Where.
        offset: u64,
        /// The path, made printable.
        path: String,
        /// The reason.
        source: PathError,
    },
    /// An extended header.
    #[error("Archive has an unusable extended header at byte {offset}")]
    Pax {
        /// Where.
        offset: u64,
        /// The reason.
        source: PaxError,
    },
    /// More entries than the limit.
    #[error("Archive has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// Something after the end marker.
    #[error("Archive goes on behind its end marker at byte {offset}")]
    Trailing {
        /// Where.
        offset: u64,
    },
    /// The archive ends inside an entry.
    #[error("Archive ends inside the entry at byte {offset}")]
    Truncated {
        /// Where the entry starts.
        offset: u64,
    },
    /// Sparse files, multi-volume parts and whatever else has no place in a
    /// layer.
    #[error("Archive has an entry of the unsupported type {type_flag:#04x} at byte {offset}")]
    UnsupportedType {
        /// Where.
        offset: u64,
        /// The type byte.
        type_flag: u8,
    },
}

/// Iterates over a decompressed layer; stops after the first error.
#[derive(Debug)]
pub struct Walker<'a> {
    content: &'a FileSlice,
    limits: &'a Limits,
    position: u64,
    entries: u64,
    is_done: bool,
}

impl<'a> Walker<'a> {
    /// Starts at the first entry.
    #[must_use]
    pub fn new(content: &'a FileSlice, limits: &'a Limits) -> Self {
        Self {
            content,
            limits,
            position: 0,
            entries: 0,
            is_done: false,
        }
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), WalkError> {
        self.content
            .read_exact_at(offset, buf)
            .map_err(|source| WalkError::Io { offset, source })
    }

    /// The header at `offset`, or `None` at the archive's end.
    fn header(&self, offset: u64) -> Result<Option<Header>, WalkError> {
        if offset >= self.content.len() {
            // Two zero blocks should end an archive, but those of some
            // writers end without, and every reader accepts them.
            return Ok(None);
        }
        if self.content.len() - offset < BLOCK {
            return Err(WalkError::Truncated { offset });
        }
        let mut header = Header::new_old();
        self.read(offset, header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.expect_zeros(offset)?;
            return Ok(None);
        }
        let field = |_| WalkError::Checksum { offset };
        // POSIX: the sum of all bytes with the checksum itself as spaces.
        let (before, rest) = header.as_bytes().split_at(148);
        let (_, after) = rest.split_at(8);
        let sum: u32 = before
            .iter()
            .chain(after)
            .map(|byte| u32::from(*byte))
            .sum();
        if header.cksum().map_err(field)? != sum + 8 * u32::from(b' ') {
            return Err(WalkError::Checksum { offset });
        }
        Ok(Some(header))
    }

    fn expect_zeros(&self, from: u64) -> Result<(), WalkError> {
        let mut buffer = vec![0; 64 << 10];
        let mut offset = from;
        loop {
            let read = self
                .content
                .read_at(offset, &mut buffer)
                .map_err(|source| WalkError::Io { offset, source })?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(WalkError::Trailing { offset });
            }
            offset += read as u64;
        }
    }

    /// Where content of `size` bytes after a header at `offset` ends, padding
    /// included.
    fn record_end(&self, offset: u64, size: u64) -> Result<u64, WalkError> {
        size.checked_next_multiple_of(BLOCK)
            .and_then(|padded| padded.checked_add(BLOCK))
            .and_then(|record| record.checked_add(offset))
            .filter(|end| *end <= self.content.len())
            .ok_or(WalkError::Truncated { offset })
    }

    fn extension(&self, offset: u64, size: u64) -> Result<Vec<u8>, WalkError> {
        let size = usize::try_from(size)
            .ok()
            .filter(|_| size <= self.limits.extension)
            .ok_or(WalkError::Extension { offset })?;
        let mut bytes = vec![0; size];
        self.read(offset + BLOCK, &mut bytes)?;
        Ok(bytes)
    }

    fn next_entry(&mut self) -> Result<Option<TarEntry>, WalkError> {
        let record_start = self.position;
        let mut overrides = Overrides::default();
        let mut long_name = None;
        let mut long_link = None;
        for _ in 0..MAX_EXTENSIONS {
            let offset = self.position;
            let Some(header) = self.header(offset)? else {
                // Extension records that extend nothing.
                return if offset == record_start {
                    Ok(None)
                } else {
                    Err(WalkError::Truncated {
                        offset: record_start,
                    })
                };
            };
            let size = or_empty(&header.as_old().size, header.entry_size()).map_err(|_| {
                WalkError::Field {
                    offset,
                    field: "size",
                }
            })?;
            match header.entry_type().as_byte() {
                b'x' => {
                    let end = self.record_end(offset, size)?;
                    let bytes = self.extension(offset, size)?;
                    overrides
                        .add(&bytes, self.limits)
                        .map_err(|source| WalkError::Pax { offset, source })?;
                    self.position = end;
                }
                // Global headers describe the archive (git puts the commit
                // there); image readers ignore them.
                b'g' => {
                    if size > self.limits.extension {
                        return Err(WalkError::Extension { offset });
                    }
                    self.position = self.record_end(offset, size)?;
                }
                flag @ (b'L' | b'K') => {
                    let end = self.record_end(offset, size)?;
                    let bytes = self.extension(offset, size)?;
                    let name = bytes.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
                    if flag == b'L' {
                        long_name = name;
                    } else {
                        long_link = name;
                    }
                    self.position = end;
                }
                _ => {
                    let names = Names {
                        path: overrides.path.take().or(long_name),
                        link: overrides.link.take().or(long_link),
                    };
                    let entry = self.entry(record_start, &header, size, names, overrides)?;
                    self.position = entry.record_end;
                    return Ok(Some(entry));
                }
            }
        }
        Err(WalkError::Extension {
            offset: record_start,
        })
    }

    fn entry(
        &self,
        record_start: u64,
        header: &Header,
        size: u64,
        names: Names,
        overrides: Overrides,
    ) -> Result<TarEntry, WalkError> {
        let offset = self.position;
        let flag = header.entry_type().as_byte();
        let size = overrides.size.unwrap_or(size);
        let raw = match names.path {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let path = parse_path(offset, &raw)?;
        // Before POSIX, a directory was a file whose name ends in a slash.
        let is_old_directory = flag == 0 && raw.ends_with(b"/");
        let device = |stored: Option<[u8; 8]>, number: io::Result<Option<u32>>| {
            match stored {
                Some(stored) => or_empty(&stored, number.map(Option::unwrap_or_default)),
                None => Err(io::ErrorKind::InvalidData.into()),
            }
            .map_err(|_| WalkError::Field {
                offset,
                field: "device number",
            })
        };
        let link = match names.link {
            Some(link) => link,
            None => match header.link_name_bytes() {
                Some(link) => link.into_owned(),
                None => Vec::new(),
            },
        };
        let kind = match flag {
            0 if is_old_directory => EntryKind::Directory,
            // '7' is a file that should lie contiguously on disk.
            0 | b'0' | b'7' => EntryKind::File {
                offset: offset + BLOCK,
                size,
            },
            b'1' => EntryKind::HardLink {
                target: parse_path(offset, &link)?,
            },
            b'2' => EntryKind::Symlink {
                target: symlink_target(offset, link)?,
            },
            b'3' | b'4' => {
                let fields = device_fields(header);
                let major = device(fields.map(|(major, _)| major), header.device_major())?;
                let minor = device(fields.map(|(_, minor)| minor), header.device_minor())?;
                if flag == b'3' {
                    EntryKind::CharDevice { major, minor }
                } else {
                    EntryKind::BlockDevice { major, minor }
                }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            type_flag => return Err(WalkError::UnsupportedType { offset, type_flag }),
        };
        if size != 0 && !matches!(kind, EntryKind::File { .. }) {
            return Err(WalkError::Content { offset, path, size });
        }
        Ok(TarEntry {
            path,
            kind,
            metadata: metadata(offset, header, overrides)?,
            record_start,
            record_end: self.record_end(offset, size)?,
        })
    }
}

struct Names {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

fn parse_path(offset: u64, raw: &[u8]) -> Result<RootPath, WalkError> {
    RootPath::parse(raw).map_err(|source| WalkError::Path {
        offset,
        path: printable(raw),
        source,
    })
}

fn symlink_target(offset: u64, link: Vec<u8>) -> Result<Vec<u8>, WalkError> {
    if link.is_empty() || link.len() > MAX_PATH || link.contains(&0) {
        return Err(WalkError::Field {
            offset,
            field: "symbolic link",
        });
    }
    Ok(link)
}

/// A number whose field holds nothing is 0, as all readers of archives have
/// it: some writers leave out what they do not know.
fn or_empty<T: Default>(field: &[u8], parsed: io::Result<T>) -> io::Result<T> {
    match parsed {
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(T::default()),
        other => other,
    }
}

/// Major and minor number as stored; the oldest headers have none.
fn device_fields(header: &Header) -> Option<([u8; 8], [u8; 8])> {
    let ustar = header.as_ustar().map(|it| (it.dev_major, it.dev_minor));
    ustar.or_else(|| header.as_gnu().map(|it| (it.dev_major, it.dev_minor)))
}

fn metadata(offset: u64, header: &Header, overrides: Overrides) -> Result<Metadata, WalkError> {
    let field = |field| move |_| WalkError::Field { offset, field };
    let stored = header.as_old();
    let owner = |given: Option<u64>, stored: io::Result<u64>, name| {
        let id = match given {
            Some(id) => id,
            None => stored.map_err(field(name))?,
        };
        u32::try_from(id).map_err(|_| WalkError::Field {
            offset,
            field: name,
        })
    };
    let mtime = match overrides.mtime {
        Some(time) => time,
        None => Timestamp {
            // A base-256 number before 1970 comes out as a wrapped u64.
            seconds: or_empty(&stored.mtime, header.mtime())
                .map_err(field("time"))?
                .cast_signed(),
            nanoseconds: 0,
        },
    };
    Ok(Metadata {
        mode: or_empty(&stored.mode, header.mode()).map_err(field("mode"))? & 0o7777,
        uid: owner(overrides.uid, or_empty(&stored.uid, header.uid()), "owner")?,
        gid: owner(overrides.gid, or_empty(&stored.gid, header.gid()), "group")?,
        mtime,
        xattrs: overrides.xattrs,
    })
}

impl Iterator for Walker<'_> {
    type Item = Result<TarEntry, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        if self.entries >= self.limits.entries {
            // One more entry would be too many; the end marker is not.
            match self.header(self.position) {
                Ok(None) => {
                    self.is_done = true;
                    return None;
                }
                Ok(Some(_)) => {
                    self.is_done = true;
                    return Some(Err(WalkError::TooManyEntries {
                        limit: self.limits.entries,
                    }));
                }
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
        }
        self.entries += 1;
        let next = self.next_entry();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
