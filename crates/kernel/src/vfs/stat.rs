// SPDX-License-Identifier: Apache-2.0
//! What is known about a file, and the structures that say it to programs.

use alloc::vec::Vec;

use crate::errno::Errno;

/// Mask of the type in a mode.
pub const TYPE_MASK: u32 = 0o170_000;

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Pipe, named or not.
    Fifo,
    /// Socket.
    Socket,
    /// None of these: eventfd, timerfd, epoll.
    Anonymous,
}

impl FileType {
    /// The type's bits in a mode.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Anonymous => 0,
        }
    }

    /// The type in a mode; `None` if the bits mean nothing.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Self> {
        [
            Self::Regular,
            Self::Directory,
            Self::Symlink,
            Self::CharDevice,
            Self::BlockDevice,
            Self::Fifo,
            Self::Socket,
            Self::Anonymous,
        ]
        .into_iter()
        .find(|kind| kind.mode() == mode & TYPE_MASK)
    }

    /// `d_type` of directory records.
    #[must_use]
    pub fn record(self) -> u8 {
        (self.mode() >> 12) as u8
    }

    /// Back from `d_type`; 0 (unknown) and nonsense give `None`.
    #[must_use]
    pub fn from_record(kind: u8) -> Option<Self> {
        match Self::from_mode(u32::from(kind) << 12)? {
            Self::Anonymous => None,
            known => Some(known),
        }
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds below one second.
    pub nanos: u32,
}

/// Everything `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Hard links.
    pub links: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device file.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred size of reads and writes.
    pub block_size: u64,
    /// Units of 512 bytes in use.
    pub blocks: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of content.
    pub modified: Time,
    /// Last change of anything.
    pub changed: Time,
}

impl Stat {
    /// Length of `struct stat`.
    pub const LEN: usize = 144;
    /// Length of `struct statx`.
    pub const STATX_LEN: usize = 256;

    /// A file of this kind with these permissions, owned by root, at time 0.
    #[must_use]
    pub fn new(kind: FileType, permissions: u32, inode: u64) -> Self {
        Self {
            device: 1,
            inode,
            links: 1,
            mode: kind.mode() | permissions & 0o7777,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: Time::default(),
            modified: Time::default(),
            changed: Time::default(),
        }
    }

    /// The same with a size.
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        self.size = size;
        self.blocks = size.div_ceil(512);
        self
    }

    /// The type; nonsense counts as [`FileType::Anonymous`].
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Anonymous)
    }

    /// Encodes `struct stat` of x86-64; padding is zero.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = Vec::with_capacity(Self::LEN);
        for word in [self.device, self.inode, self.links] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for half in [self.mode, self.uid, self.gid, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for word in [self.rdev, self.size, self.block_size, self.blocks] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for time in [self.accessed, self.modified, self.changed] {
            out.extend_from_slice(&time.seconds.to_le_bytes());
            out.extend_from_slice(&u64::from(time.nanos).to_le_bytes());
        }
        fill(&out)
    }

    /// Reads what the host says and checks what can be checked: a known type, a
    /// size that is not negative, nanoseconds below one second.
    ///
    /// # Errors
    /// `EIO` for nonsense.
    pub fn from_host(bytes: &[u8; Self::LEN]) -> Result<Self, Errno> {
        let word = |at: usize| u64::from_le_bytes(part(bytes, at));
        let half = |at: usize| u32::from_le_bytes(part(bytes, at));
        let time = |at: usize| -> Result<Time, Errno> {
            let nanos = word(at + 8);
            if nanos >= 1_000_000_000 {
                return Err(Errno::EIO);
            }
            Ok(Time {
                seconds: word(at) as i64,
                nanos: nanos as u32,
            })
        };
        let stat = Self {
            device: word(0),
            inode: word(8),
            links: word(16),
            mode: half(24),
            uid: half(28),
            gid: half(32),
            rdev: word(40),
            size: word(48),
            block_size: word(56),
            blocks: word(64),
            accessed: time(72)?,
            modified: time(88)?,
            changed: time(104)?,
        };
        let size_is_sane = i64::try_from(stat.size).is_ok();
        let blocks_are_sane = i64::try_from(stat.blocks).is_ok();
        let block_is_sane = (1..=1 << 30).contains(&stat.block_size);
        let mode_is_sane = stat.mode & !(TYPE_MASK | 0o7777) == 0;
        if size_is_sane
            && blocks_are_sane
            && block_is_sane
            && mode_is_sane
            && FileType::from_mode(stat.mode).is_some()
        {
            Ok(stat)
        } else {
            Err(Errno::EIO)
        }
    }

    /// Encodes `struct statx` with the basic fields.
    #[must_use]
    pub fn encode_statx(&self) -> [u8; Self::STATX_LEN] {
        const BASIC_STATS: u32 = 0x7ff;
        let mut out = Vec::with_capacity(Self::STATX_LEN);
        out.extend_from_slice(&BASIC_STATS.to_le_bytes());
        out.extend_from_slice(&(self.block_size as u32).to_le_bytes());
        out.extend_from_slice(&0_u64.to_le_bytes());
        let links = u32::try_from(self.links).unwrap_or(u32::MAX);
        for half in [links, self.uid, self.gid, self.mode & 0xffff] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for word in [self.inode, self.size, self.blocks, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for time in [
            self.accessed,
            Time::default(), // birth: not in the mask
            self.changed,
            self.modified,
        ] {
            out.extend_from_slice(&time.seconds.to_le_bytes());
            out.extend_from_slice(&time.nanos.to_le_bytes());
            out.extend_from_slice(&0_u32.to_le_bytes());
        }
        for device in [self.rdev, self.device] {
            out.extend_from_slice(&major(device).to_le_bytes());
            out.extend_from_slice(&minor(device).to_le_bytes());
        }
        fill(&out)
    }
}

