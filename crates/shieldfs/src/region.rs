// SPDX-License-Identifier: Apache-2.0
//! Regions: which protection a path has.
//!
//! A table maps path prefixes to classes; the longest prefix, counted by whole components, wins.
//! The table is part of the FSPF's root page and therefore under the FSPF tag.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use crate::path::{self, PathError, PathText};
use crate::wire::{Reader, WireError};

/// Most regions one table may hold.
pub const MAX_REGIONS: usize = 1024;
/// Largest encoded table in bytes.
pub const MAX_TABLE_BYTES: usize = 48 * 1024;

/// How the paths of a region are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Stored as ciphertext, listed in the tree; an unlisted path does not exist.
    Encrypted,
    /// Stored in clear, listed in the tree; an unlisted path does not exist.
    Authenticated,
    /// Enclave memory over the listed entries (authenticated initial content); gone at exit.
    Ephemeral,
    /// Answered by the kernel itself (`/proc`, `/sys`, `/dev`).
    Synthetic,
    /// Served straight from the container's file system, unprotected, because asked for by path.
    HostPath,
    /// Copied in clear and read without any protection.
    Plain,
}

impl Class {
    /// All classes in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::Encrypted,
        Self::Authenticated,
        Self::Ephemeral,
        Self::Synthetic,
        Self::HostPath,
        Self::Plain,
    ];

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Encrypted => 1,
            Self::Authenticated => 2,
            Self::Ephemeral => 3,
            Self::Synthetic => 4,
            Self::HostPath => 5,
            Self::Plain => 6,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }

    /// How files of this class are stored; `None` if the tree lists no files of it.
    pub fn storage(self) -> Option<Storage> {
        match self {
            Self::Encrypted => Some(Storage::Encrypted),
            Self::Authenticated | Self::Ephemeral => Some(Storage::Authenticated),
            Self::Synthetic | Self::HostPath | Self::Plain => None,
        }
    }

    /// Whether a path that the tree does not list is known not to exist.
    pub fn is_protected(self) -> bool {
        self.storage().is_some()
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypted => "encrypted",
            Self::Authenticated => "authenticated",
            Self::Ephemeral => "ephemeral",
            Self::Synthetic => "synthetic",
            Self::HostPath => "host-path",
            Self::Plain => "plain",
        })
    }
}

/// How the content of a listed file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Plaintext chunks, verified by hash.
    Authenticated,
    /// Sealed chunks, verified by hash, then decrypted.
    Encrypted,
}

/// Why a region or a region table was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The prefix is not a normalised absolute path.
    #[error("A region needs a normalised absolute path")]
    Path(#[from] PathError),
    /// Two requests name the same path with different classes.
    #[error("{path} is asked for as {first} and as {second}; choose one")]
    Conflict {
        /// The path named twice.
        path: PathText,
        /// The class asked for first.
        first: Class,
        /// The class asked for later.
        second: Class,
    },
    /// No region covers `/`.
    #[error("The region table has no entry for /")]
    NoRoot,
    /// More than [`MAX_REGIONS`] regions or more than [`MAX_TABLE_BYTES`] bytes.
    #[error(
        "{count} regions in {bytes} bytes exceed the limit of {MAX_REGIONS} in {MAX_TABLE_BYTES} bytes"
    )]
    TooMany {
        /// Number of regions.
        count: usize,
        /// Encoded size in bytes.
        bytes: usize,
    },
    /// A class code this version does not know.
    #[error("Region class code {code} is unknown")]
    UnknownClass {
        /// The code found.
        code: u8,
    },
    /// Prefixes are not in strictly ascending order.
    #[error("The region table is not in strictly ascending order")]
    Order,
    /// The bytes end early or go on too long.
    #[error("The region table's bytes are malformed")]
    Wire(#[from] WireError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    class: Class,
    /// Asked for by name, not a default; not stored, only used to find conflicts while building.
    is_asked: bool,
}

/// The region table.
///
/// ```
/// use shieldfs::region::{Class, Regions};
/// let regions = Regions::defaults().dir_encrypted(b"/app")?;
/// assert_eq!(regions.class_of(b"/app/main.py"), Class::Encrypted);
/// assert_eq!(regions.class_of(b"/usr/bin/python3"), Class::Authenticated);
/// # Ok::<(), shieldfs::region::RegionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Regions {
    rows: BTreeMap<Vec<u8>, Row>,
}

impl PartialEq for Regions {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Regions {}

impl Regions {
    /// A table in which the whole tree has one class.
    pub fn uniform(class: Class) -> Self {
        let mut rows = BTreeMap::new();
        rows.insert(
            b"/".to_vec(),
            Row {
                class,
                is_asked: false,
            },
        );
        Self { rows }
    }

