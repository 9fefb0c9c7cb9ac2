// SPDX-License-Identifier: Apache-2.0
//! Advisory locks: fcntl's record locks of processes and of descriptions, and
//! `flock` for files that the host knows nothing of. All answered inside.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::{Lock, WaitQueue};

/// Which file: device and inode number.
pub type FileKey = (u64, u64);

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process (F_SETLK).
    Process(u32),
    /// An open file description (F_OFD_SETLK).
    Description(u64),
    /// An open file description, by `flock`: another world than the records.
    Flock(u64),
}

impl Owner {
    fn same_world(self, other: Self) -> bool {
        matches!(self, Self::Flock(_)) == matches!(other, Self::Flock(_))
    }
}

/// A lock: `first..=last` bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The holder.
    pub owner: Owner,
    /// First byte.
    pub first: u64,
    /// Last byte; `u64::MAX` is the end of the file, wherever it moves.
    pub last: u64,
    /// A write lock.
    pub exclusive: bool,
}

/// Most locks held in an enclave.
const MAX: usize = 16 << 10;

#[derive(Debug)]
struct Table {
    held: Lock<Vec<(FileKey, Record)>>,
    count: AtomicUsize,
    released: WaitQueue,
}

static TABLE: Table = Table {
    held: Lock::new(Vec::new()),
    count: AtomicUsize::new(0),
    released: WaitQueue::new(),
};

impl Record {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner
            && self.owner.same_world(other.owner)
            && self.overlaps(other)
            && (self.exclusive || other.exclusive)
    }
}

impl Table {
    fn conflict(&self, key: FileKey, wanted: &Record) -> Option<Record> {
        self.held
            .lock()
            .iter()
            .find(|(held_key, held)| *held_key == key && held.conflicts(wanted))
            .map(|(_, held)| *held)
    }

    fn try_take(&self, key: FileKey, wanted: Record) -> Result<bool, Errno> {
        let mut held = self.held.lock();
        if held
            .iter()
            .any(|(held_key, held)| *held_key == key && held.conflicts(&wanted))
        {
            return Ok(false);
        }
        if held.len() >= MAX {
            return Err(Errno::ENOBUFS);
        }
        carve(&mut held, key, wanted.owner, wanted.first, wanted.last);
        held.push((key, wanted));
        self.count.store(held.len(), Ordering::Release);
        Ok(true)
    }

    fn retain(&self, machine: &dyn Machine, keep: impl Fn(FileKey, &Record) -> bool) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let changed = {
            let mut held = self.held.lock();
            let before = held.len();
            held.retain(|(key, record)| keep(*key, record));
            self.count.store(held.len(), Ordering::Release);
            held.len() != before
        };
        if changed {
            self.released.wake_all(machine);
        }
    }
}

/// Takes `first..=last` out of an owner's locks on a file.
fn carve(held: &mut Vec<(FileKey, Record)>, key: FileKey, owner: Owner, first: u64, last: u64) {
    let mut rest = Vec::new();
    held.retain(|(held_key, record)| {
        if *held_key != key || record.owner != owner || record.first > last || record.last < first {
            return true;
        }
        if let Some(end) = first.checked_sub(1).filter(|end| *end >= record.first) {
            rest.push((
                key,
                Record {
                    last: end,
                    ..*record
                },
            ));
        }
        if let Some(start) = last.checked_add(1).filter(|start| *start <= record.last) {
            rest.push((
                key,
                Record {
                    first: start,
                    ..*record
                },
            ));
        }
        false
    });
    held.extend(rest);
}

/// A lock that stands in the way.
#[must_use]
pub fn conflict(key: FileKey, wanted: &Record) -> Option<Record> {
    TABLE.conflict(key, wanted)
}

