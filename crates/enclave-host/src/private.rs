// SPDX-License-Identifier: Apache-2.0
//! The launcher's own descriptors, kept at the end of the number range where
//! the program's never come: Linux gives out the lowest free number.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;

/// Numbers reserved below the soft limit of open files.
const RESERVED: RawFd = 16;
/// Highest start of the reserved range: the kernel's table of a process grows
/// with the highest number in use.
const HIGHEST: RawFd = 4096;

/// First number of the launcher's own descriptors. Enclaves can neither name
/// nor receive a descriptor from here on.
#[must_use]
pub fn first() -> RawFd {
    static FIRST: OnceLock<RawFd> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: fills the value given.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        let soft = RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX);
        (soft - RESERVED).clamp(3, HIGHEST)
    })
}

/// Moves a descriptor into the launcher's range, closed on exec.
///
/// # Errors
/// What `fcntl(F_DUPFD_CLOEXEC)` gives.
pub fn keep(fd: impl AsFd) -> io::Result<OwnedFd> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: duplicates an open descriptor.
    let moved = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, first()) };
    if moved < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_descriptors_lie_in_the_reserved_range() {
        let kept = keep(io::stderr()).unwrap();
        assert!(kept.as_raw_fd() >= first());
        assert!(first() > 2);
    }
}