    /// The default table: everything authenticated; `/tmp`, `/run`, `/var/tmp` and `/dev/shm`
    /// ephemeral; `/proc`, `/sys` and `/dev` synthetic; the three files that container engines
    /// mount into `/etc` are host paths.
    pub fn defaults() -> Self {
        let mut regions = Self::uniform(Class::Authenticated);
        let table: [(&[u8], Class); 10] = [
            (b"/tmp", Class::Ephemeral),
            (b"/run", Class::Ephemeral),
            (b"/var/tmp", Class::Ephemeral),
            (b"/dev/shm", Class::Ephemeral),
            (b"/proc", Class::Synthetic),
            (b"/sys", Class::Synthetic),
            (b"/dev", Class::Synthetic),
            (b"/etc/hosts", Class::HostPath),
            (b"/etc/hostname", Class::HostPath),
            (b"/etc/resolv.conf", Class::HostPath),
        ];
        for (prefix, class) in table {
            let is_asked = false;
            regions
                .rows
                .insert(prefix.to_vec(), Row { class, is_asked });
        }
        regions
    }

    /// Adds a region asked for by name; it replaces a default of the same path.
    ///
    /// # Errors
    /// Bad paths, the same path asked for with another class, too many regions.
    pub fn with(mut self, prefix: &[u8], class: Class) -> Result<Self, RegionError> {
        path::check(prefix)?;
        if let Some(row) = self.rows.get(prefix)
            && row.is_asked
            && row.class != class
        {
            return Err(RegionError::Conflict {
                path: PathText::new(prefix),
                first: row.class,
                second: class,
            });
        }
        let is_asked = true;
        self.rows.insert(prefix.to_vec(), Row { class, is_asked });
        self.check_size()?;
        Ok(self)
    }

    /// Files under `dir` are stored encrypted.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn dir_encrypted(self, dir: &[u8]) -> Result<Self, RegionError> {
        self.with(dir, Class::Encrypted)
    }