/// Takes a lock, replacing the owner's own locks on these bytes.
///
/// # Errors
/// `EAGAIN` if somebody else holds one and `wait` is false, `EINTR` while
/// waiting, `ENOBUFS` above the limit.
pub fn take(cx: &Context<'_>, key: FileKey, wanted: Record, wait: bool) -> Result<(), Errno> {
    loop {
        if TABLE.try_take(key, wanted)? {
            // A write lock that became a read lock may let others in.
            TABLE.released.wake_all(cx.machine);
            return Ok(());
        }
        if !wait {
            return Err(Errno::EAGAIN);
        }
        TABLE
            .released
            .wait_until(cx, None, || TABLE.conflict(key, &wanted).is_none())?;
    }
}

/// Gives bytes of a file back.
pub fn release(machine: &dyn Machine, key: FileKey, owner: Owner, first: u64, last: u64) {
    {
        let mut held = TABLE.held.lock();
        carve(&mut held, key, owner, first, last);
        TABLE.count.store(held.len(), Ordering::Release);
    }
    TABLE.released.wake_all(machine);
}

/// Whether a process holds any record lock.
#[must_use]
pub fn process_holds(pid: u32) -> bool {
    TABLE.count.load(Ordering::Acquire) != 0
        && TABLE
            .held
            .lock()
            .iter()
            .any(|(_, record)| record.owner == Owner::Process(pid))
}

/// A process closed a descriptor of a file: its record locks on it are gone (fcntl(2)).
pub fn release_process_file(machine: &dyn Machine, pid: u32, key: FileKey) {
    TABLE.retain(machine, |held_key, record| {
        held_key != key || record.owner != Owner::Process(pid)
    });
}

/// A process ended.
pub fn release_process(machine: &dyn Machine, pid: u32) {
    TABLE.retain(machine, |_, record| record.owner != Owner::Process(pid));
}

/// A description is gone.
pub fn release_description(machine: &dyn Machine, id: u64) {
    TABLE.retain(machine, |_, record| {
        record.owner != Owner::Description(id) && record.owner != Owner::Flock(id)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::testing::Bench;

    fn record(owner: Owner, first: u64, last: u64, exclusive: bool) -> Record {
        Record {
            owner,
            first,
            last,
            exclusive,
        }
    }

    #[test]
    fn a_hole_can_be_carved_out_of_a_lock() {
        let bench = Bench::new();
        let cx = bench.cx();
        let key = (1, 0xa001);
        let (me, other) = (Owner::Description(900_001), Owner::Description(900_002));
        take(&cx, key, record(me, 0, 99, true), false).unwrap();
        let wanted = record(other, 40, 59, true);
        assert_eq!(take(&cx, key, wanted, false), Err(Errno::EAGAIN));
        release(cx.machine, key, me, 40, 59);
        assert_eq!(take(&cx, key, wanted, false), Ok(()));
        assert_eq!(
            conflict(key, &record(other, 0, 39, false)).map(|found| (found.first, found.last)),
            Some((0, 39))
        );
        assert_eq!(
            conflict(key, &record(other, 60, u64::MAX, false))
                .map(|found| (found.first, found.last)),
            Some((60, 99))
        );
        release_description(cx.machine, 900_001);
        release_description(cx.machine, 900_002);
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let bench = Bench::new();
        let cx = bench.cx();
        let key = (1, 0xa002);
        let [a, b] = [900_003, 900_004].map(Owner::Flock);
        take(&cx, key, record(a, 0, u64::MAX, false), false).unwrap();
        take(&cx, key, record(b, 0, u64::MAX, false), false).unwrap();
        assert_eq!(
            take(&cx, key, record(a, 0, u64::MAX, true), false),
            Err(Errno::EAGAIN)
        );
        release_description(cx.machine, 900_004);
        assert_eq!(take(&cx, key, record(a, 0, u64::MAX, true), false), Ok(()));
        release_description(cx.machine, 900_003);
    }

    #[test]
    fn flocks_and_records_do_not_meet() {
        let bench = Bench::new();
        let cx = bench.cx();
        let key = (1, 0xa003);
        take(&cx, key, record(Owner::Flock(900_005), 0, 9, true), false).unwrap();
        let wanted = record(Owner::Process(900_006), 0, 9, true);
        assert_eq!(take(&cx, key, wanted, false), Ok(()));
        release_process(cx.machine, 900_006);
        release_description(cx.machine, 900_005);
    }
}
