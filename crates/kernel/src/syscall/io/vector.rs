// SPDX-License-Identifier: Apache-2.0
//! Reading and writing through lists of buffers.

use alloc::vec;
use alloc::vec::Vec;

use super::transfer::MAX_TRANSFER;
use super::usable;
use crate::context::Context;
use crate::errno::Errno;
use crate::host::UserSlice;
use crate::vfs::OpenFile;
use crate::vfs::buffer::{Sink, Source};

/// Most buffers of one call (UIO_MAXIOV).
const MAX_PARTS: u64 = 1024;
/// Streams move up to this many bytes at once, so that a list is not torn.
const GATHERED: usize = 64 << 10;

/// A list of a program's buffers.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) slices: Vec<UserSlice>,
    pub(crate) len: usize,
}

impl Parts {
    pub(crate) fn read(cx: &Context<'_>, addr: u64, count: u64) -> Result<Self, Errno> {
        if count > MAX_PARTS {
            return Err(Errno::EINVAL);
        }
        let bytes = cx.read_vec(addr, count as usize * 16)?;
        let mut slices = Vec::with_capacity(count as usize);
        let mut left = MAX_TRANSFER;
        for part in bytes.chunks_exact(16) {
            let word = |at: usize| {
                part.get(at..)
                    .and_then(|rest| rest.first_chunk::<8>())
                    .map_or(0, |word| u64::from_le_bytes(*word))
            };
            if i64::try_from(word(8)).is_err() {
                return Err(Errno::EINVAL);
            }
            let len = word(8).min(left);
            left -= len;
            if len > 0 {
                slices.push(UserSlice {
                    addr: word(0),
                    len: len as usize,
                });
            }
        }
        Ok(Self {
            slices,
            len: (MAX_TRANSFER - left) as usize,
        })
    }

    /// Copies everything together.
    pub(crate) fn gather(&self, cx: &Context<'_>) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; self.len];
        let mut at = 0;
        for slice in &self.slices {
            let room = bytes.get_mut(at..at + slice.len).ok_or(Errno::EFAULT)?;
            cx.machine.read_user(slice.addr, room)?;
            at += slice.len;
        }
        Ok(bytes)
    }

    /// Copies bytes into the buffers, first things first.
    pub(crate) fn scatter(&self, cx: &Context<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
        for slice in &self.slices {
            let (now, later) = bytes.split_at(slice.len.min(bytes.len()));
            cx.write(slice.addr, now)?;
            bytes = later;
            if bytes.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

fn read_parts(
    cx: &Context<'_>,
    parts: &Parts,
    mut read: impl FnMut(usize, &mut Sink<'_>) -> Result<usize, Errno>,
) -> Result<u64, Errno> {
    let mut done = 0;
    for slice in &parts.slices {
        match read(done, &mut Sink::User(cx.machine, *slice)) {
            Ok(count) => {
                done += count;
                if count < slice.len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done as u64)
}

fn write_parts(
    cx: &Context<'_>,
    parts: &Parts,
    mut write: impl FnMut(usize, Source<'_>) -> Result<usize, Errno>,
) -> Result<u64, Errno> {
    let mut done = 0;
    for slice in &parts.slices {
        match write(done, Source::User(cx.machine, *slice)) {
            Ok(count) => {
                done += count;
                if count < slice.len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done as u64)
}

fn is_gathered(file: &OpenFile, parts: &Parts) -> bool {
    parts.slices.len() > 1 && parts.len <= GATHERED && !file.file.is_seekable()
}

pub(super) fn readv(cx: &Context<'_>, fd: u64, addr: u64, count: u64) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    file.readable()?;
    let parts = Parts::read(cx, addr, count)?;
    if is_gathered(&file, &parts) {
        let mut bytes = vec![0; parts.len];
        let count = file.read(cx, &mut Sink::Kernel(&mut bytes))?;
        parts.scatter(cx, bytes.get(..count).unwrap_or_default())?;
        return Ok(count as u64);
    }
    read_parts(cx, &parts, |_, sink| file.read(cx, sink))
}

pub(super) fn writev(cx: &Context<'_>, fd: u64, addr: u64, count: u64) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    file.writable()?;
    let parts = Parts::read(cx, addr, count)?;
    if is_gathered(&file, &parts) {
        let bytes = parts.gather(cx)?;
        return Ok(file.write(cx, Source::Kernel(&bytes))? as u64);
    }
    write_parts(cx, &parts, |_, source| file.write(cx, source))
}

/// The offset of the `v` calls comes in two halves; on x86-64 the first holds all.
fn position(low: u64, flags: u64) -> Result<Option<u64>, Errno> {
    /// Hints and guarantees that hold anyway: HIPRI, DSYNC, SYNC, NOWAIT, APPEND.
    const KNOWN: u64 = 0x1f;
    const CURRENT: u64 = u64::MAX;
    if flags & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match low {
        CURRENT => Ok(None),
        at if i64::try_from(at).is_ok() => Ok(Some(at)),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn preadv(
    cx: &Context<'_>,
    fd: u64,
    addr: u64,
    count: u64,
    low: u64,
    _high: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let Some(at) = position(low, flags)? else {
        return readv(cx, fd, addr, count);
    };
    let file = usable(cx, fd)?;
    let parts = Parts::read(cx, addr, count)?;
    read_parts(cx, &parts, |done, sink| {
        file.read_at(cx, at.saturating_add(done as u64), sink)
    })
}

pub(super) fn pwritev(
    cx: &Context<'_>,
    fd: u64,
    addr: u64,
    count: u64,
    low: u64,
    _high: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let Some(at) = position(low, flags)? else {
        return writev(cx, fd, addr, count);
    };
    let file = usable(cx, fd)?;
    let parts = Parts::read(cx, addr, count)?;
    write_parts(cx, &parts, |done, source| {
        file.write_at(cx, at.saturating_add(done as u64), source)
    })
}
