// SPDX-License-Identifier: Apache-2.0
//! Which host paths are known to be directories, so that walking a path does not
//! ask the host about each component again. A wrong entry is harmless: the
//! host resolves the path anyway, and nothing here is protected.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::sync::Lock;
use crate::vfs::path;

/// Most paths remembered.
const MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct DirectoryCache {
    known: Lock<BTreeSet<Vec<u8>>>,
}

impl DirectoryCache {
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.known.lock().contains(path)
    }

    pub(super) fn add(&self, path: &[u8]) {
        let mut known = self.known.lock();
        if known.len() >= MAX {
            known.clear();
        }
        if !known.contains(path) {
            known.insert(path.to_vec());
        }
    }

    /// Forgets a path and everything below it.
    pub(super) fn forget(&self, path: &[u8]) {
        self.known
            .lock()
            .retain(|known| path::below(known, path).is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_lies_below() {
        let cache = DirectoryCache::default();
        for path in [&b"/a"[..], b"/a/b", b"/ab"] {
            cache.add(path);
        }
        cache.forget(b"/a");
        assert!(!cache.has(b"/a") && !cache.has(b"/a/b") && cache.has(b"/ab"));
    }

    #[test]
    fn is_bounded() {
        let cache = DirectoryCache::default();
        for at in 0..3000_u32 {
            cache.add(&at.to_le_bytes());
        }
        assert!(cache.known.lock().len() <= MAX);
    }
}
