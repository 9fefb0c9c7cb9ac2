// SPDX-License-Identifier: Apache-2.0
//! Sending and receiving through the host.

use alloc::vec;

use enclave_abi::call::Op;

use super::HostSocket;
use crate::context::Context;
use crate::errno::Errno;
use crate::host::Word;
use crate::net::address::{self, Address};
use crate::net::{Domain, Flags, Received, raise_sigpipe};
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::hostfs::handle::{STEP, counted};
use crate::vfs::readiness::Events;

/// Length of address and flags before the address itself.
const INFO_HEAD: usize = 8;
/// What of the host's flags a program is told.
const TOLD: Flags = Flags::TRUNC.union(Flags::EOR).union(Flags::OOB);

impl HostSocket {
    /// Flags for one host call: where there is a timeout the kernel waits, not
    /// the host.
    fn host_flags(&self, flags: Flags, has_timeout: bool) -> u64 {
        let mut flags = flags - (Flags::NOSIGNAL | Flags::WAITFORONE | Flags::CMSG_CLOEXEC);
        // With MSG_TRUNC the host would tell lengths above the room.
        flags -= Flags::TRUNC;
        if has_timeout {
            flags = (flags - Flags::WAITALL) | Flags::DONTWAIT;
        }
        flags.bits().into()
    }

    fn send_once(
        &self,
        cx: &Context<'_>,
        from: Source<'_>,
        to: &[u8],
        flags: Flags,
    ) -> Result<usize, Errno> {
        let host_flags = self.host_flags(flags, self.send_timeout.is_set());
        let count = self.patiently(cx, flags.contains(Flags::DONTWAIT), Events::OUT, || {
            let words = &mut [
                Word::Fd(self.fd()),
                from.word(),
                Word::In(to),
                Word::Value(host_flags),
            ];
            cx.host(Op::Send, words)
        })?;
        counted(count, from.len())
    }

    pub(super) fn send_all(
        &self,
        cx: &Context<'_>,
        from: Source<'_>,
        to: Option<&Address>,
        flags: Flags,
    ) -> Result<usize, Errno> {
        let to = match to {
            Some(address) => super::name::to_reach(cx, address)?,
            None => vec![],
        };
        if !self.identity.is_stream() {
            return if from.len() > STEP {
                Err(Errno::EMSGSIZE)
            } else {
                self.send_once(cx, from, &to, flags)
            };
        }
        let mut done = 0;
        loop {
            let piece = from.part(done, STEP);
            let asked = piece.len();
            match self.send_once(cx, piece, &to, flags) {
                Ok(count) => {
                    done += count;
                    let is_cut = count < asked && flags.contains(Flags::DONTWAIT);
                    // A signal cut it: the program learns of both.
                    let is_interrupted = count < asked && cx.interrupted();
                    if done >= from.len() || count == 0 || is_cut || is_interrupted {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => {
                    if errno == Errno::EPIPE {
                        raise_sigpipe(cx, flags);
                    }
                    return Err(errno);
                }
            }
        }
    }

    fn receive_once(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        flags: Flags,
    ) -> Result<Received, Errno> {
        let host_flags = self.host_flags(flags, self.receive_timeout.is_set());
        let asked = to.len();
        let mut info = [0; INFO_HEAD + address::MAX_LEN];
        let nonblock = flags.contains(Flags::DONTWAIT);
        let count = self.patiently(cx, nonblock, Events::IN, || {
            let words = &mut [
                Word::Fd(self.fd()),
                to.word(),
                Word::Out(&mut info),
                Word::Value(host_flags),
            ];
            cx.host(Op::Recv, words)
        })?;
        let count = counted(count, asked)?;
        let (from, told) = told_info(&info, self.identity.domain)?;
        if told.contains(Flags::TRUNC) && count < asked {
            return Err(Errno::EIO);
        }
        Ok(Received {
            count,
            told: count,
            from,
            flags: told,
        })
    }

    pub(super) fn receive_all(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        flags: Flags,
    ) -> Result<Received, Errno> {
        if flags.contains(Flags::TRUNC) {
            return self.receive_measured(cx, to, flags);
        }
        let is_whole = self.identity.is_stream()
            && flags.contains(Flags::WAITALL)
            && !flags.contains(Flags::PEEK);
        let mut all = self.receive_once(cx, &mut to.part(0, STEP), flags)?;
        while is_whole && all.count < to.len() && all.count > 0 {
            let mut rest = to.part(all.count, STEP);
            match self.receive_once(cx, &mut rest, flags) {
                Ok(more) if more.count > 0 => all.count += more.count,
                // The end, or an error that the next call tells.
                _ => break,
            }
        }
        all.told = all.count;
        Ok(all)
    }

    /// MSG_TRUNC: a message is received whole and cut here; a stream's bytes are
    /// thrown away (tcp(7)).
    fn receive_measured(
        &self,
        cx: &Context<'_>,
        to: &mut Sink<'_>,
        flags: Flags,
    ) -> Result<Received, Errno> {
        const MAX_UDP: usize = 64 << 10;
        let is_stream = self.identity.is_stream();
        let len = match self.identity.domain {
            _ if is_stream => to.len().min(STEP),
            Domain::Unix => STEP,
            Domain::V4 | Domain::V6 => MAX_UDP,
        };
        let mut whole = vec![0; len];
        let flags = flags - Flags::TRUNC;
        let mut all = self.receive_once(cx, &mut Sink::Kernel(&mut whole), flags)?;
        if self.identity.domain == Domain::Unix || !is_stream {
            let kept = all.count.min(to.len());
            to.put(0, whole.get(..kept).unwrap_or_default())?;
            if all.count > kept {
                all.flags |= Flags::TRUNC;
            }
            all.count = kept;
        }
        Ok(all)
    }
}

/// Who sent, and which flags the host tells.
fn told_info(
    info: &[u8; INFO_HEAD + address::MAX_LEN],
    domain: Domain,
) -> Result<(Option<Address>, Flags), Errno> {
    let (len, rest) = info.split_first_chunk::<4>().ok_or(Errno::EIO)?;
    let (told, address) = rest.split_first_chunk::<4>().ok_or(Errno::EIO)?;
    let from = Address::from_host(address, u32::from_le_bytes(*len), domain)?;
    let told = Flags::from_bits_truncate(u32::from_le_bytes(*told)) & TOLD;
    Ok((from, told))
}
