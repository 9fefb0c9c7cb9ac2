// SPDX-License-Identifier: Apache-2.0
//! Reading and writing.

use alloc::sync::Arc;
use alloc::vec;

use super::{only, usable};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::UserSlice;
use crate::vfs::OpenFile;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::opened::Whence;

/// Most bytes of one transfer (Linux: MAX_RW_COUNT).
pub(super) const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Bytes copied at a time between two files.
const PIECE: usize = 64 << 10;

fn slice(addr: u64, len: u64) -> UserSlice {
    UserSlice {
        addr,
        len: len.min(MAX_TRANSFER) as usize,
    }
}

fn offset(at: u64) -> Result<u64, Errno> {
    i64::try_from(at).map_or(Err(Errno::EINVAL), |_| Ok(at))
}

pub(super) fn read(cx: &Context<'_>, fd: u64, buf: u64, len: u64) -> Result<u64, Errno> {
    let mut sink = Sink::User(cx.machine, slice(buf, len));
    Ok(usable(cx, fd)?.read(cx, &mut sink)? as u64)
}

pub(super) fn write(cx: &Context<'_>, fd: u64, buf: u64, len: u64) -> Result<u64, Errno> {
    let source = Source::User(cx.machine, slice(buf, len));
    Ok(usable(cx, fd)?.write(cx, source)? as u64)
}

pub(super) fn pread(cx: &Context<'_>, fd: u64, buf: u64, len: u64, at: u64) -> Result<u64, Errno> {
    let at = offset(at)?;
    let mut sink = Sink::User(cx.machine, slice(buf, len));
    Ok(usable(cx, fd)?.read_at(cx, at, &mut sink)? as u64)
}

pub(super) fn pwrite(cx: &Context<'_>, fd: u64, buf: u64, len: u64, at: u64) -> Result<u64, Errno> {
    let at = offset(at)?;
    let source = Source::User(cx.machine, slice(buf, len));
    Ok(usable(cx, fd)?.write_at(cx, at, source)? as u64)
}

pub(super) fn lseek(cx: &Context<'_>, fd: u64, to: u64, whence: u64) -> Result<u64, Errno> {
    let whence = Whence::from_number(whence).ok_or(Errno::EINVAL)?;
    usable(cx, fd)?.seek(cx, to as i64, whence)
}

/// Where one side of a copy stands: at its own position, or at one the caller keeps.
struct Side {
    file: Arc<OpenFile>,
    at: Option<u64>,
}

impl Side {
    fn new(cx: &Context<'_>, fd: u64, position: u64) -> Result<Self, Errno> {
        let at = if position == 0 {
            None
        } else {
            Some(offset(cx.read_u64(position)?)?)
        };
        Ok(Self {
            file: usable(cx, fd)?,
            at,
        })
    }

    fn read(&self, cx: &Context<'_>, sink: &mut Sink<'_>) -> Result<usize, Errno> {
        match self.at {
            Some(at) => self.file.read_at(cx, at, sink),
            None => self.file.read(cx, sink),
        }
    }

    fn write(&self, cx: &Context<'_>, source: Source<'_>) -> Result<usize, Errno> {
        match self.at {
            Some(at) => self.file.write_at(cx, at, source),
            None => self.file.write(cx, source),
        }
    }

    fn advance(&mut self, count: usize) {
        self.at = self.at.map(|at| at.saturating_add(count as u64));
    }

    /// Gives back what was read but not written.
    fn unread(&mut self, cx: &Context<'_>, count: usize) {
        if self.at.is_none() && self.file.file.is_seekable() {
            let _ = self.file.seek(cx, -(count as i64), Whence::Current);
        }
    }

    fn tell(&self, cx: &Context<'_>, position: u64) -> Result<(), Errno> {
        match self.at {
            Some(at) => cx.write_u64(position, at),
            None => Ok(()),
        }
    }
}

fn copy(cx: &Context<'_>, from: &mut Side, to: &mut Side, len: u64) -> Result<u64, Errno> {
    let len = len.min(MAX_TRANSFER) as usize;
    let mut buffer = vec![0; PIECE.min(len)];
    let mut done = 0;
    while done < len {
        let now = (len - done).min(buffer.len());
        let room = buffer.get_mut(..now).unwrap_or_default();
        let count = match from.read(cx, &mut Sink::Kernel(room)) {
            Ok(0) => break,
            Err(_) if done > 0 => break,
            other => other?,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        let mut written = 0;
        let mut failed = None;
        while written < count {
            match to.write(cx, Source::Kernel(bytes).part(written, usize::MAX)) {
                Ok(0) => break,
                Ok(more) => {
                    written += more;
                    to.advance(more);
                }
                Err(errno) => {
                    failed = Some(errno);
                    break;
                }
            }
        }
        from.advance(written);
        done += written;
        if written < count {
            from.unread(cx, count - written);
            match failed {
                Some(errno) if done == 0 => return Err(errno),
                _ => break,
            }
        }
    }
    Ok(done as u64)
}

pub(super) fn sendfile(
    cx: &Context<'_>,
    out: u64,
    input: u64,
    position: u64,
    len: u64,
) -> Result<u64, Errno> {
    let mut from = Side::new(cx, input, position)?;
    let mut to = Side::new(cx, out, 0)?;
    if !from.file.file.is_seekable() {
        return Err(Errno::EINVAL);
    }
    let count = copy(cx, &mut from, &mut to, len)?;
    from.tell(cx, position)?;
    Ok(count)
}

pub(super) fn copy_file_range(cx: &Context<'_>, args: [u64; 6]) -> Result<u64, Errno> {
    let [input, from_at, out, to_at, len, flags] = args;
    only(flags, 0)?;
    let mut from = Side::new(cx, input, from_at)?;
    let mut to = Side::new(cx, out, to_at)?;
    if !from.file.file.is_seekable() || !to.file.file.is_seekable() {
        return Err(Errno::EINVAL);
    }
    let count = copy(cx, &mut from, &mut to, len)?;
    from.tell(cx, from_at)?;
    to.tell(cx, to_at)?;
    Ok(count)
}
