// SPDX-License-Identifier: Apache-2.0
//! Decodes all code once: collects `syscall` instructions with what stands
//! before them, and marks every place that the code itself names.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::code::CodeMap;
use super::replay;

/// How many movable instructions before a `syscall` are remembered.
pub(super) const WINDOW: usize = 8;
/// Instructions without an undecodable one before code counts as credible.
pub(super) const CREDIBLE: u32 = 16;
/// `rt_sigreturn`: unwinders recognise its bytes, so they stay.
const SIGRETURN: u64 = 15;
/// Instructions within which RAX must have been set for a `syscall` to be credible.
const NUMBER_REACH: u32 = 16;

/// A `syscall` instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Index of the region.
    pub(super) region: usize,
    /// Index of the instruction in the region.
    pub(super) at: usize,
    /// Lengths of the movable instructions before it, nearest first; 0 ends.
    pub(super) before: [u8; WINDOW],
    /// Whether everything since the function's beginning was decodable.
    pub(super) is_clean: bool,
    /// Whether the whole region was: then it holds no data.
    pub(super) is_all_code: bool,
    /// Whether at least [`CREDIBLE`] instructions before it were.
    pub(super) is_credible: bool,
    /// Whether something is put into RAX shortly before.
    pub(super) has_number: bool,
}

/// What the sweep found.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) candidates: Vec<Candidate>,
    /// All `syscall` instructions, those that never become candidates included.
    pub(super) decoded: usize,
    /// Addresses of data that the code loads: jump tables, among others.
    pub(super) tables: Vec<u64>,
}

/// Movable instructions directly before the current one.
#[derive(Clone, Copy, Default)]
struct Window {
    lengths: [u8; WINDOW],
    number: Option<u64>,
}

impl Window {
    fn push(&mut self, instruction: &Instruction) {
        self.lengths.rotate_right(1);
        self.lengths[0] = u8::try_from(instruction.len()).unwrap_or(0);
        if let Some(number) = replay::number(instruction) {
            self.number = Some(number);
        }
    }
}

/// Decodes every region.
pub(super) fn sweep(code: &mut CodeMap<'_>, is_fixed: bool) -> Swept {
    let mut out = Swept::default();
    let mut marks = Vec::new();
    for region in 0..code.regions.len() {
        sweep_region(code, region, is_fixed, &mut out, &mut marks);
    }
    for address in marks {
        code.mark(address);
    }
    out
}

fn sweep_region(
    code: &CodeMap<'_>,
    index: usize,
    is_fixed: bool,
    out: &mut Swept,
    marks: &mut Vec<u64>,
) {
    let Some(region) = code.regions.get(index) else {
        return;
    };
    let mut decoder = Decoder::with_ip(64, region.bytes, region.address, DecoderOptions::NONE);
    let mut next_start = code.starts.partition_point(|&start| start < region.address);
    let mut window = Window::default();
    let mut instruction = Instruction::default();
    let mut since_invalid = 0u32;
    let mut since_number = NUMBER_REACH;
    let mut is_clean = true;
    let first = out.candidates.len();
    let mut is_all_code = true;
    while decoder.can_decode() {
        let at = decoder.position();
        let address = region.address + at as u64;
        let mut boundary = code.starts.get(next_start).copied();
        if boundary == Some(address) {
            // What precedes a function does not run into it by decoding order alone.
            window = Window::default();
            is_clean = true;
            since_number = NUMBER_REACH;
            next_start += 1;
            boundary = code.starts.get(next_start).copied();
        }
        decoder.decode_out(&mut instruction);
        let crosses = boundary.is_some_and(|start| start < instruction.next_ip());
        if instruction.is_invalid() || crosses {
            let skip = match boundary {
                Some(start) if crosses => start - address,
                _ => 1,
            };
            let to = at + usize::try_from(skip).unwrap_or(1);
            if decoder.set_position(to).is_err() {
                return;
            }
            decoder.set_ip(region.address + to as u64);
            window = Window::default();
            since_invalid = 0;
            since_number = NUMBER_REACH;
            is_clean = false;
            is_all_code = false;
            continue;
        }
        since_invalid = since_invalid.saturating_add(1);
        since_number = since_number.saturating_add(1);
        if instruction.code() == Code::Syscall {
            out.decoded += 1;
            // The decoder accepts prefixes; a bare instruction has two bytes.
            if instruction.len() == 2 && window.number != Some(SIGRETURN) {
                out.candidates.push(Candidate {
                    region: index,
                    at,
                    before: window.lengths,
                    is_clean,
                    is_all_code: false,
                    is_credible: since_invalid > CREDIBLE || is_clean,
                    has_number: since_number < NUMBER_REACH,
                });
            }
            window = Window::default();
            continue;
        }
        if replay::sets_rax(&instruction) {
            since_number = 0;
        }
        note_references(code, &instruction, is_fixed, out, marks);
        if replay::is_movable(&instruction) {
            window.push(&instruction);
        } else {
            window = Window::default();
        }
    }
    for candidate in out.candidates.iter_mut().skip(first) {
        candidate.is_all_code = is_all_code;
    }
}

/// Notes every address that the instruction names.
fn note_references(
    code: &CodeMap<'_>,
    instruction: &Instruction,
    is_fixed: bool,
    out: &mut Swept,
    marks: &mut Vec<u64>,
) {
    if instruction.flow_control() != FlowControl::Next {
        if matches!(
            instruction.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        ) {
            marks.push(instruction.near_branch_target());
        }
        return;
    }
    if instruction.memory_base() == Register::RIP {
        let address = instruction.ip_rel_memory_address();
        if code.locate(address).is_some() {
            marks.push(address);
        } else if instruction.code() == Code::Lea_r64_m {
            out.tables.push(address);
        }
    }
    if is_fixed {
        // Addresses are plain numbers in code that is linked at a fixed place.
        for operand in 0..instruction.op_count() {
            if matches!(
                instruction.op_kind(operand),
                OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
            ) {
                let value = instruction.immediate(operand);
                if code.locate(value).is_some() {
                    marks.push(value);
                }
            }
        }
    }
}