/// Major number in the layout of `struct stat`.
#[must_use]
pub fn major(device: u64) -> u32 {
    ((device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000)) as u32
}

/// Minor number in the layout of `struct stat`.
#[must_use]
pub fn minor(device: u64) -> u32 {
    ((device & 0xff) | (device >> 12 & 0xffff_ff00)) as u32
}

/// Device number in the layout of `struct stat`.
#[must_use]
pub fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8
        | (major & 0xffff_f000) << 32
        | (minor & 0xff)
        | (minor & 0xffff_ff00) << 12
}

/// `struct statfs` (120 bytes) of a file system without a size of its own.
#[must_use]
pub fn encode_statfs(magic: u64, blocks: u64, free: u64, read_only: bool) -> [u8; 120] {
    let flags = u64::from(read_only);
    let mut out = Vec::with_capacity(120);
    let name_max = super::path::MAX_NAME as u64;
    for word in [
        magic,
        4096,
        blocks,
        free,
        free,
        1 << 20,
        1 << 19,
        0,
        name_max,
        4096,
        flags,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    fill(&out)
}

fn fill<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    fill(bytes.get(at..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Stat {
        let mut stat = Stat::new(FileType::Regular, 0o644, 42).with_size(1000);
        stat.device = device(8, 300);
        stat.links = 2;
        stat.uid = 1000;
        stat.gid = 100;
        stat.modified = Time {
            seconds: -5,
            nanos: 7,
        };
        stat
    }

    #[test]
    fn stat_survives_encoding() {
        assert_eq!(Stat::from_host(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn lies_about_size_time_and_type_are_refused() {
        for (at, value) in [
            (48_usize, u64::MAX),
            (96, 1_000_000_000),
            (24, 0o170_000),
            (56, 0),
        ] {
            let mut bytes = sample().encode();
            for (to, from) in bytes.iter_mut().skip(at).zip(value.to_le_bytes()) {
                *to = from;
            }
            assert_eq!(Stat::from_host(&bytes), Err(Errno::EIO), "offset {at}");
        }
    }

    #[test]
    fn statx_places_fields_where_linux_does() {
        let bytes = sample().encode_statx();
        assert_eq!(bytes[28..30], (0o100_644_u16).to_le_bytes());
        assert_eq!(bytes[32..40], 42_u64.to_le_bytes());
        assert_eq!(bytes[40..48], 1000_u64.to_le_bytes());
        assert_eq!(bytes[112..120], (-5_i64).to_le_bytes());
        assert_eq!(bytes[136..140], 8_u32.to_le_bytes());
        assert_eq!(bytes[140..144], 300_u32.to_le_bytes());
    }

    #[test]
    fn device_numbers_survive() {
        for (a, b) in [(1, 3), (8, 300), (0xfffff, 0xfffff)] {
            assert_eq!((major(device(a, b)), minor(device(a, b))), (a, b));
        }
    }

    proptest! {
        #[test]
        fn no_host_bytes_panic(bytes in prop::collection::vec(any::<u8>(), Stat::LEN)) {
            let bytes: [u8; Stat::LEN] = bytes.try_into().unwrap();
            if let Ok(stat) = Stat::from_host(&bytes) {
                prop_assert!(stat.size <= i64::MAX as u64);
                let _ = stat.encode_statx();
            }
        }
    }
}
