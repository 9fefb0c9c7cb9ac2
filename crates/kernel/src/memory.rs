// SPDX-License-Identifier: Apache-2.0
//! Programs' memory: which addresses are mapped (reserved), and which pages are
//! part of the enclave (committed). The heap of the manifest bounds only what
//! is committed; pages are accepted at their first use.

pub mod area;
pub mod brk;
pub mod change;
pub mod fault;
pub mod pages;
pub mod shared;
pub mod sites;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};

use crate::errno::Errno;
use crate::host::Machine;
use crate::machine::once::Once;
use crate::sync::Lock;
use crate::vfs::MapSource;
use area::{Area, Label, Map};
use pages::{PAGE, PRESENT, Pages, Prot, Table};

/// Ranges of at least this many bytes go back to the host when they are no
/// longer needed but still mapped; smaller ones are zeroed in place.
const TRIM_AT_ONCE: u64 = 512 << 10;

static MEMORY: Once<Memory> = Once::new();

/// The programs' memory, once the machine has booted.
pub fn current() -> Option<&'static Memory> {
    MEMORY.get()
}

/// Sets the programs' memory at boot; false if there is one already.
pub fn install(memory: Memory) -> bool {
    MEMORY.set(memory).is_ok()
}

/// What to map.
#[derive(Clone, Debug)]
pub struct Request {
    /// Wanted address; 0 if any will do.
    pub addr: u64,
    /// Length in bytes, not rounded.
    pub len: u64,
    /// Permissions.
    pub prot: Prot,
    /// Exactly there, replacing what is there (MAP_FIXED).
    pub fixed: bool,
    /// Exactly there, or not at all (MAP_FIXED_NOREPLACE).
    pub keep: bool,
    /// MAP_SHARED.
    pub shared: bool,
    /// What is written goes back to the file: a shared mapping through a
    /// descriptor that may write.
    pub write_back: bool,
    /// The file and the offset in it.
    pub file: Option<(MapSource, u64)>,
    /// What it is for.
    pub label: Label,
}

impl Request {
    /// Anonymous private memory anywhere.
    #[must_use]
    pub fn anonymous(len: u64, prot: Prot) -> Self {
        Self {
            addr: 0,
            len,
            prot,
            fixed: false,
            keep: false,
            shared: false,
            write_back: false,
            file: None,
            label: Label::None,
        }
    }
}

/// All programs' memory.
pub struct Memory {
    pages: &'static dyn Pages,
    table: Table,
    map: Lock<Map>,
    start: u64,
    end: u64,
    /// Most pages that may be committed.
    budget: u64,
    committed: AtomicU64,
    stubs: Lock<sites::Stubs>,
    /// Shared writable mappings ever made: without any, nothing is to be written back.
    shared: AtomicU64,
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Memory")
            .field("committed", &self.committed)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Memory for programs at `start..end`, of which `heap` bytes may be
    /// committed. Rewritten system-call sites jump to `entry`.
    #[must_use]
    pub fn new(pages: &'static dyn Pages, start: u64, end: u64, heap: u64, entry: u64) -> Self {
        Self {
            pages,
            table: Table::new(start, end),
            map: Lock::new(Map::default()),
            start,
            end,
            budget: heap / PAGE,
            committed: AtomicU64::new(0),
            stubs: Lock::new(sites::Stubs::new(entry)),
            shared: AtomicU64::new(0),
        }
    }

