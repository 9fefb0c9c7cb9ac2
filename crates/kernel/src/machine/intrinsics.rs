// SPDX-License-Identifier: Apache-2.0
//! The memory functions that compiled code calls. String instructions, because
//! a loop would be recognised and turned into a call to itself.

use core::arch::asm;

use enclave_abi::entry::AbortReason;

/// C `memcpy`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller gives two ranges of `len` bytes that do not overlap.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    to
}

/// C `memmove`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: copying upwards never overwrites what is still to be read.
        return unsafe { memcpy(to, from, len) };
    }
    let to_last = to.wrapping_add(len).wrapping_sub(1);
    let from_last = from.wrapping_add(len).wrapping_sub(1);
    // SAFETY: the caller's ranges, copied downwards; the direction flag is clear again at the end.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _, inout("rdi") to_last => _,
             inout("rsi") from_last => _, options(nostack));
    }
    to
}

/// C `memset`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller gives a range of `len` bytes.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
             options(nostack, preserves_flags));
    }
    to
}

/// C `memcmp`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while at + 8 <= len {
        // SAFETY: within the caller's ranges.
        let x = unsafe { a.wrapping_add(at).cast::<u64>().read_unaligned() };
        // SAFETY: within the caller's ranges.
        let y = unsafe { b.wrapping_add(at).cast::<u64>().read_unaligned() };
        if x != y {
            return if x.swap_bytes() < y.swap_bytes() {
                -1
            } else {
                1
            };
        }
        at += 8;
    }
    while at < len {
        // SAFETY: within the caller's ranges.
        let x = unsafe { a.wrapping_add(at).read() };
        // SAFETY: within the caller's ranges.
        let y = unsafe { b.wrapping_add(at).read() };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// BSD `bcmp`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { memcmp(a, b, len) }
}

/// C `strlen`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller gives a NUL-terminated string.
    while unsafe { text.wrapping_add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    super::boot::complain_panic(info);
    super::abort(AbortReason::Panic)
}

/// Precompiled `core` and `alloc` name it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Precompiled `core` and `alloc` name it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    super::abort(AbortReason::Panic)
}
