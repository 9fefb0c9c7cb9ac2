// SPDX-License-Identifier: Apache-2.0
//! Page faults: commit what the map allows, refuse the rest.

use alloc::vec;
use alloc::vec::Vec;

use super::Memory;
use super::area::Area;
use super::pages::{PAGE, PRESENT, Prot};
use crate::errno::Errno;
use crate::host::Machine;

/// Pages committed around a fault in anonymous memory.
const AROUND: u64 = 16;
/// The same when the memory before was used already.
const AHEAD: u64 = 64;
/// Bytes of a file read around a fault.
const FILE_AROUND: u64 = 64 << 10;

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The page is there now.
    Resolved,
    /// The page was there already: another thread was faster, or somebody
    /// outside invented the fault.
    Spurious,
    /// Nothing is mapped there (SEGV_MAPERR).
    Unmapped,
    /// The mapping forbids the access (SEGV_ACCERR).
    Forbidden,
    /// Behind the end of a file, or its bytes cannot be had (SIGBUS).
    Bus,
    /// The manifest's heap is used up.
    NoMemory,
}

impl Memory {
    /// Serves an access to `addr`.
    pub fn fault(&self, machine: &dyn Machine, addr: u64, access: Prot) -> Outcome {
        let page = addr & !(PAGE - 1);
        let (start, end, area) = {
            let map = self.map.lock();
            let Some(area) = map.find(addr) else {
                return Outcome::Unmapped;
            };
            if !area.prot.contains(access) {
                return Outcome::Forbidden;
            }
            if self.table.get(page) & PRESENT != 0 {
                return Outcome::Spurious;
            }
            let (start, end) = self.window(area, page);
            if area.file.is_none() {
                return self.commit(start, end, area.prot, None);
            }
            (start, end, area.clone())
        };
        // Reading may leave the enclave and take other locks: not under ours.
        let Ok(Some(mut bytes)) = self.read_window(machine, &area, start, end) else {
            return Outcome::Bus;
        };
        let mut map = self.map.lock();
        let unchanged = map.find(addr).is_some_and(|now| same(now, &area));
        if !unchanged {
            // Mapped anew meanwhile; the program tries again.
            return Outcome::Resolved;
        }
        if area.prot.contains(Prot::X) {
            self.apply_sites(&mut map, &area, start, &mut bytes);
        }
        self.commit(start, end, area.prot, Some(&bytes))
    }

    /// The range to commit for a fault at `page`: absent pages around it.
    fn window(&self, area: &Area, page: u64) -> (u64, u64) {
        let (low, high) = if let Some((_, offset)) = &area.file {
            let at = offset + (page - area.start);
            let first = at & !(FILE_AROUND - 1);
            let low = page.saturating_sub(at - first).max(area.start);
            (low, (page + (first + FILE_AROUND - at)).min(area.end))
        } else {
            let span = AROUND * PAGE;
            let low = (page & !(span - 1)).max(area.start);
            let sequential = low > area.start && self.table.get(low - PAGE) & PRESENT != 0;
            let span = if sequential { AHEAD * PAGE } else { span };
            (low, (low + span).min(area.end))
        };
        let absent = |state: u8| state & PRESENT == 0;
        let end = self.table.run(page, high, absent);
        let mut start = page;
        while start > low && absent(self.table.get(start - PAGE)) {
            start -= PAGE;
        }
        (start, end.max(page + PAGE))
    }

    /// The file's bytes for a window; `None` if its first page lies behind the
    /// end of the file.
    fn read_window(
        &self,
        machine: &dyn Machine,
        area: &Area,
        start: u64,
        end: u64,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let Some((source, offset)) = &area.file else {
            return Ok(None);
        };
        let at = offset + (start - area.start);
        if at >= source.size {
            return Ok(None);
        }
        let len = (end - start).min(source.size - at) as usize;
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match source
                .bytes
                .read_at(machine, at + done as u64, &mut bytes[done..])?
            {
                0 => return Err(Errno::EIO),
                count => done += count,
            }
        }
        Ok(Some(bytes))
    }

    /// Commits the absent pages of `start..end` and gives them content and permissions.
    pub(super) fn commit(&self, start: u64, end: u64, prot: Prot, bytes: Option<&[u8]>) -> Outcome {
        let mut end = end;
        if let Some(bytes) = bytes {
            // Whole pages behind the end of the file stay absent.
            end = end.min(start + (bytes.len() as u64).next_multiple_of(PAGE));
        }
        let pages = (end - start) / PAGE;
        if self.charge(pages).is_err() {
            // Perhaps less will do.
            if pages > 1 {
                let bytes = bytes.map(|bytes| &bytes[..bytes.len().min(PAGE as usize)]);
                return self.commit(start, start + PAGE, prot, bytes);
            }
            return Outcome::NoMemory;
        }
        let mut at = start;
        while at < end {
            let run = self.table.run(at, end, |state| state & PRESENT == 0);
            if run == at {
                // Present already: the charge was too high.
                self.uncharge(1);
                at += PAGE;
                continue;
            }
            self.pages.accept(at, (run - at) / PAGE);
            if let Some(bytes) = bytes {
                let from = (at - start) as usize;
                let to = ((run - start) as usize).min(bytes.len());
                if let Some(piece) = bytes.get(from..to) {
                    self.pages.fill(at, piece);
                }
            }
            self.settle(at, run, Prot::R | Prot::W, prot);
            at = run;
        }
        Outcome::Resolved
    }

    /// Brings pages with permissions `have` to `want`.
    pub(super) fn settle(&self, start: u64, end: u64, have: Prot, want: Prot) {
        let pages = (end - start) / PAGE;
        if !have.contains(want) {
            self.pages.extend(start, pages, have | want);
        }
        if !want.contains(have) {
            self.pages.restrict(start, pages, want);
        }
        self.table.set(start, end, PRESENT | want.bits());
    }

    /// Commits every absent page of the file mappings of a process. Content
    /// arrives page by page, so it must be complete before a second thread looks.
    pub fn populate_files(&self, machine: &dyn Machine, owner: u32) {
        for area in self.areas(owner) {
            let Some((source, offset)) = &area.file else {
                continue;
            };
            let end = area
                .end
                .min(area.start + source.size.saturating_sub(*offset).next_multiple_of(PAGE));
            self.populate(machine, area.start, end, area.prot);
        }
    }

    /// Commits every absent page of a range, as far as it goes.
    pub fn populate(&self, machine: &dyn Machine, start: u64, end: u64, prot: Prot) {
        if prot.is_empty() {
            return;
        }
        let access = if prot.contains(Prot::R) {
            Prot::R
        } else {
            prot
        };
        let mut at = start;
        while at < end {
            if self.table.get(at) & PRESENT == 0
                && !matches!(
                    self.fault(machine, at, access),
                    Outcome::Resolved | Outcome::Spurious
                )
            {
                return;
            }
            at += PAGE;
        }
    }
}

/// Whether two views of a mapping would read the same bytes at the same place.
fn same(a: &Area, b: &Area) -> bool {
    let offset = |area: &Area| {
        area.file
            .as_ref()
            .map(|(_, offset)| offset.wrapping_sub(area.start))
    };
    let path = |area: &Area| {
        area.file
            .as_ref()
            .map(|(source, _)| alloc::sync::Arc::clone(&source.path))
    };
    a.prot == b.prot
        && a.owner == b.owner
        && offset(a) == offset(b)
        && path(a) == path(b)
        && a.start <= b.start
        && a.end >= b.end
}
