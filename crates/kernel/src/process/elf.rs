// SPDX-License-Identifier: Apache-2.0
//! ELF executables (System V ABI, AMD64 supplement).

#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use thiserror::Error;

use crate::context::Context;
use crate::errno::Errno;
use crate::memory::pages::{PAGE, Prot};
use crate::memory::{Memory, Request};
use crate::vfs::MapSource;

/// Most program headers that are read.
const HEADERS_MAX: u16 = 64;
/// Longest interpreter path.
const INTERPRETER_MAX: u64 = 4096;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Why a file is no program that can run here.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElfError {
    /// Bytes could not be read.
    #[error("reading failed: {0:?}")]
    Read(Errno),
    /// It is no ELF file of the right kind.
    #[error("not an x86-64 ELF executable")]
    Format,
    /// A number in it is out of bounds.
    #[error("a header field is out of bounds")]
    Bounds,
    /// Its addresses are taken or outside of the programs' range.
    #[error("its addresses are not free: {0:?}")]
    Addresses(Errno),
}

/// A segment to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    addr: u64,
    file_len: u64,
    len: u64,
    prot: Prot,
}

/// What the headers of an executable say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    movable: bool,
    entry: u64,
    headers_offset: u64,
    headers: u16,
    segments: Vec<Segment>,
    /// Path of the interpreter.
    pub interpreter: Option<Vec<u8>>,
}

/// A program in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Added to all of its addresses.
    pub bias: u64,
    /// Entry point.
    pub entry: u64,
    /// Address of the program headers.
    pub headers: u64,
    /// Number of program headers.
    pub header_count: u16,
    /// End of its last segment.
    pub end: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..at + 8)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)
}

fn read(cx: &Context<'_>, file: &MapSource, offset: u64, out: &mut [u8]) -> Result<(), ElfError> {
    let mut done = 0;
    while done < out.len() {
        let rest = out.get_mut(done..).unwrap_or_default();
        match file.bytes.read_at(cx.machine, offset + done as u64, rest) {
            Ok(0) => return Err(ElfError::Bounds),
            Ok(count) => done += count,
            Err(errno) => return Err(ElfError::Read(errno)),
        }
    }
    Ok(())
}

