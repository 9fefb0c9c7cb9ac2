// SPDX-License-Identifier: Apache-2.0
//! The file's code: its regions, where functions begin, and every place that
//! something may jump to.

use crate::elf::{Elf, ElfError};

/// Most executable segments that are looked at.
const SEGMENTS_MAX: usize = 64;
/// Most entries of one jump table.
const TABLE_MAX: usize = 4096;

/// One executable range of the file.
pub(super) struct Region<'a> {
    /// Address of the first byte, relative to the load base.
    pub(super) address: u64,
    /// Offset of the first byte in the file.
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
    targets: Vec<u64>,
}

impl Region<'_> {
    fn index(&self, address: u64) -> Option<usize> {
        let at = usize::try_from(address.checked_sub(self.address)?).ok()?;
        (at < self.bytes.len()).then_some(at)
    }

    fn mark(&mut self, at: usize) {
        if let Some(word) = self.targets.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Whether something may jump to a byte of `range`.
    pub(super) fn has_target(&self, range: std::ops::Range<usize>) -> bool {
        range.into_iter().any(|at| {
            self.targets
                .get(at / 64)
                .is_some_and(|w| w >> (at % 64) & 1 == 1)
        })
    }
}

/// A function as symbols or the unwind table tell it; `size` 0 is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    pub(super) address: u64,
    pub(super) size: u64,
}

/// All code of a file.
pub(super) struct CodeMap<'a> {
    /// Ascending, without overlap.
    pub(super) regions: Vec<Region<'a>>,
    /// Addresses at which decoding must start anew, ascending.
    pub(super) starts: Vec<u64>,
    /// Ranges that are certainly code, ascending, without overlap.
    covered: Vec<(u64, u64)>,
}

impl<'a> CodeMap<'a> {
    /// Collects the executable sections, or whole segments where a file has none.
    pub(super) fn new(elf: &Elf<'a>) -> Result<Self, ElfError> {
        let sections = elf.sections();
        let mut ranges = Vec::new();
        for load in elf.loads().filter(|s| s.execute).take(SEGMENTS_MAX) {
            let end = load.address + load.file_size;
            let before = ranges.len();
            for section in sections.iter().filter(|s| s.execute && s.has_bytes) {
                let to = section.address.saturating_add(section.size).min(end);
                let from = section.address.max(load.address);
                if from < to {
                    ranges.push((from, to));
                }
            }
            if ranges.len() == before && load.file_size > 0 {
                ranges.push((load.address, end));
            }
        }
        ranges.sort_unstable();
        let mut regions: Vec<Region<'a>> = Vec::new();
        let mut total = 0u64;
        let mut free_from = 0;
        for (from, to) in ranges {
            // Overlapping sections are cut; overlapping segments translate to the first one.
            let from = from.max(free_from);
            let Some(offset) = elf.file_offset(from).filter(|_| from < to) else {
                continue;
            };
            let bytes = elf.bytes_from(from).unwrap_or_default();
            let len = usize::try_from(to - from).unwrap_or(usize::MAX);
            let bytes = bytes.get(..len).unwrap_or(bytes);
            free_from = to;
            total += bytes.len() as u64;
            if total > elf.data().len() as u64 {
                return Err(ElfError::Malformed {
                    part: "set of executable segments",
                });
            }
            regions.push(Region {
                address: from,
                offset,
                bytes,
                targets: vec![0; bytes.len() / 64 + 1],
            });
        }
        Ok(Self {
            regions,
            starts: Vec::new(),
            covered: Vec::new(),
        })
    }

    /// The region that holds `address`, and the index in it.
    pub(super) fn locate(&self, address: u64) -> Option<(usize, usize)> {
        let next = self.regions.partition_point(|r| r.address <= address);
        let index = next.checked_sub(1)?;
        Some((index, self.regions.get(index)?.index(address)?))
    }

    /// Notes that something may jump to `address`, if it is code.
    pub(super) fn mark(&mut self, address: u64) {
        if let Some((region, at)) = self.locate(address)
            && let Some(region) = self.regions.get_mut(region)
        {
            region.mark(at);
        }
    }

    /// Treats every aligned word of the file that could be an address of code as
    /// one: relocation addends, tables of labels, tables of functions.
    pub(super) fn mark_pointers(&mut self, file: &[u8]) {
        let (Some(first), Some(last)) = (self.regions.first(), self.regions.last()) else {
            return;
        };
        let all = first.address..last.address + last.bytes.len() as u64;
        for word in file.as_chunks::<8>().0 {
            let value = u64::from_le_bytes(*word);
            if all.contains(&value) {
                self.mark(value);
            }
        }
    }

    /// Takes in what symbols, the unwind table and the entry point tell.
    pub(super) fn mark_starts(&mut self, elf: &Elf<'_>, unwound: &[Function]) {
        let mut functions = unwound.to_vec();
        for symbol in elf.symbols() {
            self.mark(symbol.address);
            if symbol.is_function {
                functions.push(Function {
                    address: symbol.address,
                    size: symbol.size,
                });
            }
        }
        self.mark(elf.entry());
        functions.sort_unstable();
        functions.dedup();
        for function in &functions {
            self.mark(function.address);
            let end = function.address.saturating_add(function.size);
            match self.covered.last_mut() {
                Some(last) if function.address <= last.1 => last.1 = last.1.max(end),
                _ if function.size > 0 => self.covered.push((function.address, end)),
                _ => {}
            }
        }
        self.starts = functions.iter().map(|f| f.address).collect();
        self.starts.push(elf.entry());
        self.starts.sort_unstable();
        self.starts.dedup();
    }

    /// Whether a function is known to hold `address`.
    pub(super) fn is_covered(&self, address: u64) -> bool {
        let next = self.covered.partition_point(|range| range.0 <= address);
        next.checked_sub(1)
            .and_then(|index| self.covered.get(index))
            .is_some_and(|range| address < range.1)
    }

    /// Reads what looks like tables of 32-bit distances from their own beginning
    /// (how compilers write `switch` in position-independent code) at the
    /// addresses that the code loads.
    pub(super) fn mark_jump_tables(&mut self, elf: &Elf<'_>, mut tables: Vec<u64>) {
        tables.sort_unstable();
        tables.dedup();
        for (index, &table) in tables.iter().enumerate() {
            let Some(bytes) = elf.bytes_from(table) else {
                continue;
            };
            // A table ends at the latest where the next thing begins that the code loads.
            let next = tables.get(index + 1).copied().unwrap_or(u64::MAX);
            let room = usize::try_from((next - table) / 4).unwrap_or(usize::MAX);
            for entry in bytes.as_chunks::<4>().0.iter().take(room.min(TABLE_MAX)) {
                let target = table.wrapping_add_signed(i32::from_le_bytes(*entry).into());
                if self.locate(target).is_none() {
                    break;
                }
                self.mark(target);
            }
        }
    }
}
