// SPDX-License-Identifier: Apache-2.0
//! Verified chunks of protected and startup files, shared and bounded.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::sync::Lock;

/// Bytes that the cache of an enclave may hold.
pub const LIMIT: usize = 8 << 20;

static NEXT_FILE: AtomicU64 = AtomicU64::new(1);

/// A number for a file whose chunks are cached.
#[must_use]
pub fn new_file() -> u64 {
    NEXT_FILE.fetch_add(1, Ordering::Relaxed)
}

/// A file and the index of one of its chunks.
type Key = (u64, u64);

#[derive(Default)]
struct State {
    /// Chunk and when it was last used.
    chunks: BTreeMap<Key, (Arc<Vec<u8>>, u64)>,
    /// From time of last use to chunk.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    clock: u64,
}

/// Verified plaintext chunks, least recently used ones forgotten first.
pub struct ChunkCache {
    state: Lock<State>,
    limit: usize,
}

impl core::fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ChunkCache(..)")
    }
}

impl ChunkCache {
    /// A cache of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Lock::new(State::default()),
            limit,
        })
    }

    /// A chunk, if it is held.
    #[must_use]
    pub fn get(&self, file: u64, index: u64) -> Option<Arc<Vec<u8>>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.clock += 1;
        let (chunk, used) = state.chunks.get_mut(&(file, index))?;
        state.order.remove(used);
        *used = state.clock;
        state.order.insert(state.clock, (file, index));
        Some(Arc::clone(chunk))
    }

    /// Holds a chunk; one that would fill more than a quarter is not held.
    pub fn put(&self, file: u64, index: u64, chunk: Vec<u8>) -> Arc<Vec<u8>> {
        let chunk = Arc::new(chunk);
        if chunk.len() > self.limit / 4 {
            return chunk;
        }
        let mut dropped = Vec::new();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.clock += 1;
            let held = (Arc::clone(&chunk), state.clock);
            state.bytes += chunk.len();
            if let Some((old, used)) = state.chunks.insert((file, index), held) {
                state.order.remove(&used);
                state.bytes -= old.len();
                dropped.push(old);
            }
            state.order.insert(state.clock, (file, index));
            while state.bytes > self.limit
                && let Some((_, oldest)) = state.order.pop_first()
            {
                if let Some((old, _)) = state.chunks.remove(&oldest) {
                    state.bytes -= old.len();
                    dropped.push(old);
                }
            }
        }
        chunk
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn holds_what_was_used_last_within_the_limit() {
        let cache = ChunkCache::new(400);
        for index in 0..4 {
            cache.put(1, index, vec![index as u8; 100]);
        }
        assert_eq!(cache.held(), 400);
        assert!(cache.get(1, 0).is_some());
        cache.put(1, 4, vec![4; 100]);
        assert_eq!(cache.held(), 400);
        assert!(cache.get(1, 0).is_some(), "used recently");
        assert!(cache.get(1, 1).is_none(), "used longest ago");
    }

    #[test]
    fn replacing_and_oversized_chunks_are_counted_right() {
        let cache = ChunkCache::new(400);
        cache.put(1, 0, vec![1; 100]);
        cache.put(1, 0, vec![2; 50]);
        assert_eq!(cache.held(), 50);
        cache.put(1, 1, vec![0; 200]);
        assert_eq!(cache.held(), 50);
    }
}
