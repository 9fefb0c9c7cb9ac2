// SPDX-License-Identifier: Apache-2.0
//! /dev: the devices that every program expects.

mod device;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;

use device::Device;

use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::filesystem::FileSystem;
use crate::vfs::stat::FileType;
use crate::vfs::synthetic::{Item, Synthetic, Tree};

/// /dev.
#[derive(Debug)]
struct Devices;

/// The file system at /dev.
#[must_use]
pub fn new() -> Arc<dyn FileSystem> {
    Arc::new(Synthetic(Devices))
}

impl Tree for Devices {
    const PREFIX: &'static [u8] = b"/dev";
    const MAGIC: u64 = 0x0102_1994;

    fn find(&self, cx: &Context<'_>, components: &[&[u8]]) -> Result<Item, Errno> {
        let device =
            |device: Device, major, minor| Ok(Item::Device(Arc::new(device), major, minor));
        let link = |target: &[u8]| Ok(Item::Symlink(target.to_vec()));
        match components {
            [] => Ok(Item::directory(&[
                ("null", FileType::CharDevice),
                ("zero", FileType::CharDevice),
                ("full", FileType::CharDevice),
                ("random", FileType::CharDevice),
                ("urandom", FileType::CharDevice),
                ("tty", FileType::CharDevice),
                ("fd", FileType::Symlink),
                ("stdin", FileType::Symlink),
                ("stdout", FileType::Symlink),
                ("stderr", FileType::Symlink),
            ])),
            [b"null"] => device(Device::Null, 1, 3),
            [b"zero"] => device(Device::Zero, 1, 5),
            [b"full"] => device(Device::Full, 1, 7),
            [b"random"] => device(Device::Random, 1, 8),
            [b"urandom"] => device(Device::Random, 1, 9),
            [b"tty"] => terminal(cx),
            [b"fd"] => link(b"/proc/self/fd"),
            [b"stdin"] => link(b"/proc/self/fd/0"),
            [b"stdout"] => link(b"/proc/self/fd/1"),
            [b"stderr"] => link(b"/proc/self/fd/2"),
            _ => Err(Errno::ENOENT),
        }
    }
}

/// The controlling terminal: the first standard stream that is one.
fn terminal(cx: &Context<'_>) -> Result<Item, Errno> {
    for stream in super::stdio::streams(cx) {
        // A stream that is closed is no terminal.
        let Ok(stat) = stream.stat(cx) else {
            continue;
        };
        // Major 136 and above are pseudo terminals, 4 and 5 the others.
        let major = crate::vfs::stat::major(stat.rdev);
        if stat.kind() == FileType::CharDevice && ((136..144).contains(&major) || major == 4) {
            return Ok(Item::Device(stream, 5, 0));
        }
    }
    Ok(Item::Absent(5, 0))
}
