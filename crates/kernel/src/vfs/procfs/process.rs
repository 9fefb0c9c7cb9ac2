// SPDX-License-Identifier: Apache-2.0
//! Files about one process.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::sync::atomic::Ordering;

use crate::context::Context;
use crate::errno::Errno;
use crate::memory::{self, area::Label, pages::Prot};
use crate::process::{Process, Task};
use crate::vfs::stat::FileType::{self, Directory, Regular, Symlink};
use crate::vfs::synthetic::Item;

const NAMES: &[(&str, FileType)] = &[
    ("auxv", Regular),
    ("cgroup", Regular),
    ("cmdline", Regular),
    ("comm", Regular),
    ("cwd", Symlink),
    ("environ", Regular),
    ("exe", Symlink),
    ("fd", Directory),
    ("fdinfo", Directory),
    ("io", Regular),
    ("limits", Regular),
    ("maps", Regular),
    ("mountinfo", Regular),
    ("mounts", Regular),
    ("net", Directory),
    ("oom_score_adj", Regular),
    ("root", Symlink),
    ("smaps", Regular),
    ("stat", Regular),
    ("statm", Regular),
    ("status", Regular),
    ("task", Directory),
    ("wchan", Regular),
];

pub(super) fn find(
    cx: &Context<'_>,
    process: &Arc<Process>,
    components: &[&[u8]],
) -> Result<Item, Errno> {
    let text = |text: String| Ok(Item::Text(text.into_bytes()));
    match components {
        [] => Ok(Item::directory(NAMES)),
        [b"auxv"] => Ok(Item::Text(process.program.lock().auxv.clone())),
        [b"cgroup"] => text("0::/\n".into()),
        [b"cmdline"] => Ok(Item::Text(with_nuls(&process.program.lock().argv))),
        [b"environ"] => Ok(Item::Text(with_nuls(&process.program.lock().env))),
        [b"comm"] => text(format!("{}\n", name(process, None))),
        [b"cwd"] => Ok(Item::Symlink(process.files.cwd())),
        [b"root"] => Ok(Item::Symlink(b"/".to_vec())),
        [b"exe"] => {
            let path = process.program.lock().path.clone();
            if path.is_empty() {
                return Err(Errno::ENOENT);
            }
            Ok(Item::Symlink(shown(&path).to_vec()))
        }
        [b"fd"] => Ok(descriptors(process, Symlink)),
        [b"fdinfo"] => Ok(descriptors(process, Regular)),
        [b"fd", number] => descriptor(process, number),
        [b"fdinfo", number] => {
            let file = process.files.get(fd(number)?)?;
            let flags = file.flags().bits();
            let at = file
                .seek(cx, 0, crate::vfs::opened::Whence::Current)
                .unwrap_or(0);
            text(format!("pos:\t{at}\nflags:\t0{flags:o}\nmnt_id:\t1\n"))
        }
        [b"io"] => text("rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\n".into()),
        [b"limits"] => text(limits(process)),
        [b"maps"] => Ok(Item::Text(maps(process, false))),
        [b"smaps"] => Ok(Item::Text(maps(process, true))),
        [b"mounts"] => Ok(Item::Text(mounts(process))),
        [b"mountinfo"] => Ok(Item::Text(mount_info(process))),
        [b"oom_score_adj"] => Ok(Item::Setting(b"0\n".to_vec())),
        [b"stat"] => text(stat(cx, process, process.pid, None)),
        [b"statm"] => text(statm(process)),
        [b"status"] => text(status(process, process.pid, None)),
        [b"wchan"] => text("0".into()),
        [b"net", rest @ ..] => net(rest),
        [b"task"] => Ok(Item::Directory(
            process
                .thread_ids()
                .iter()
                .map(|tid| (format!("{tid}").into_bytes(), Directory))
                .collect(),
        )),
        [b"task", tid, rest @ ..] => {
            let tid = super::decimal(tid).ok_or(Errno::ENOENT)?;
            let task = process
                .tasks
                .lock()
                .iter()
                .find(|task| task.tid == tid)
                .cloned();
            thread(cx, process, task.ok_or(Errno::ENOENT)?.as_ref(), rest)
        }
        _ => Err(Errno::ENOENT),
    }
}

/// The path that a program sees: a converted image stores its program elsewhere,
/// because the launcher lies at the program's own path.
fn shown(path: &[u8]) -> &[u8] {
    match path.strip_prefix(b"/ensconce/program") {
        Some(own) if own.first() == Some(&b'/') => own,
        _ => path,
    }
}

