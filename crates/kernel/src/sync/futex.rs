// SPDX-License-Identifier: Apache-2.0
//! Futexes (futex(2)). Who waits for what is known inside only; keys are plain
//! addresses because there is one address space.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::process::time::clock;
use crate::sync::{Guard, Lock, Waiter, Wake};
use crate::syscall::time::read_timespec;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const PRIVATE: u64 = 128;
const CLOCK_REALTIME: u64 = 256;
const ANY: u32 = u32::MAX;

const BUCKETS: usize = 64;
/// Robust futex bits (`linux/futex.h`).
const TID_MASK: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
/// Most entries of a robust list, as in Linux.
const ROBUST_MAX: usize = 2048;

struct Sleeper {
    addr: AtomicU64,
    bitset: u32,
    waiter: Arc<Waiter>,
}

type Bucket = Lock<VecDeque<Arc<Sleeper>>>;

/// A locked bucket.
type Held = Guard<'static, VecDeque<Arc<Sleeper>>>;

static TABLE: [Bucket; BUCKETS] = [const { Lock::new(VecDeque::new()) }; BUCKETS];

fn index(addr: u64) -> usize {
    ((addr >> 2) ^ (addr >> 12)) as usize % BUCKETS
}

fn bucket(addr: u64) -> &'static Bucket {
    &TABLE[index(addr) % BUCKETS]
}

/// The futex system call.
///
/// # Errors
/// As in Linux; `ENOSYS` for priority inheritance.
pub fn call(
    cx: &Context<'_>,
    [addr, op, value, timeout, addr2, value3]: [u64; 6],
) -> Result<u64, Errno> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let value = value as u32;
    match op & !(PRIVATE | CLOCK_REALTIME) {
        WAIT => {
            let deadline = match timeout {
                0 => None,
                at => Some(cx.now().saturating_add(read_timespec(cx, at)?)),
            };
            wait(cx, addr, value, deadline, ANY)
        }
        WAIT_BITSET => {
            let deadline = match timeout {
                0 => None,
                at => Some(absolute(
                    cx,
                    read_timespec(cx, at)?,
                    op & CLOCK_REALTIME != 0,
                )?),
            };
            wait(cx, addr, value, deadline, value3 as u32)
        }
        WAKE => Ok(wake(cx.machine, addr, value, ANY).into()),
        WAKE_BITSET if value3 as u32 == 0 => Err(Errno::EINVAL),
        WAKE_BITSET => Ok(wake(cx.machine, addr, value, value3 as u32).into()),
        REQUEUE => requeue(cx, addr, value, timeout as u32, addr2, None),
        CMP_REQUEUE => requeue(cx, addr, value, timeout as u32, addr2, Some(value3 as u32)),
        WAKE_OP => wake_op(cx, addr, value, timeout as u32, addr2, value3 as u32),
        _ => Err(Errno::ENOSYS),
    }
}

/// An absolute time of one of two clocks as CLOCK_MONOTONIC.
fn absolute(cx: &Context<'_>, time: u64, realtime: bool) -> Result<u64, Errno> {
    if !realtime {
        return Ok(time);
    }
    let left = time.saturating_sub(clock(cx.machine, 0)?);
    Ok(cx.now().saturating_add(left))
}

/// One atomic read.
fn load(cx: &Context<'_>, addr: u64) -> Result<u32, Errno> {
    cx.machine
        .update_user(addr, &|_| None)
        .map(|(value, _)| value)
}

fn wait(
    cx: &Context<'_>,
    addr: u64,
    value: u32,
    deadline: Option<u64>,
    bitset: u32,
) -> Result<u64, Errno> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    // Commit the page before taking the lock: that may leave the enclave.
    load(cx, addr)?;
    let sleeper = Arc::new(Sleeper {
        addr: AtomicU64::new(addr),
        bitset,
        waiter: Waiter::new(cx),
    });
    {
        let mut queue = bucket(addr).lock();
        if load(cx, addr)? != value {
            return Err(Errno::EAGAIN);
        }
        queue.push_back(Arc::clone(&sleeper));
    }
    let slept = sleeper.waiter.park(cx, deadline);
    match slept {
        Ok(()) => Ok(0),
        // Whoever took us from the queue has woken us, whatever else happened.
        Err(_) if !leave(&sleeper) => Ok(0),
        Err(errno) => Err(errno),
    }
}

/// Takes a sleeper from its queue; false if a wake was faster.
fn leave(sleeper: &Arc<Sleeper>) -> bool {
    loop {
        let addr = sleeper.addr.load(Ordering::Acquire);
        let mut queue = bucket(addr).lock();
        if sleeper.addr.load(Ordering::Acquire) != addr {
            continue;
        }
        let before = queue.len();
        queue.retain(|other| !Arc::ptr_eq(other, sleeper));
        return queue.len() != before;
    }
}

