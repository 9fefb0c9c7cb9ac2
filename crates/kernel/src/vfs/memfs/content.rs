// SPDX-License-Identifier: Apache-2.0
//! The bytes of a file in enclave memory: sparse blocks, over a read-only file
//! where the region had verified content at start.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::context::Context;
use crate::errno::Errno;
use crate::sync::Lock;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::File;

/// Bytes of a block.
const BLOCK: u64 = 64 << 10;
/// Largest file in bytes.
const MAX_LEN: u64 = 1 << 40;

/// Room that several file systems share.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    used: AtomicU64,
}

impl Quota {
    /// At most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
        })
    }

    /// Limit and use in bytes.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        (self.limit, self.used.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: u64) -> Result<(), Errno> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.limit)
            })
            .map_or(Err(Errno::ENOSPC), |_| Ok(()))
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    len: u64,
    /// Blocks, each as long as it was ever written; the rest of it is zero.
    blocks: BTreeMap<u64, Vec<u8>>,
    lower: Option<Arc<dyn File>>,
    /// How much of `lower` still shows.
    lower_len: u64,
}

/// The bytes of one file.
pub(super) struct Content {
    state: Lock<State>,
    quota: Arc<Quota>,
}

impl core::fmt::Debug for Content {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Content({} bytes)", self.len())
    }
}

impl Content {
    pub(super) fn new(quota: &Arc<Quota>) -> Self {
        Self {
            state: Lock::new(State::default()),
            quota: Arc::clone(quota),
        }
    }

    /// Content that shows `lower` until it is written over.
    pub(super) fn over(quota: &Arc<Quota>, lower: Arc<dyn File>, len: u64) -> Self {
        let content = Self::new(quota);
        *content.state.lock() = State {
            len,
            blocks: BTreeMap::new(),
            lower: Some(lower),
            lower_len: len,
        };
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.state.lock().len
    }

    /// Bytes in memory.
    pub(super) fn held(&self) -> u64 {
        let state = self.state.lock();
        state.blocks.values().map(|block| block.len() as u64).sum()
    }

    pub(super) fn read(
        &self,
        cx: &Context<'_>,
        at: u64,
        to: &mut Sink<'_>,
    ) -> Result<usize, Errno> {
        let len = self.len();
        let Some(rest) = len.checked_sub(at) else {
            return Ok(0);
        };
        let total = to.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < total {
            let position = at + done as u64;
            let within = (position % BLOCK) as usize;
            let now = (total - done).min(BLOCK as usize - within);
            let lower = {
                let state = self.state.lock();
                if let Some(block) = state.blocks.get(&(position / BLOCK)) {
                    let held = block.get(within..).unwrap_or_default();
                    let held = held.get(..now.min(held.len())).unwrap_or_default();
                    to.put(done, held)?;
                    to.put_zeros(done + held.len(), now - held.len())?;
                    done += now;
                    continue;
                }
                state.lower_from(position, now)
            };
            let shown = match lower {
                Some((file, shown)) => file.read_at(cx, position, &mut to.part(done, shown))?,
                None => 0,
            };
            to.put_zeros(done + shown, now - shown)?;
            done += now;
        }
        Ok(done)
    }

    pub(super) fn write(
        &self,
        cx: &Context<'_>,
        at: u64,
        from: Source<'_>,
    ) -> Result<usize, Errno> {
        let total = from.len();
        let end = at.checked_add(total as u64).ok_or(Errno::EFBIG)?;
        if end > MAX_LEN {
            return Err(Errno::EFBIG);
        }
        let mut done = 0;
        while done < total {
            let position = at + done as u64;
            let within = (position % BLOCK) as usize;
            let now = (total - done).min(BLOCK as usize - within);
            match self.write_block(cx, position, from.part(done, now)) {
                Ok(()) => done += now,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Writes at the end, wherever other writers have moved it.
    pub(super) fn append(&self, cx: &Context<'_>, from: Source<'_>) -> Result<usize, Errno> {
        // Claim the room first, so that two writers never share it.
        let at = {
            let mut state = self.state.lock();
            let at = state.len;
            let end = at.checked_add(from.len() as u64).ok_or(Errno::EFBIG)?;
            if end > MAX_LEN {
                return Err(Errno::EFBIG);
            }
            state.len = end;
            at
        };
        let written = self.write(cx, at, from);
        let count = *written.as_ref().unwrap_or(&0);
        if count < from.len() {
            let mut state = self.state.lock();
            if state.len == at + from.len() as u64 {
                state.len = at + count as u64;
            }
        }
        written
    }

    fn write_block(&self, cx: &Context<'_>, at: u64, from: Source<'_>) -> Result<(), Errno> {
        let (index, within) = (at / BLOCK, (at % BLOCK) as usize);
        let end = within + from.len();
        // What shows through from below must be copied up before part of it changes.
        let lower = {
            let state = self.state.lock();
            if state.blocks.contains_key(&index) {
                None
            } else {
                state.lower_from(index * BLOCK, BLOCK as usize)
            }
        };
        let mut below = Vec::new();
        if let Some((file, shown)) = lower {
            below = zeroed(shown)?;
            let read = file.read_at(cx, index * BLOCK, &mut Sink::Kernel(&mut below))?;
            below.truncate(read);
        }
        let mut state = self.state.lock();
        let block = match state.blocks.entry(index) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => {
                self.quota.take(below.len() as u64)?;
                free.insert(below)
            }
        };
        if block.len() < end {
            let more = end - block.len();
            self.quota.take(more as u64)?;
            if block.try_reserve(more).is_err() {
                self.quota.give_back(more as u64);
                return Err(Errno::ENOSPC);
            }
            block.resize(end, 0);
        }
        from.take(0, block.get_mut(within..end).ok_or(Errno::EIO)?)?;
        state.len = state.len.max(at + from.len() as u64);
        Ok(())
    }

    pub(super) fn truncate(&self, len: u64) -> Result<(), Errno> {
        if len > MAX_LEN {
            return Err(Errno::EFBIG);
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        if len < state.len {
            let mut freed = 0;
            for (_, block) in state.blocks.split_off(&len.div_ceil(BLOCK)) {
                freed += block.len() as u64;
            }
            if let Some(block) = state.blocks.get_mut(&(len / BLOCK)) {
                let keep = (len % BLOCK) as usize;
                if block.len() > keep {
                    freed += (block.len() - keep) as u64;
                    block.truncate(keep);
                    block.shrink_to_fit();
                }
            }
            self.quota.give_back(freed);
            state.lower_len = state.lower_len.min(len);
            if state.lower_len == 0 {
                state.lower = None;
            }
        }
        state.len = len;
        Ok(())
    }

    /// Makes the file at least this long.
    pub(super) fn extend(&self, len: u64) -> Result<(), Errno> {
        if len > self.len() {
            self.truncate(len)?;
        }
        Ok(())
    }
}

impl State {
    fn lower_from(&self, at: u64, want: usize) -> Option<(Arc<dyn File>, usize)> {
        let file = self.lower.as_ref()?;
        let shown = self.lower_len.checked_sub(at)?;
        let shown = want.min(usize::try_from(shown).unwrap_or(usize::MAX));
        (shown > 0).then(|| (Arc::clone(file), shown))
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.quota.give_back(self.held());
    }
}

fn zeroed(len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    bytes.try_reserve(len).map_err(|_| Errno::ENOSPC)?;
    bytes.resize(len, 0);
    Ok(bytes)
}
