// SPDX-License-Identifier: Apache-2.0
//! `struct rt_sigframe` of x86-64 Linux (`asm/sigcontext.h`, `asm/ucontext.h`).

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use enclave_abi::cpuid::xsave_size;

use super::{Action, Altstack, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, SigInfo, UNBLOCKABLE, sa};
use crate::context::Context;
use crate::errno::Errno;
use crate::process::frame::{Frame, NO_CALL, NO_VECTOR, REASON_TRAP, RFLAGS_USER};

/// Bytes of frame without extended state: return address, ucontext, siginfo.
const LEN: u64 = 8 + 304 + 128;
/// Bytes below RSP that belong to the program (System V ABI §3.2.2).
const RED_ZONE: u64 = 128;
/// Marks of the extended state (`asm/sigcontext.h`).
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS.
const UC_FLAGS: u64 = 7;
/// CS, GS, FS, SS as Linux shows them.
const SEGMENTS: u64 = 0x002b_0000_0000_0033;

/// Offsets in the frame.
mod at {
    pub(super) const UC: usize = 8;
    pub(super) const STACK: usize = UC + 16;
    pub(super) const REGISTERS: usize = UC + 40;
    pub(super) const FP: usize = REGISTERS + 184;
    pub(super) const MASK: usize = UC + 296;
    pub(super) const INFO: usize = UC + 304;
}

/// Offsets in an XSAVE area.
mod xsave {
    pub(super) const MXCSR: usize = 24;
    pub(super) const XMM: usize = 160;
    pub(super) const SOFTWARE: usize = 464;
    pub(super) const BV: usize = 512;
    pub(super) const LEGACY: usize = 576;
}

/// MXCSR bits that exist.
const MXCSR_MASK: u32 = 0xffff;
const MXCSR_DEFAULT: u32 = 0x1f80;

