// SPDX-License-Identifier: Apache-2.0
//! Waiting: poll, select and epoll.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::create::nanos;
use super::{file, usable};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::epoll::{Epoll, Event};
use crate::vfs::file::Class;
use crate::vfs::poll::{self, Entry};
use crate::vfs::readiness::Events;

/// SIGKILL and SIGSTOP.
const UNBLOCKABLE: u64 = 1 << 8 | 1 << 18;

/// Runs a wait under another signal mask. If a signal ends it, delivery puts
/// the old mask back; otherwise this does.
fn under_mask<T>(
    cx: &Context<'_>,
    mask: u64,
    size: u64,
    wait: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    if mask == 0 {
        return wait();
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let new = cx.read_u64(mask)? & !UNBLOCKABLE;
    let before = cx.task.mask.swap(new, Ordering::AcqRel);
    let result = wait();
    if matches!(result, Err(Errno::EINTR)) {
        *cx.task.saved_mask.lock() = Some(before);
    } else {
        cx.task.mask.store(before, Ordering::Release);
    }
    result
}

/// A deadline from milliseconds; negative is none.
fn after_millis(cx: &Context<'_>, timeout: u64) -> Option<u64> {
    match u64::try_from(timeout as i32) {
        Ok(0) => Some(0),
        Ok(millis) => Some(cx.now().saturating_add(millis * 1_000_000)),
        Err(_) => None,
    }
}

/// A deadline from a `struct timespec`; a null pointer is none.
fn after_timespec(cx: &Context<'_>, addr: u64) -> Result<Option<u64>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    Ok(Some(match nanos(cx, addr)? {
        0 => 0,
        ns => cx.now().saturating_add(ns),
    }))
}

/// What is left until a deadline, for calls that tell it.
fn left(cx: &Context<'_>, deadline: u64) -> u64 {
    deadline.saturating_sub(cx.now())
}

pub(super) fn poll(cx: &Context<'_>, fds: u64, count: u64, timeout: u64) -> Result<u64, Errno> {
    let deadline = after_millis(cx, timeout);
    poll_until(cx, fds, count, deadline)
}

pub(super) fn ppoll(
    cx: &Context<'_>,
    fds: u64,
    count: u64,
    timeout: u64,
    [mask, size]: [u64; 2],
) -> Result<u64, Errno> {
    let deadline = after_timespec(cx, timeout)?;
    let result = under_mask(cx, mask, size, || poll_until(cx, fds, count, deadline));
    if let (Some(deadline), true) = (deadline, timeout != 0) {
        write_timespec(cx, timeout, left(cx, deadline));
    }
    result
}

/// Linux tells the time left; failing to is no error.
fn write_timespec(cx: &Context<'_>, addr: u64, ns: u64) {
    let _ = cx.write_u64(addr, ns / 1_000_000_000);
    let _ = cx.write_u64(addr.wrapping_add(8), ns % 1_000_000_000);
}

fn poll_until(cx: &Context<'_>, fds: u64, count: u64, deadline: Option<u64>) -> Result<u64, Errno> {
    if count > poll::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let bytes = cx.read_vec(fds, count as usize * 8)?;
    let mut entries = Vec::with_capacity(count as usize);
    for entry in bytes.chunks_exact(8) {
        let [a, b, c, d, low, high, ..] = *entry else {
            continue;
        };
        let fd = u32::from_le_bytes([a, b, c, d]);
        let asked = u32::from(u16::from_le_bytes([low, high]));
        let is_asked = i32::try_from(fd).is_ok();
        let found = file(cx, fd.into()).ok();
        entries.push(Entry {
            told: if is_asked && found.is_none() {
                Events::NVAL
            } else {
                Events::empty()
            },
            file: found.filter(|_| is_asked),
            asked: Events::from_bits_truncate(asked),
        });
    }
    let ready = poll::wait(cx, &mut entries, deadline)?;
    for (at, entry) in (0..).zip(&entries) {
        let told = (entry.told.bits() as u16).to_le_bytes();
        cx.write(fds.wrapping_add(at * 8 + 6), &told)?;
    }
    Ok(ready as u64)
}

