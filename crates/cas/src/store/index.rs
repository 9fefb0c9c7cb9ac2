// SPDX-License-Identifier: Apache-2.0
//! Hashes of all sealed records, and the root over them.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::Key;

const DOMAIN: &[u8] = b"ensconce-cas-map-v1";

/// SHA-256 of the sealed bytes of every record but the head, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(BTreeMap<Key, [u8; 32]>);

pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

impl Index {
    pub(super) fn insert(&mut self, key: Key, sealed: &[u8]) {
        self.0.insert(key, hash(sealed));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `sealed` (or its absence) is what the index holds for `key`.
    pub(super) fn vouches(&self, key: &Key, sealed: Option<&[u8]>) -> bool {
        self.0.get(key).copied() == sealed.map(hash)
    }

    /// Keys from `from` on, in order.
    pub(super) fn from<'i>(&'i self, from: &Key) -> impl Iterator<Item = &'i Key> {
        self.0.range(from.clone()..).map(|(key, _)| key)
    }

    /// SHA-256 over domain, then for each record in key order: length of the key, key, hash.
    pub(super) fn root(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(DOMAIN);
        for (key, hash) in &self.0 {
            // A length in memory always fits into 64 bits.
            let length = u64::try_from(key.as_bytes().len()).unwrap_or(u64::MAX);
            context.update(&length.to_le_bytes());
            context.update(key.as_bytes());
            context.update(hash);
        }
        let mut root = [0; 32];
        root.copy_from_slice(context.finish().as_ref());
        root
    }
}
