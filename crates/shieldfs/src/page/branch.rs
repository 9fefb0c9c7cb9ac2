// SPDX-License-Identifier: Apache-2.0
//! Branch pages: per child its first key, the position of its first entry in the whole order
//! (`u64le`), and its reference.

use alloc::vec::Vec;

use super::{Key, KeyReader, OwnedKey, PageError, PageRef, encode_key};
use crate::wire::Reader;

/// One child of a branch page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) key: OwnedKey,
    /// Position of the child's first entry in the order of all entries.
    pub(crate) first: u64,
    pub(crate) page: PageRef,
}

impl Child {
    pub(crate) fn encode(&self, out: &mut Vec<u8>, previous_parent: Option<&[u8]>) {
        encode_key(out, previous_parent, self.key.as_key());
        out.extend_from_slice(&self.first.to_le_bytes());
        self.page.encode(out);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BranchPage {
    children: Vec<Child>,
}

impl BranchPage {
    pub(super) fn parse(reader: &mut Reader<'_>, count: u32) -> Result<Self, PageError> {
        if count == 0 {
            return Err(PageError::Count { count: 0 });
        }
        let mut children: Vec<Child> = Vec::new();
        let mut keys = KeyReader::new();
        for _ in 0..count {
            let key = keys.next(reader)?;
            let first = reader.u64()?;
            if children.last().is_some_and(|last| last.first >= first) {
                return Err(PageError::Order);
            }
            let page = PageRef::parse(reader)?;
            children.push(Child { key, first, page });
        }
        Ok(Self { children })
    }

    /// The child that holds a key, if any can.
    pub(crate) fn child_of_key(&self, key: Key<'_>) -> Option<&Child> {
        let after = self
            .children
            .partition_point(|child| child.key.as_key() <= key);
        self.children.get(after.checked_sub(1)?)
    }

    /// The child that holds a position, if any can.
    pub(crate) fn child_of_position(&self, position: u64) -> Option<&Child> {
        let after = self
            .children
            .partition_point(|child| child.first <= position);
        self.children.get(after.checked_sub(1)?)
    }

    /// The first child.
    pub(crate) fn first(&self) -> Option<&Child> {
        self.children.first()
    }
}