/// Most descriptors of a select (the size that programs' `fd_set` has, and more).
const MAX_SELECT: u64 = 1 << 16;

struct Sets {
    /// Reading, writing, exceptions.
    bits: [Vec<u8>; 3],
    addrs: [u64; 3],
}

impl Sets {
    fn read(cx: &Context<'_>, count: u64, addrs: [u64; 3]) -> Result<Self, Errno> {
        let len = count.div_ceil(64) as usize * 8;
        let mut bits = [Vec::new(), Vec::new(), Vec::new()];
        for (bits, addr) in bits.iter_mut().zip(addrs) {
            if addr != 0 {
                *bits = cx.read_vec(addr, len)?;
            }
        }
        Ok(Self { bits, addrs })
    }

    fn has(&self, set: usize, fd: u64) -> bool {
        self.bits
            .get(set)
            .and_then(|bits| bits.get(fd as usize / 8))
            .is_some_and(|byte| byte & 1 << (fd % 8) != 0)
    }

    fn clear(&mut self) {
        for bits in &mut self.bits {
            bits.fill(0);
        }
    }

    fn put(&mut self, set: usize, fd: u64) {
        if let Some(byte) = self
            .bits
            .get_mut(set)
            .and_then(|bits| bits.get_mut(fd as usize / 8))
        {
            *byte |= 1 << (fd % 8);
        }
    }

    fn write(&self, cx: &Context<'_>) -> Result<(), Errno> {
        for (bits, addr) in self.bits.iter().zip(self.addrs) {
            if addr != 0 {
                cx.write(addr, bits)?;
            }
        }
        Ok(())
    }
}

/// What each set asks for, and what counts as told (select(2)).
const SELECTED: [(Events, Events); 3] = [
    (
        Events::READ.union(Events::RDHUP),
        Events::READ.union(Events::ALWAYS).union(Events::RDHUP),
    ),
    (Events::WRITE, Events::WRITE.union(Events::ERR)),
    (Events::PRI, Events::PRI),
];

fn select_until(
    cx: &Context<'_>,
    count: u64,
    addrs: [u64; 3],
    deadline: Option<u64>,
) -> Result<u64, Errno> {
    let count = u64::try_from(count as i32).map_err(|_| Errno::EINVAL)?;
    if count > MAX_SELECT {
        return Err(Errno::EINVAL);
    }
    let mut sets = Sets::read(cx, count, addrs)?;
    let mut fds = Vec::new();
    let mut entries = Vec::new();
    for fd in 0..count {
        let mut asked = Events::empty();
        for (set, (events, _)) in SELECTED.iter().enumerate() {
            if sets.has(set, fd) {
                asked |= *events;
            }
        }
        if !asked.is_empty() {
            fds.push(fd);
            entries.push(Entry {
                file: Some(file(cx, fd)?),
                asked,
                told: Events::empty(),
            });
        }
    }
    poll::wait(cx, &mut entries, deadline)?;
    let asked = Sets {
        bits: sets.bits.clone(),
        addrs,
    };
    sets.clear();
    let mut ready = 0;
    for (fd, entry) in fds.into_iter().zip(&entries) {
        for (set, (_, counts)) in SELECTED.iter().enumerate() {
            if asked.has(set, fd) && entry.told.intersects(*counts) {
                sets.put(set, fd);
                ready += 1;
            }
        }
    }
    sets.write(cx)?;
    Ok(ready)
}

pub(super) fn select(
    cx: &Context<'_>,
    count: u64,
    sets: [u64; 3],
    timeout: u64,
) -> Result<u64, Errno> {
    let deadline = if timeout == 0 {
        None
    } else {
        let seconds = cx.read_u64(timeout)?;
        let micros = cx.read_u64(timeout.wrapping_add(8))?;
        if i64::try_from(seconds).is_err() || i64::try_from(micros).is_err() {
            return Err(Errno::EINVAL);
        }
        let ns = seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(micros.saturating_mul(1000));
        Some(if ns == 0 {
            0
        } else {
            cx.now().saturating_add(ns)
        })
    };
    let result = select_until(cx, count, sets, deadline);
    if let Some(deadline) = deadline {
        let micros = left(cx, deadline) / 1000;
        let _ = cx.write_u64(timeout, micros / 1_000_000);
        let _ = cx.write_u64(timeout.wrapping_add(8), micros % 1_000_000);
    }
    result
}

