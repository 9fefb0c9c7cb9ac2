// SPDX-License-Identifier: Apache-2.0
//! The program break.

use super::area::Label;
use super::pages::{PAGE, Prot};
use super::{Memory, Request};

/// A process's break.
#[derive(Clone, Copy, Debug, Default)]
pub struct Break {
    /// Where it started; page-aligned. 0: the process has none.
    pub start: u64,
    /// Where it is.
    pub now: u64,
}

impl Memory {
    /// brk: moves the break if possible; gives where it is afterwards.
    pub fn brk(&self, owner: u32, at: &mut Break, wanted: u64) -> u64 {
        if at.start == 0 || wanted < at.start {
            return at.now;
        }
        let have = at.now.next_multiple_of(PAGE);
        let Some(want) = wanted.checked_next_multiple_of(PAGE) else {
            return at.now;
        };
        let moved = if want > have {
            let grow = Request {
                addr: have,
                keep: true,
                label: Label::Heap,
                ..Request::anonymous(want - have, Prot::R | Prot::W)
            };
            self.map(owner, &grow).is_ok()
        } else if want < have {
            self.unmap(owner, want, have - want).is_ok()
        } else {
            true
        };
        if moved {
            at.now = wanted;
        }
        at.now
    }
}
