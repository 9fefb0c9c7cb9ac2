// SPDX-License-Identifier: Apache-2.0
//! Members of an epoll set.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use super::Shared;
use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Machine};
use crate::sync::{Lock, Wake};
use crate::vfs::opened::OpenFile;
use crate::vfs::readiness::{Events, Readiness};

const EXCLUSIVE: u32 = 1 << 28;
const WAKEUP: u32 = 1 << 29;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;

/// What a member is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) asked: Events,
    is_edge: bool,
    is_oneshot: bool,
    pub(super) data: u64,
}

impl Options {
    pub(super) fn new(events: u32, data: u64) -> Result<Self, Errno> {
        // EXCLUSIVE and WAKEUP only save wakes and power; ONESHOT with
        // EXCLUSIVE is forbidden (epoll_ctl(2)).
        if events & EXCLUSIVE != 0 && events & ONESHOT != 0 {
            return Err(Errno::EINVAL);
        }
        let _ = WAKEUP;
        Ok(Self {
            asked: Events::from_bits_truncate(events),
            is_edge: events & EDGE != 0,
            is_oneshot: events & ONESHOT != 0,
            data,
        })
    }

    pub(super) fn is_level(&self) -> bool {
        !self.is_edge && !self.is_oneshot
    }

    /// Events and modes as the host's epoll takes them.
    pub(super) fn host_bits(&self) -> u32 {
        let mut bits = self.asked.bits();
        if self.is_edge {
            bits |= EDGE;
        }
        if self.is_oneshot {
            bits |= ONESHOT;
        }
        bits
    }
}

/// A member.
pub(super) struct Member {
    pub(super) key: u64,
    pub(super) fd: u64,
    pub(super) file: Weak<OpenFile>,
    pub(super) file_id: u64,
    pub(super) host: Option<HostFd>,
    options: Lock<Options>,
    /// False after a one-shot event, until changed.
    armed: AtomicBool,
    timer: Lock<Option<u64>>,
    watcher: Lock<Option<Arc<dyn Wake>>>,
}

impl Member {
    pub(super) fn new(
        key: u64,
        fd: u64,
        file: &Arc<OpenFile>,
        options: Options,
        host: Option<HostFd>,
    ) -> Self {
        Self {
            key,
            fd,
            file: Arc::downgrade(file),
            file_id: file.id(),
            host,
            options: Lock::new(options),
            armed: AtomicBool::new(true),
            timer: Lock::new(None),
            watcher: Lock::new(None),
        }
    }

    pub(super) fn options(&self) -> Options {
        *self.options.lock()
    }

    pub(super) fn set(&self, options: Options) {
        *self.options.lock() = options;
        self.armed.store(true, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.file.strong_count() > 0
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Takes the right to tell an event; a one-shot member has it once.
    pub(super) fn fire(&self) -> bool {
        if self.options.lock().is_oneshot {
            self.armed.swap(false, Ordering::AcqRel)
        } else {
            true
        }
    }

    pub(super) fn timer(&self) -> Option<u64> {
        *self.timer.lock()
    }

    pub(super) fn set_timer(&self, at: Option<u64>) {
        *self.timer.lock() = at;
    }

    /// Watches the file's queues, once each.
    pub(super) fn watch(&self, cx: &Context<'_>, shared: &Arc<Shared>, file: &OpenFile) {
        let watcher = {
            let mut slot = self.watcher.lock();
            Arc::clone(slot.get_or_insert_with(|| {
                Arc::new(Watcher {
                    key: self.key,
                    shared: Arc::downgrade(shared),
                })
            }))
        };
        if let Readiness::Inside(inside) = file.file.readiness(cx) {
            for queue in inside.queues.into_iter().flatten() {
                queue.unregister(&watcher);
                queue.register(Arc::clone(&watcher));
            }
        }
    }

    /// Forgets the watcher; the file's queues drop it at their next wake.
    pub(super) fn unwatch(&self, _shared: &Arc<Shared>) {
        *self.watcher.lock() = None;
        self.armed.store(false, Ordering::Release);
    }
}

/// Flags its member when a queue of the file is woken.
struct Watcher {
    key: u64,
    shared: Weak<Shared>,
}

impl Wake for Watcher {
    fn wake(&self, machine: &dyn Machine) {
        if let Some(shared) = self.shared.upgrade() {
            shared.flag(machine, self.key);
        }
    }
}
