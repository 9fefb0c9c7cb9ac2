// SPDX-License-Identifier: Apache-2.0
//! An open startup file: chunks are fetched from the host and verified when
//! they are needed.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use enclave_abi::call::Op;
use enclave_abi::start::LogLevel;

use super::Described;
use crate::context::Context;
use crate::errno::Errno;
use crate::host::{Machine, Word};
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::File;
use crate::vfs::flags::OpenFlags;
use crate::vfs::hostfs::handle::HostHandle;
use crate::vfs::map::{MapSource, ReadAt};
use crate::vfs::readiness::{Events, Readiness};
use crate::vfs::scratch::Scratch;
use crate::vfs::stat::Stat;

/// An open startup file.
#[derive(Debug)]
pub struct StartupFile {
    verified: Arc<Verified>,
}

/// Bytes of a startup file, verified against the measured list.
#[derive(Debug)]
struct Verified {
    described: Arc<Described>,
    /// Opened when the first chunk is needed.
    handle: Lock<Option<Arc<HostHandle>>>,
}

impl StartupFile {
    pub(super) fn new(described: &Arc<Described>) -> Self {
        Self {
            verified: Arc::new(Verified {
                described: Arc::clone(described),
                handle: Lock::new(None),
            }),
        }
    }
}

impl Verified {
    /// The measured bytes cannot be had.
    fn lost(&self, machine: &dyn Machine) -> Errno {
        let path = alloc::string::String::from_utf8_lossy(&self.described.path);
        crate::log::line(
            machine,
            LogLevel::Error,
            format_args!("refused: startup file {path} is not the measured one"),
        );
        crate::vfs::protected::lost(machine)
    }

    fn handle(&self, machine: &'static dyn Machine) -> Result<Arc<HostHandle>, Errno> {
        if let Some(handle) = &*self.handle.lock() {
            return Ok(Arc::clone(handle));
        }
        let flags = OpenFlags::CLOEXEC | OpenFlags::NO_CTTY;
        let words = &mut [
            Word::In(&self.described.path),
            Word::Value(flags.bits().into()),
            Word::Value(0),
        ];
        let opened = match machine.host_call(Op::Open, words) {
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => return Err(errno),
            other => other.map_err(|_| self.lost(machine))?,
        };
        let handle = Arc::new(HostHandle::from_result(machine, opened)?);
        let mut slot = self.handle.lock();
        Ok(Arc::clone(slot.get_or_insert(handle)))
    }

    /// Reads whole chunks from `first` on and verifies each.
    fn fetch(&self, machine: &dyn Machine, first: u64, to: &mut [u8]) -> Result<(), Errno> {
        let chunks = &self.described.chunks;
        let start = chunks.geometry().chunk_start(first).ok_or(Errno::EIO)?;
        let handle = self.handle.lock().clone().ok_or(Errno::EIO)?;
        let len = to.len();
        if handle.read_at(machine, start, &mut Sink::Kernel(to)) != Ok(len) {
            return Err(self.lost(machine));
        }
        let size = chunks.chunk_size() as usize;
        for (index, chunk) in (first..).zip(to.chunks(size)) {
            let verified = chunks.verify(index, chunk);
            verified.map_err(|_| self.lost(machine))?;
        }
        Ok(())
    }

    /// Bytes of `count` chunks from `first` on.
    fn len_of(&self, first: u64, count: u64) -> Result<usize, Errno> {
        let geometry = self.described.chunks.geometry();
        (first..first + count).try_fold(0, |len, index| {
            let more = geometry.chunk_len(index).ok_or(Errno::EIO)?;
            Ok(len + more as usize)
        })
    }

    fn chunk(&self, machine: &dyn Machine, index: u64) -> Result<Arc<Vec<u8>>, Errno> {
        let cache = &self.described.cache;
        if let Some(chunk) = cache.get(self.described.inode, index) {
            return Ok(chunk);
        }
        let mut bytes = vec![0; self.len_of(index, 1)?];
        self.fetch(machine, index, &mut bytes)?;
        Ok(cache.put(self.described.inode, index, bytes))
    }

    fn read(&self, machine: &dyn Machine, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        let size = self.described.chunks.size();
        let Some(rest) = size.checked_sub(at) else {
            return Ok(0);
        };
        let total = to.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let chunk_size = u64::from(self.described.chunks.chunk_size());
        let mut done = 0;
        while done < total {
            let position = at + done as u64;
            let index = position / chunk_size;
            let within = (position % chunk_size) as usize;
            // Whole chunks that nobody holds are read several at a time, uncached.
            let whole = ((total - done) as u64 / chunk_size)
                .min((crate::vfs::hostfs::handle::STEP as u64) / chunk_size);
            if within == 0 && whole > 1 {
                let mut bytes = Scratch::new(self.len_of(index, whole)?);
                self.fetch(machine, index, bytes.bytes())?;
                to.put(done, bytes.bytes())?;
                done += bytes.bytes().len();
                continue;
            }
            let chunk = self.chunk(machine, index)?;
            let piece = chunk.get(within..).unwrap_or_default();
            let piece = piece
                .get(..piece.len().min(total - done))
                .unwrap_or_default();
            if piece.is_empty() {
                return Err(Errno::EIO);
            }
            to.put(done, piece)?;
            done += piece.len();
        }
        Ok(done)
    }
}

impl ReadAt for Verified {
    fn read_at(&self, machine: &dyn Machine, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        self.read(machine, offset, &mut Sink::Kernel(out))
    }
}

impl File for StartupFile {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.verified.described.stat())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.verified.handle(cx.machine)?;
        self.verified.read(cx.machine, at, to)
    }

    fn write_at(&self, _cx: &Context<'_>, _at: u64, _from: Source<'_>) -> Result<usize, Errno> {
        Err(Errno::EROFS)
    }

    fn sync(&self, _cx: &Context<'_>, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn readiness(&self, _cx: &Context<'_>) -> Readiness<'_> {
        Readiness::Always(Events::READ)
    }

    fn map_source(&self, cx: &Context<'_>) -> Result<MapSource, Errno> {
        self.verified.handle(cx.machine)?;
        let described = &self.verified.described;
        Ok(MapSource {
            bytes: Arc::clone(&self.verified) as Arc<dyn ReadAt>,
            size: described.chunks.size(),
            path: described.path.as_slice().into(),
            protected: true,
            startup: true,
            sites: Arc::clone(&described.sites),
            chunk: described.chunks.chunk_size(),
        })
    }
}
