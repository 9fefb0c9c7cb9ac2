// SPDX-License-Identifier: Apache-2.0
//! Flags of open calls, with Linux's numbers on x86-64.

use bitflags::bitflags;

bitflags! {
    /// Flags of `open` and the status flags of an open file description.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Write only; with neither this nor [`Self::READ_WRITE`]: read only.
        const WRITE_ONLY = 0o1;
        /// Read and write.
        const READ_WRITE = 0o2;
        /// Create the file if it is missing.
        const CREATE = 0o100;
        /// With `CREATE`: it must be missing.
        const EXCLUSIVE = 0o200;
        /// Do not make a terminal the controlling one.
        const NO_CTTY = 0o400;
        /// Cut the file to length 0.
        const TRUNCATE = 0o1000;
        /// Every write goes to the end.
        const APPEND = 0o2000;
        /// Do not block.
        const NONBLOCK = 0o4000;
        /// Data reach the medium before a write returns.
        const DSYNC = 0o10000;
        /// Signal-driven input and output: not offered, kept for F_GETFL.
        const ASYNC = 0o20000;
        /// Bypass the page cache: a hint, ignored.
        const DIRECT = 0o40000;
        /// Large files: always on.
        const LARGE_FILE = 0o100000;
        /// It must be a directory.
        const DIRECTORY = 0o200000;
        /// The last component must not be a symbolic link.
        const NO_FOLLOW = 0o400000;
        /// Do not touch the access time: a hint.
        const NO_ATIME = 0o1000000;
        /// Close on exec.
        const CLOEXEC = 0o2000000;
        /// Data and metadata reach the medium before a write returns (with `DSYNC`).
        const SYNC = 0o4000000;
        /// A name only: neither reading nor writing.
        const PATH = 0o10000000;
        /// An unnamed file in a directory (with `DIRECTORY`).
        const TEMPORARY = 0o20000000;
    }
}

impl OpenFlags {
    /// What F_SETFL may change.
    pub const SETTABLE: Self = Self::APPEND
        .union(Self::NONBLOCK)
        .union(Self::ASYNC)
        .union(Self::DIRECT)
        .union(Self::NO_ATIME);

    /// What F_GETFL shows.
    pub const SHOWN: Self = Self::SETTABLE
        .union(Self::WRITE_ONLY)
        .union(Self::READ_WRITE)
        .union(Self::DSYNC)
        .union(Self::SYNC)
        .union(Self::LARGE_FILE)
        .union(Self::DIRECTORY)
        .union(Self::NO_FOLLOW)
        .union(Self::PATH);

    /// Whether reading is allowed.
    #[must_use]
    pub fn can_read(self) -> bool {
        !self.contains(Self::WRITE_ONLY) && !self.contains(Self::PATH)
    }

    /// Whether writing is allowed.
    #[must_use]
    pub fn can_write(self) -> bool {
        self.intersects(Self::WRITE_ONLY | Self::READ_WRITE) && !self.contains(Self::PATH)
    }

    /// Whether the call may change the file system.
    #[must_use]
    pub fn changes(self) -> bool {
        self.can_write() || self.intersects(Self::CREATE | Self::TRUNCATE)
    }

    /// Flags as open calls give them; unknown bits are dropped, as Linux does.
    #[must_use]
    pub fn from_user(bits: u64) -> Self {
        let flags = Self::from_bits_truncate(bits as u32);
        if flags.contains(Self::PATH) {
            // open(2): everything else is ignored with O_PATH.
            return flags & (Self::PATH | Self::DIRECTORY | Self::NO_FOLLOW | Self::CLOEXEC);
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes_are_told_apart() {
        assert!(OpenFlags::empty().can_read() && !OpenFlags::empty().can_write());
        assert!(!OpenFlags::WRITE_ONLY.can_read() && OpenFlags::WRITE_ONLY.can_write());
        assert!(OpenFlags::READ_WRITE.can_read() && OpenFlags::READ_WRITE.can_write());
    }

    #[test]
    fn a_name_only_can_do_nothing() {
        let flags = OpenFlags::from_user(0o10000000 | 0o2 | 0o1000);
        assert_eq!(flags, OpenFlags::PATH);
        assert!(!flags.can_read() && !flags.can_write() && !flags.changes());
    }
}
