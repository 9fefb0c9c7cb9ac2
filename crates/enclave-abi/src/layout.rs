// SPDX-License-Identifier: Apache-2.0
//! Where everything lies inside ELRANGE. The base is always 0, so that programs
//! linked at fixed low addresses run; offsets and addresses are the same.
//!
//! ```text
//! 0            hole (mmap_min_addr)
//! USER_START   the programs' addresses: images, heap, mappings, stacks (dynamic)
//! K            boot page, kernel image, measured data   (K = first GiB boundary above USER_START + heap)
//! threads      one THREAD_STRIDE each: TCS, SSA, data page, stacks
//! kernel heap  to the end of ELRANGE (dynamic)
//! ```
//!
//! Thread 0 is added and measured whole. Of every other thread only the TCS is;
//! the kernel EACCEPTs the rest before it lets the host enter that TCS.

use sgx::PAGE_SIZE;

/// First address that a program may use.
pub const USER_START: u64 = 0x1_0000;
/// Address distance between two threads' areas.
pub const THREAD_STRIDE: u64 = 0x4_0000;
/// SSA frames per thread: the program's, one for a fault in stage 1, one spare.
pub const SSA_FRAMES: u32 = 3;
/// Offsets inside a thread's area; gaps are guard pages that are never added.
pub mod thread {
    /// The TCS page.
    pub const TCS: u64 = 0;
    /// First of three SSA frames of one page.
    pub const SSA: u64 = 0x1000;
    /// The page that GS points to.
    pub const DATA: u64 = 0x4000;
    /// Lowest address of the exception stack.
    pub const EXCEPTION_STACK: u64 = 0x6000;
    /// Size of the exception stack.
    pub const EXCEPTION_STACK_SIZE: u64 = 0x4000;
    /// Lowest address of the kernel stack.
    pub const KERNEL_STACK: u64 = 0xb000;
    /// Size of the kernel stack.
    pub const KERNEL_STACK_SIZE: u64 = 0x1_0000;
}
/// Smallest kernel heap.
pub const KERNEL_HEAP_MIN: u64 = 256 << 20;
/// Most threads an image may declare.
pub const THREADS_MAX: u32 = 1024;
/// Largest heap an image may declare.
pub const HEAP_MAX: u64 = 1 << 38;

const GIB: u64 = 1 << 30;

/// The addresses of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of ELRANGE, a power of two.
    pub elrange: u64,
    /// K: the boot page. Programs own `USER_START..kernel`.
    pub kernel: u64,
    /// Bytes of boot page, kernel image and measured data together.
    pub kernel_len: u64,
    /// First thread's area.
    pub threads: u64,
    /// Number of threads.
    pub thread_count: u32,
    /// The kernel's heap, up to `elrange`.
    pub kernel_heap: u64,
}

impl Layout {
    /// Lays out an image; `None` if a limit is exceeded.
    ///
    /// `heap`: bytes that programs may commit. `kernel_len`: bytes of boot
    /// page, kernel image and measured data.
    #[must_use]
    pub fn new(heap: u64, thread_count: u32, kernel_len: u64) -> Option<Self> {
        if heap == 0 || heap > HEAP_MAX || thread_count == 0 || thread_count > THREADS_MAX {
            return None;
        }
        let kernel = (USER_START + heap).next_multiple_of(GIB);
        let kernel_len = kernel_len.checked_next_multiple_of(PAGE_SIZE as u64)?;
        let threads = kernel
            .checked_add(kernel_len)?
            .checked_next_multiple_of(THREAD_STRIDE)?;
        let kernel_heap = threads.checked_add(THREAD_STRIDE * u64::from(thread_count))?;
        let elrange = kernel_heap
            .checked_add(KERNEL_HEAP_MIN)?
            .checked_next_power_of_two()?;
        Some(Self {
            elrange,
            kernel,
            kernel_len,
            threads,
            thread_count,
            kernel_heap,
        })
    }

    /// The area of thread `index`.
    #[must_use]
    pub fn thread(&self, index: u32) -> u64 {
        self.threads + THREAD_STRIDE * u64::from(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lies_above_the_heap_and_the_range_is_a_power_of_two() {
        for heap in [1 << 20, 64 << 20, GIB - USER_START, GIB, 8 * GIB] {
            let layout = Layout::new(heap, 64, 1 << 20).unwrap();
            assert!(layout.kernel >= USER_START + heap);
            assert_eq!(layout.kernel % GIB, 0);
            assert!(layout.kernel < USER_START + heap + GIB);
            assert!(layout.elrange.is_power_of_two());
            assert!(layout.elrange - layout.kernel_heap >= KERNEL_HEAP_MIN);
        }
    }

    #[test]
    fn limits_hold() {
        assert_eq!(Layout::new(0, 1, 0), None);
        assert_eq!(Layout::new(1, 0, 0), None);
        assert_eq!(Layout::new(HEAP_MAX + 1, 1, 0), None);
        assert_eq!(Layout::new(1, THREADS_MAX + 1, 0), None);
    }
}