/// Wakes up to `count` sleepers; how many there were.
pub fn wake(machine: &dyn Machine, addr: u64, count: u32, bitset: u32) -> u32 {
    let woken = take(&mut bucket(addr).lock(), addr, count, bitset);
    for sleeper in &woken {
        sleeper.waiter.wake(machine);
    }
    woken.len() as u32
}

fn take(
    queue: &mut VecDeque<Arc<Sleeper>>,
    addr: u64,
    count: u32,
    bitset: u32,
) -> Vec<Arc<Sleeper>> {
    let mut taken = Vec::new();
    queue.retain(|sleeper| {
        let chosen = taken.len() < count as usize
            && sleeper.addr.load(Ordering::Acquire) == addr
            && sleeper.bitset & bitset != 0;
        if chosen {
            taken.push(Arc::clone(sleeper));
        }
        !chosen
    });
    taken
}

/// Both buckets, locked in one order; the second is `None` if they are the same.
fn both(a: u64, b: u64) -> (Held, Option<Held>) {
    match index(a).cmp(&index(b)) {
        core::cmp::Ordering::Equal => (bucket(a).lock(), None),
        core::cmp::Ordering::Less => {
            let first = bucket(a).lock();
            (first, Some(bucket(b).lock()))
        }
        core::cmp::Ordering::Greater => {
            let second = bucket(b).lock();
            (bucket(a).lock(), Some(second))
        }
    }
}

fn requeue(
    cx: &Context<'_>,
    addr: u64,
    count: u32,
    limit: u32,
    to: u64,
    expected: Option<u32>,
) -> Result<u64, Errno> {
    if !to.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    load(cx, addr)?;
    let (woken, moved) = {
        let (mut from, mut other) = both(addr, to);
        if let Some(expected) = expected
            && load(cx, addr)? != expected
        {
            return Err(Errno::EAGAIN);
        }
        let woken = take(&mut from, addr, count, ANY);
        let moved = take(&mut from, addr, limit, ANY);
        let target = other.as_mut().unwrap_or(&mut from);
        for sleeper in &moved {
            sleeper.addr.store(to, Ordering::Release);
            target.push_back(Arc::clone(sleeper));
        }
        (woken, moved.len())
    };
    for sleeper in &woken {
        sleeper.waiter.wake(cx.machine);
    }
    Ok((woken.len() + moved) as u64)
}

fn wake_op(
    cx: &Context<'_>,
    addr: u64,
    count: u32,
    count2: u32,
    addr2: u64,
    code: u32,
) -> Result<u64, Errno> {
    if !addr2.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let op = code >> 28;
    let compare = code >> 24 & 0xf;
    let sign = |value: u32| (value << 20).cast_signed() >> 20;
    let mut operand = sign(code >> 12 & 0xfff).cast_unsigned();
    let bound = sign(code & 0xfff);
    if op & 8 != 0 {
        operand = 1 << (operand & 31);
    }
    let change = |old: u32| {
        Some(match op & 7 {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            4 => old ^ operand,
            _ => return None,
        })
    };
    let (old, changed) = cx.machine.update_user(addr2, &change)?;
    if !changed {
        return Err(Errno::ENOSYS);
    }
    let value = old.cast_signed();
    let second = match compare {
        0 => value == bound,
        1 => value != bound,
        2 => value < bound,
        3 => value <= bound,
        4 => value > bound,
        5 => value >= bound,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = wake(cx.machine, addr, count, ANY);
    if second {
        woken += wake(cx.machine, addr2, count2, ANY);
    }
    Ok(woken.into())
}

/// A thread ends: its robust mutexes become the next waiter's.
pub fn exit_robust(cx: &Context<'_>) {
    let head = cx.task.robust_list.swap(0, Ordering::AcqRel);
    if head == 0 {
        return;
    }
    let (Ok(mut entry), Ok(offset), Ok(pending)) = (
        cx.read_u64(head),
        cx.read_u64(head.wrapping_add(8)),
        cx.read_u64(head.wrapping_add(16)),
    ) else {
        return;
    };
    for _ in 0..ROBUST_MAX {
        if entry & !1 == head {
            break;
        }
        let next = cx.read_u64(entry & !1);
        if entry != pending {
            release(cx, (entry & !1).wrapping_add(offset));
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => break,
        }
    }
    if pending & !1 != 0 {
        release(cx, (pending & !1).wrapping_add(offset));
    }
}

fn release(cx: &Context<'_>, addr: u64) {
    if !addr.is_multiple_of(4) {
        return;
    }
    let tid = cx.task.tid;
    let change = |old: u32| (old & TID_MASK == tid).then_some(old & WAITERS | OWNER_DIED);
    if let Ok((old, true)) = cx.machine.update_user(addr, &change)
        && old & WAITERS != 0
    {
        wake(cx.machine, addr, 1, ANY);
    }
}
