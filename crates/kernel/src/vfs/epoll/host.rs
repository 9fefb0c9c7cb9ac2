// SPDX-License-Identifier: Apache-2.0
//! The host's part of an epoll set.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::call::Op;

use super::member::Options;
use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Machine, Word};
use crate::vfs::bell::Bell;
use crate::vfs::hostfs::handle::HostHandle;

/// The key of the bell among the host's events; members' keys start at 1.
pub(super) const BELL: u64 = 0;
/// Bytes of a packed `struct epoll_event`.
const EVENT_LEN: usize = 12;

const CTL_ADD: u64 = 1;
const CTL_DEL: u64 = 2;
const CTL_MOD: u64 = 3;
const EPOLLIN: u64 = 1;

pub(super) struct HostSide {
    epoll: HostHandle,
    bell: Bell,
    is_shared: AtomicBool,
}

impl HostSide {
    pub(super) fn new(cx: &Context<'_>) -> Result<Arc<Self>, Errno> {
        const CLOEXEC: u64 = 0o2000000;
        let epoll = cx.host(Op::EpollCreate, &mut [Word::Value(CLOEXEC)])?;
        let epoll = HostHandle::from_result(cx.machine, epoll)?;
        let bell = Bell::new(cx)?;
        let side = Self {
            epoll,
            bell,
            is_shared: AtomicBool::new(false),
        };
        side.control(cx, CTL_ADD, side.bell.fd(), EPOLLIN, BELL)?;
        Ok(Arc::new(side))
    }

    pub(super) fn fd(&self) -> HostFd {
        self.epoll.fd()
    }

    /// Notes that the set is waited for by others; whether it was before.
    pub(super) fn share(&self) -> bool {
        self.is_shared.swap(true, Ordering::AcqRel)
    }

    fn control(
        &self,
        cx: &Context<'_>,
        operation: u64,
        fd: HostFd,
        events: u64,
        key: u64,
    ) -> Result<(), Errno> {
        let words = &mut [
            Word::Fd(self.epoll.fd()),
            Word::Value(operation),
            Word::Fd(fd),
            Word::Value(events),
            Word::Value(key),
        ];
        cx.host(Op::EpollCtl, words).map(|_| ())
    }

    pub(super) fn add(
        &self,
        cx: &Context<'_>,
        fd: HostFd,
        options: &Options,
        key: u64,
    ) -> Result<(), Errno> {
        self.control(cx, CTL_ADD, fd, options.host_bits().into(), key)
    }

    pub(super) fn modify(
        &self,
        cx: &Context<'_>,
        fd: HostFd,
        options: &Options,
        key: u64,
    ) -> Result<(), Errno> {
        self.control(cx, CTL_MOD, fd, options.host_bits().into(), key)
    }

    pub(super) fn remove(&self, cx: &Context<'_>, fd: HostFd) -> Result<(), Errno> {
        self.control(cx, CTL_DEL, fd, 0, 0)
    }

    /// Events and keys that the host tells; `None` waits without end.
    pub(super) fn wait(
        &self,
        cx: &Context<'_>,
        max: usize,
        timeout: Option<u64>,
    ) -> Result<Vec<(u32, u64)>, Errno> {
        // One more than asked for: the bell.
        let mut room = vec![0; (max + 1) * EVENT_LEN];
        let words = &mut [
            Word::Fd(self.epoll.fd()),
            Word::Out(&mut room),
            Word::Value(timeout.unwrap_or(u64::MAX)),
        ];
        let count = cx.host(Op::EpollWait, words)?;
        let count = usize::try_from(count).map_err(|_| Errno::EIO)?;
        if count > max + 1 {
            return Err(Errno::EIO);
        }
        let mut out = Vec::with_capacity(count);
        for event in room.chunks_exact(EVENT_LEN).take(count) {
            let Some((events, key)) = event.split_first_chunk::<4>() else {
                break;
            };
            let Some((key, _)) = key.split_first_chunk::<8>() else {
                break;
            };
            out.push((u32::from_le_bytes(*events), u64::from_le_bytes(*key)));
        }
        Ok(out)
    }

    pub(super) fn ring(&self, machine: &dyn Machine) {
        self.bell.ring(machine);
    }

    pub(super) fn quiet(&self, cx: &Context<'_>) {
        self.bell.quiet(cx);
    }
}