/// Most stack that a frame takes (AT_MINSIGSTKSZ).
#[must_use]
pub fn room(xfrm: u64) -> u64 {
    RED_ZONE + LEN + 64 + u64::from(xsave_size(xfrm)) + 4 + 16
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    if let Some(to) = bytes.get_mut(offset..offset + 8) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

fn get(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(from) = bytes.get(offset..offset + 8) {
        word.copy_from_slice(from);
    }
    u64::from_le_bytes(word)
}

/// The program's extended state as a signal frame shows it.
fn extended(cx: &Context<'_>, frame: &Frame) -> Vec<u8> {
    let Some(cpu) = cx.machine.cpu() else {
        return Vec::new();
    };
    let mask = cpu.vector_mask();
    let size = xsave_size(mask) as usize;
    let mut area = cpu.save_vector();
    area.resize(size, 0);
    for (index, value) in frame.xmm.iter().enumerate() {
        let at = xsave::XMM + index * 16;
        if let Some(to) = area.get_mut(at..at + 16) {
            to.copy_from_slice(&value.to_le_bytes());
        }
    }
    let present = get(&area, xsave::BV) | 2;
    put(&mut area, xsave::BV, present);
    put(
        &mut area,
        xsave::SOFTWARE,
        u64::from(MAGIC1) | (size as u64 + 4) << 32,
    );
    put(&mut area, xsave::SOFTWARE + 8, mask);
    put(&mut area, xsave::SOFTWARE + 16, size as u64);
    area.extend_from_slice(&MAGIC2.to_le_bytes());
    area
}

/// The registers in the order of `struct sigcontext`.
fn registers(frame: &Frame) -> [u64; 18] {
    [
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
        frame.rdi,
        frame.rsi,
        frame.rbp,
        frame.rbx,
        frame.rdx,
        frame.rax,
        frame.rcx,
        frame.rsp,
        frame.rip,
        frame.rflags,
    ]
}

/// Puts a frame onto the program's stack and lets its handler run.
///
/// # Errors
/// `EFAULT` if there is no room.
pub fn push(
    cx: &Context<'_>,
    frame: &mut Frame,
    info: &SigInfo,
    action: &Action,
    mask: u64,
) -> Result<(), Errno> {
    let mut alt = cx.task.altstack.lock();
    let on_alt = alt.holds(frame.rsp);
    let mut sp = frame.rsp.wrapping_sub(RED_ZONE);
    if action.flags & sa::ONSTACK != 0 && alt.is_set() && !on_alt {
        sp = alt.start + alt.size;
    }
    let fp = extended(cx, frame);
    let fp_at = if fp.is_empty() {
        0
    } else {
        sp.wrapping_sub(fp.len() as u64) & !63
    };
    let below = if fp.is_empty() { sp } else { fp_at };
    let base = (below.wrapping_sub(LEN) & !15).wrapping_sub(8);
    if alt.is_set() && (on_alt || sp == alt.start + alt.size) && base < alt.start {
        return Err(Errno::EFAULT);
    }
    let mut bytes = vec![0; LEN as usize];
    put(&mut bytes, 0, action.restorer);
    put(&mut bytes, at::UC, UC_FLAGS);
    put(&mut bytes, at::STACK, alt.start);
    let alt_flags = if on_alt { SS_ONSTACK } else { 0 } | alt.flags;
    put(&mut bytes, at::STACK + 8, alt_flags.into());
    put(&mut bytes, at::STACK + 16, alt.size);
    for (index, value) in registers(frame).into_iter().enumerate() {
        put(&mut bytes, at::REGISTERS + index * 8, value);
    }
    let rest = at::REGISTERS + 18 * 8;
    put(&mut bytes, rest, SEGMENTS);
    let trap = if frame.vector == NO_VECTOR {
        0
    } else {
        frame.vector
    };
    put(
        &mut bytes,
        rest + 8,
        if trap == 14 { frame.error } else { 0 },
    );
    put(&mut bytes, rest + 16, trap);
    put(&mut bytes, rest + 24, mask);
    put(
        &mut bytes,
        rest + 32,
        if trap == 14 { frame.address } else { 0 },
    );
    put(&mut bytes, at::FP, fp_at);
    put(&mut bytes, at::MASK, mask);
    if let Some(to) = bytes.get_mut(at::INFO..at::INFO + 128) {
        to.copy_from_slice(&info.to_bytes());
    }
    if !fp.is_empty() {
        cx.write(fp_at, &fp)?;
    }
    cx.write(base, &bytes)?;
    if alt.flags & SS_AUTODISARM != 0 && alt.is_set() {
        *alt = Altstack::default();
    }
    frame.rsp = base;
    frame.rip = action.handler;
    frame.rdi = info.signal.into();
    frame.rsi = base + at::INFO as u64;
    frame.rdx = base + at::UC as u64;
    frame.rax = 0;
    frame.rflags &= !0x0001_0500; // DF, TF, RF
    frame.reason = REASON_TRAP;
    frame.vector = NO_VECTOR;
    Ok(())
}

/// rt_sigreturn: takes the frame that RSP points behind.
///
/// # Errors
/// `EFAULT` if the frame is not there or broken; Linux kills with SIGSEGV then.
pub fn pop(cx: &Context<'_>, frame: &mut Frame) -> Result<(), Errno> {
    let base = frame.rsp.wrapping_sub(8);
    let bytes = cx.read_array::<{ LEN as usize }>(base)?;
    let fp_at = get(&bytes, at::FP);
    if fp_at != 0 {
        restore_extended(cx, frame, fp_at)?;
    }
    let word = |index: usize| get(&bytes, at::REGISTERS + index * 8);
    frame.r8 = word(0);
    frame.r9 = word(1);
    frame.r10 = word(2);
    frame.r11 = word(3);
    frame.r12 = word(4);
    frame.r13 = word(5);
    frame.r14 = word(6);
    frame.r15 = word(7);
    frame.rdi = word(8);
    frame.rsi = word(9);
    frame.rbp = word(10);
    frame.rbx = word(11);
    frame.rdx = word(12);
    frame.rax = word(13);
    frame.rcx = word(14);
    frame.rsp = word(15);
    frame.rip = word(16);
    frame.rflags = word(17) & RFLAGS_USER | 0x202;
    frame.reason = REASON_TRAP;
    frame.orig_rax = NO_CALL;
    frame.vector = NO_VECTOR;
    cx.task
        .mask
        .store(get(&bytes, at::MASK) & !UNBLOCKABLE, Ordering::Release);
    let mut alt = cx.task.altstack.lock();
    let flags = (get(&bytes, at::STACK + 8) & 0xffff_ffff) as u32;
    *alt = Altstack {
        start: get(&bytes, at::STACK),
        size: get(&bytes, at::STACK + 16),
        flags: flags & (SS_AUTODISARM | SS_DISABLE),
    };
    Ok(())
}

/// Loads extended state from a program's frame after making it well-formed:
/// only components of XFRM, standard form, no reserved bit.
fn restore_extended(cx: &Context<'_>, frame: &mut Frame, at: u64) -> Result<(), Errno> {
    let cpu = cx.machine.cpu().ok_or(Errno::ENOSYS)?;
    let mask = cpu.vector_mask();
    let size = xsave_size(mask) as usize;
    let legacy = cx.read_array::<512>(at)?;
    let software = get(&legacy, xsave::SOFTWARE);
    let is_extended =
        software as u32 == MAGIC1 && get(&legacy, xsave::SOFTWARE + 16) == size as u64;
    let mut area = if is_extended {
        cx.read_vec(at, size)?
    } else {
        let mut area = vec![0; size];
        area[..512].copy_from_slice(&legacy);
        put(&mut area, xsave::BV, 3);
        area
    };
    let present = get(&area, xsave::BV) & mask;
    if let Some(header) = area.get_mut(xsave::SOFTWARE..xsave::LEGACY) {
        header.fill(0);
    }
    put(&mut area, xsave::BV, present);
    if let Some(word) = area.get_mut(xsave::MXCSR..xsave::MXCSR + 4) {
        let mut value = [0; 4];
        value.copy_from_slice(word);
        let value = if present & 6 != 0 {
            u32::from_le_bytes(value) & MXCSR_MASK
        } else {
            MXCSR_DEFAULT
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    for (index, value) in frame.xmm.iter_mut().enumerate() {
        let at = xsave::XMM + index * 16;
        let mut bytes = [0; 16];
        if present & 2 != 0
            && let Some(from) = area.get(at..at + 16)
        {
            bytes.copy_from_slice(from);
        }
        *value = u128::from_le_bytes(bytes);
    }
    cpu.load_vector(&area);
    Ok(())
}
