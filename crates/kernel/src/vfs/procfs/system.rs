// SPDX-License-Identifier: Apache-2.0
//! Files about the whole system.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use crate::context::Context;
use crate::errno::Errno;
use crate::memory;
use crate::process::cpuid;
use crate::syscall::scheduling::processors;
use crate::vfs::synthetic::Item;

pub(super) const NAMES: &[&str] = &[
    "cmdline",
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
];

pub(super) fn find(cx: &Context<'_>, components: &[&[u8]]) -> Result<Item, Errno> {
    let text = match components {
        [b"cmdline"] => "\n".into(),
        [b"cpuinfo"] => cpuinfo(),
        [b"filesystems"] => "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\n".into(),
        [b"loadavg"] => loadavg(),
        [b"meminfo"] => meminfo(),
        [b"stat"] => stat(cx),
        [b"swaps"] => "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".into(),
        [b"uptime"] => uptime(cx),
        [b"version"] => format!(
            "Linux version {} (ensconce) #1 SMP\n",
            super::settings::RELEASE
        ),
        [b"vmstat"] => "pgpgin 0\npgpgout 0\npswpin 0\npswpout 0\n".into(),
        _ => return Err(Errno::ENOENT),
    };
    Ok(Item::Text(text.into_bytes()))
}

/// Names of CPUID bits as Linux spells them: leaf, subleaf, register, bit, name.
const FLAGS: &[(u32, u32, usize, u32, &str)] = &[
    (1, 0, 3, 0, "fpu"),
    (1, 0, 3, 4, "tsc"),
    (1, 0, 3, 8, "cx8"),
    (1, 0, 3, 15, "cmov"),
    (1, 0, 3, 19, "clflush"),
    (1, 0, 3, 23, "mmx"),
    (1, 0, 3, 24, "fxsr"),
    (1, 0, 3, 25, "sse"),
    (1, 0, 3, 26, "sse2"),
    (1, 0, 2, 0, "pni"),
    (1, 0, 2, 1, "pclmulqdq"),
    (1, 0, 2, 9, "ssse3"),
    (1, 0, 2, 12, "fma"),
    (1, 0, 2, 13, "cx16"),
    (1, 0, 2, 19, "sse4_1"),
    (1, 0, 2, 20, "sse4_2"),
    (1, 0, 2, 22, "movbe"),
    (1, 0, 2, 23, "popcnt"),
    (1, 0, 2, 25, "aes"),
    (1, 0, 2, 26, "xsave"),
    (1, 0, 2, 28, "avx"),
    (1, 0, 2, 29, "f16c"),
    (1, 0, 2, 30, "rdrand"),
    (7, 0, 1, 0, "fsgsbase"),
    (7, 0, 1, 3, "bmi1"),
    (7, 0, 1, 5, "avx2"),
    (7, 0, 1, 8, "bmi2"),
    (7, 0, 1, 9, "erms"),
    (7, 0, 1, 16, "avx512f"),
    (7, 0, 1, 17, "avx512dq"),
    (7, 0, 1, 18, "rdseed"),
    (7, 0, 1, 19, "adx"),
    (7, 0, 1, 29, "sha_ni"),
    (7, 0, 1, 30, "avx512bw"),
    (7, 0, 1, 31, "avx512vl"),
    (7, 0, 2, 9, "vaes"),
    (7, 0, 2, 10, "vpclmulqdq"),
    (0x8000_0001, 0, 3, 29, "lm"),
    (0x8000_0001, 0, 2, 0, "lahf_lm"),
    (0x8000_0001, 0, 2, 5, "abm"),
];

fn cpuinfo() -> String {
    let xfrm = crate::process::start::facts().map_or(3, |facts| facts.xfrm);
    let leaf = |leaf, subleaf| cpuid::answer(leaf, subleaf, xfrm);
    let [_, b, c, d] = leaf(0, 0);
    let vendor: String = [b, d, c]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .map(char::from)
        .collect();
    let [signature, ..] = leaf(1, 0);
    let family = signature >> 8 & 0xf;
    let model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
    let mut flags = String::new();
    for (number, subleaf, register, bit, name) in FLAGS {
        let registers = leaf(*number, *subleaf);
        if registers
            .get(*register)
            .is_some_and(|word| word >> bit & 1 == 1)
        {
            let _ = write!(flags, " {name}");
        }
    }
    let mut out = String::new();
    let count = processors();
    for at in 0..count {
        let _ = write!(
            out,
            "processor\t: {at}\nvendor_id\t: {vendor}\ncpu family\t: {family}\n\
             model\t\t: {model}\nmodel name\t: Ensconce enclave CPU\nstepping\t: {}\n\
             physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {at}\n\
             cpu cores\t: {count}\napicid\t\t: {at}\nfpu\t\t: yes\n\
             cpuid level\t: {}\nflags\t\t:{flags}\nclflush size\t: 64\n\
             cache_alignment\t: 64\n\n",
            signature & 0xf,
            leaf(0, 0)[0],
        );
    }
    out
}

fn loadavg() -> String {
    let threads: usize = crate::process::all()
        .iter()
        .map(|process| process.tasks.lock().len())
        .sum();
    format!("0.00 0.00 0.00 1/{} 1\n", threads.max(1))
}

fn meminfo() -> String {
    let (total, used) = memory::current().map_or((0, 0), |memory| {
        (memory.limit() >> 10, memory.committed() >> 10)
    });
    let free = total.saturating_sub(used);
    let mut out = String::new();
    for (name, value) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("AnonPages", used),
        ("Shmem", 0),
        ("CommitLimit", total),
        ("Committed_AS", used),
        ("HugePages_Total", 0),
    ] {
        let unit = if name.starts_with("Huge") { "" } else { " kB" };
        let label = format!("{name}:");
        let _ = writeln!(out, "{label:<16}{value:>8}{unit}");
    }
    out.push_str("Hugepagesize:       2048 kB\n");
    out
}

/// Ticks of 10 ms since the first process started.
fn ticks(cx: &Context<'_>) -> u64 {
    let start = crate::process::all()
        .first()
        .map_or(0, |process| process.started);
    cx.now().saturating_sub(start) / 10_000_000
}

fn stat(cx: &Context<'_>) -> String {
    let up = ticks(cx);
    let boot = (crate::vfs::clock::realtime(cx.machine).seconds).saturating_sub_unsigned(up / 100);
    let mut out = format!("cpu  0 0 0 {up} 0 0 0 0 0 0\n");
    for at in 0..processors() {
        let _ = writeln!(out, "cpu{at} 0 0 0 {up} 0 0 0 0 0 0");
    }
    let _ = write!(
        out,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses 2\nprocs_running 1\nprocs_blocked 0\n"
    );
    out
}

fn uptime(cx: &Context<'_>) -> String {
    let up = ticks(cx);
    format!(
        "{}.{:02} {}.{:02}\n",
        up / 100,
        up % 100,
        up / 100,
        up % 100
    )
}
