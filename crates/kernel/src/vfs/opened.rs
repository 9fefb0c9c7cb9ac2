// SPDX-License-Identifier: Apache-2.0
//! Open file descriptions: a file with a position and status flags, shared by
//! all descriptors that were duplicated from one another.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::{File, Record};
use crate::vfs::flags::OpenFlags;
use crate::vfs::map::MapSource;
use crate::vfs::stat::FileType;
use crate::vfs::turn::Turn;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct Position {
    at: u64,
    /// The last write went to the end, wherever that is by now.
    is_end: bool,
}

/// An open file description.
pub struct OpenFile {
    /// The file.
    pub file: Arc<dyn File>,
    /// Where it was found: absolute, without symbolic links; for files without
    /// a name, what /proc/self/fd shows.
    pub path: Vec<u8>,
    id: u64,
    flags: AtomicU32,
    position: Turn<Position>,
    listing: Lock<Option<Arc<Vec<Record>>>>,
    machine: &'static dyn Machine,
}

impl core::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpenFile")
            .field("file", &self.file)
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

/// Where `lseek` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The beginning.
    Set,
    /// The position.
    Current,
    /// The end.
    End,
    /// The next data at or after the offset.
    Data,
    /// The next hole at or after the offset.
    Hole,
}

impl Whence {
    /// From the call's number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Set,
            1 => Self::Current,
            2 => Self::End,
            3 => Self::Data,
            4 => Self::Hole,
            _ => return None,
        })
    }
}

impl OpenFile {
    /// A new description at position 0.
    #[must_use]
    pub fn new(
        machine: &'static dyn Machine,
        file: Arc<dyn File>,
        flags: OpenFlags,
        path: Vec<u8>,
    ) -> Arc<Self> {
        Arc::new(Self {
            file,
            path,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            flags: AtomicU32::new((flags & OpenFlags::SHOWN).bits()),
            position: Turn::default(),
            listing: Lock::new(None),
            machine,
        })
    }

