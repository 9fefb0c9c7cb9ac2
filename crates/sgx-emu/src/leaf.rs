// SPDX-License-Identifier: Apache-2.0
//! ENCLU leaves that return to the enclave (SDM vol. 3D §40.4).

use sgx::key::KeyRequest;
use sgx::leaf::enclu;
use sgx::report::TargetInfo;
use sgx::secinfo::{PageFlags, SecInfo};
use sgx::ssa::vector;

use crate::enclave::EmulatedEnclave;
use crate::keys::{KeyAnswer, KeySourceError};

/// RFLAGS.ZF.
const ZF: u64 = 1 << 6;
/// CF, PF, AF, SF, OF: cleared by leaves that set ZF.
const OTHER_FLAGS: u64 = 1 | 1 << 2 | 1 << 4 | 1 << 7 | 1 << 11;
/// Page-fault error code: write.
const WRITE: u32 = 1 << 1;
/// Page-fault error code: present, user, SGX access control.
const EPCM_VIOLATION: u32 = 1 | 1 << 2 | 1 << 15;

/// An exception that an instruction raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) vector: u8,
    pub(crate) error: u32,
    pub(crate) address: u64,
}

impl Fault {
    pub(crate) fn general_protection() -> Self {
        Self {
            vector: vector::GP,
            error: 0,
            address: 0,
        }
    }

    pub(crate) fn page(address: u64, write: bool) -> Self {
        Self {
            vector: vector::PF,
            error: EPCM_VIOLATION | if write { WRITE } else { 0 },
            address,
        }
    }
}

/// The registers that leaves read and write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands {
    pub(crate) rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rflags: u64,
}

/// Executes one leaf other than EEXIT.
pub(crate) fn execute(enclave: &EmulatedEnclave, ops: &mut Operands) -> Result<(), Fault> {
    // The leaf number is EAX.
    match low_half(ops.rax) {
        enclu::EREPORT => report(enclave, ops),
        enclu::EGETKEY => {
            let code = key(enclave, ops)?;
            finish(ops, code);
            Ok(())
        }
        enclu::EACCEPT => {
            let code = enclave.accept(&secinfo(enclave, ops.rbx)?, ops.rcx)?;
            finish(ops, code);
            Ok(())
        }
        enclu::EACCEPTCOPY => {
            let code = enclave.accept_copy(&secinfo(enclave, ops.rbx)?, ops.rcx, ops.rdx)?;
            finish(ops, code);
            Ok(())
        }
        enclu::EMODPE => enclave.extend(&secinfo(enclave, ops.rbx)?, ops.rcx),
        // EENTER and ERESUME are for the outside; others do not exist.
        _ => Err(Fault::general_protection()),
    }
}

/// The 32-bit part of a register.
pub(crate) const fn low_half(register: u64) -> u32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn finish(ops: &mut Operands, code: u64) {
    ops.rax = code;
    ops.rflags &= !(ZF | OTHER_FLAGS);
    if code != 0 {
        ops.rflags |= ZF;
    }
}

fn report(enclave: &EmulatedEnclave, ops: &Operands) -> Result<(), Fault> {
    let target: [u8; TargetInfo::SIZE] = read(enclave, ops.rbx, 512)?;
    let data: [u8; 64] = read(enclave, ops.rcx, 128)?;
    check(enclave, ops.rdx, 512, PageFlags::W)?;
    let target = TargetInfo::from_bytes(&target).ok_or_else(Fault::general_protection)?;
    let report = enclave
        .keys
        .report(&enclave.identity, &target, &data)
        .unwrap_or_else(|error| stop(&error));
    write(enclave, ops.rdx, 512, &report.to_bytes())
}

fn key(enclave: &EmulatedEnclave, ops: &Operands) -> Result<u64, Fault> {
    let request: [u8; KeyRequest::SIZE] = read(enclave, ops.rbx, 512)?;
    check(enclave, ops.rcx, 16, PageFlags::W)?;
    let request = KeyRequest::from_bytes(&request).ok_or_else(Fault::general_protection)?;
    let answer = enclave
        .keys
        .key(&enclave.identity, &request)
        .unwrap_or_else(|error| stop(&error));
    match answer {
        KeyAnswer::Key(key) => {
            write(enclave, ops.rcx, 16, &key)?;
            Ok(0)
        }
        KeyAnswer::Code(code) => Ok(code),
        KeyAnswer::Fault => Err(Fault::general_protection()),
    }
}

fn secinfo(enclave: &EmulatedEnclave, address: u64) -> Result<SecInfo, Fault> {
    let bytes: [u8; SecInfo::SIZE] = read(enclave, address, 64)?;
    SecInfo::from_bytes(&bytes).ok_or_else(Fault::general_protection)
}

/// Operands are aligned to at least their size or lie within a page because of
/// their alignment, so one page decides.
fn check(
    enclave: &EmulatedEnclave,
    address: u64,
    align: u64,
    wanted: PageFlags,
) -> Result<(), Fault> {
    if !address.is_multiple_of(align) || address >= enclave.size() {
        return Err(Fault::general_protection());
    }
    if enclave
        .epcm
        .get(address)
        .is_some_and(|entry| entry.allows(wanted))
        && enclave.catch_up_with(address)
    {
        Ok(())
    } else {
        Err(Fault::page(address, wanted.contains(PageFlags::W)))
    }
}

fn read<const N: usize>(
    enclave: &EmulatedEnclave,
    address: u64,
    align: u64,
) -> Result<[u8; N], Fault> {
    check(enclave, address, align, PageFlags::R)?;
    // SAFETY: a readable page of the enclave (checked); alignment keeps all N
    // bytes inside it.
    Ok(unsafe { std::ptr::read_unaligned(address as *const [u8; N]) })
}

fn write<const N: usize>(
    enclave: &EmulatedEnclave,
    address: u64,
    align: u64,
    bytes: &[u8; N],
) -> Result<(), Fault> {
    check(enclave, address, align, PageFlags::W)?;
    // SAFETY: as in `read`, for a writable page.
    unsafe { std::ptr::write_unaligned(address as *mut [u8; N], *bytes) };
    Ok(())
}

/// The platform is out of reach: silicon cannot fail here, so the machine stops.
fn stop(error: &KeySourceError) -> ! {
    eprintln!(
        "[ENSCONCE|FATAL] emulated processor: {error}; is the local attestation service (ensconce-las --emulated) still running?"
    );
    std::process::abort()
}