impl Image {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`ElfError`].
    pub fn read(cx: &Context<'_>, file: &MapSource) -> Result<Self, ElfError> {
        let mut header = [0; HEADER];
        read(cx, file, 0, &mut header)?;
        let (offset, count) = Self::table(&header).ok_or(ElfError::Format)?;
        if count == 0 || count > HEADERS_MAX {
            return Err(ElfError::Bounds);
        }
        let mut table = vec![0; usize::from(count) * PROGRAM_HEADER];
        read(cx, file, offset, &mut table)?;
        let mut image = Self::parse(&header, &table, file.size)?;
        for entry in table.chunks_exact(PROGRAM_HEADER) {
            if u32_at(entry, 0) == Some(3) {
                let at = u64_at(entry, 8).ok_or(ElfError::Format)?;
                let len = u64_at(entry, 32).ok_or(ElfError::Format)?;
                if len == 0 || len > INTERPRETER_MAX {
                    return Err(ElfError::Bounds);
                }
                let mut path = vec![0; len as usize];
                read(cx, file, at, &mut path)?;
                let end = path.iter().position(|&b| b == 0).ok_or(ElfError::Bounds)?;
                path.truncate(end);
                image.interpreter = Some(path);
            }
        }
        Ok(image)
    }

    /// Place and number of the program headers.
    fn table(header: &[u8; HEADER]) -> Option<(u64, u16)> {
        let magic = header.get(..7)? == b"\x7fELF\x02\x01\x01";
        let machine = u16_at(header, 18)? == 62;
        let entry_size = usize::from(u16_at(header, 54)?) == PROGRAM_HEADER;
        let kind = matches!(u16_at(header, 16)?, 2 | 3);
        (magic && machine && entry_size && kind).then_some(())?;
        Some((u64_at(header, 32)?, u16_at(header, 56)?))
    }

    /// Checks headers against the file's size. Never panics.
    ///
    /// # Errors
    /// [`ElfError::Format`], [`ElfError::Bounds`].
    pub fn parse(header: &[u8; HEADER], table: &[u8], size: u64) -> Result<Self, ElfError> {
        let (headers_offset, headers) = Self::table(header).ok_or(ElfError::Format)?;
        let movable = u16_at(header, 16) == Some(3);
        let entry = u64_at(header, 24).ok_or(ElfError::Format)?;
        let mut segments: Vec<Segment> = Vec::new();
        for entry in table.chunks_exact(PROGRAM_HEADER) {
            if u32_at(entry, 0) != Some(1) {
                continue;
            }
            let word = |at| u64_at(entry, at).ok_or(ElfError::Format);
            let flags = u32_at(entry, 4).ok_or(ElfError::Format)?;
            let mut prot = Prot::empty();
            prot.set(Prot::X, flags & 1 != 0);
            prot.set(Prot::W, flags & 2 != 0);
            prot.set(Prot::R, flags != 0);
            let segment = Segment {
                offset: word(8)?,
                addr: word(16)?,
                file_len: word(32)?,
                len: word(40)?,
                prot,
            };
            let in_file = segment
                .offset
                .checked_add(segment.file_len)
                .is_some_and(|end| end <= size);
            let end = segment
                .addr
                .checked_add(segment.len)
                .filter(|&end| end < 1 << 46);
            let congruent = segment.addr % PAGE == segment.offset % PAGE;
            let ascending = segments
                .last()
                .is_none_or(|last| last.addr + last.len <= segment.addr);
            if !in_file
                || end.is_none()
                || !congruent
                || !ascending
                || segment.file_len > segment.len
            {
                return Err(ElfError::Bounds);
            }
            if segment.len > 0 {
                segments.push(segment);
            }
        }
        if segments.is_empty() {
            return Err(ElfError::Format);
        }
        Ok(Self {
            movable,
            entry,
            headers_offset,
            headers,
            segments,
            interpreter: None,
        })
    }

    /// The page-aligned range of all segments.
    fn span(&self) -> (u64, u64) {
        let start = self
            .segments
            .first()
            .map_or(0, |first| first.addr & !(PAGE - 1));
        let end = self.segments.last().map_or(0, |last| last.addr + last.len);
        (start, end.next_multiple_of(PAGE))
    }

    /// Maps the segments for process `owner`. A movable image goes to `hint` or,
    /// if that is taken, anywhere.
    ///
    /// # Errors
    /// [`ElfError`].
    pub fn load(
        &self,
        cx: &Context<'_>,
        memory: &Memory,
        owner: u32,
        file: &MapSource,
        hint: u64,
    ) -> Result<Loaded, ElfError> {
        let (start, end) = self.span();
        let reserve = Request {
            addr: if self.movable { hint } else { start },
            keep: !self.movable,
            ..Request::anonymous(end - start, Prot::empty())
        };
        let at = memory.map(owner, &reserve).map_err(ElfError::Addresses)?;
        let bias = at.wrapping_sub(start);
        for segment in &self.segments {
            self.map(cx, memory, owner, file, segment, bias)?;
        }
        let headers = self
            .segments
            .iter()
            .find(|segment| {
                segment.offset <= self.headers_offset
                    && self.headers_offset < segment.offset + segment.file_len
            })
            .map_or(0, |segment| {
                bias.wrapping_add(segment.addr + (self.headers_offset - segment.offset))
            });
        Ok(Loaded {
            bias,
            entry: bias.wrapping_add(self.entry),
            headers,
            header_count: self.headers,
            end: bias.wrapping_add(end),
        })
    }

    fn map(
        &self,
        cx: &Context<'_>,
        memory: &Memory,
        owner: u32,
        file: &MapSource,
        segment: &Segment,
        bias: u64,
    ) -> Result<(), ElfError> {
        let skew = segment.addr % PAGE;
        let start = bias.wrapping_add(segment.addr - skew);
        let file_end = start + skew + segment.file_len;
        let end = (start + skew + segment.len).next_multiple_of(PAGE);
        let zero_from = if segment.file_len == 0 {
            start
        } else {
            file_end.next_multiple_of(PAGE)
        };
        if segment.file_len > 0 {
            let request = Request {
                addr: start,
                fixed: true,
                file: Some((file.clone(), segment.offset - skew)),
                ..Request::anonymous(zero_from - start, segment.prot)
            };
            memory.map(owner, &request).map_err(ElfError::Addresses)?;
        }
        if zero_from < end {
            let request = Request {
                addr: zero_from,
                fixed: true,
                ..Request::anonymous(end - zero_from, segment.prot)
            };
            memory.map(owner, &request).map_err(ElfError::Addresses)?;
        }
        // The file's bytes behind the segment's end are not the program's.
        let tail = zero_from.min(end).saturating_sub(file_end);
        if segment.file_len > 0
            && segment.len > segment.file_len
            && tail > 0
            && segment.prot.contains(Prot::W)
        {
            cx.write(file_end, &vec![0; tail as usize])
                .map_err(ElfError::Read)?;
        }
        Ok(())
    }
}
