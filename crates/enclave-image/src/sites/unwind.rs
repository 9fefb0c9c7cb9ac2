// SPDX-License-Identifier: Apache-2.0
//! Functions from the unwind table: `.eh_frame_hdr` survives stripping and
//! lists every function that has unwind information (LSB core, §10.6).

use object::elf::PT_GNU_EH_FRAME;

use super::code::Function;
use crate::elf::Elf;

/// Most functions that are taken in.
const FUNCTIONS_MAX: usize = 1 << 20;
/// Version 1; pointer any; count `udata4`; table `datarel | sdata4`.
const VERSION: u8 = 1;
const COUNT_ENCODING: u8 = 0x03;
const TABLE_ENCODING: u8 = 0x3b;

/// The functions of a file; none if the table is missing or in another encoding.
pub(super) fn functions(elf: &Elf<'_>) -> Vec<Function> {
    let Some(segment) = elf.first_of_kind(PT_GNU_EH_FRAME.0) else {
        return Vec::new();
    };
    let header = segment.address;
    let Some(
        [
            VERSION,
            _,
            COUNT_ENCODING,
            TABLE_ENCODING,
            _,
            _,
            _,
            _,
            count @ ..,
        ],
    ) = elf.array_at::<12>(header)
    else {
        return Vec::new();
    };
    let count = usize::try_from(u32::from_le_bytes(count)).unwrap_or(usize::MAX);
    let table = header.checked_add(12).and_then(|at| elf.bytes_from(at));
    let entries = table.unwrap_or_default().as_chunks::<8>().0;
    entries
        .iter()
        .take(count.min(FUNCTIONS_MAX))
        .map(|&[a, b, c, d, frame @ ..]| {
            let relative = |bytes| header.wrapping_add_signed(i32::from_le_bytes(bytes).into());
            let address = relative([a, b, c, d]);
            Function {
                address,
                size: size(elf, relative(frame), address).unwrap_or(0),
            }
        })
        .collect()
}

/// The length of the function at `address` from its frame description, provided
/// that it uses the usual encoding, which the address in it shows.
fn size(elf: &Elf<'_>, frame: u64, address: u64) -> Option<u64> {
    let entry: [u8; 16] = elf.array_at(frame)?;
    let (_, rest) = entry.split_at_checked(8)?;
    let (start, len) = rest.split_at_checked(4)?;
    let start = i32::from_le_bytes(start.try_into().ok()?);
    let own = frame.checked_add(8)?.wrapping_add_signed(start.into());
    (own == address).then_some(u64::from(u32::from_le_bytes(len.try_into().ok()?)))
}
