// SPDX-License-Identifier: Apache-2.0
//! Decides for one `syscall` which bytes a jump may replace.

use enclave_abi::startup::Site;
use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::code::{CodeMap, Region};
use super::replay;
use super::sweep::{CREDIBLE, Candidate};

/// Bytes of `jmp rel32`.
const JUMP: usize = 5;
/// Bytes of `syscall`.
const SYSCALL: usize = 2;
/// Most instructions behind a `syscall` that a stub repeats.
const AFTER: usize = 4;
/// `cmp rax, imm32`, with which every C library tests for an error number.
const COMPARE: [u8; 2] = [0x48, 0x3d];

/// The site, and the first address that the next site may touch. `None` when the
/// instruction must keep trapping. Nothing below `free_from` may be touched.
pub(super) fn choose(
    code: &CodeMap<'_>,
    candidate: &Candidate,
    free_from: u64,
) -> Option<(Site, u64)> {
    let region = code.regions.get(candidate.region)?;
    let address = region.address + candidate.at as u64;
    let certain = candidate.is_clean && code.is_covered(address);
    if !certain && !looks_real(region, candidate) {
        return None;
    }
    let free = usize::try_from(free_from.saturating_sub(region.address)).ok()?;
    let (before, after) =
        before_only(region, candidate, free).or_else(|| both_sides(region, candidate, free))?;
    let site = Site {
        at: u32::try_from(region.offset + candidate.at as u64).ok()?,
        before: u8::try_from(before).ok()?,
        after: u8::try_from(after).ok()?,
    };
    Some((site, address + (SYSCALL + after) as u64))
}

/// Bytes before it suffice: the `syscall` stays and keeps serving whoever jumps to it.
fn before_only(region: &Region<'_>, candidate: &Candidate, free: usize) -> Option<(usize, usize)> {
    let before = *befores(candidate).iter().find(|&&len| len >= JUMP)?;
    let start = candidate.at.checked_sub(before)?;
    let fits = before <= Site::REPLAY_MAX.into() && start >= free;
    (fits && !region.has_target(start + 1..candidate.at)).then_some((before, 0))
}

/// The jump covers the `syscall` too, so nobody may jump to it unless it is first.
fn both_sides(region: &Region<'_>, candidate: &Candidate, free: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for after in afters(region, candidate) {
        for &before in std::iter::once(&0).chain(&befores(candidate)) {
            let Some(start) = candidate.at.checked_sub(before) else {
                continue;
            };
            let end = candidate.at + SYSCALL + after;
            let fits = before < JUMP
                && end - start >= JUMP
                && after <= Site::REPLAY_MAX.into()
                && start >= free
                && !region.has_target(start + 1..end);
            if fits && best.is_none_or(|(b, a)| before + after < b + a) {
                best = Some((before, after));
            }
        }
    }
    best
}

/// Total lengths of the nearest one, two, … instructions before.
fn befores(candidate: &Candidate) -> Vec<usize> {
    let known = candidate.before.iter().take_while(|&&len| len != 0);
    known
        .scan(0, |sum, &len| {
            *sum += usize::from(len);
            Some(*sum)
        })
        .collect()
}

/// Total lengths of the nearest none, one, two, … movable instructions behind.
fn afters(region: &Region<'_>, candidate: &Candidate) -> Vec<usize> {
    let mut out = vec![0];
    let mut total = 0;
    for instruction in behind(region, candidate).take(AFTER) {
        if !replay::is_movable(&instruction) || replay::reads_destroyed(&instruction) {
            break;
        }
        total += instruction.len();
        out.push(total);
    }
    out
}

fn behind<'a>(
    region: &Region<'a>,
    candidate: &Candidate,
) -> impl Iterator<Item = Instruction> + use<'a> {
    let start = candidate.at + SYSCALL;
    let bytes = region.bytes.get(start..).unwrap_or_default();
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

/// For code that might be data: the bytes around must decode, and the
/// instructions must do what a system call's do. Where a whole region decodes,
/// or an error test follows, a number in RAX is all that is asked for.
fn looks_real(region: &Region<'_>, candidate: &Candidate) -> bool {
    let start = candidate.at + SYSCALL;
    let compares = region
        .bytes
        .get(start..)
        .is_some_and(|rest| rest.starts_with(&COMPARE));
    let decodes = behind(region, candidate)
        .take(usize::try_from(CREDIBLE).unwrap_or(0))
        .all(|instruction| !instruction.is_invalid());
    candidate.is_credible
        && decodes
        && candidate.has_number
        && (candidate.is_all_code || compares || candidate.before[0] == 5)
}