    /// Bytes that programs may commit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.budget * PAGE
    }

    /// Bytes that are committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed) * PAGE
    }

    /// The addresses programs may use.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        (self.start, self.end)
    }

    /// The mappings of a process, ascending.
    #[must_use]
    pub fn areas(&self, owner: u32) -> alloc::vec::Vec<Area> {
        self.map
            .lock()
            .iter()
            .filter(|area| area.owner == owner)
            .cloned()
            .collect()
    }

    /// Whether a process has mapped all of a range.
    #[must_use]
    pub fn is_mapped(&self, owner: u32, addr: u64, len: u64) -> bool {
        let Ok((start, end)) = self.range_of(addr, len) else {
            return len == 0;
        };
        let map = self.map.lock();
        map.covers(start, end) && map.within(start, end).all(|area| area.owner == owner)
    }

    /// Whether the page at `addr` is committed.
    #[must_use]
    pub fn is_present(&self, addr: u64) -> bool {
        self.table.get(addr) & PRESENT != 0
    }

    /// A page-aligned range inside the programs' addresses.
    fn range_of(&self, addr: u64, len: u64) -> Result<(u64, u64), Errno> {
        let end = len
            .checked_next_multiple_of(PAGE)
            .and_then(|len| addr.checked_add(len))
            .ok_or(Errno::EINVAL)?;
        if !addr.is_multiple_of(PAGE) || len == 0 {
            return Err(Errno::EINVAL);
        }
        if addr < self.start || end > self.end {
            return Err(Errno::ENOMEM);
        }
        Ok((addr, end))
    }

    /// mmap.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, `EEXIST` (with `keep`), `ENODEV` for shared writable files.
    pub fn map(&self, owner: u32, request: &Request) -> Result<u64, Errno> {
        let len = request
            .len
            .checked_next_multiple_of(PAGE)
            .filter(|&len| len > 0)
            .ok_or(Errno::EINVAL)?;
        if request.file.is_some()
            && request.shared
            && request.prot.contains(Prot::W)
            && !request.write_back
        {
            // Nobody would write it back; saying so beats losing data.
            return Err(Errno::ENODEV);
        }
        if request.prot.contains(Prot::W) && !request.shared && len / PAGE > self.budget {
            return Err(Errno::ENOMEM);
        }
        let mut map = self.map.lock();
        if let Some((file, offset)) = &request.file
            && request.write_back
        {
            if Self::shares(&map, owner, file, *offset, len) {
                return Err(Errno::ENODEV);
            }
            self.shared.fetch_add(1, Ordering::Relaxed);
        }
        let start = if request.fixed || request.keep {
            let (start, end) = self.range_of(request.addr, len)?;
            if map.within(start, end).any(|area| area.owner != owner) {
                return Err(Errno::ENOMEM);
            }
            if request.keep && !map.is_free(start, end) {
                return Err(Errno::EEXIST);
            }
            let taken = map.take(start, end);
            self.discard(&taken);
            start
        } else {
            let hint = request.addr & !(PAGE - 1);
            let at_hint = (hint >= self.start
                && hint.checked_add(len).is_some_and(|end| end <= self.end)
                && map.is_free(hint, hint + len))
            .then_some(hint);
            at_hint
                .or_else(|| map.free_below(self.start, self.end, len))
                .ok_or(Errno::ENOMEM)?
        };
        map.insert(Area {
            start,
            end: start + len,
            prot: request.prot,
            shared: request.shared,
            write_back: request.write_back,
            owner,
            file: request.file.clone(),
            label: request.label,
            wipe_on_fork: false,
        });
        Ok(start)
    }

    /// munmap.
    ///
    /// # Errors
    /// `EINVAL` for a range that is not aligned or not a program's.
    pub fn unmap(&self, owner: u32, addr: u64, len: u64) -> Result<(), Errno> {
        let (start, end) = self.range_of(addr, len).map_err(|_| Errno::EINVAL)?;
        let mut map = self.map.lock();
        if map.within(start, end).any(|area| area.owner != owner) {
            return Err(Errno::EINVAL);
        }
        let taken = map.take(start, end);
        self.discard(&taken);
        Ok(())
    }

    /// Unmaps everything of a process.
    pub fn release(&self, owner: u32) {
        let mut map = self.map.lock();
        let ranges: alloc::vec::Vec<(u64, u64)> = map
            .iter()
            .filter(|area| area.owner == owner)
            .map(|area| (area.start, area.end))
            .collect();
        for (start, end) in ranges {
            let taken = map.take(start, end);
            self.discard(&taken);
        }
        self.stubs.lock().forget(owner);
    }

    fn uncharge(&self, pages: u64) {
        self.committed.fetch_sub(pages, Ordering::Relaxed);
    }

    /// Frees the pages of mappings that are gone.
    fn discard(&self, taken: &[Area]) {
        for area in taken {
            self.drop_pages(area.start, area.end);
        }
    }

    /// Gives the pages of `start..end` back to the host. Keeping them for reuse
    /// would leave them usable for a program that has unmapped them.
    fn drop_pages(&self, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let run = self.table.run(at, end, |state| state & PRESENT != 0);
            if run == at {
                at = self.table.run(at, end, |state| state & PRESENT == 0);
                continue;
            }
            self.trim(at, run);
            at = run;
        }
    }

    fn trim(&self, start: u64, end: u64) {
        let pages = (end - start) / PAGE;
        self.pages.trim(start, pages);
        self.table.set(start, end, 0);
        self.committed.fetch_sub(pages, Ordering::Relaxed);
    }

    /// Counts pages against the heap.
    fn charge(&self, pages: u64) -> Result<(), Errno> {
        let before = self.committed.fetch_add(pages, Ordering::Relaxed);
        if before + pages <= self.budget {
            return Ok(());
        }
        self.committed.fetch_sub(pages, Ordering::Relaxed);
        Err(Errno::ENOMEM)
    }

    /// Makes `len` bytes at `addr` usable by the kernel on a program's behalf.
    ///
    /// # Errors
    /// `EFAULT` if the program itself could not do it.
    pub fn prepare(
        &self,
        machine: &dyn Machine,
        addr: u64,
        len: u64,
        write: bool,
    ) -> Result<(), Errno> {
        if len == 0 {
            return Ok(());
        }
        let end = addr.checked_add(len).ok_or(Errno::EFAULT)?;
        if addr < self.start || end > self.end {
            return Err(Errno::EFAULT);
        }
        let wanted = PRESENT | if write { Prot::W } else { Prot::R }.bits();
        let mut at = addr & !(PAGE - 1);
        while at < end {
            let state = self.table.get(at);
            if state & wanted != wanted {
                let access = if write { Prot::W } else { Prot::R };
                match self.fault(machine, at, access) {
                    fault::Outcome::Resolved => {}
                    _ => return Err(Errno::EFAULT),
                }
            }
            at += PAGE;
        }
        Ok(())
    }
}
