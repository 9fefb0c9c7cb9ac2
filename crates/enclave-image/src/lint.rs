// SPDX-License-Identifier: Apache-2.0
//! Instructions that the kernel must not contain: those that fault inside an
//! enclave (SDM vol. 3D, "Instructions illegal inside an enclave"), those that
//! ask the host, and any ENCLU but the gate's.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use crate::elf::{Elf, ElfError};

/// Most findings that are kept: the first few tell enough.
const FINDINGS_MAX: usize = 256;

/// Which rule an instruction breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// The bytes are no instruction, so nobody can say what they do.
    Undecodable,
    /// CPUID: its answer would be the host's (rule S13).
    Cpuid,
    /// SYSCALL, SYSENTER, INT n and their returns: they would enter the host's kernel.
    HostKernel,
    /// IN, OUT and their string forms.
    Port,
    /// IRET, far branches, loads of segment registers.
    Segment,
    /// Privileged instructions, RDPMC, VM calls, descriptor tables.
    Privileged,
    /// An ENCLU beyond the first.
    SecondEnclu,
    /// Transactional memory: an abort would hide a fault from the kernel.
    Transaction,
}

/// One forbidden instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its address relative to the load base.
    pub address: u64,
    /// The rule it breaks.
    pub rule: Rule,
}

/// Looks at every executable byte of an ELF file.
///
/// Sections are used where the file has them; instructions are decoded one after
/// the other, anew at each symbol.
///
/// # Errors
/// Anything but a 64-bit x86 ELF file.
pub fn lint(file: &[u8]) -> Result<Vec<Finding>, ElfError> {
    let elf = Elf::parse(file)?;
    let mut starts: Vec<u64> = elf.symbols().iter().map(|symbol| symbol.address).collect();
    starts.sort_unstable();
    let sections = elf.sections();
    let mut findings = Vec::new();
    let mut enclus = 0;
    for load in elf.loads().filter(|s| s.execute) {
        let bytes = elf.segment_bytes(load);
        let end = load.address + bytes.len() as u64;
        let mut ranges: Vec<(u64, u64)> = sections
            .iter()
            .filter(|s| s.execute && s.has_bytes)
            .map(|s| {
                let to = s.address.saturating_add(s.size).min(end);
                (s.address.max(load.address), to)
            })
            .filter(|(from, to)| from < to)
            .collect();
        if ranges.is_empty() {
            ranges.push((load.address, end));
        }
        for (from, to) in ranges {
            let from_index = usize::try_from(from - load.address).unwrap_or(usize::MAX);
            let to_index = usize::try_from(to - load.address).unwrap_or(usize::MAX);
            let Some(code) = bytes.get(from_index..to_index) else {
                continue;
            };
            lint_range(code, from, &starts, &mut enclus, &mut findings);
        }
    }
    Ok(findings)
}

fn lint_range(
    code: &[u8],
    address: u64,
    starts: &[u64],
    enclus: &mut usize,
    findings: &mut Vec<Finding>,
) {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut next = starts.partition_point(|&start| start <= address);
    while decoder.can_decode() && findings.len() < FINDINGS_MAX {
        let at = decoder.position();
        let here = address + at as u64;
        while starts.get(next).is_some_and(|&start| start <= here) {
            next += 1;
        }
        decoder.decode_out(&mut instruction);
        let crossed = starts
            .get(next)
            .copied()
            .filter(|&start| start < instruction.next_ip());
        let rule = if instruction.is_invalid() || crossed.is_some() {
            let skip = crossed.map_or(1, |start| start - here);
            let to = at + usize::try_from(skip).unwrap_or(1);
            if decoder.set_position(to).is_err() {
                return;
            }
            decoder.set_ip(address + to as u64);
            Some(Rule::Undecodable)
        } else {
            broken_rule(&instruction, enclus)
        };
        if let Some(rule) = rule {
            findings.push(Finding {
                address: here,
                rule,
            });
        }
    }
}

fn broken_rule(instruction: &Instruction, enclus: &mut usize) -> Option<Rule> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Cpuid => Some(Rule::Cpuid),
        M::Syscall
        | M::Sysenter
        | M::Sysexit
        | M::Sysexitq
        | M::Sysret
        | M::Sysretq
        | M::Int
        | M::Into
        | M::Int1 => Some(Rule::HostKernel),
        M::In | M::Out | M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => {
            Some(Rule::Port)
        }
        M::Iret | M::Iretd | M::Iretq | M::Retf | M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => {
            Some(Rule::Segment)
        }
        M::Xbegin | M::Xabort | M::Xend => Some(Rule::Transaction),
        M::Rdpmc
        | M::Getsec
        | M::Vmcall
        | M::Vmmcall
        | M::Vmfunc
        | M::Sgdt
        | M::Sidt
        | M::Sldt
        | M::Str
        | M::Smsw
        | M::Encls
        | M::Enclv
        | M::Swapgs => Some(Rule::Privileged),
        M::Enclu => {
            *enclus += 1;
            (*enclus > 1).then_some(Rule::SecondEnclu)
        }
        _ if instruction.is_privileged() => Some(Rule::Privileged),
        _ if is_far(instruction) || loads_segment(instruction) => Some(Rule::Segment),
        _ => None,
    }
}

fn is_far(instruction: &Instruction) -> bool {
    let far_memory = matches!(
        instruction.code(),
        Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
            | Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
    );
    far_memory
        || (instruction.flow_control() != FlowControl::Next
            && matches!(
                instruction.op0_kind(),
                OpKind::FarBranch16 | OpKind::FarBranch32
            ))
}

fn loads_segment(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_segment_register()
}
