// SPDX-License-Identifier: Apache-2.0
//! The data directory of a development CAS.
//!
//! `dev-sealing.key` (the key of everything, in clear), `identity.sealed`, `cas.redb`, `audit.jsonl`.
//! All files are 0600 in a directory of 0700. Whoever reads the sealing key reads every secret: that
//! is what makes this a development CAS.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::identity::{Identity, IdentityError};
use crate::seal::{SealError, SealingKey};

const KEY: &str = "dev-sealing.key";
const IDENTITY: &str = "identity.sealed";
const MAX_IDENTITY: u64 = 64 * 1024;

/// An opened data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// A file operation failed.
    #[error("Cannot {action} '{path}'")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others may read secrets.
    #[error("'{path}' has mode {mode:04o}: others may read it; run chmod {wanted:04o} '{path}'")]
    Open {
        /// The file or directory.
        path: String,
        /// Its mode.
        mode: u32,
        /// The mode to set.
        wanted: u32,
    },
    /// Not 32 bytes.
    #[error(
        "'{path}' is not a sealing key; restore it, or remove the data directory to start anew"
    )]
    Key {
        /// The file.
        path: String,
    },
    /// The identity does not open.
    #[error("'{path}' does not open with the sealing key; restore both files from the same copy")]
    Sealed {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// Sealing failed.
    #[error("The identity cannot be sealed")]
    Seal(#[from] SealError),
    /// The identity is unusable.
    #[error("The identity of the CAS is unusable")]
    Identity(#[from] IdentityError),
}

impl DataDir {
    /// Opens a directory, making it if it is missing.
    ///
    /// # Errors
    /// It cannot be made, or others may read it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |action, source| DataDirError::Io {
            action,
            path: path.display().to_string(),
            source,
        };
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|e| failed("make", e))?;
        }
        let metadata = path.metadata().map_err(|e| failed("read", e))?;
        private(path, metadata.mode(), 0o700)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// A file of the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The sealing key of a development CAS, made on first use.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not a key.
    pub fn dev_sealing_key(&self) -> Result<SealingKey, DataDirError> {
        let path = self.file(KEY);
        if let Some(bytes) = self.read(KEY, 33)? {
            let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| DataDirError::Key {
                path: path.display().to_string(),
            })?;
            return Ok(SealingKey::new(Zeroizing::new(key)));
        }
        let key = SealingKey::generate()?;
        self.create(KEY, key.expose())?;
        Ok(key)
    }

    /// The identity of the CAS, made on first use.
    ///
    /// # Errors
    /// The file cannot be read or written, or does not open.
    pub fn identity(&self, key: &SealingKey) -> Result<Identity, DataDirError> {
        if let Some(sealed) = self.read(IDENTITY, MAX_IDENTITY)? {
            let opened = key.open(IDENTITY.as_bytes(), &sealed);
            let plain = opened.map_err(|source| DataDirError::Sealed {
                path: self.file(IDENTITY).display().to_string(),
                source,
            })?;
            return Ok(Identity::decode(&plain)?);
        }
        let identity = Identity::generate()?;
        let sealed = key.seal(IDENTITY.as_bytes(), &identity.encode()?)?;
        self.create(IDENTITY, &sealed)?;
        Ok(identity)
    }

    /// Opens a file for appending lines.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn append(&self, name: &str) -> Result<File, DataDirError> {
        let path = self.file(name);
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600);
        options.open(&path).map_err(|source| DataDirError::Io {
            action: "open",
            path: path.display().to_string(),
            source,
        })
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Zeroizing<Vec<u8>>>, DataDirError> {
        let path = self.file(name);
        let failed = |source| DataDirError::Io {
            action: "read",
            path: path.display().to_string(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        private(&path, file.metadata().map_err(failed)?.mode(), 0o600)?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Makes a file that did not exist, complete or not at all.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.file(name);
        let part = self.file(&format!("{name}.part"));
        let failed = |source| DataDirError::Io {
            action: "write",
            path: path.display().to_string(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&part, &path).map_err(failed)?;
        let directory = File::open(&self.path).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }
}

/// Refuses files that group or others may read or write.
fn private(path: &Path, mode: u32, wanted: u32) -> Result<(), DataDirError> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(DataDirError::Open {
        path: path.display().to_string(),
        mode: mode & 0o7777,
        wanted,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_and_identity_last_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let data = DataDir::open(&path).unwrap();
        let key = data.dev_sealing_key().unwrap();
        let identity = data.identity(&key).unwrap();
        let data = DataDir::open(&path).unwrap();
        let again = data.dev_sealing_key().unwrap();
        assert_eq!(key.expose(), again.expose());
        assert_eq!(
            data.identity(&again).unwrap().key_hash(),
            identity.key_hash()
        );
        for name in [KEY, IDENTITY] {
            let mode = std::fs::metadata(path.join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::set_permissions(path.join(KEY), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            data.dev_sealing_key(),
            Err(DataDirError::Open { .. })
        ));
        let other = SealingKey::generate().unwrap();
        assert!(matches!(
            data.identity(&other),
            Err(DataDirError::Sealed { .. })
        ));
    }
}
