// SPDX-License-Identifier: Apache-2.0
//! The root page: `u64le number of entries, u32le length, region table, reference to the tree`.
//! Its level is that of the tree's top page; its count is zero.

use alloc::vec::Vec;

use super::{MAX_LEVEL, PageError, PageRef, Role, start};
use crate::region::Regions;
use crate::wire::Reader;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootPage {
    pub(crate) entries: u64,
    pub(crate) regions: Regions,
    pub(crate) tree: PageRef,
}

impl RootPage {
    pub(crate) fn encode(&self, level: u8) -> Vec<u8> {
        let mut out = start(Role::Root, level);
        out.extend_from_slice(&self.entries.to_le_bytes());
        let regions = self.regions.encode();
        // At most region::MAX_TABLE_BYTES.
        out.extend_from_slice(
            &u32::try_from(regions.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        out.extend_from_slice(&regions);
        self.tree.encode(&mut out);
        out
    }

    pub(super) fn parse(reader: &mut Reader<'_>, count: u32) -> Result<Self, PageError> {
        if count != 0 {
            let count = u64::from(count);
            return Err(PageError::Count { count });
        }
        let entries = reader.u64()?;
        let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        let regions = Regions::parse(reader.bytes(length)?)?;
        let tree = PageRef::parse(reader)?;
        Ok(Self {
            entries,
            regions,
            tree,
        })
    }

    /// Reads the level out of a root page's plaintext, bounded.
    pub(crate) fn level_of(bytes: &[u8]) -> Result<u8, PageError> {
        match bytes.get(1) {
            Some(level) if *level <= MAX_LEVEL => Ok(*level),
            _ => Err(PageError::Field { field: "level" }),
        }
    }
}
