// SPDX-License-Identifier: Apache-2.0
//! epoll: host members live in a host epoll set, members inside are watched
//! through their queues. A thread that sleeps in the host while members inside
//! exist is woken by a host eventfd, the bell.

mod host;
mod member;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use host::HostSide;
use member::{Member, Options};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::sync::{Lock, WaitQueue};
use crate::vfs::file::{Class, File};
use crate::vfs::opened::OpenFile;
use crate::vfs::readiness::{Events, Inside, Readiness};
use crate::vfs::stat::{FileType, Stat};

/// Most events given by one wait.
pub const MAX_EVENTS: usize = 1024;
/// How deep epoll sets may contain one another (Linux: EP_MAX_NESTS).
const MAX_NESTING: u32 = 5;
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// One event for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub events: Events,
    /// The program's own data.
    pub data: u64,
}

/// What watchers inside leave for waiting threads.
#[derive(Default)]
struct Shared {
    /// Members inside that may have something to tell.
    flagged: Lock<BTreeSet<u64>>,
    /// Woken when a member is flagged.
    queue: WaitQueue,
    /// Threads that sleep in the host and need the bell.
    in_host: AtomicUsize,
    host: Lock<Option<Arc<HostSide>>>,
}

/// An epoll set.
#[derive(Default)]
pub struct Epoll {
    shared: Arc<Shared>,
    members: Lock<BTreeMap<u64, Arc<Member>>>,
}

impl core::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Epoll(..)")
    }
}

impl Shared {
    fn flag(&self, machine: &dyn Machine, key: u64) {
        self.flagged.lock().insert(key);
        self.queue.wake_all(machine);
        if self.in_host.load(Ordering::SeqCst) > 0 {
            let host = self.host.lock().clone();
            if let Some(host) = host {
                host.ring(machine);
            }
        }
    }
}

