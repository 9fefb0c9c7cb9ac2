// SPDX-License-Identifier: Apache-2.0
//! /sys: the few files that runtimes look at to size themselves.

use alloc::format;
use alloc::sync::Arc;

use crate::context::Context;
use crate::errno::Errno;
use crate::syscall::scheduling::processors;
use crate::vfs::filesystem::FileSystem;
use crate::vfs::stat::FileType::{Directory, Regular};
use crate::vfs::synthetic::{Item, Synthetic, Tree};

/// /sys.
#[derive(Debug)]
struct System;

/// The file system at /sys.
#[must_use]
pub fn new() -> Arc<dyn FileSystem> {
    Arc::new(Synthetic(System))
}

impl Tree for System {
    const PREFIX: &'static [u8] = b"/sys";
    const MAGIC: u64 = 0x6265_6572;

    fn find(&self, _cx: &Context<'_>, components: &[&[u8]]) -> Result<Item, Errno> {
        let text = |text: &str| Ok(Item::Text(text.as_bytes().to_vec()));
        match components {
            [] => Ok(Item::directory(&[
                ("devices", Directory),
                ("kernel", Directory),
            ])),
            [b"devices"] => Ok(Item::directory(&[("system", Directory)])),
            [b"devices", b"system"] => Ok(Item::directory(&[("cpu", Directory)])),
            [b"devices", b"system", b"cpu"] => Ok(Item::directory(&[
                ("online", Regular),
                ("possible", Regular),
                ("present", Regular),
            ])),
            [
                b"devices",
                b"system",
                b"cpu",
                b"online" | b"possible" | b"present",
            ] => {
                let last = processors().saturating_sub(1);
                match last {
                    0 => text("0\n"),
                    last => text(&format!("0-{last}\n")),
                }
            }
            [b"kernel"] => Ok(Item::directory(&[("mm", Directory)])),
            [b"kernel", b"mm"] => Ok(Item::directory(&[("transparent_hugepage", Directory)])),
            [b"kernel", b"mm", b"transparent_hugepage"] => Ok(Item::directory(&[
                ("enabled", Regular),
                ("hpage_pmd_size", Regular),
            ])),
            // Enclave pages are 4 KiB.
            [b"kernel", b"mm", b"transparent_hugepage", b"enabled"] => {
                text("always madvise [never]\n")
            }
            [b"kernel", b"mm", b"transparent_hugepage", b"hpage_pmd_size"] => text("0\n"),
            _ => Err(Errno::ENOENT),
        }
    }
}
