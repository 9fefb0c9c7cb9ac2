// SPDX-License-Identifier: Apache-2.0
//! Rewriting of listed system-call sites.
//!
//! A site is replaced by a jump to a stub that repeats its neighbouring
//! instructions and enters the kernel with the return address in RCX, which the
//! system-call ABI leaves undefined. Nothing is pushed: the program's red zone
//! stays intact. Sites that do not fit trap instead, which is correct but slow.

use alloc::vec::Vec;

use enclave_abi::startup::Site;

use super::Memory;
use super::area::{Area, Label, Map};
use super::fault::Outcome;
use super::pages::{PAGE, Prot};

/// Bytes of one pool of stubs.
const POOL: u64 = 64 << 10;
/// Most bytes of one stub.
const STUB_MAX: usize = 48;
/// How far a 32-bit displacement may reach, with room to spare.
const REACH: u64 = (1 << 31) - (1 << 20);
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `mov rax, 15; syscall`: how unwinders recognise a signal frame.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// Pools of stubs.
#[derive(Debug)]
pub struct Stubs {
    entry: u64,
    pools: Vec<Pool>,
}

#[derive(Debug)]
struct Pool {
    owner: u32,
    start: u64,
    /// Address of the next stub; the kernel's entry address lies at `start`.
    next: u64,
    /// End of the committed part.
    committed: u64,
}

impl Stubs {
    pub(super) fn new(entry: u64) -> Self {
        Self {
            entry,
            pools: Vec::new(),
        }
    }

    /// Drops the pools of a process that is gone.
    pub(super) fn forget(&mut self, owner: u32) {
        self.pools.retain(|pool| pool.owner != owner);
    }
}

/// A site's place in a window of a file.
struct Place {
    /// First replaced byte, as an index into the window.
    from: usize,
    /// Bytes that may be replaced.
    len: usize,
    /// Bytes that the stub repeats first, as a range of the window.
    before: (usize, usize),
    /// Bytes that it repeats afterwards.
    after: (usize, usize),
    /// Where it continues, as an index into the window.
    back: usize,
}

/// Checks a site against the bytes. `None`: leave it alone.
fn place(site: &Site, window_offset: u64, window: &[u8]) -> Option<Place> {
    let at = usize::try_from(u64::from(site.at).checked_sub(window_offset)?).ok()?;
    let (before, after) = (usize::from(site.before), usize::from(site.after));
    let from = at.checked_sub(before)?;
    let end = at.checked_add(2 + after)?;
    if window.get(at..at + 2)? != SYSCALL || end > window.len() {
        return None;
    }
    if at >= 7 && window.get(at - 7..at + 2)? == SIGRETURN {
        return None;
    }
    if before >= 5 {
        Some(Place {
            from,
            len: before,
            before: (from, at),
            after: (at, at),
            back: at + 2,
        })
    } else if end - from >= 5 {
        Some(Place {
            from,
            len: end - from,
            before: (from, at),
            after: (at + 2, end),
            back: end,
        })
    } else {
        None
    }
}

/// A 32-bit displacement from the end of an instruction.
fn displacement(from: u64, to: u64) -> Option<[u8; 4]> {
    i32::try_from(to.wrapping_sub(from).cast_signed())
        .ok()
        .map(i32::to_le_bytes)
}

/// Encodes a stub for address `stub`; `base` is the window's address, `slot`
/// where the kernel's entry address lies.
fn encode(place: &Place, window: &[u8], base: u64, stub: u64, slot: u64) -> Option<Vec<u8>> {
    let before = window.get(place.before.0..place.before.1)?;
    let after = window.get(place.after.0..place.after.1)?;
    let mut code = Vec::with_capacity(STUB_MAX);
    code.extend_from_slice(before);
    // lea rcx, [rip + 6]: the instruction after the jump.
    code.extend_from_slice(&[0x48, 0x8d, 0x0d, 6, 0, 0, 0]);
    // jmp qword ptr [rip + slot]
    code.extend_from_slice(&[0xff, 0x25]);
    code.extend_from_slice(&displacement(stub + code.len() as u64 + 4, slot)?);
    code.extend_from_slice(after);
    // jmp back
    code.push(0xe9);
    code.extend_from_slice(&displacement(
        stub + code.len() as u64 + 4,
        base + place.back as u64,
    )?);
    Some(code)
}

/// Replaces the site by a jump to `stub`.
fn redirect(place: &Place, window: &mut [u8], base: u64, stub: u64) -> Option<()> {
    let to = displacement(base + place.from as u64 + 5, stub)?;
    let bytes = window.get_mut(place.from..place.from + place.len)?;
    bytes.fill(0x90);
    bytes.get_mut(..1)?.copy_from_slice(&[0xe9]);
    bytes.get_mut(1..5)?.copy_from_slice(&to);
    Some(())
}

