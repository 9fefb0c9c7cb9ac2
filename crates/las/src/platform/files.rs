// SPDX-License-Identifier: Apache-2.0
//! Files of the platform's directory: created with their final mode, never
//! overwritten in place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::PlatformError;

/// Mode of secrets.
pub(super) const SECRET: u32 = 0o600;
/// Mode of everything else.
pub(super) const PUBLIC: u32 = 0o644;
/// Longest file that is read.
const MAX_FILE: u64 = 1 << 20;

fn failed(path: &Path, source: io::Error) -> PlatformError {
    PlatformError::File {
        path: path.to_owned(),
        source,
    }
}

/// Creates the directory with mode 0700, or takes an empty one over.
pub(super) fn create_dir(dir: &Path) -> Result<(), PlatformError> {
    match DirBuilder::new().recursive(false).mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(dir).map_err(|source| failed(dir, source))?;
            if entries.next().is_some() {
                return Err(PlatformError::Exists {
                    path: dir.to_owned(),
                });
            }
            set_mode(dir, 0o700)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = dir.parent() {
                fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
            }
            DirBuilder::new()
                .mode(0o700)
                .create(dir)
                .map_err(|source| failed(dir, source))?;
        }
        Err(source) => return Err(failed(dir, source)),
    }
    let crl = dir.join("crl");
    DirBuilder::new()
        .mode(0o700)
        .create(&crl)
        .map_err(|source| failed(&crl, source))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), PlatformError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|source| failed(path, source))
}

/// Writes a file that must not exist yet.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PlatformError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PlatformError::Exists {
            path: path.to_owned(),
        },
        _ => failed(path, source),
    })
}

/// Replaces a public file as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PlatformError> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&new, error)),
        _ => {}
    }
    write_new(&new, bytes, PUBLIC)?;
    fs::rename(&new, path).map_err(|source| failed(path, source))
}

/// Reads a file of at most [`MAX_FILE`] bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PlatformError> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    read_open(path, file)
}

fn read_open(path: &Path, file: File) -> Result<Vec<u8>, PlatformError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| failed(path, source))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(PlatformError::Damaged {
            path: path.to_owned(),
            problem: "longer than 1 MiB",
        });
    }
    Ok(bytes)
}

/// Reads a UTF-8 file.
pub(super) fn read_text(path: &Path) -> Result<String, PlatformError> {
    String::from_utf8(read(path)?).map_err(|_| PlatformError::Damaged {
        path: path.to_owned(),
        problem: "not UTF-8",
    })
}

/// Reads a secret, if nobody but its owner may.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, PlatformError> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    let mode = file
        .metadata()
        .map_err(|source| failed(path, source))?
        .mode()
        & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PlatformError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(Zeroizing::new(read_open(path, file)?))
}