    /// Files under `dir` are copied in clear and read unprotected.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn plain(self, dir: &[u8]) -> Result<Self, RegionError> {
        self.with(dir, Class::Plain)
    }

    /// One file is copied in clear and read unprotected.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn plain_file(self, file: &[u8]) -> Result<Self, RegionError> {
        self.with(file, Class::Plain)
    }

    /// One path is served straight from the container's file system.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn host_path(self, path: &[u8]) -> Result<Self, RegionError> {
        self.with(path, Class::HostPath)
    }

    /// Takes a region out again (such as a default the user switched off). `/` stays.
    #[must_use]
    pub fn without(mut self, prefix: &[u8]) -> Self {
        if prefix != b"/" {
            self.rows.remove(prefix);
        }
        self
    }

    /// The class of a normalised absolute path.
    pub fn class_of(&self, path: &[u8]) -> Class {
        self.region_of(path).1
    }

    /// The region that decides about a path: its prefix and class.
    pub fn region_of(&self, path: &[u8]) -> (&[u8], Class) {
        path::ancestors(path)
            .find_map(|prefix| self.rows.get_key_value(prefix))
            .map_or((b"/", Class::Authenticated), |(prefix, row)| {
                (prefix, row.class)
            })
    }

    /// All regions in ascending order of their prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Class)> {
        self.rows
            .iter()
            .map(|(prefix, row)| (prefix.as_slice(), row.class))
    }

    /// The regions whose prefix is a direct child of `dir`: name and class. A directory listing
    /// shows them beside what the tree lists.
    pub fn children_of<'a>(&'a self, dir: &'a [u8]) -> impl Iterator<Item = (&'a [u8], Class)> {
        self.iter().filter_map(move |(prefix, class)| {
            let (parent, name) = path::split(prefix);
            (parent == dir).then_some((name, class))
        })
    }

    fn encoded_len(&self) -> usize {
        self.rows.keys().fold(4, |sum, prefix| {
            sum.saturating_add(prefix.len()).saturating_add(3)
        })
    }

    fn check_size(&self) -> Result<(), RegionError> {
        let (count, bytes) = (self.rows.len(), self.encoded_len());
        if count > MAX_REGIONS || bytes > MAX_TABLE_BYTES {
            return Err(RegionError::TooMany { count, bytes });
        }
        Ok(())
    }

    /// Canonical bytes: `u32le count`, then per region `u8 class, u16le length, prefix`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        // Both lengths are bounded by check_size and path::check.
        out.extend_from_slice(
            &u32::try_from(self.rows.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        for (prefix, class) in self.iter() {
            out.push(class.code());
            out.extend_from_slice(
                &u16::try_from(prefix.len())
                    .unwrap_or(u16::MAX)
                    .to_le_bytes(),
            );
            out.extend_from_slice(prefix);
        }
        out
    }

    /// Reads what [`Self::encode`] wrote and nothing else.
    ///
    /// # Errors
    /// [`RegionError`] for anything that `encode` would not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegionError> {
        let mut reader = Reader::new(bytes);
        let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        if count > MAX_REGIONS || bytes.len() > MAX_TABLE_BYTES {
            return Err(RegionError::TooMany {
                count,
                bytes: bytes.len(),
            });
        }
        let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
        for _ in 0..count {
            let code = reader.u8()?;
            let class = Class::from_code(code).ok_or(RegionError::UnknownClass { code })?;
            let length = usize::from(reader.u16()?);
            let prefix = reader.bytes(length)?;
            path::check(prefix)?;
            if rows
                .last_key_value()
                .is_some_and(|(last, _)| last.as_slice() >= prefix)
            {
                return Err(RegionError::Order);
            }
            let is_asked = true;
            rows.insert(prefix.to_vec(), Row { class, is_asked });
        }
        reader.end()?;
        if !rows.contains_key(&b"/"[..]) {
            return Err(RegionError::NoRoot);
        }
        Ok(Self { rows })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn longest_component_prefix_wins() {
        let regions = Regions::defaults()
            .dir_encrypted(b"/app")
            .and_then(|it| it.plain(b"/app/static"))
            .and_then(|it| it.plain_file(b"/app/static/x/y"))
            .unwrap();
        assert_eq!(regions.class_of(b"/app"), Class::Encrypted);
        assert_eq!(regions.class_of(b"/app/a"), Class::Encrypted);
        assert_eq!(regions.class_of(b"/application"), Class::Authenticated);
        assert_eq!(regions.class_of(b"/app/static/x"), Class::Plain);
        assert_eq!(regions.class_of(b"/app/staticx"), Class::Encrypted);
        assert_eq!(regions.class_of(b"/"), Class::Authenticated);
        assert_eq!(regions.region_of(b"/app/static/q").0, b"/app/static");
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let regions = Regions::defaults();
        for (path, class) in [
            (&b"/usr/lib/x.so"[..], Class::Authenticated),
            (b"/tmp/x", Class::Ephemeral),
            (b"/run", Class::Ephemeral),
            (b"/var/tmp/a", Class::Ephemeral),
            (b"/dev/shm/sem", Class::Ephemeral),
            (b"/dev/null", Class::Synthetic),
            (b"/proc/self", Class::Synthetic),
            (b"/sys", Class::Synthetic),
            (b"/etc/hosts", Class::HostPath),
            (b"/etc/resolv.conf", Class::HostPath),
            (b"/etc/hostname", Class::HostPath),
            (b"/etc/passwd", Class::Authenticated),
        ] {
            assert_eq!(regions.class_of(path), class, "{}", PathText::new(path));
        }
        assert_eq!(
            regions.without(b"/etc/hosts").class_of(b"/etc/hosts"),
            Class::Authenticated
        );
    }

    #[test]
    fn a_request_replaces_a_default_but_not_another_request() {
        let regions = Regions::defaults().dir_encrypted(b"/tmp").unwrap();
        assert_eq!(regions.class_of(b"/tmp/x"), Class::Encrypted);
        let again = regions.clone().dir_encrypted(b"/tmp").unwrap();
        assert_eq!(again, regions);
        assert_eq!(
            regions.plain(b"/tmp").unwrap_err(),
            RegionError::Conflict {
                path: PathText::new(b"/tmp"),
                first: Class::Encrypted,
                second: Class::Plain
            }
        );
    }

    #[test]
    fn children_show_mount_points() {
        let regions = Regions::defaults();
        let mut names: Vec<&[u8]> = regions.children_of(b"/").map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names, [&b"dev"[..], b"proc", b"run", b"sys", b"tmp"]);
        assert_eq!(regions.children_of(b"/etc").count(), 3);
    }

    #[test]
    fn refuses_tables_that_are_not_canonical() {
        let mut swapped = Vec::from(2_u32.to_le_bytes());
        swapped.extend_from_slice(b"\x02\x02\x00/a\x02\x01\x00/");
        assert_eq!(Regions::parse(&swapped), Err(RegionError::Order));
        let rootless = b"\x01\0\0\0\x02\x02\x00/a";
        assert_eq!(Regions::parse(rootless), Err(RegionError::NoRoot));
        let unknown = b"\x01\0\0\0\x07\x01\x00/";
        assert_eq!(
            Regions::parse(unknown),
            Err(RegionError::UnknownClass { code: 7 })
        );
        let mut longer = Regions::defaults().encode();
        longer.push(0);
        assert!(matches!(Regions::parse(&longer), Err(RegionError::Wire(_))));
    }

    #[test]
    fn bounds_the_table() {
        let mut regions = Regions::defaults();
        let refused = (0..2000_u32).find_map(|number| {
            let mut prefix = b"/r".to_vec();
            prefix.extend(alloc::format!("{number}").bytes());
            match regions.clone().with(&prefix, Class::Plain) {
                Ok(more) => {
                    regions = more;
                    None
                }
                Err(error) => Some(error),
            }
        });
        assert!(matches!(
            refused,
            Some(RegionError::TooMany { count: 1025, .. })
        ));
    }

    proptest! {
        #[test]
        fn encoding_round_trips(rows in prop::collection::btree_map("/[a-z]{1,4}(/[a-z]{1,4}){0,3}", 0_usize..6, 0..20)) {
            let mut regions = Regions::defaults();
            for (prefix, class) in rows {
                regions = regions.with(prefix.as_bytes(), Class::ALL[class]).unwrap();
            }
            prop_assert_eq!(Regions::parse(&regions.encode()), Ok(regions));
        }

        #[test]
        fn hostile_tables_never_panic_and_are_canonical(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(regions) = Regions::parse(&bytes) {
                prop_assert_eq!(regions.encode(), bytes);
            }
        }
    }
}
