// SPDX-License-Identifier: Apache-2.0
//! Descriptors of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::errno::Errno;
use crate::vfs::opened::OpenFile;

/// Most descriptors a table can hold, whatever the soft limit.
pub const HARD_LIMIT: u64 = 1 << 20;
/// Soft limit at start (RLIMIT_NOFILE).
pub const SOFT_LIMIT: u64 = 1024;

#[derive(Clone, Debug)]
struct Slot {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// The open descriptors.
#[derive(Debug)]
pub struct FdTable {
    slots: Vec<Option<Slot>>,
    limit: usize,
}

impl Default for FdTable {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            limit: SOFT_LIMIT as usize,
        }
    }
}

impl FdTable {
    /// The description behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: u64) -> Result<Arc<OpenFile>, Errno> {
        self.slot(fd).map(|slot| Arc::clone(&slot.file))
    }

    /// Whether a descriptor closes on exec.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close_on_exec(&self, fd: u64) -> Result<bool, Errno> {
        self.slot(fd).map(|slot| slot.close_on_exec)
    }

    /// Sets whether a descriptor closes on exec.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&mut self, fd: u64, on: bool) -> Result<(), Errno> {
        let at = index(fd)?;
        match self.slots.get_mut(at) {
            Some(Some(slot)) => {
                slot.close_on_exec = on;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Adds a description at the lowest free number at or above `from`.
    ///
    /// # Errors
    /// `EMFILE` if the limit is reached, `EINVAL` if `from` is above it.
    pub fn add(
        &mut self,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        from: u64,
    ) -> Result<u64, Errno> {
        let from = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
        if from > 0 && from >= self.limit {
            return Err(Errno::EINVAL);
        }
        let free = self
            .slots
            .iter()
            .enumerate()
            .skip(from)
            .find_map(|(at, slot)| slot.is_none().then_some(at))
            .unwrap_or_else(|| self.slots.len().max(from));
        if free >= self.limit {
            return Err(Errno::EMFILE);
        }
        self.put(free, file, close_on_exec);
        Ok(free as u64)
    }

    /// Puts a description at a number; what was there comes back, to be dropped
    /// after the table is unlocked.
    ///
    /// # Errors
    /// `EBADF` if the number is above the limit.
    pub fn replace(
        &mut self,
        fd: u64,
        file: Arc<OpenFile>,
        close_on_exec: bool,
    ) -> Result<Option<Arc<OpenFile>>, Errno> {
        let at = index(fd)?;
        if at >= self.limit {
            return Err(Errno::EBADF);
        }
        Ok(self.put(at, file, close_on_exec))
    }

    /// Takes a description out, to be dropped after the table is unlocked.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&mut self, fd: u64) -> Result<Arc<OpenFile>, Errno> {
        let at = index(fd)?;
        match self.slots.get_mut(at).and_then(Option::take) {
            Some(slot) => {
                while let Some(None) = self.slots.last() {
                    self.slots.pop();
                }
                Ok(slot.file)
            }
            None => Err(Errno::EBADF),
        }
    }

    /// Takes out all descriptions in a range of numbers, or only marks them to
    /// close on exec.
    pub fn close_range(&mut self, first: u64, last: u64, only_mark: bool) -> Vec<Arc<OpenFile>> {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let count = last.saturating_sub(first).saturating_add(1);
        let mut out = Vec::new();
        for slot in self.slots.iter_mut().skip(first).take(count) {
            if only_mark {
                if let Some(slot) = slot {
                    slot.close_on_exec = true;
                }
            } else if let Some(slot) = slot.take() {
                out.push(slot.file);
            }
        }
        out
    }

    /// Takes out what closes on exec.
    pub fn take_close_on_exec(&mut self) -> Vec<Arc<OpenFile>> {
        let mut out = Vec::new();
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|slot| slot.close_on_exec)
                && let Some(slot) = slot.take()
            {
                out.push(slot.file);
            }
        }
        out
    }

    /// All open numbers, ascending.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| slot.is_some().then_some(at as u64))
            .collect()
    }

    /// The soft limit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// Sets the soft limit, at most [`HARD_LIMIT`]. Open numbers above it stay.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit.min(HARD_LIMIT) as usize;
    }

    fn slot(&self, fd: u64) -> Result<&Slot, Errno> {
        match self.slots.get(index(fd)?) {
            Some(Some(slot)) => Ok(slot),
            _ => Err(Errno::EBADF),
        }
    }

    fn put(
        &mut self,
        at: usize,
        file: Arc<OpenFile>,
        close_on_exec: bool,
    ) -> Option<Arc<OpenFile>> {
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        let slot = self.slots.get_mut(at)?;
        slot.replace(Slot {
            file,
            close_on_exec,
        })
        .map(|old| old.file)
    }
}

/// Descriptors are C `int`s: the upper half of the register says nothing.
fn index(fd: u64) -> Result<usize, Errno> {
    let fd = fd as u32 as i32;
    usize::try_from(fd).map_err(|_| Errno::EBADF)
}
