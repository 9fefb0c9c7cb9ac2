// SPDX-License-Identifier: Apache-2.0
//! Waiting for any of several files, inside and at the host.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use enclave_abi::call::Op;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Word};
use crate::sync::{Waiter, Wake};
use crate::vfs::bell::Bell;
use crate::vfs::opened::OpenFile;
use crate::vfs::readiness::{Events, Readiness};

/// Most files waited for at once.
pub const MAX: usize = 16 << 10;

/// One file to wait for.
#[derive(Debug)]
pub struct Entry {
    /// The file; `None` asks for nothing.
    pub file: Option<Arc<OpenFile>>,
    /// What is asked.
    pub asked: Events,
    /// What is told.
    pub told: Events,
}

struct Look {
    ready: usize,
    /// Entries that only the host knows about.
    host: Vec<(usize, HostFd, Events)>,
    /// When the earliest timer among the entries is due.
    timer: Option<u64>,
}

/// Looks at what the kernel knows; `waker` is registered where it may change.
fn look(cx: &Context<'_>, entries: &mut [Entry], waker: Option<&Arc<dyn Wake>>) -> Look {
    let mut look = Look {
        ready: 0,
        host: Vec::new(),
        timer: None,
    };
    for (at, entry) in entries.iter_mut().enumerate() {
        let Some(file) = &entry.file else {
            look.ready += usize::from(!entry.told.is_empty());
            continue;
        };
        if let (Some(waker), Readiness::Inside(inside)) = (waker, file.file.readiness(cx)) {
            for queue in inside.queues.into_iter().flatten() {
                queue.register(Arc::clone(waker));
            }
        }
        // Looked at after registering, so that no change is missed.
        entry.told = match file.file.readiness(cx) {
            Readiness::Always(now) => now.told(entry.asked),
            Readiness::Inside(inside) => {
                look.timer = match (look.timer, inside.at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                inside.now.told(entry.asked)
            }
            Readiness::Host(fd) => {
                look.host.push((at, fd, entry.asked));
                Events::empty()
            }
        };
        look.ready += usize::from(!entry.told.is_empty());
    }
    look
}

fn forget(cx: &Context<'_>, entries: &[Entry], waker: &Arc<dyn Wake>) {
    for file in entries.iter().filter_map(|entry| entry.file.as_ref()) {
        if let Readiness::Inside(inside) = file.file.readiness(cx) {
            for queue in inside.queues.into_iter().flatten() {
                queue.unregister(waker);
            }
        }
    }
}

/// Waits until an entry has something to tell or the deadline (nanoseconds of
/// CLOCK_MONOTONIC) is over; how many entries tell something.
///
/// # Errors
/// `EINTR`, `EINVAL` for too many entries, the host's errno.
pub fn wait(
    cx: &Context<'_>,
    entries: &mut [Entry],
    deadline: Option<u64>,
) -> Result<usize, Errno> {
    if entries.len() > MAX {
        return Err(Errno::EINVAL);
    }
    let mut first = look(cx, entries, None);
    let is_over = |cx: &Context<'_>| deadline.is_some_and(|deadline| deadline <= cx.now());
    if first.ready > 0 || deadline == Some(0) {
        first.ready += ask_host(cx, entries, &first.host, Some(0), None)?;
        return Ok(first.ready);
    }
    loop {
        let ready = if first.host.is_empty() {
            sleep_inside(cx, entries, deadline)?
        } else {
            sleep_in_host(cx, entries, deadline)?
        };
        if ready > 0 || is_over(cx) {
            return Ok(ready);
        }
        first = look(cx, entries, None);
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn sleep_inside(
    cx: &Context<'_>,
    entries: &mut [Entry],
    deadline: Option<u64>,
) -> Result<usize, Errno> {
    let waiter = Waiter::new(cx);
    let waker = Arc::clone(&waiter) as Arc<dyn Wake>;
    let seen = look(cx, entries, Some(&waker));
    let slept = if seen.ready > 0 {
        Ok(())
    } else {
        waiter.park(cx, earlier(deadline, seen.timer))
    };
    forget(cx, entries, &waker);
    match slept {
        Ok(()) | Err(Errno::ETIMEDOUT) => Ok(look(cx, entries, None).ready),
        Err(errno) => Err(errno),
    }
}

fn sleep_in_host(
    cx: &Context<'_>,
    entries: &mut [Entry],
    deadline: Option<u64>,
) -> Result<usize, Errno> {
    let has_inside = entries
        .iter()
        .filter_map(|entry| entry.file.as_ref())
        .any(|file| matches!(file.file.readiness(cx), Readiness::Inside(_)));
    let bell = if has_inside {
        Some(Arc::new(Bell::new(cx)?))
    } else {
        None
    };
    let waker = bell.clone().map(|bell| bell as Arc<dyn Wake>);
    let seen = look(cx, entries, waker.as_ref());
    let until = earlier(deadline, seen.timer);
    let timeout = match until {
        _ if seen.ready > 0 => Some(0),
        None => None,
        Some(until) => Some(until.saturating_sub(cx.now())),
    };
    let asked = if cx.interrupted() && timeout != Some(0) {
        Err(Errno::EINTR)
    } else {
        ask_host(cx, entries, &seen.host, timeout, bell.as_deref())
    };
    if let Some(waker) = &waker {
        forget(cx, entries, waker);
    }
    match asked {
        Ok(_) => {}
        // A hint that leads to nothing: the caller looks again.
        Err(Errno::EINTR) if !cx.interrupted() => return Ok(0),
        Err(errno) => return Err(errno),
    }
    // What the host told stays; what the kernel knows is looked at once more.
    let told: Vec<(usize, Events)> = seen
        .host
        .iter()
        .filter_map(|(at, ..)| entries.get(*at).map(|entry| (*at, entry.told)))
        .collect();
    look(cx, entries, None);
    for (at, events) in told {
        if let Some(entry) = entries.get_mut(at) {
            entry.told = events;
        }
    }
    Ok(entries
        .iter()
        .filter(|entry| !entry.told.is_empty())
        .count())
}

/// Asks the host about its entries; how many tell something.
fn ask_host(
    cx: &Context<'_>,
    entries: &mut [Entry],
    host: &[(usize, HostFd, Events)],
    timeout: Option<u64>,
    bell: Option<&Bell>,
) -> Result<usize, Errno> {
    if host.is_empty() && bell.is_none() {
        return Ok(0);
    }
    let mut request = Vec::with_capacity((host.len() + 1) * 8);
    let mut ask = |fd: HostFd, events: Events| {
        request.extend_from_slice(&(fd.word() as u32).to_le_bytes());
        request.extend_from_slice(&(events.bits() as u16).to_le_bytes());
        request.extend_from_slice(&[0, 0]);
    };
    for (_, fd, asked) in host {
        ask(*fd, *asked);
    }
    if let Some(bell) = bell {
        ask(bell.fd(), Events::IN);
    }
    let mut answer = vec![0; request.len()];
    let words = &mut [
        Word::In(&request),
        Word::Out(&mut answer),
        Word::Value(timeout.unwrap_or(u64::MAX)),
    ];
    let count = cx.host(Op::Poll, words)?;
    if count > (host.len() + 1) as u64 {
        return Err(Errno::EIO);
    }
    if count == 0 {
        return Ok(0);
    }
    let mut ready = 0;
    for ((at, _, asked), told) in host.iter().zip(answer.chunks_exact(8)) {
        let bits = told
            .last_chunk::<2>()
            .map_or(0, |bits| u16::from_le_bytes(*bits));
        // The descriptor is open, whatever the host says, so NVAL is an error.
        let mut events = Events::from_bits_truncate(bits.into());
        if events.contains(Events::NVAL) {
            events |= Events::ERR;
        }
        let events = events.told(*asked);
        if let Some(entry) = entries.get_mut(*at) {
            entry.told = events;
            ready += usize::from(!events.is_empty());
        }
    }
    Ok(ready)
}
