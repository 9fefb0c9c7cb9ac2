// SPDX-License-Identifier: Apache-2.0
//! mprotect, madvise, mremap.

use super::area::{Area, Map};
use super::pages::{PAGE, PRESENT, Prot};
use super::{Memory, TRIM_AT_ONCE};
use crate::errno::Errno;
use crate::host::Machine;

/// Advice that Linux knows (`linux/mman.h`).
#[allow(missing_docs, reason = "named as in Linux")]
mod advice {
    pub const DONTNEED: u64 = 4;
    pub const FREE: u64 = 8;
    pub const WIPEONFORK: u64 = 18;
    pub const KEEPONFORK: u64 = 19;
    pub const POPULATE_READ: u64 = 22;
    pub const POPULATE_WRITE: u64 = 23;
    /// Hints that change nothing a program could notice.
    pub const HINTS: [u64; 13] = [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 20];
    pub const PAGEOUT: u64 = 21;
}
pub use advice::*;

/// mremap flags.
const MAYMOVE: u64 = 1;
const FIXED: u64 = 2;

/// Bytes moved between two looks at the budget.
const MOVE_STEP: u64 = 1 << 20;

impl Memory {
    /// mprotect. `may_run` decides whether a mapping may become executable.
    ///
    /// # Errors
    /// `ENOMEM` if not all of it is mapped, `EACCES` if `may_run` refuses.
    pub fn protect(
        &self,
        owner: u32,
        addr: u64,
        len: u64,
        prot: Prot,
        may_run: impl Fn(&Area) -> bool,
    ) -> Result<(), Errno> {
        if len == 0 && addr.is_multiple_of(PAGE) {
            return Ok(());
        }
        let (start, end) = self.range_of(addr, len)?;
        let mut map = self.map.lock();
        if !map.covers(start, end) || map.within(start, end).any(|area| area.owner != owner) {
            return Err(Errno::ENOMEM);
        }
        for area in map.within(start, end) {
            if prot.contains(Prot::X) && !area.prot.contains(Prot::X) && !may_run(area) {
                return Err(Errno::EACCES);
            }
            if prot.contains(Prot::W) && area.shared && area.file.is_some() && !area.write_back {
                return Err(Errno::EACCES);
            }
        }
        for mut area in map.take(start, end) {
            area.prot = prot;
            self.protect_pages(area.start, area.end, prot);
            map.insert(area);
        }
        Ok(())
    }

    fn protect_pages(&self, start: u64, end: u64, prot: Prot) {
        let mut at = start;
        while at < end {
            let state = self.table.get(at);
            let run = self.table.run(at, end, |other| other == state);
            if state & PRESENT != 0 {
                self.settle(at, run, Prot::from_bits_truncate(state), prot);
            }
            at = run;
        }
    }

    /// madvise.
    ///
    /// # Errors
    /// `EINVAL` for unknown advice (TLS libraries probe that), `ENOMEM` if not
    /// all of it is mapped.
    pub fn advise(
        &self,
        machine: &dyn Machine,
        owner: u32,
        addr: u64,
        len: u64,
        advice: u64,
    ) -> Result<(), Errno> {
        let known = HINTS.contains(&advice)
            || [
                DONTNEED,
                FREE,
                WIPEONFORK,
                KEEPONFORK,
                POPULATE_READ,
                POPULATE_WRITE,
                PAGEOUT,
            ]
            .contains(&advice);
        if !known || !addr.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let (start, end) = self.range_of(addr, len)?;
        if advice == DONTNEED {
            self.sync(machine, owner, start, end - start)?;
        }
        let mut map = self.map.lock();
        if !map.covers(start, end) || map.within(start, end).any(|area| area.owner != owner) {
            return Err(Errno::ENOMEM);
        }
        match advice {
            WIPEONFORK | KEEPONFORK => {
                if map
                    .within(start, end)
                    .any(|area| area.file.is_some() || area.shared)
                {
                    return Err(Errno::EINVAL);
                }
                for mut area in map.take(start, end) {
                    area.wipe_on_fork = advice == WIPEONFORK;
                    map.insert(area);
                }
            }
            DONTNEED => self.forget(&map, start, end),
            FREE if end - start >= TRIM_AT_ONCE => self.forget(&map, start, end),
            POPULATE_READ | POPULATE_WRITE => {
                let wanted = if advice == POPULATE_WRITE {
                    Prot::W
                } else {
                    Prot::R
                };
                if map
                    .within(start, end)
                    .any(|area| !area.prot.contains(wanted))
                {
                    return Err(Errno::EINVAL);
                }
                drop(map);
                self.populate(machine, start, end, wanted);
            }
            _ => {}
        }
        Ok(())
    }

