// SPDX-License-Identifier: Apache-2.0
//! Shared writable mappings of files: private pages that are written back at
//! msync, munmap and the end of the process.
//!
//! One process sees one file through one such mapping only: a second one would
//! have pages of its own, so overlapping ones are refused.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::Memory;
use super::area::{Area, Map};
use super::pages::{PAGE, PRESENT, Prot};
use crate::errno::Errno;
use crate::host::Machine;
use crate::vfs::MapSource;

/// Bytes written back at once.
const STEP: u64 = 256 << 10;

/// Bytes of a mapping that are on their way to its file.
struct Piece {
    file: MapSource,
    offset: u64,
    bytes: Vec<u8>,
}

impl Memory {
    /// Whether a new shared mapping of `file` at `offset` would overlap another one.
    pub(super) fn shares(map: &Map, owner: u32, file: &MapSource, offset: u64, len: u64) -> bool {
        map.iter().any(|area| {
            area.owner == owner
                && area.write_back
                && area.file.as_ref().is_some_and(|(other, at)| {
                    other.path == file.path
                        && *at < offset.saturating_add(len)
                        && offset < at + (area.end - area.start)
                })
        })
    }

    /// Writes the committed pages of shared mappings in a range back.
    ///
    /// # Errors
    /// The first error of a file; the rest is written nevertheless.
    pub fn sync(
        &self,
        machine: &dyn Machine,
        owner: u32,
        addr: u64,
        len: u64,
    ) -> Result<(), Errno> {
        if self.shared.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let end = addr.saturating_add(len).min(self.end);
        let mut at = addr.max(self.start) & !(PAGE - 1);
        let mut result = Ok(());
        while at < end {
            let (piece, next) = self.piece(owner, at, end);
            if let Some(piece) = piece {
                let written = piece
                    .file
                    .bytes
                    .write_at(machine, piece.offset, &piece.bytes);
                result = result.and(written);
            }
            at = next;
        }
        result
    }

    /// The next piece to write at or after `at`, and where to look then.
    fn piece(&self, owner: u32, at: u64, end: u64) -> (Option<Piece>, u64) {
        let map = self.map.lock();
        let next = map
            .within(at, end)
            .find(|area| area.owner == owner && area.write_back);
        let Some(area) = next else {
            return (None, end);
        };
        let from = at.max(area.start);
        let to = end.min(area.end);
        let absent = self.table.run(from, to, |state| state & PRESENT == 0);
        let run = self
            .table
            .run(absent, to.min(absent + STEP), |state| state & PRESENT != 0);
        if run == absent {
            return (None, to);
        }
        (self.read_piece(area, absent, run), run)
    }

    fn read_piece(&self, area: &Area, from: u64, to: u64) -> Option<Piece> {
        let (file, offset) = area.file.as_ref()?;
        let offset = offset + (from - area.start);
        let len = (to - from).min(file.size.checked_sub(offset)?);
        let mut bytes = vec![0; len as usize];
        // A page that the program has made inaccessible keeps what it held.
        let mut done = 0;
        while done < len {
            let step = (PAGE).min(len - done);
            let page = from + done;
            let have = Prot::from_bits_truncate(self.table.get(page));
            if !have.contains(Prot::R) {
                self.settle(page, page + PAGE, have, have | Prot::R);
            }
            if let Some(to) = bytes.get_mut(done as usize..(done + step) as usize) {
                self.pages.read(page, to);
            }
            if !have.contains(Prot::R) {
                self.settle(page, page + PAGE, have | Prot::R, have);
            }
            done += step;
        }
        Some(Piece {
            file: file.clone(),
            offset,
            bytes,
        })
    }
}
