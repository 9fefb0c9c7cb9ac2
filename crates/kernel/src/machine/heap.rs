// SPDX-License-Identifier: Apache-2.0
//! The kernel's own memory: small blocks by size class, large ones by pages.
//! Pages are accepted as the heap grows and stay.

use core::alloc::{GlobalAlloc, Layout};

use enclave_abi::entry::AbortReason;
use sgx::PAGE_SIZE;

use super::lock::Lock;

const PAGE: usize = PAGE_SIZE;
/// Blocks above this size are whole pages.
const SMALL_MAX: usize = 16 << 10;
/// Classes: 16-byte steps to 128, then four per doubling.
const CLASSES: usize = 8 + 4 * 7;
/// Pages accepted at once when the heap grows.
const GROWTH: usize = 16 * PAGE;
/// Most separate holes between large blocks; further ones are forgotten.
const HOLES: usize = 512;

struct Heap {
    /// First address that was never handed out.
    next: usize,
    /// End of the accepted part.
    accepted: usize,
    end: usize,
    /// Heads of the lists of free small blocks; each block holds the next's address.
    free: [usize; CLASSES],
    /// Free page ranges (address, length), ascending.
    holes: [(usize, usize); HOLES],
    hole_count: usize,
}

/// The kernel's allocator.
struct KernelHeap(Lock<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Lock::new(Heap {
    next: 0,
    accepted: 0,
    end: 0,
    free: [0; CLASSES],
    holes: [(0, 0); HOLES],
    hole_count: 0,
}));

/// Gives the allocator its address range.
pub(crate) fn init(start: u64, end: u64) {
    let mut heap = HEAP.0.lock();
    heap.next = start as usize;
    heap.accepted = start as usize;
    heap.end = end as usize;
}

/// The class of a size and the class's block size.
fn class(size: usize) -> (usize, usize) {
    if size <= 128 {
        let class = size.div_ceil(16).max(1);
        return (class - 1, class * 16);
    }
    let doubling = (size - 1).ilog2() as usize; // 2^doubling < size <= 2^(doubling+1)
    let step = 1 << (doubling - 2);
    let quarter = (size - (1 << doubling)).div_ceil(step); // 1..=4
    (
        8 + (doubling - 7) * 4 + quarter - 1,
        (1 << doubling) + quarter * step,
    )
}

impl Heap {
    fn pages(&mut self, len: usize) -> usize {
        for index in 0..self.hole_count {
            let (addr, room) = self.holes[index];
            if room >= len {
                if room == len {
                    self.holes.copy_within(index + 1..self.hole_count, index);
                    self.hole_count -= 1;
                } else {
                    self.holes[index] = (addr + len, room - len);
                }
                return addr;
            }
        }
        let addr = self.next;
        let Some(next) = addr.checked_add(len).filter(|&next| next <= self.end) else {
            return 0;
        };
        if next > self.accepted {
            let upto = next.next_multiple_of(GROWTH).min(self.end);
            super::gate::accept_new(self.accepted as u64, ((upto - self.accepted) / PAGE) as u64);
            self.accepted = upto;
        }
        self.next = next;
        addr
    }

    fn give_back(&mut self, addr: usize, len: usize) {
        let index = self.holes[..self.hole_count].partition_point(|&(at, _)| at < addr);
        let joins_left = index > 0 && {
            let (at, room) = self.holes[index - 1];
            at + room == addr
        };
        let joins_right = index < self.hole_count && self.holes[index].0 == addr + len;
        match (joins_left, joins_right) {
            (true, true) => {
                self.holes[index - 1].1 += len + self.holes[index].1;
                self.holes.copy_within(index + 1..self.hole_count, index);
                self.hole_count -= 1;
            }
            (true, false) => self.holes[index - 1].1 += len,
            (false, true) => {
                self.holes[index].0 = addr;
                self.holes[index].1 += len;
            }
            (false, false) if self.hole_count < HOLES => {
                self.holes.copy_within(index..self.hole_count, index + 1);
                self.holes[index] = (addr, len);
                self.hole_count += 1;
            }
            (false, false) => {}
        }
    }

    fn small(&mut self, class: usize, block: usize) -> usize {
        let head = self.free[class];
        if head != 0 {
            // SAFETY: a free block lies in accepted heap memory and holds the next address.
            self.free[class] = unsafe { (head as *const usize).read() };
            return head;
        }
        let run = (block * 8).next_multiple_of(PAGE);
        let start = self.pages(run);
        if start == 0 {
            return 0;
        }
        let mut at = start + block;
        while at + block <= start + run {
            // SAFETY: the block lies inside the pages just taken.
            unsafe { (at as *mut usize).write(self.free[class]) };
            self.free[class] = at;
            at += block;
        }
        start
    }
}

/// The size that serves both size and alignment.
fn effective(layout: Layout) -> usize {
    if layout.align() <= 16 {
        layout.size().max(1)
    } else {
        // Blocks of a power of two lie at multiples of themselves.
        layout.size().max(layout.align()).next_power_of_two()
    }
}

// SAFETY: blocks are disjoint, large enough and aligned: small classes are
// multiples of 16 (powers of two when more is asked), large blocks whole pages.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE {
            return core::ptr::null_mut();
        }
        let size = effective(layout);
        let mut heap = self.0.lock();
        let addr = if size <= SMALL_MAX {
            let (class, block) = class(size);
            heap.small(class, block)
        } else {
            heap.pages(size.next_multiple_of(PAGE))
        };
        drop(heap);
        if addr == 0 {
            super::abort(AbortReason::OutOfMemory);
        }
        addr as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let size = effective(layout);
        let mut heap = self.0.lock();
        if size <= SMALL_MAX {
            let (class, _) = class(size);
            // SAFETY: the block is the caller's to give back and at least 16 bytes long.
            unsafe { block.cast::<usize>().write(heap.free[class]) };
            heap.free[class] = block as usize;
        } else {
            heap.give_back(block as usize, size.next_multiple_of(PAGE));
        }
    }
}