impl Epoll {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, fd: u64, file: &OpenFile) -> Option<Arc<Member>> {
        self.members
            .lock()
            .values()
            .find(|member| member.fd == fd && member.file_id == file.id())
            .cloned()
    }

    /// Adds a member.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for files that are always ready, `ELOOP` for sets that
    /// contain one another, the host's errno.
    pub fn add(
        &self,
        cx: &Context<'_>,
        fd: u64,
        file: &Arc<OpenFile>,
        events: u32,
        data: u64,
    ) -> Result<(), Errno> {
        if self.find(fd, file).is_some() {
            return Err(Errno::EEXIST);
        }
        if let Class::Epoll(inner) = file.file.class()
            && (Arc::ptr_eq(&inner.shared, &self.shared)
                || inner.depth_to(&self.shared, MAX_NESTING).is_none())
        {
            return Err(Errno::ELOOP);
        }
        let host_fd = match file.file.readiness(cx) {
            Readiness::Always(_) => return Err(Errno::EPERM),
            Readiness::Host(fd) => Some(fd),
            Readiness::Inside(_) => None,
        };
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        let options = Options::new(events, data)?;
        let member = Arc::new(Member::new(key, fd, file, options, host_fd));
        if let Some(host_fd) = host_fd {
            let host = self.host_side(cx)?;
            // Known before the host can tell of it.
            self.members.lock().insert(key, member);
            if let Err(errno) = host.add(cx, host_fd, &options, key) {
                self.members.lock().remove(&key);
                return Err(errno);
            }
            // Threads that wait inside alone must go out to wait now.
            self.shared.queue.wake_all(cx.machine);
        } else {
            self.members.lock().insert(key, member);
            self.shared.flag(cx.machine, key);
        }
        Ok(())
    }

    /// Changes what a member is asked.
    ///
    /// # Errors
    /// `ENOENT`, the host's errno.
    pub fn modify(
        &self,
        cx: &Context<'_>,
        fd: u64,
        file: &OpenFile,
        events: u32,
        data: u64,
    ) -> Result<(), Errno> {
        let member = self.find(fd, file).ok_or(Errno::ENOENT)?;
        let options = Options::new(events, data)?;
        member.set(options);
        match member.host {
            Some(host_fd) => self
                .host_side(cx)?
                .modify(cx, host_fd, &options, member.key),
            None => {
                self.shared.flag(cx.machine, member.key);
                Ok(())
            }
        }
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `ENOENT`, the host's errno.
    pub fn remove(&self, cx: &Context<'_>, fd: u64, file: &OpenFile) -> Result<(), Errno> {
        let member = self.find(fd, file).ok_or(Errno::ENOENT)?;
        self.members.lock().remove(&member.key);
        self.shared.flagged.lock().remove(&member.key);
        member.unwatch(&self.shared);
        match member.host {
            Some(host_fd) => self.host_side(cx)?.remove(cx, host_fd),
            None => Ok(()),
        }
    }

    fn host_side(&self, cx: &Context<'_>) -> Result<Arc<HostSide>, Errno> {
        if let Some(host) = &*self.shared.host.lock() {
            return Ok(Arc::clone(host));
        }
        let made = HostSide::new(cx)?;
        let mut slot = self.shared.host.lock();
        Ok(Arc::clone(slot.get_or_insert(made)))
    }

    fn has_host_members(&self) -> bool {
        self.members
            .lock()
            .values()
            .any(|member| member.host.is_some() && member.is_open())
    }

    /// Waits for events; none after the deadline (nanoseconds of CLOCK_MONOTONIC).
    ///
    /// # Errors
    /// `EINTR`, the host's errno.
    pub fn wait(
        &self,
        cx: &Context<'_>,
        max: usize,
        deadline: Option<u64>,
    ) -> Result<Vec<Event>, Errno> {
        let max = max.min(MAX_EVENTS);
        loop {
            let (mut out, timer) = self.collect(cx, max);
            let host = self.has_host_members();
            if !out.is_empty() {
                if host && out.len() < max {
                    let room = max - out.len();
                    // What is there already counts; a failing host does not undo it.
                    if let Ok(more) = self.ask_host(cx, room, Some(0)) {
                        out.extend(more);
                    }
                }
                return Ok(out);
            }
            let until = match (deadline, timer) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if host {
                out = self.wait_in_host(cx, max, until)?;
                if !out.is_empty() {
                    return Ok(out);
                }
            } else {
                let slept = self.shared.queue.wait_until(cx, until, || {
                    !self.shared.flagged.lock().is_empty() || self.has_host_members()
                });
                match slept {
                    Ok(()) | Err(Errno::ETIMEDOUT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            self.flag_due_timers(cx);
            let is_over = deadline.is_some_and(|deadline| cx.now() >= deadline);
            if is_over && self.shared.flagged.lock().is_empty() {
                return Ok(Vec::new());
            }
        }
    }

    fn wait_in_host(
        &self,
        cx: &Context<'_>,
        max: usize,
        until: Option<u64>,
    ) -> Result<Vec<Event>, Errno> {
        self.shared.in_host.fetch_add(1, Ordering::SeqCst);
        // Announced first, then looked: who flags after this look rings the bell.
        let is_flagged = !self.shared.flagged.lock().is_empty();
        let timeout = match until {
            _ if is_flagged => Some(0),
            None => None,
            Some(until) => Some(until.saturating_sub(cx.now())),
        };
        let result = if cx.interrupted() && timeout != Some(0) {
            Err(Errno::EINTR)
        } else {
            self.ask_host(cx, max, timeout)
        };
        self.shared.in_host.fetch_sub(1, Ordering::SeqCst);
        match result {
            // A hint that leads to nothing: wait again.
            Err(Errno::EINTR) if !cx.interrupted() => Ok(Vec::new()),
            other => other,
        }
    }

    fn ask_host(
        &self,
        cx: &Context<'_>,
        max: usize,
        timeout: Option<u64>,
    ) -> Result<Vec<Event>, Errno> {
        let host = self.host_side(cx)?;
        let told = host.wait(cx, max, timeout)?;
        let mut out = Vec::new();
        for (events, key) in told {
            if key == host::BELL {
                host.quiet(cx);
                continue;
            }
            // A key that nobody has now belongs to a member just removed, or is a lie.
            let Some(member) = self.members.lock().get(&key).cloned() else {
                continue;
            };
            if member.host.is_none() || !member.is_open() {
                continue;
            }
            let options = member.options();
            let events = Events::from_bits_truncate(events).told(options.asked);
            if events.is_empty() || !member.fire() {
                continue;
            }
            out.push(Event {
                events,
                data: options.data,
            });
        }
        Ok(out)
    }

    /// Events of members inside, and when the earliest timer among them is due.
    fn collect(&self, cx: &Context<'_>, max: usize) -> (Vec<Event>, Option<u64>) {
        let flagged: Vec<u64> = self.shared.flagged.lock().iter().copied().collect();
        let mut out = Vec::new();
        for key in flagged {
            if out.len() >= max {
                break;
            }
            // First unflag, then watch, then look: a change after the look flags again.
            self.shared.flagged.lock().remove(&key);
            let Some(member) = self.members.lock().get(&key).cloned() else {
                continue;
            };
            let Some(file) = member.file.upgrade() else {
                self.members.lock().remove(&key);
                continue;
            };
            if !member.is_armed() {
                continue;
            }
            member.watch(cx, &self.shared, &file);
            let options = member.options();
            let now = match file.file.readiness(cx) {
                Readiness::Inside(inside) => {
                    member.set_timer(inside.at);
                    inside.now
                }
                _ => continue,
            };
            let events = now.told(options.asked);
            if events.is_empty() || !member.fire() {
                continue;
            }
            out.push(Event {
                events,
                data: options.data,
            });
            if options.is_level() {
                self.shared.flagged.lock().insert(key);
            }
        }
        let timer = self
            .members
            .lock()
            .values()
            .filter_map(|member| member.timer())
            .min();
        (out, timer)
    }

    fn flag_due_timers(&self, cx: &Context<'_>) {
        let timers: Vec<(u64, u64)> = self
            .members
            .lock()
            .values()
            .filter_map(|member| member.timer().map(|at| (member.key, at)))
            .collect();
        if timers.is_empty() {
            return;
        }
        let now = cx.now();
        let mut flagged = self.shared.flagged.lock();
        for (key, at) in timers {
            if at <= now {
                flagged.insert(key);
            }
        }
    }

    /// Whether any member inside has something to tell, without taking it.
    fn peek(&self, cx: &Context<'_>) -> (bool, Option<u64>) {
        let members: Vec<Arc<Member>> = self.members.lock().values().cloned().collect();
        let flagged = self.shared.flagged.lock().clone();
        let mut timer: Option<u64> = None;
        for member in members {
            let Some(file) = member.file.upgrade() else {
                continue;
            };
            if member.host.is_some() || !member.is_armed() {
                continue;
            }
            let options = member.options();
            member.watch(cx, &self.shared, &file);
            if let Readiness::Inside(inside) = file.file.readiness(cx) {
                let is_new = options.is_level() || flagged.contains(&member.key);
                if is_new && !inside.now.told(options.asked).is_empty() {
                    return (true, None);
                }
                timer = match (timer, inside.at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        (false, timer)
    }

    /// Levels below this set; `None` if `target` is among them or they are too many.
    fn depth_to(&self, target: &Arc<Shared>, left: u32) -> Option<u32> {
        let left = left.checked_sub(1)?;
        let members: Vec<Arc<Member>> = self.members.lock().values().cloned().collect();
        let mut deepest = 0;
        for member in members {
            let Some(file) = member.file.upgrade() else {
                continue;
            };
            if let Class::Epoll(inner) = file.file.class() {
                if Arc::ptr_eq(&inner.shared, target) {
                    return None;
                }
                deepest = deepest.max(inner.depth_to(target, left)? + 1);
            }
        }
        Some(deepest)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for member in self.members.lock().values() {
            member.unwatch(&self.shared);
        }
    }
}

impl File for Epoll {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Anonymous, 0o600, 1))
    }

    fn readiness(&self, cx: &Context<'_>) -> Readiness<'_> {
        let (ready, at) = self.peek(cx);
        if !ready && self.has_host_members() {
            let host = self.shared.host.lock().clone();
            if let Some(host) = host {
                // Somebody else waits for the host's set now, so members inside
                // must ring its bell from here on.
                if !host.share() {
                    self.shared.in_host.fetch_add(1, Ordering::SeqCst);
                }
                return Readiness::Host(host.fd());
            }
        }
        let mut now = Events::empty();
        now.set(Events::READ, ready);
        Readiness::Inside(Inside {
            now,
            queues: [Some(&self.shared.queue), None],
            at,
        })
    }

    fn class(&self) -> Class<'_> {
        Class::Epoll(self)
    }
}
