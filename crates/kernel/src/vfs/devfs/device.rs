// SPDX-License-Identifier: Apache-2.0
//! Devices without a host: null, zero, full, random.

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::file::File;
use crate::vfs::stat::{self, FileType, Stat};

/// Random bytes made at a time.
const PIECE: usize = 256;

/// A device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Device {
    Null,
    Zero,
    Full,
    /// /dev/random and /dev/urandom: the CPU's randomness.
    Random,
}

impl Device {
    fn number(self) -> u64 {
        let minor = match self {
            Self::Null => 3,
            Self::Zero => 5,
            Self::Full => 7,
            Self::Random => 9,
        };
        stat::device(1, minor)
    }
}

impl File for Device {
    fn stat(&self, _cx: &Context<'_>) -> Result<Stat, Errno> {
        let mut found = Stat::new(FileType::CharDevice, 0o666, self.number());
        found.device = 3;
        found.rdev = self.number();
        Ok(found)
    }

    fn read(&self, cx: &Context<'_>, to: &mut Sink<'_>, _nonblock: bool) -> Result<usize, Errno> {
        match self {
            Self::Null => Ok(0),
            Self::Zero | Self::Full => {
                to.put_zeros(0, to.len())?;
                Ok(to.len())
            }
            Self::Random => {
                let mut bytes = [0; PIECE];
                let mut done = 0;
                while done < to.len() {
                    let now = (to.len() - done).min(PIECE);
                    let piece = bytes.get_mut(..now).unwrap_or_default();
                    cx.machine.random(piece);
                    to.put(done, piece)?;
                    done += now;
                    if done % (64 << 10) == 0 && cx.interrupted() {
                        break;
                    }
                }
                zeroize::Zeroize::zeroize(&mut bytes);
                Ok(done)
            }
        }
    }

    fn write(&self, _cx: &Context<'_>, from: Source<'_>, _nonblock: bool) -> Result<usize, Errno> {
        match self {
            Self::Full if !from.is_empty() => Err(Errno::ENOSPC),
            // What programs add to the randomness is not needed and not taken.
            _ => Ok(from.len()),
        }
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn read_at(&self, cx: &Context<'_>, _at: u64, to: &mut Sink<'_>) -> Result<usize, Errno> {
        self.read(cx, to, false)
    }

    fn write_at(&self, cx: &Context<'_>, _at: u64, from: Source<'_>) -> Result<usize, Errno> {
        self.write(cx, from, false)
    }

    fn ioctl(&self, cx: &Context<'_>, request: u64, arg: u64) -> Result<u64, Errno> {
        const RNDGETENTCNT: u64 = 0x8004_5200;
        match (self, request) {
            (Self::Random, RNDGETENTCNT) => {
                cx.write_u32(arg, 256)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}
