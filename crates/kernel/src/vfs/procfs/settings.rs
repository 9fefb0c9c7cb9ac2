// SPDX-License-Identifier: Apache-2.0
//! /proc/sys.

use alloc::vec::Vec;

use crate::errno::Errno;
use crate::vfs::stat::FileType;
use crate::vfs::synthetic::Item;

/// The system that programs see, as `uname` says.
pub(super) const RELEASE: &str = "6.1.0-ensconce";

/// Path below /proc/sys and content.
const SETTINGS: &[(&str, &str)] = &[
    ("fs/file-max", "1048576\n"),
    ("fs/nr_open", "1048576\n"),
    ("fs/pipe-max-size", "1048576\n"),
    ("kernel/cap_last_cap", "40\n"),
    ("kernel/core_pattern", "core\n"),
    ("kernel/hostname", "enclave\n"),
    ("kernel/ngroups_max", "65536\n"),
    ("kernel/osrelease", "6.1.0-ensconce\n"),
    ("kernel/ostype", "Linux\n"),
    ("kernel/overflowgid", "65534\n"),
    ("kernel/overflowuid", "65534\n"),
    ("kernel/pid_max", "4194304\n"),
    ("kernel/random/entropy_avail", "256\n"),
    ("kernel/random/poolsize", "256\n"),
    ("kernel/randomize_va_space", "2\n"),
    ("kernel/threads-max", "1024\n"),
    ("kernel/version", "#1 SMP\n"),
    ("net/core/somaxconn", "4096\n"),
    ("net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("vm/max_map_count", "65530\n"),
    ("vm/overcommit_memory", "1\n"),
    ("vm/swappiness", "0\n"),
];

pub(super) fn find(components: &[&[u8]]) -> Result<Item, Errno> {
    let mut names: Vec<(Vec<u8>, FileType)> = Vec::new();
    for (path, content) in SETTINGS {
        let mut parts = path.as_bytes().split(|byte| *byte == b'/');
        if !components
            .iter()
            .all(|component| parts.next() == Some(component))
        {
            continue;
        }
        let Some(next) = parts.next() else {
            return Ok(Item::Setting(content.as_bytes().to_vec()));
        };
        let kind = if parts.next().is_some() {
            FileType::Directory
        } else {
            FileType::Regular
        };
        if names.iter().all(|(name, _)| name != next) {
            names.push((next.to_vec(), kind));
        }
    }
    if names.is_empty() {
        return Err(Errno::ENOENT);
    }
    Ok(Item::Directory(names))
}
