// SPDX-License-Identifier: Apache-2.0
//! The shadow of the EPCM: what the processor knows of each page of ELRANGE
//! (SDM vol. 3D §38.19).

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use sgx::PAGE_SIZE;
use sgx::secinfo::{PageFlags, PageType, SecInfo};

use crate::memory::Mapping;

const VALID: u16 = 1 << 8;
const RESTRICTED: u16 = 1 << 9;
const TYPE_SHIFT: u32 = 12;

/// One page's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Permissions, PENDING, MODIFIED, PR.
    pub(crate) flags: PageFlags,
    pub(crate) page_type: PageType,
    /// Whether somebody ever restricted or chose the permissions: fast mode
    /// enforces them from then on.
    pub(crate) exact: bool,
}

impl Entry {
    fn to_bits(self) -> u16 {
        let flags = self.flags.bits().to_le_bytes()[0];
        let exact = if self.exact { RESTRICTED } else { 0 };
        u16::from(flags) | VALID | exact | (self.page_type as u16) << TYPE_SHIFT
    }

    fn from_bits(bits: u16) -> Option<Self> {
        if bits & VALID == 0 {
            return None;
        }
        Some(Self {
            flags: PageFlags::from_bits_truncate(u64::from(bits & 0xff)),
            page_type: PageType::from_number((bits >> TYPE_SHIFT) as u8)?,
            exact: bits & RESTRICTED != 0,
        })
    }

    pub(crate) fn secinfo(self) -> SecInfo {
        SecInfo {
            flags: self.flags,
            page_type: self.page_type,
        }
    }

    /// Whether enclave code may use the page with these permissions now.
    pub(crate) fn allows(self, wanted: PageFlags) -> bool {
        let waiting = PageFlags::PENDING | PageFlags::MODIFIED;
        self.page_type == PageType::Reg
            && self.flags.contains(wanted)
            && !self.flags.intersects(waiting)
    }
}

/// The entries of one ELRANGE. Changes to entries are made under the lock that
/// the owner keeps; reads need none.
#[derive(Debug)]
pub(crate) struct Epcm {
    table: Mapping,
    pages: u64,
}

impl Epcm {
    pub(crate) fn new(elrange: u64) -> io::Result<Self> {
        let pages = elrange / PAGE_SIZE as u64;
        let len = usize::try_from(pages * 2).map_err(io::Error::other)?;
        Ok(Self {
            table: Mapping::anywhere(len.next_multiple_of(PAGE_SIZE))?,
            pages,
        })
    }

    fn cell(&self, address: u64) -> Option<&AtomicU16> {
        let page = address / PAGE_SIZE as u64;
        if page >= self.pages {
            return None;
        }
        let at = self.table.start() + usize::try_from(page).ok()? * 2;
        // SAFETY: `page` is below the number of entries that the table holds;
        // the table is zeroed memory that lives as long as `self`.
        Some(unsafe { &*(at as *const AtomicU16) })
    }

    /// The entry of the page that holds `address`; `None` if it was never
    /// added or lies outside ELRANGE.
    pub(crate) fn get(&self, address: u64) -> Option<Entry> {
        Entry::from_bits(self.cell(address)?.load(Ordering::Acquire))
    }

    /// Sets or, with `None`, clears an entry. Addresses outside are ignored:
    /// callers have checked them.
    pub(crate) fn set(&self, address: u64, entry: Option<Entry>) {
        if let Some(cell) = self.cell(address) {
            cell.store(entry.map_or(0, Entry::to_bits), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_unknown_pages_are_absent() {
        let epcm = Epcm::new(1 << 20).unwrap();
        assert_eq!(epcm.get(0x3000), None);
        for page_type in [PageType::Reg, PageType::Tcs, PageType::Trim] {
            for exact in [false, true] {
                let entry = Entry {
                    flags: PageFlags::R | PageFlags::X | PageFlags::MODIFIED,
                    page_type,
                    exact,
                };
                epcm.set(0x3000, Some(entry));
                assert_eq!(epcm.get(0x3fff), Some(entry));
            }
        }
        epcm.set(0x3000, None);
        assert_eq!(epcm.get(0x3000), None);
        assert_eq!(epcm.get(1 << 20), None, "outside ELRANGE");
    }

    #[test]
    fn a_pending_page_allows_nothing() {
        let entry = Entry {
            flags: PageFlags::R | PageFlags::W | PageFlags::PENDING,
            page_type: PageType::Reg,
            exact: false,
        };
        assert!(!entry.allows(PageFlags::R));
    }
}