impl Memory {
    /// Rewrites the listed sites that lie whole inside a window of an
    /// executable mapping, before the window becomes visible.
    pub(super) fn apply_sites(&self, map: &mut Map, area: &Area, start: u64, window: &mut [u8]) {
        let Some((source, offset)) = &area.file else {
            return;
        };
        let window_offset = offset + (start - area.start);
        let end = window_offset + window.len() as u64;
        let first = source
            .sites
            .partition_point(|site| u64::from(site.at) < window_offset);
        let mut stubs = self.stubs.lock();
        let entry = stubs.entry;
        let mut touched: Option<(u64, u64)> = None;
        for site in source.sites.get(first..).unwrap_or(&[]) {
            if u64::from(site.at) >= end {
                break;
            }
            let Some(place) = place(site, window_offset, window) else {
                continue;
            };
            let Some(index) = self.pool(map, &mut stubs, area, start) else {
                break;
            };
            let Some(pool) = stubs.pools.get_mut(index) else {
                break;
            };
            let stub = pool.next;
            let Some(code) = encode(&place, window, start, stub, pool.start) else {
                continue;
            };
            let end = stub + code.len() as u64;
            if !self.open_pool(entry, pool, end, &mut touched) {
                break;
            }
            self.pages.fill(stub, &code);
            if redirect(&place, window, start, stub).is_some() {
                pool.next = end;
            }
        }
        if let Some((from, to)) = touched {
            self.pages
                .restrict(from, (to - from) / PAGE, Prot::R | Prot::X);
        }
    }

    /// A pool near `start` with room for a stub.
    fn pool(&self, map: &mut Map, stubs: &mut Stubs, area: &Area, start: u64) -> Option<usize> {
        let fits = |pool: &Pool| {
            pool.owner == area.owner
                && pool.start.abs_diff(start) < REACH
                && pool.next + STUB_MAX as u64 <= pool.start + POOL
        };
        if let Some(index) = stubs.pools.iter().position(fits) {
            return Some(index);
        }
        let low = self.start.max(start.saturating_sub(REACH));
        let high = self.end.min(start.saturating_add(REACH));
        let at = map.free_below(low, high, POOL)?;
        map.insert(Area {
            start: at,
            end: at + POOL,
            prot: Prot::R | Prot::X,
            shared: false,
            write_back: false,
            owner: area.owner,
            file: None,
            label: Label::Stubs,
            wipe_on_fork: false,
        });
        stubs.pools.push(Pool {
            owner: area.owner,
            start: at,
            next: at + 8,
            committed: at,
        });
        Some(stubs.pools.len() - 1)
    }

    /// Makes the pool writable up to `end`. `touched` is the range to close again.
    fn open_pool(
        &self,
        entry: u64,
        pool: &mut Pool,
        end: u64,
        touched: &mut Option<(u64, u64)>,
    ) -> bool {
        let all = Prot::R | Prot::W | Prot::X;
        let from = pool.next & !(PAGE - 1);
        let upto = end.next_multiple_of(PAGE);
        let open = touched.map_or(from, |(_, open)| open);
        if touched.is_some_and(|(first, _)| first < pool.start) {
            return false;
        }
        if upto <= open && touched.is_some() {
            return true;
        }
        if open < pool.committed {
            let to = pool.committed.min(upto);
            self.pages.extend(open, (to - open) / PAGE, all);
        }
        if pool.committed < upto {
            let fresh = pool.committed;
            if self.commit(fresh, upto, all, None) != Outcome::Resolved {
                return false;
            }
            if fresh == pool.start {
                self.pages.fill(pool.start, &entry.to_le_bytes());
            }
            pool.committed = upto;
        }
        self.table.set(
            from,
            upto,
            super::pages::PRESENT | (Prot::R | Prot::X).bits(),
        );
        *touched = Some((touched.map_or(from, |(first, _)| first), upto));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(at: u32, before: u8, after: u8) -> Site {
        Site { at, before, after }
    }

    #[test]
    fn the_syscall_itself_stays_when_five_bytes_precede_it() {
        let mut window = [0x90, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3].to_vec();
        let place = place(&site(6, 5, 0), 0, &window).unwrap();
        let code = encode(&place, &window, 0x1000, 0x2008, 0x2000).unwrap();
        assert_eq!(&code[..5], &[0xb8, 1, 0, 0, 0]);
        // jmp [rip + d]: 0x2008 + 18 + d = 0x2000
        assert_eq!(&code[12..18], &[0xff, 0x25, 0xe6, 0xff, 0xff, 0xff]);
        // jmp back to 0x1008 from 0x2008 + 23
        assert_eq!(code[18], 0xe9);
        assert_eq!(
            i32::from_le_bytes(code[19..23].try_into().unwrap()),
            0x1008 - (0x2008 + 23)
        );
        redirect(&place, &mut window, 0x1000, 0x2008).unwrap();
        assert_eq!(window[1], 0xe9);
        assert_eq!(
            i32::from_le_bytes(window[2..6].try_into().unwrap()),
            0x2008 - 0x1006
        );
        assert_eq!(&window[6..8], &SYSCALL);
    }

    #[test]
    fn following_instructions_are_repeated_when_too_few_precede() {
        let window = [0x0f, 0x05, 0x48, 0x3d, 1, 2, 3, 4, 0xc3];
        let place = place(&site(0, 0, 6), 0, &window).unwrap();
        let code = encode(&place, &window, 0x1000, 0x3000, 0x2ff8).unwrap();
        assert_eq!(&code[13..19], &[0x48, 0x3d, 1, 2, 3, 4]);
        assert_eq!(place.back, 8);
    }

    #[test]
    fn refuses_what_is_no_syscall_or_a_sigreturn_or_outside() {
        assert!(place(&site(1, 0, 6), 0, &[0; 16]).is_none());
        assert!(place(&site(7, 7, 0), 0, &SIGRETURN).is_none());
        assert!(place(&site(0, 0, 6), 0, &[0x0f, 0x05, 0x48]).is_none());
        assert!(place(&site(4, 5, 0), 0, &[0, 0, 0, 0, 0x0f, 0x05]).is_none());
    }
}
