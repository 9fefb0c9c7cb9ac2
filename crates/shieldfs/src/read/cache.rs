// SPDX-License-Identifier: Apache-2.0
//! Verified pages, the least recently used dropped first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::page::{Page, PageRef, Role};

/// Added to each page's plaintext length: a parsed page holds its strings apart.
const OVERHEAD: usize = 256;

#[derive(Debug)]
struct Held {
    reference: PageRef,
    role: Role,
    level: u8,
    page: Arc<Page>,
    cost: usize,
    used: u64,
}

#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    bytes: usize,
    clock: u64,
    by_offset: BTreeMap<u64, Held>,
    by_use: BTreeMap<u64, u64>,
}

impl Cache {
    /// An empty cache for about `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            clock: 0,
            by_offset: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// A page that was verified against this very reference and parsed for this very place.
    pub(super) fn find(&mut self, reference: &PageRef, role: Role, level: u8) -> Option<Arc<Page>> {
        let held = self.by_offset.get_mut(&reference.offset)?;
        if held.reference != *reference || held.role != role || held.level != level {
            return None;
        }
        self.clock = self.clock.saturating_add(1);
        self.by_use.remove(&held.used);
        held.used = self.clock;
        self.by_use.insert(held.used, reference.offset);
        Some(Arc::clone(&held.page))
    }

    /// Keeps a page and drops others until the limit holds; a page above the limit is not kept.
    pub(super) fn insert(
        &mut self,
        reference: PageRef,
        role: Role,
        level: u8,
        page: Arc<Page>,
        length: usize,
    ) {
        // The parsed form takes up to about twice the bytes it was read from.
        let cost = length.saturating_mul(2).saturating_add(OVERHEAD);
        self.remove(reference.offset);
        if cost > self.limit {
            return;
        }
        while self.bytes.saturating_add(cost) > self.limit {
            let Some((_, offset)) = self.by_use.pop_first() else {
                break;
            };
            self.remove(offset);
        }
        self.clock = self.clock.saturating_add(1);
        let used = self.clock;
        self.by_use.insert(used, reference.offset);
        self.bytes = self.bytes.saturating_add(cost);
        let held = Held {
            reference,
            role,
            level,
            page,
            cost,
            used,
        };
        self.by_offset.insert(reference.offset, held);
    }

    fn remove(&mut self, offset: u64) {
        if let Some(held) = self.by_offset.remove(&offset) {
            self.by_use.remove(&held.used);
            self.bytes = self.bytes.saturating_sub(held.cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn reference(offset: u64) -> PageRef {
        PageRef {
            offset,
            length: 100,
            sealed_hash: [0; 32],
            plain_hash: [0; 32],
        }
    }

    fn add(cache: &mut Cache, offset: u64) {
        let page = Arc::new(Page::BlobPiece(vec![1]));
        cache.insert(reference(offset), Role::BlobPiece, 0, page, 100);
    }

    #[test]
    fn drops_the_least_recently_used_page_and_stays_within_its_limit() {
        let mut cache = Cache::new(3 * 456);
        for offset in 0..3 {
            add(&mut cache, offset);
        }
        assert!(cache.find(&reference(0), Role::BlobPiece, 0).is_some());
        add(&mut cache, 3);
        assert!(cache.find(&reference(1), Role::BlobPiece, 0).is_none());
        for offset in [0, 2, 3] {
            assert!(cache.find(&reference(offset), Role::BlobPiece, 0).is_some());
        }
        assert_eq!((cache.bytes, cache.by_use.len()), (3 * 456, 3));
    }

    #[test]
    fn another_reference_or_place_is_not_served() {
        let mut cache = Cache::new(10_000);
        add(&mut cache, 7);
        let mut other = reference(7);
        other.sealed_hash = [1; 32];
        assert!(cache.find(&other, Role::BlobPiece, 0).is_none());
        assert!(cache.find(&reference(7), Role::BlobBranch, 0).is_none());
        assert!(cache.find(&reference(7), Role::BlobPiece, 1).is_none());
    }

    #[test]
    fn a_page_above_the_limit_is_not_kept() {
        let mut cache = Cache::new(100);
        add(&mut cache, 1);
        assert!(cache.find(&reference(1), Role::BlobPiece, 0).is_none());
        assert_eq!(cache.bytes, 0);
    }
}