fn thread(
    cx: &Context<'_>,
    process: &Arc<Process>,
    task: &Task,
    components: &[&[u8]],
) -> Result<Item, Errno> {
    match components {
        [b"comm"] => {
            let text = format!("{}\n", name(process, Some(task)));
            Ok(Item::Text(text.into_bytes()))
        }
        [b"stat"] => {
            let text = stat(cx, process, task.tid, Some(task));
            Ok(Item::Text(text.into_bytes()))
        }
        [b"status"] => {
            let text = status(process, task.tid, Some(task));
            Ok(Item::Text(text.into_bytes()))
        }
        [b"task", ..] => Err(Errno::ENOENT),
        other => find(cx, process, other),
    }
}

fn with_nuls(list: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in list {
        out.extend_from_slice(item);
        out.push(0);
    }
    out
}

/// The thread's name, or the program's.
fn name(process: &Process, task: Option<&Task>) -> String {
    let own = match task {
        Some(task) => *task.name.lock(),
        None => process
            .tasks
            .lock()
            .first()
            .map_or([0; 16], |task| *task.name.lock()),
    };
    let end = own.iter().position(|byte| *byte == 0).unwrap_or(own.len());
    let given = own.get(..end).unwrap_or_default();
    if !given.is_empty() {
        return String::from_utf8_lossy(given).into_owned();
    }
    let program = process.program.lock();
    let file = crate::vfs::path::name(&program.path);
    String::from_utf8_lossy(file.get(..file.len().min(15)).unwrap_or_default()).into_owned()
}

fn fd(number: &[u8]) -> Result<u64, Errno> {
    super::decimal(number).map_or(Err(Errno::ENOENT), |fd| Ok(fd.into()))
}

fn descriptors(process: &Process, kind: FileType) -> Item {
    let numbers = process.files.table().lock().numbers();
    Item::Directory(
        numbers
            .into_iter()
            .map(|number| (format!("{number}").into_bytes(), kind))
            .collect(),
    )
}

fn descriptor(process: &Process, number: &[u8]) -> Result<Item, Errno> {
    let file = process.files.get(fd(number)?).map_err(|_| Errno::ENOENT)?;
    Ok(Item::Descriptor(file.path.clone(), file))
}

fn limits(process: &Process) -> String {
    let files = process.files.table().lock().limit();
    let mut out = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    let _ = writeln!(
        out,
        "{:<25} {:<20} {:<20} {:<10}",
        "Max open files",
        files,
        crate::vfs::table::HARD_LIMIT,
        "files"
    );
    out
}

fn maps(process: &Process, detailed: bool) -> Vec<u8> {
    let Some(memory) = memory::current() else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for area in memory.areas(process.pid) {
        let flag = |prot: Prot, letter: char| {
            if area.prot.contains(prot) {
                letter
            } else {
                '-'
            }
        };
        let (offset, path) = match &area.file {
            Some((file, offset)) => (*offset, shown(&file.path).to_vec()),
            None => (0, Vec::new()),
        };
        let label: &[u8] = match area.label {
            Label::Heap => b"[heap]",
            Label::Stack => b"[stack]",
            Label::Stubs => b"[stubs]",
            Label::None => &path,
        };
        let inode = u32::from(!path.is_empty());
        let mut line = format!(
            "{:08x}-{:08x} {}{}{}{} {offset:08x} 00:00 {inode}",
            area.start,
            area.end,
            flag(Prot::R, 'r'),
            flag(Prot::W, 'w'),
            flag(Prot::X, 'x'),
            if area.shared { 's' } else { 'p' },
        )
        .into_bytes();
        if !label.is_empty() {
            // Names start at column 73, as tools that cut by columns expect.
            line.resize(line.len().max(72), b' ');
            line.push(b' ');
            line.extend_from_slice(label);
        }
        line.push(b'\n');
        out.extend(line);
        if detailed {
            let size = (area.end - area.start) >> 10;
            out.extend(format!("Size: {size:>18} kB\nRss: {size:>19} kB\n").into_bytes());
        }
    }
    out
}

fn mounts(process: &Process) -> Vec<u8> {
    let mut out = Vec::new();
    for (prefix, read_only) in process.files.namespace().prefixes() {
        out.extend_from_slice(b"enclave ");
        escape(&mut out, &prefix);
        let mode = if read_only { "ro" } else { "rw" };
        out.extend(format!(" {} {mode} 0 0\n", kind_of(&prefix)).into_bytes());
    }
    out
}

