// SPDX-License-Identifier: Apache-2.0
//! What earlier conversions found out about layers that people share.
//!
//! Each entry is a file whose name says what it is about and whose last 32
//! bytes are a MAC over name and content under a random key of this user.
//! Whoever can write to the directory but not read the key can make entries
//! disappear and nothing else. Only layers that a conversion used again as
//! they were are ever remembered, so nothing that was encrypted comes here.
//!
//! ```text
//! ~/.cache/ensconce/convert/   0700
//!   key                        0600, 32 random bytes
//!   layer-<id>                 entries, chunk hashes and syscall sites of a layer
//!   file-<id>                  a program or library that was needed to start
//!   blob-<id>                  a compressed layer that was made of such files
//! ```

pub(super) mod layer;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, Tag};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::cache_home;
use crate::console::Console;

/// Changes whenever an entry's bytes come to mean something else.
const FORMAT: &[u8] = b"ensconce-convert-cache-v1";
const KEY_LEN: usize = 32;
const TAG_LEN: usize = 32;
/// Largest entry that is written or read, in bytes.
const ENTRY_MAX: u64 = 512 << 20;
/// Most bytes of all entries; the ones that were not used longest go first.
const TOTAL_MAX: u64 = 4 << 30;

/// An entry's file name: kind and a hash over everything it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

/// The user's cache of conversions.
pub(crate) struct Cache {
    directory: PathBuf,
    key: Key,
    /// Another build may look at files in another way.
    build: Vec<u8>,
    console: Console,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({})", self.directory.display())
    }
}

impl Cache {
    /// Opens the cache unless `ENSCONCE_CACHE=off`. A conversion works without
    /// it, so what keeps it from being used is only told.
    pub(crate) fn open(console: Console) -> Option<Self> {
        if std::env::var_os("ENSCONCE_CACHE").is_some_and(|value| value == "off") {
            return None;
        }
        let directory = cache_home::directory("convert");
        let directory = directory
            .map_err(|failure| console.notice(format!("no cache: {}", failure.message())))
            .ok()?;
        let key = key(&directory)
            .map_err(|error| {
                console.notice(format!(
                    "no cache: '{}' cannot be used: {error}; remove it",
                    directory.join("key").display()
                ));
            })
            .ok()?;
        Some(Self {
            directory,
            key: Key::new(HMAC_SHA256, &key[..]),
            build: cache_home::state(Path::new("/proc/self/exe")).unwrap_or_default(),
            console,
        })
    }

    /// The name of what depends on these parts and on this build.
    pub(crate) fn name(&self, kind: &str, parts: &[&[u8]]) -> Name {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [FORMAT, &self.build]
            .into_iter()
            .chain(parts.iter().copied())
        {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Name(format!("{kind}-{}", hex::encode(hash.finish())))
    }

    /// An entry that is genuine. A damaged one is told about and removed.
    pub(crate) fn load(&self, name: &Name) -> Option<Vec<u8>> {
        let path = self.directory.join(&name.0);
        let read = File::open(&path).and_then(|file| {
            let size = file.metadata()?.len();
            if size > ENTRY_MAX + TAG_LEN as u64 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            (&file).take(size).read_to_end(&mut bytes)?;
            // What is used stays longest. It still works if this fails.
            let _ = file.set_modified(SystemTime::now());
            Ok(bytes)
        });
        let mut bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.dismiss(name, &error.to_string());
                return None;
            }
        };
        let content = bytes.len().checked_sub(TAG_LEN)?;
        let is_genuine = bytes
            .split_at_checked(content)
            .is_some_and(|(content, tag)| {
                verify_slices_are_equal(self.tag(name, content).as_ref(), tag).is_ok()
            });
        if !is_genuine {
            self.dismiss(name, "it was damaged or forged");
            return None;
        }
        bytes.truncate(content);
        Some(bytes)
    }

    /// Keeps an entry. A full disk is no reason to fail.
    pub(crate) fn store(&self, name: &Name, content: &[u8]) {
        if content.len() as u64 > ENTRY_MAX {
            return;
        }
        let written = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.directory)
            .and_then(|mut file: NamedTempFile| {
                file.write_all(content)?;
                file.write_all(self.tag(name, content).as_ref())?;
                file.persist(self.directory.join(&name.0))?;
                Ok(())
            });
        if let Err(error) = written {
            self.console
                .notice(format!("'{}' cannot be kept for later: {error}", name.0));
        }
    }

    /// Whether there is an entry, genuine or not.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.directory.join(&name.0).exists()
    }

    /// Keeps the cache's size bounded; failures to do so do no harm.
    pub(crate) fn forget_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut entries: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_name() != "key")
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, size, _)| *size).sum();
        for (_, size, path) in entries {
            if total <= TOTAL_MAX {
                return;
            }
            let _ = fs::remove_file(path);
            total = total.saturating_sub(size);
        }
    }

    /// Says that an entry is not used, and why.
    fn dismiss(&self, name: &Name, reason: &str) {
        self.console.notice(format!(
            "cache entry '{}' is not used and made again: {reason}",
            self.directory.join(&name.0).display()
        ));
        let _ = fs::remove_file(self.directory.join(&name.0));
    }

    fn tag(&self, name: &Name, content: &[u8]) -> Tag {
        let mut mac = Context::with_key(&self.key);
        // Names have no zero byte, so where the content starts is certain.
        mac.update(name.0.as_bytes());
        mac.update(&[0]);
        mac.update(content);
        mac.sign()
    }
}