    /// A number no other description of this enclave ever has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Access mode and status flags.
    #[must_use]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Acquire))
    }

    /// Whether calls must not block.
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// F_SETFL.
    ///
    /// # Errors
    /// What the file says about the new flags.
    pub fn set_flags(&self, cx: &Context<'_>, new: OpenFlags) -> Result<(), Errno> {
        let flags = (self.flags() - OpenFlags::SETTABLE) | (new & OpenFlags::SETTABLE);
        self.file.set_flags(cx, flags)?;
        self.flags.store(flags.bits(), Ordering::Release);
        Ok(())
    }

    /// Checks that reading is allowed.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn readable(&self) -> Result<(), Errno> {
        if self.flags().can_read() {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }

    /// Checks that writing is allowed.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn writable(&self) -> Result<(), Errno> {
        if self.flags().can_write() {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }

    /// Reads at the position and moves it.
    ///
    /// # Errors
    /// `EBADF` if not open for reading; the file's errors.
    pub fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.readable()?;
        if !self.file.is_seekable() {
            return self.file.read(cx, to, self.is_nonblocking());
        }
        let mut position = self.position.take(cx);
        self.settle(cx, &mut position)?;
        let count = self.file.read_at(cx, position.at, to)?;
        position.at = position.at.saturating_add(count as u64);
        Ok(count)
    }

    /// Writes at the position, or at the end, and moves it.
    ///
    /// # Errors
    /// `EBADF` if not open for writing; the file's errors.
    pub fn write(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        self.writable()?;
        if !self.file.is_seekable() {
            return self.file.write(cx, from, self.is_nonblocking());
        }
        let mut position = self.position.take(cx);
        if self.flags().contains(OpenFlags::APPEND) {
            let count = self.file.append(cx, from)?;
            position.is_end = true;
            return Ok(count);
        }
        self.settle(cx, &mut position)?;
        let count = self.file.write_at(cx, position.at, from)?;
        position.at = position.at.saturating_add(count as u64);
        Ok(count)
    }

    /// Reads elsewhere; the position stays.
    ///
    /// # Errors
    /// `EBADF`, `ESPIPE`; the file's errors.
    pub fn read_at(&self, cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.readable()?;
        self.file.read_at(cx, at, to)
    }

    /// Writes elsewhere (at the end if opened for appending, as Linux does); the position stays.
    ///
    /// # Errors
    /// `EBADF`, `ESPIPE`; the file's errors.
    pub fn write_at(&self, cx: &Context<'_>, at: u64, from: Source<'_>) -> Result<usize, Errno> {
        self.writable()?;
        if self.flags().contains(OpenFlags::APPEND) && self.file.is_seekable() {
            return self.file.append(cx, from);
        }
        self.file.write_at(cx, at, from)
    }

    /// Moves the position.
    ///
    /// # Errors
    /// `ESPIPE` for streams, `EINVAL` for a negative result, `ENXIO` for data or
    /// holes behind the end.
    pub fn seek(&self, cx: &Context<'_>, offset: i64, whence: Whence) -> Result<u64, Errno> {
        if self.flags().contains(OpenFlags::PATH) {
            return Err(Errno::EBADF);
        }
        let is_directory = self.flags().contains(OpenFlags::DIRECTORY);
        if !self.file.is_seekable() && !is_directory {
            return Err(Errno::ESPIPE);
        }
        let mut position = self.position.take(cx);
        self.settle(cx, &mut position)?;
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => position.at,
            Whence::End => self.file.stat(cx)?.size,
            Whence::Data | Whence::Hole => {
                let size = self.file.stat(cx)?.size;
                let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                if at >= size {
                    return Err(Errno::ENXIO);
                }
                // Without knowledge of holes the whole file is data (lseek(2)).
                position.at = if whence == Whence::Data { at } else { size };
                return Ok(position.at);
            }
        };
        let at = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
        if i64::try_from(at).is_err() {
            return Err(Errno::EINVAL);
        }
        position.at = at;
        if at == 0 {
            *self.listing.lock() = None;
        }
        Ok(at)
    }

    /// Directory records from the position on: calls `emit` with each record and
    /// the position after it until it returns false.
    ///
    /// # Errors
    /// `ENOTDIR`; the file's errors.
    pub fn read_directory(
        &self,
        cx: &Context<'_>,
        mut emit: impl FnMut(&Record, u64) -> bool,
    ) -> Result<(), Errno> {
        let mut position = self.position.take(cx);
        let known = self.listing.lock().clone();
        let listing = match known {
            Some(listing) => listing,
            None => {
                let listing = Arc::new(self.list(cx)?);
                *self.listing.lock() = Some(Arc::clone(&listing));
                listing
            }
        };
        let start = usize::try_from(position.at).unwrap_or(usize::MAX);
        for record in listing.iter().skip(start) {
            let next = position.at + 1;
            if !emit(record, next) {
                break;
            }
            position.at = next;
        }
        Ok(())
    }

    /// All names of the directory, its own and its parent's first.
    fn list(&self, cx: &Context<'_>) -> Result<Vec<Record>, Errno> {
        let inode = self.file.stat(cx)?.inode;
        let dot = |name: &[u8]| Record {
            name: name.to_vec(),
            inode,
            kind: FileType::Directory,
        };
        let mut all = self.file.list(cx)?;
        all.splice(0..0, [dot(b"."), dot(b"..")]);
        Ok(all)
    }

    /// The file as memory mappings see it.
    ///
    /// # Errors
    /// `EACCES` if not open for reading, `ENODEV` if it cannot be mapped.
    pub fn map_source(&self, cx: &Context<'_>) -> Result<MapSource, Errno> {
        if self.flags().contains(OpenFlags::PATH) {
            return Err(Errno::EBADF);
        }
        if !self.flags().can_read() {
            return Err(Errno::EACCES);
        }
        self.file.map_source(cx)
    }

    fn settle(&self, cx: &Context<'_>, position: &mut Position) -> Result<(), Errno> {
        if position.is_end {
            position.at = self.file.stat(cx)?.size;
            position.is_end = false;
        }
        Ok(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        super::record_lock::release_description(self.machine, self.id);
    }
}