fn mount_info(process: &Process) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, (prefix, read_only)) in process.files.namespace().prefixes().iter().enumerate() {
        let mode = if *read_only { "ro" } else { "rw" };
        let parent = if at == 0 { 0 } else { 1 };
        out.extend(format!("{} {parent} 0:{} / ", at + 1, at + 1).into_bytes());
        escape(&mut out, prefix);
        out.extend(format!(" {mode} - {} enclave {mode}\n", kind_of(prefix)).into_bytes());
    }
    out
}

fn kind_of(prefix: &[u8]) -> &'static str {
    match prefix {
        b"/proc" => "proc",
        b"/sys" => "sysfs",
        b"/dev" => "devtmpfs",
        b"/" => "overlay",
        _ => "tmpfs",
    }
}

/// Writes a path as mounts(5) wants it: blanks and backslashes in octal.
fn escape(out: &mut Vec<u8>, path: &[u8]) {
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend(format!("\\{byte:03o}").into_bytes()),
            other => out.push(*other),
        }
    }
}

/// Mapped and committed bytes.
fn sizes(process: &Process) -> (u64, u64) {
    memory::current().map_or((0, 0), |memory| {
        let mapped = memory
            .areas(process.pid)
            .iter()
            .map(|area| area.end - area.start)
            .sum();
        (mapped, memory.committed())
    })
}

fn stat(cx: &Context<'_>, process: &Process, id: u32, task: Option<&Task>) -> String {
    let (mapped, held) = sizes(process);
    let threads = process.thread_ids().len();
    let started = process.started / 10_000_000;
    let ticks = crate::process::time::clock(cx.machine, 2).unwrap_or(0) / 10_000_000;
    format!(
        "{id} ({}) R {} {} {} 0 -1 4194304 0 0 0 0 {ticks} 0 0 0 20 0 {threads} 0 {started} \
         {mapped} {} 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        name(process, task),
        process.parent,
        process.pid,
        process.pid,
        held / 4096,
    )
}

fn statm(process: &Process) -> String {
    let (mapped, held) = sizes(process);
    format!(
        "{} {} 0 0 0 {} 0\n",
        mapped / 4096,
        held / 4096,
        held / 4096
    )
}

fn status(process: &Process, id: u32, task: Option<&Task>) -> String {
    let (mapped, held) = sizes(process);
    let mask = task.map_or_else(
        || {
            process
                .tasks
                .lock()
                .first()
                .map_or(0, |task| task.mask.load(Ordering::Acquire))
        },
        |task| task.mask.load(Ordering::Acquire),
    );
    let cpus = crate::syscall::scheduling::processors();
    let allowed = (1_u64 << cpus) - 1;
    let list = match cpus {
        0 | 1 => "0".into(),
        more => format!("0-{}", more - 1),
    };
    let (mapped, held) = (mapped >> 10, held >> 10);
    format!(
        "Name:\t{}\nUmask:\t{:04o}\nState:\tR (running)\nTgid:\t{}\nNgid:\t0\nPid:\t{id}\n\
         PPid:\t{}\nTracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t256\n\
         Groups:\t\nVmPeak:\t{mapped:>8} kB\nVmSize:\t{mapped:>8} kB\nVmLck:\t{:>8} kB\n\
         VmHWM:\t{held:>8} kB\nVmRSS:\t{held:>8} kB\nVmData:\t{held:>8} kB\nVmSwap:\t{:>8} kB\n\
         Threads:\t{}\nSigQ:\t0/1024\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{mask:016x}\n\
         CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n\
         Cpus_allowed:\t{allowed:x}\nCpus_allowed_list:\t{list}\n",
        name(process, task),
        process.files.umask(),
        process.pid,
        process.parent,
        0,
        0,
        process.thread_ids().len(),
        task.map_or(0, |task| task.pending.set()),
        process.pending.set(),
    )
}

/// Tables of the network: headers only, sockets are the host's.
const NET: &[(&str, &str)] = &[
    (
        "tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    (
        "tcp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    (
        "udp",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    ),
    (
        "unix",
        "Num       RefCount Protocol Flags    Type St Inode Path\n",
    ),
    (
        "route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
    ),
    (
        "dev",
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    ),
    ("if_inet6", ""),
];

fn net(components: &[&[u8]]) -> Result<Item, Errno> {
    match components {
        [] => Ok(Item::Directory(
            NET.iter()
                .map(|(name, _)| (name.as_bytes().to_vec(), Regular))
                .collect(),
        )),
        [name] => NET
            .iter()
            .find(|(known, _)| known.as_bytes() == *name)
            .map_or(Err(Errno::ENOENT), |(_, text)| {
                Ok(Item::Text(text.as_bytes().to_vec()))
            }),
        _ => Err(Errno::ENOENT),
    }
}
