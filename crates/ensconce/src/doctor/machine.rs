// SPDX-License-Identifier: Apache-2.0
//! The system under the launcher: kernel version and limits of memory.

use rustix::process::Resource;

use super::report::Check;

/// First kernel with syscall user dispatch.
const DISPATCH_SINCE: (u32, u32) = (5, 11);
/// First kernel with SGX2 (EDMM) for the device.
const EDMM_SINCE: (u32, u32) = (6, 0);
/// Where enclaves begin: programs of ours that are not relocatable are linked
/// above it, and ELRANGE has a hole below.
const LOWEST: u64 = enclave_abi::layout::USER_START;

/// All checks of this file.
pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), mmap_min_addr(), address_space(), overcommit()]
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let found = format!("Linux {}", super::printable(&release));
    match version(&release) {
        None => Check::warn("kernel", found, "this version is not understood"),
        Some(version) if version < DISPATCH_SINCE => Check::fail(
            "kernel",
            found,
            "emulation needs Linux 5.11 or later, SGX hardware 6.0 or later",
        ),
        Some(version) if version < EDMM_SINCE => Check::warn(
            "kernel",
            found,
            "SGX hardware needs Linux 6.0 or later; emulation works",
        ),
        Some(_) => Check::ok("kernel", found),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|char: char| !char.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn sysctl(path: &str) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim()
        .parse()
        .map_err(|_| format!("{path}: no number"))
}

fn mmap_min_addr() -> Check {
    const NAME: &str = "lowest address";
    match sysctl("/proc/sys/vm/mmap_min_addr") {
        Ok(address) if address <= LOWEST => Check::ok(NAME, format!("{address:#x}")),
        Ok(address) => Check::fail(
            NAME,
            format!("{address:#x}, enclaves begin at {LOWEST:#x}"),
            format!("sysctl vm.mmap_min_addr={LOWEST}"),
        ),
        Err(problem) => Check::warn(NAME, problem, "enclaves begin at address 0x10000"),
    }
}

fn address_space() -> Check {
    const NAME: &str = "address space";
    match rustix::process::getrlimit(Resource::As).current {
        None => Check::ok(NAME, "unlimited"),
        Some(limit) => Check::warn(
            NAME,
            format!("limited to {} MiB", limit >> 20),
            "an enclave reserves its whole range, at least 2 GiB: ulimit -v unlimited",
        ),
    }
}

fn overcommit() -> Check {
    const NAME: &str = "overcommit";
    match sysctl("/proc/sys/vm/overcommit_memory") {
        Ok(2) => Check::warn(
            NAME,
            "vm.overcommit_memory is 2: reserved memory counts as used",
            "heaps larger than the free memory fail to start; sysctl vm.overcommit_memory=0",
        ),
        Ok(mode) => Check::ok(NAME, format!("vm.overcommit_memory is {mode}")),
        Err(problem) => Check::warn(NAME, problem, "is /proc mounted?"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read_from_any_vendor_s_release() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.10", Some((5, 10))),
            ("6.18.44-x", Some((6, 18))),
            ("linux", None),
            ("6", None),
            ("", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    proptest! {
        #[test]
        fn no_release_upsets_the_parser(release: String) {
            let _ = version(&release);
        }
    }
}
