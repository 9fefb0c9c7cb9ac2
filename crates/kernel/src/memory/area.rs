// SPDX-License-Identifier: Apache-2.0
//! One mapping, and the interval map of all of them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::pages::{PAGE, Prot};
use crate::vfs::MapSource;

/// What a mapping is for, as /proc/self/maps shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// Nothing special.
    #[default]
    None,
    /// `[heap]`.
    Heap,
    /// `[stack]`.
    Stack,
    /// The kernel's stubs for rewritten system-call sites.
    Stubs,
}

/// A mapping.
#[derive(Clone, Debug)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Permissions.
    pub prot: Prot,
    /// MAP_SHARED was asked for.
    pub shared: bool,
    /// What is written goes back to the file.
    pub write_back: bool,
    /// The process it belongs to.
    pub owner: u32,
    /// The file and the offset of `start` in it.
    pub file: Option<(MapSource, u64)>,
    /// What it is for.
    pub label: Label,
    /// MADV_WIPEONFORK and similar promises that need no action without fork.
    pub wipe_on_fork: bool,
}

impl Area {
    /// Whether `other` continues this mapping.
    fn joins(&self, other: &Self) -> bool {
        self.end == other.start
            && self.prot == other.prot
            && self.shared == other.shared
            && self.owner == other.owner
            && self.label == other.label
            && self.wipe_on_fork == other.wipe_on_fork
            && self.file.is_none()
            && other.file.is_none()
    }

    /// Cuts everything below `at` off and returns it.
    fn split_low(&mut self, at: u64) -> Self {
        let mut low = self.clone();
        low.end = at;
        if let Some((_, offset)) = &mut self.file {
            *offset += at - self.start;
        }
        self.start = at;
        low
    }
}

/// All mappings, by start address; they never overlap.
#[derive(Debug, Default)]
pub struct Map(BTreeMap<u64, Area>);

impl Map {
    /// The mapping that holds `addr`.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<&Area> {
        self.0
            .range(..=addr)
            .next_back()
            .map(|(_, area)| area)
            .filter(|area| addr < area.end)
    }

    /// The mappings that touch `start..end`, ascending.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = &Area> {
        let first = self.find(start).map_or(start, |area| area.start);
        self.0.range(first..end.max(first)).map(|(_, area)| area)
    }

    /// All mappings.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.0.values()
    }

    /// Whether one process has mapped all of `start..end`.
    #[must_use]
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for area in self.within(start, end) {
            if area.start > at {
                return false;
            }
            at = area.end;
        }
        at >= end
    }

    /// Cuts mappings at `at`, so that none spans it.
    fn cut(&mut self, at: u64) {
        let Some(start) = self
            .find(at)
            .map(|area| area.start)
            .filter(|&start| start < at)
        else {
            return;
        };
        if let Some(mut high) = self.0.remove(&start) {
            let low = high.split_low(at);
            self.0.insert(low.start, low);
            self.0.insert(high.start, high);
        }
    }

    /// Takes out everything inside `start..end`.
    pub fn take(&mut self, start: u64, end: u64) -> Vec<Area> {
        self.cut(start);
        self.cut(end);
        let keys: Vec<u64> = self.0.range(start..end).map(|(&key, _)| key).collect();
        keys.iter().filter_map(|key| self.0.remove(key)).collect()
    }

    /// Puts a mapping into a free range, joined with its neighbours if possible.
    pub fn insert(&mut self, mut area: Area) {
        if let Some(left) = self.0.range(..area.start).next_back().map(|(&key, _)| key)
            && self.0.get(&left).is_some_and(|left| left.joins(&area))
            && let Some(left) = self.0.remove(&left)
        {
            area.start = left.start;
        }
        if self.0.get(&area.end).is_some_and(|right| area.joins(right))
            && let Some(right) = self.0.remove(&area.end)
        {
            area.end = right.end;
        }
        self.0.insert(area.start, area);
    }

    /// Whether nothing is mapped in `start..end`.
    #[must_use]
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.within(start, end).next().is_none()
    }

    /// The highest free range of `len` bytes inside `low..high`.
    #[must_use]
    pub fn free_below(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        let mut top = high;
        for area in self.0.range(..high).rev().map(|(_, area)| area) {
            if area.end < top && top - area.end >= len {
                break;
            }
            top = top.min(area.start);
            if top < low.saturating_add(len) {
                return None;
            }
        }
        top.checked_sub(len)
            .filter(|&start| start >= low && start.is_multiple_of(PAGE))
    }

    /// The lowest free range of `len` bytes at or above `low`, below `high`.
    #[must_use]
    pub fn free_above(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        let mut at = low;
        for area in self.within(low, high) {
            if area.start.saturating_sub(at) >= len {
                break;
            }
            at = at.max(area.end);
        }
        at.checked_add(len).filter(|&end| end <= high).map(|_| at)
    }
}