    /// Pages lose their content; the next touch finds zeroes, or the file again.
    fn forget(&self, map: &Map, start: u64, end: u64) {
        let plain = PRESENT | (Prot::R | Prot::W).bits();
        for area in map.within(start, end) {
            let (mut at, end) = (start.max(area.start), end.min(area.end));
            while at < end {
                let state = self.table.get(at);
                let run = self.table.run(at, end, |other| other == state);
                if state & PRESENT != 0 {
                    if state == plain && run - at < TRIM_AT_ONCE && area.file.is_none() {
                        self.pages.zero(at, (run - at) / PAGE);
                    } else {
                        self.trim(at, run);
                    }
                }
                at = run;
            }
        }
    }

    /// mremap.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT` for what is not mapped, `ENOMEM`.
    pub fn remap(
        &self,
        owner: u32,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: u64,
    ) -> Result<u64, Errno> {
        if flags & !(MAYMOVE | FIXED) != 0 || flags & (MAYMOVE | FIXED) == FIXED || old_len == 0 {
            return Err(Errno::EINVAL);
        }
        let (start, old_end) = self.range_of(addr, old_len).map_err(|_| Errno::EINVAL)?;
        let new_len = new_len
            .checked_next_multiple_of(PAGE)
            .filter(|&len| len > 0)
            .ok_or(Errno::EINVAL)?;
        let old_len = old_end - start;
        let mut map = self.map.lock();
        let single = map
            .find(start)
            .filter(|area| area.owner == owner && area.end >= old_end)
            .cloned();
        let area = single.ok_or(Errno::EFAULT)?;
        if flags & FIXED == 0 {
            if new_len <= old_len {
                if new_len < old_len {
                    let taken = map.take(start + new_len, old_end);
                    self.discard(&taken);
                }
                return Ok(start);
            }
            let new_end = start.checked_add(new_len).ok_or(Errno::EINVAL)?;
            if area.end == old_end && new_end <= self.end && map.is_free(old_end, new_end) {
                let mut tail = area.clone();
                tail.start = old_end;
                tail.end = new_end;
                if let Some((_, offset)) = &mut tail.file {
                    *offset += old_end - area.start;
                }
                map.insert(tail);
                return Ok(start);
            }
            if flags & MAYMOVE == 0 {
                return Err(Errno::ENOMEM);
            }
        }
        let target = if flags & FIXED != 0 {
            let (to, to_end) = self
                .range_of(new_addr, new_len)
                .map_err(|_| Errno::EINVAL)?;
            if to < old_end && start < to_end {
                return Err(Errno::EINVAL);
            }
            if map.within(to, to_end).any(|area| area.owner != owner) {
                return Err(Errno::ENOMEM);
            }
            let taken = map.take(to, to_end);
            self.discard(&taken);
            to
        } else {
            map.free_below(self.start, self.end, new_len)
                .ok_or(Errno::ENOMEM)?
        };
        let mut moved = area.clone();
        moved.start = target;
        moved.end = target + new_len;
        if let Some((_, offset)) = &mut moved.file {
            *offset += start - area.start;
        }
        let prot = moved.prot;
        let result = self.move_pages(start, target, old_len.min(new_len), prot);
        if result.is_err() {
            return Err(Errno::ENOMEM);
        }
        map.insert(moved);
        let taken = map.take(start, old_end);
        self.discard(&taken);
        Ok(target)
    }

    /// Moves present pages, giving the old ones back step by step.
    fn move_pages(&self, from: u64, to: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        let mut at = 0;
        while at < len {
            let source = from + at;
            let limit = (source + MOVE_STEP).min(from + len);
            let state = self.table.get(source);
            let run = self.table.run(source, limit, |other| other == state);
            let pages = (run - source) / PAGE;
            if state & PRESENT != 0 {
                let have = Prot::from_bits_truncate(state);
                if !have.contains(Prot::R) {
                    self.settle(source, run, have, have | Prot::R);
                }
                self.charge(pages)?;
                self.pages.accept(to + at, pages);
                self.pages.copy(to + at, source, pages);
                self.settle(to + at, to + at + (run - source), Prot::R | Prot::W, prot);
                self.trim(source, run);
            }
            at += run - source;
        }
        Ok(())
    }
}
