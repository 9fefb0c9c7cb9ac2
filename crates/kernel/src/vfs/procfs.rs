// SPDX-License-Identifier: Apache-2.0
//! /proc: what the kernel knows of itself and its processes. Nothing comes from
//! the host but time.

mod process;
mod settings;
mod system;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::Context;
use crate::errno::Errno;
use crate::process as processes;
use crate::vfs::filesystem::FileSystem;
use crate::vfs::stat::FileType;
use crate::vfs::synthetic::{Item, Synthetic, Tree};

/// /proc.
#[derive(Debug)]
struct Processes;

/// The file system at /proc.
#[must_use]
pub fn new() -> Arc<dyn FileSystem> {
    Arc::new(Synthetic(Processes))
}

fn decimal(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let number: u32 = text.parse().ok()?;
    // Linux knows one spelling of each number.
    (format!("{number}") == text).then_some(number)
}

/// The process with this number, if the caller may know of it: a program sees
/// itself and its children, never the agent.
fn visible(cx: &Context<'_>, pid: u32) -> Option<Arc<processes::Process>> {
    if pid == cx.process().pid {
        return Some(Arc::clone(cx.process()));
    }
    processes::find(pid).filter(|process| !process.is_agent())
}

impl Tree for Processes {
    const PREFIX: &'static [u8] = b"/proc";
    const MAGIC: u64 = 0x9fa0;

    fn find(&self, cx: &Context<'_>, components: &[&[u8]]) -> Result<Item, Errno> {
        let link = |target: alloc::string::String| Ok(Item::Symlink(target.into_bytes()));
        match components {
            [] => Ok(root(cx)),
            [b"self"] => link(format!("{}", cx.process().pid)),
            [b"thread-self"] => link(format!("{}/task/{}", cx.process().pid, cx.task.tid)),
            [b"mounts"] => link("self/mounts".into()),
            [b"net"] => link("self/net".into()),
            [b"sys", rest @ ..] => settings::find(rest),
            [name, rest @ ..] => match decimal(name) {
                Some(pid) => {
                    let process = visible(cx, pid).ok_or(Errno::ENOENT)?;
                    process::find(cx, &process, rest)
                }
                None => system::find(cx, components),
            },
        }
    }
}

fn root(cx: &Context<'_>) -> Item {
    let mut names: Vec<(Vec<u8>, FileType)> = system::NAMES
        .iter()
        .map(|name| (name.as_bytes().to_vec(), FileType::Regular))
        .collect();
    for name in ["self", "thread-self", "mounts", "net"] {
        names.push((name.as_bytes().to_vec(), FileType::Symlink));
    }
    names.push((b"sys".to_vec(), FileType::Directory));
    let mut pids: Vec<u32> = processes::all()
        .iter()
        .filter(|process| !process.is_agent())
        .map(|process| process.pid)
        .collect();
    if !pids.contains(&cx.process().pid) {
        pids.push(cx.process().pid);
    }
    for pid in pids {
        names.push((format!("{pid}").into_bytes(), FileType::Directory));
    }
    Item::Directory(names)
}
