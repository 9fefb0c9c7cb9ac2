// SPDX-License-Identifier: Apache-2.0
//! An open protected file: chunks are fetched, verified and decrypted when they
//! are needed.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use enclave_abi::startup::Site;
use shieldfs::entry::Entry;
use shieldfs::read::{ChunkSlot, FileReader};

use super::{CACHED, Tree, metadata, open_stored};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::File;
use crate::vfs::hostfs::handle::{HostHandle, STEP};
use crate::vfs::map::{MapSource, ReadAt};
use crate::vfs::readiness::{Events, Readiness};
use crate::vfs::scratch::Scratch;
use crate::vfs::stat::Stat;

/// An open protected file.
#[derive(Debug)]
pub(super) struct ProtectedFile {
    content: Arc<Content>,
    stat: Stat,
    path: Vec<u8>,
    sites: Arc<Vec<Site>>,
}

/// The file's bytes, verified.
#[derive(Debug)]
struct Content {
    tree: Arc<Tree>,
    reader: FileReader,
    handle: HostHandle,
    /// Its number among cached chunks.
    number: u64,
}

impl ProtectedFile {
    pub(super) fn open(tree: &Arc<Tree>, entry: &Entry) -> Result<Self, Errno> {
        let (reader, words) = {
            let mut fspf = tree.fspf.lock();
            let reader = fspf.open_file(entry).map_err(|error| tree.refuse(&error))?;
            let words = fspf.sites(entry).map_err(|error| tree.refuse(&error))?;
            (reader, words)
        };
        let pairs = words.as_chunks::<2>().0;
        let handle = match open_stored(tree.machine, entry.stored_path()) {
            // What the host is short of, a program may hear of.
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => return Err(errno),
            other => other.map_err(|errno| tree.withheld(entry.stored_path(), errno))?,
        };
        Ok(Self {
            content: Arc::new(Content {
                tree: Arc::clone(tree),
                reader,
                handle,
                number: CACHED | entry.ino(),
            }),
            stat: metadata(entry),
            path: entry.path().to_vec(),
            sites: Arc::new(
                pairs
                    .iter()
                    .filter_map(|pair| Site::from_words(*pair))
                    .collect(),
            ),
        })
    }
}

impl Content {
    fn slot(&self, index: u64) -> Result<ChunkSlot, Errno> {
        let slot = self.tree.fspf.lock().slot(&self.reader, index);
        slot.map_err(|error| self.tree.refuse(&error))
    }

    /// Reads the stored bytes of consecutive chunks; how many there are.
    fn stored(
        &self,
        machine: &dyn Machine,
        slots: &[ChunkSlot],
        to: &mut [u8],
    ) -> Result<usize, Errno> {
        let start = slots.first().map_or(0, ChunkSlot::offset);
        self.handle
            .read_at(machine, start, &mut Sink::Kernel(to))
            .map_err(|errno| self.tree.withheld(self.reader.path(), errno))
    }

    /// Verifies and decrypts one chunk in place; gives the plaintext's length.
    fn open(&self, slot: &ChunkSlot, stored: &mut [u8]) -> Result<usize, Errno> {
        self.reader
            .open_chunk(slot, stored)
            .map_err(|error| self.tree.refuse(&error))
    }

    fn chunk(&self, machine: &dyn Machine, index: u64) -> Result<Arc<Vec<u8>>, Errno> {
        if let Some(chunk) = self.tree.cache.get(self.number, index) {
            return Ok(chunk);
        }
        let slot = self.slot(index)?;
        let mut bytes = vec![0; slot.stored_len()];
        let got = self.stored(machine, &[slot], &mut bytes)?;
        bytes.truncate(got);
        let len = self.open(&slot, &mut bytes)?;
        bytes.truncate(len);
        Ok(self.tree.cache.put(self.number, index, bytes))
    }

    fn read(&self, machine: &dyn Machine, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        let geometry = self.reader.geometry();
        let Some(rest) = geometry.size().checked_sub(at) else {
            return Ok(0);
        };
        let total = to.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let chunk_size = u64::from(geometry.chunk_size());
        let step = (STEP / self.reader.buffer_len()).max(1) as u64;
        let mut done = 0;
        while done < total {
            let position = at + done as u64;
            let (index, within) = (position / chunk_size, (position % chunk_size) as usize);
            let whole = ((total - done) as u64 / chunk_size).min(step);
            if within == 0 && whole > 1 {
                done += self.read_whole(machine, index, whole, done, to)?;
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

    /// Several whole chunks with one host call, uncached: large reads are rarely
    /// repeated, and would only push other chunks out.
    fn read_whole(
        &self,
        machine: &dyn Machine,
        first: u64,
        count: u64,
        at: usize,
        to: &mut Sink<'_>,
    ) -> Result<usize, Errno> {
        let slots = (first..first + count)
            .map(|index| self.slot(index))
            .collect::<Result<Vec<_>, _>>()?;
        let mut bytes = Scratch::new(slots.iter().map(ChunkSlot::stored_len).sum());
        let got = self.stored(machine, &slots, bytes.bytes())?;
        bytes.truncate(got);
        let mut rest = bytes.bytes();
        let mut done = 0;
        for slot in &slots {
            // A short answer leaves a short chunk, which is refused by name.
            let (stored, next) = rest.split_at_mut(slot.stored_len().min(rest.len()));
            let len = self.open(slot, stored)?;
            to.put(at + done, stored.get(..len).unwrap_or_default())?;
            done += len;
            rest = next;
        }
        Ok(done)
    }
}

impl ReadAt for Content {
    fn read_at(&self, machine: &dyn Machine, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        self.read(machine, offset, &mut Sink::Kernel(out))
    }
}

impl File for ProtectedFile {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, cx: &Context<'_>, at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.content.read(cx.machine, at, to)
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

    fn map_source(&self, _cx: &Context<'_>) -> Result<MapSource, Errno> {
        Ok(MapSource {
            bytes: Arc::clone(&self.content) as Arc<dyn ReadAt>,
            size: self.stat.size,
            path: self.path.as_slice().into(),
            protected: true,
            startup: false,
            sites: Arc::clone(&self.sites),
            chunk: self.content.reader.geometry().chunk_size(),
        })
    }
}