/// The key, made when it is missing.
fn key(directory: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let path = directory.join("key");
    if !path.try_exists()? {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        aws_lc_rs::rand::fill(key.as_mut()).map_err(io::Error::other)?;
        // Made with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(directory)?;
        file.write_all(key.as_ref())?;
        // Another process may have been faster: its key is as good.
        if let Err(error) = file.persist_noclobber(&path)
            && error.error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error.error);
        }
    }
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)?;
    let metadata = file.metadata()?;
    let is_private = metadata.is_file()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o077 == 0;
    if !is_private {
        let reason = "others may read or write it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_LEN + 1));
    file.take(KEY_LEN as u64 + 1).read_to_end(&mut key)?;
    if key.len() != KEY_LEN {
        let reason = format!("it should have {KEY_LEN} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn cache(directory: &Path) -> Cache {
        Cache {
            directory: directory.to_owned(),
            key: Key::new(HMAC_SHA256, &key(directory).expect("key")[..]),
            build: b"build".to_vec(),
            console: Console::new(false, false, true),
        }
    }

    #[test]
    fn entries_come_back_and_any_change_removes_them() {
        let directory = tempfile::tempdir().expect("directory");
        let cache = cache(directory.path());
        let name = cache.name("layer", &[b"a", b"b"]);
        assert_eq!(cache.load(&name), None);
        cache.store(&name, b"content");
        assert_eq!(cache.load(&name).as_deref(), Some(&b"content"[..]));
        let path = directory.path().join(&name.0);
        let good = fs::read(&path).expect("entry");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).expect("write");
            assert_eq!(cache.load(&name), None, "byte {at}");
            assert!(!path.exists());
        }
        for bad in [&good[..good.len() - 1], &good[..5], &[]] {
            fs::write(&path, bad).expect("write");
            assert_eq!(cache.load(&name), None);
        }
        // A genuine entry under another name is not genuine.
        let other = cache.name("layer", &[b"ab", b""]);
        fs::write(directory.path().join(&other.0), &good).expect("write");
        assert_eq!(cache.load(&other), None);
    }

    #[test]
    fn the_key_is_private_and_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let first = key(directory.path()).expect("key");
        assert_eq!(key(directory.path()).expect("key"), first);
        let path = directory.path().join("key");
        let mode = |path: &Path| fs::metadata(path).expect("key").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(key(directory.path()).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, b"short").expect("write");
        assert!(key(directory.path()).is_err());
        fs::remove_file(&path).expect("remove");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("symlink");
        assert!(key(directory.path()).is_err());
    }

    #[test]
    fn names_depend_on_every_part_and_on_the_build() {
        let directory = tempfile::tempdir().expect("directory");
        let mut cache = cache(directory.path());
        let name = cache.name("file", &[b"a", b"bc"]);
        assert_eq!(cache.name("file", &[b"a", b"bc"]), name);
        assert_ne!(cache.name("file", &[b"ab", b"c"]), name);
        cache.build = b"other".to_vec();
        assert_ne!(cache.name("file", &[b"a", b"bc"]), name);
    }
}