pub(super) fn pselect6(
    cx: &Context<'_>,
    count: u64,
    sets: [u64; 3],
    timeout: u64,
    mask: u64,
) -> Result<u64, Errno> {
    let deadline = after_timespec(cx, timeout)?;
    // The sixth argument points to the mask's address and size.
    let (mask, size) = if mask == 0 {
        (0, 8)
    } else {
        (cx.read_u64(mask)?, cx.read_u64(mask.wrapping_add(8))?)
    };
    let result = under_mask(cx, mask, size, || select_until(cx, count, sets, deadline));
    if let (Some(deadline), true) = (deadline, timeout != 0) {
        write_timespec(cx, timeout, left(cx, deadline));
    }
    result
}

pub(super) fn epoll_ctl(
    cx: &Context<'_>,
    set: u64,
    operation: u64,
    fd: u64,
    event: u64,
) -> Result<u64, Errno> {
    const ADD: u64 = 1;
    const DEL: u64 = 2;
    const MOD: u64 = 3;
    let set_file = usable(cx, set)?;
    let member = usable(cx, fd)?;
    let Class::Epoll(epoll) = set_file.file.class() else {
        return Err(Errno::EINVAL);
    };
    if set as u32 == fd as u32 {
        return Err(Errno::EINVAL);
    }
    let fd = u64::from(fd as u32);
    let read = || -> Result<(u32, u64), Errno> {
        // Packed on x86-64.
        Ok((cx.read_u32(event)?, cx.read_u64(event.wrapping_add(4))?))
    };
    match operation {
        ADD => {
            let (events, data) = read()?;
            epoll.add(cx, fd, &member, events, data)?;
        }
        MOD => {
            let (events, data) = read()?;
            epoll.modify(cx, fd, &member, events, data)?;
        }
        DEL => epoll.remove(cx, fd, &member)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn epoll_until(
    cx: &Context<'_>,
    set: u64,
    out: u64,
    max: u64,
    deadline: Option<u64>,
) -> Result<u64, Errno> {
    let max = usize::try_from(max as i32).map_err(|_| Errno::EINVAL)?;
    if max == 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable(cx, set)?;
    let Class::Epoll(epoll) = file.file.class() else {
        return Err(Errno::EINVAL);
    };
    let events: Vec<Event> = Epoll::wait(epoll, cx, max, deadline)?;
    let mut bytes = Vec::with_capacity(events.len() * 12);
    for event in &events {
        bytes.extend_from_slice(&event.events.bits().to_le_bytes());
        bytes.extend_from_slice(&event.data.to_le_bytes());
    }
    cx.write(out, &bytes)?;
    Ok(events.len() as u64)
}

pub(super) fn epoll_wait(
    cx: &Context<'_>,
    set: u64,
    out: u64,
    max: u64,
    timeout: u64,
) -> Result<u64, Errno> {
    let deadline = after_millis(cx, timeout);
    epoll_until(cx, set, out, max, deadline)
}

pub(super) fn epoll_pwait(cx: &Context<'_>, args: [u64; 6]) -> Result<u64, Errno> {
    let [set, out, max, timeout, mask, size] = args;
    let deadline = after_millis(cx, timeout);
    under_mask(cx, mask, size, || epoll_until(cx, set, out, max, deadline))
}

pub(super) fn epoll_pwait2(cx: &Context<'_>, args: [u64; 6]) -> Result<u64, Errno> {
    let [set, out, max, timeout, mask, size] = args;
    let deadline = after_timespec(cx, timeout)?;
    under_mask(cx, mask, size, || epoll_until(cx, set, out, max, deadline))
}
