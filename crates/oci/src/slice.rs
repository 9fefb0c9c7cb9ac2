// SPDX-License-Identifier: Apache-2.0
//! A window of an open file, readable at random and from many threads.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// `len` bytes of a file from `start`; cloning shares the file.
///
/// Decompressed layers live in unlinked temporary files that only this
/// process can reach, so what was hashed once is what is read later.
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl FileSlice {
    /// The whole of a file as long as it is now.
    ///
    /// # Errors
    /// Those of `fstat`.
    pub fn whole(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            start: 0,
            len,
        })
    }

    /// Spools bytes into a private unlinked file below `dir`.
    ///
    /// # Errors
    /// Those of creating and writing the file.
    pub fn spool(dir: &Path, mut bytes: impl Read) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(dir)?;
        io::copy(&mut bytes, &mut file)?;
        file.flush()?;
        Self::whole(file)
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of this window; `None` if it reaches beyond the end.
    #[must_use]
    pub fn slice(&self, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        Some(Self {
            file: Arc::clone(&self.file),
            start: self.start.checked_add(offset)?,
            len,
        })
    }

    /// Reads at most `buf.len()` bytes at `offset`; 0 at or after the end.
    ///
    /// # Errors
    /// Those of `pread`.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..wanted) else {
            return Ok(0);
        };
        self.file.read_at(buf, self.start + offset)
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the window is too short, else those of `pread`.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let wanted = buf.len() as u64;
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buf, self.start + offset)
    }

    /// Reads the whole window into memory if it is at most `limit` bytes.
    ///
    /// # Errors
    /// `InvalidData` beyond the limit, else those of `pread`.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.len).ok().filter(|_| self.len <= limit);
        let Some(size) = size else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} bytes where at most {limit} are expected", self.len),
            ));
        };
        let mut bytes = vec![0; size];
        self.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// A sequential reader from the window's start.
    #[must_use]
    pub fn reader(&self) -> SliceReader {
        SliceReader {
            slice: self.clone(),
            position: 0,
        }
    }

    /// The file if the window is all of it.
    pub(crate) fn as_whole(&self) -> Option<&File> {
        let length = self.file.metadata().ok()?.len();
        (self.start == 0 && self.len == length).then_some(&self.file)
    }

    /// The file and where the window starts in it, for copies in the kernel.
    pub(crate) fn parts(&self) -> (&File, u64) {
        (&self.file, self.start)
    }
}

/// Reads a [`FileSlice`] with a position of its own.
#[derive(Debug, Clone)]
pub struct SliceReader {
    slice: FileSlice,
    position: u64,
}

impl Read for SliceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.slice.read_at(self.position, buf)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SliceReader {
    fn seek(&mut self, from: SeekFrom) -> io::Result<u64> {
        let position = match from {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.slice.len.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(bytes: &[u8]) -> FileSlice {
        FileSlice::spool(&std::env::temp_dir(), bytes).expect("spool")
    }

    #[test]
    fn windows_never_reach_beyond_their_parent() {
        let whole = slice(b"0123456789");
        let part = whole.slice(2, 5).expect("inside");
        assert_eq!(part.read_all(100).expect("read"), b"23456");
        assert!(part.slice(3, 3).is_none());
        assert!(part.slice(u64::MAX, 1).is_none());
        assert!(part.slice(1, u64::MAX).is_none());
        let mut buf = [0; 8];
        assert_eq!(part.read_at(4, &mut buf).expect("read"), 1);
        assert_eq!(part.read_at(99, &mut buf).expect("read"), 0);
        assert!(part.read_exact_at(1, &mut buf).is_err());
        assert!(part.read_all(4).is_err());
    }

    #[test]
    fn readers_seek_and_stop_at_the_end() {
        let mut reader = slice(b"0123456789").slice(1, 8).expect("inside").reader();
        reader.seek(SeekFrom::End(-2)).expect("seek");
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("read");
        assert_eq!(rest, b"78");
        assert!(reader.seek(SeekFrom::Current(-100)).is_err());
    }
}
