// SPDX-License-Identifier: Apache-2.0
//! Writes into an OCI layout: blobs under temporary names, then renamed; the
//! index, which makes the tag, last.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation};
use tempfile::NamedTempFile;

use super::{Document, Encoded, OutputError, copy_blob};
use crate::digest::Digest;
use crate::layer::LayerBlob;
use crate::layout::VERSION;
use crate::limits::Limits;
use crate::manifest::{Descriptor, Index, Platform, REF_NAME};
use crate::slice::FileSlice;

/// Blobs in place, the tag not yet moved.
#[derive(Debug)]
pub(super) struct StagedLayout {
    dir: PathBuf,
    tag: String,
    manifest: Descriptor,
    /// Files that staging made, removed again unless committed.
    written: Vec<PathBuf>,
    is_committed: bool,
    /// Holds the lock on the directory until the end.
    _lock: File,
}

impl StagedLayout {
    pub(super) fn new(
        dir: &Path,
        tag: &str,
        encoded: &Encoded,
        layers: &[LayerBlob],
    ) -> Result<Self, OutputError> {
        let blobs = dir.join("blobs/sha256");
        check_target(dir)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&blobs)
            .map_err(at(&blobs))?;
        let lock = File::open(dir).map_err(at(dir))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OutputError::Busy { dir: dir.into() });
            }
            Err(error) => return Err(at(dir)(error.into())),
        }
        let mut staged = Self {
            dir: dir.into(),
            tag: tag.to_owned(),
            manifest: encoded.manifest_descriptor(),
            written: Vec::new(),
            is_committed: false,
            _lock: lock,
        };
        let marker = format!(r#"{{"imageLayoutVersion":"{VERSION}"}}"#);
        staged.put(&dir.join("oci-layout"), marker.len() as u64, |file| {
            file.write_all(marker.as_bytes())?;
            Ok(true)
        })?;
        for layer in layers {
            staged.put_layer(layer)?;
        }
        for Document { digest, bytes } in [&encoded.config, &encoded.manifest] {
            staged.put_blob(*digest, bytes.len() as u64, |file| {
                file.write_all(bytes)?;
                Ok(true)
            })?;
        }
        Ok(staged)
    }

    /// Copies a layer, or shares its file if the two are neighbours: images
    /// made from one base then take its space once.
    fn put_layer(&mut self, layer: &LayerBlob) -> Result<(), OutputError> {
        let path = self.dir.join("blobs/sha256").join(layer.digest.to_hex());
        let is_missing =
            fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if is_missing && let Some(linked) = link_beside(&path, &layer.bytes) {
            let is_right = copy_blob(layer, &mut io::sink()).map_err(at(&path))?;
            if !is_right {
                let expected = layer.digest;
                return Err(OutputError::Changed { expected });
            }
            linked
                .persist(&path)
                .map_err(|error| at(&path)(error.error))?;
            self.written.push(path);
            return Ok(());
        }
        self.put_blob(layer.digest, layer.stored_size(), |file| {
            copy_blob(layer, file)
        })
    }

    fn put_blob(
        &mut self,
        digest: Digest,
        size: u64,
        write: impl FnOnce(&mut File) -> io::Result<bool>,
    ) -> Result<(), OutputError> {
        let path = self.dir.join("blobs/sha256").join(digest.to_hex());
        if self.put(&path, size, write)? {
            Ok(())
        } else {
            Err(OutputError::Changed { expected: digest })
        }
    }

    /// Writes a file unless one of this size stands there already; readers
    /// verify every blob, so size is enough to tell. False if `write` says
    /// that the content is wrong.
    fn put(
        &mut self,
        path: &Path,
        size: u64,
        write: impl FnOnce(&mut File) -> io::Result<bool>,
    ) -> Result<bool, OutputError> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == size) {
            return Ok(true);
        }
        let is_new = !path.exists();
        let is_right = replace(path, write)?;
        if is_right && is_new {
            self.written.push(path.to_owned());
        }
        Ok(is_right)
    }

    pub(super) fn commit(mut self) -> Result<(), OutputError> {
        let path = self.dir.join("index.json");
        let mut index = match File::open(&path) {
            Ok(file) => {
                let bytes = FileSlice::whole(file)
                    .and_then(|file| file.read_all(Limits::default().document))
                    .map_err(at(&path))?;
                serde_json::from_slice::<Index>(&bytes)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::new(Vec::new()),
            Err(error) => return Err(at(&path)(error)),
        };
        let mut entry = self.manifest.clone();
        entry.platform = Some(Platform::linux_amd64());
        entry
            .annotations
            .insert(REF_NAME.to_owned(), self.tag.clone());
        index
            .manifests
            .retain(|other| other.tag() != Some(&self.tag));
        index.manifests.push(entry);
        let bytes = serde_json::to_vec(&index)?;
        replace(&path, |file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(true)
        })?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for StagedLayout {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        for path in &self.written {
            // Nothing refers to these files; one that stays does no harm.
            let _ = fs::remove_file(path);
        }
        if self.written.contains(&self.dir.join("oci-layout")) {
            // The directories were empty or missing before; others stay.
            for empty in ["blobs/sha256", "blobs", ""] {
                let _ = fs::remove_dir(self.dir.join(empty));
            }
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError::Io { path, source }
}

/// A layout, an empty directory or nothing may be written to.
fn check_target(dir: &Path) -> Result<(), OutputError> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(dir)(error)),
        Ok(mut entries) => {
            if entries.next().is_none() || dir.join("oci-layout").is_file() {
                Ok(())
            } else {
                Err(OutputError::NotALayout { dir: dir.into() })
            }
        }
    }
}

/// Gives a file another name beside `path`. `None` if that is not possible, or
/// if somebody else could change the file afterwards.
fn link_beside(path: &Path, bytes: &FileSlice) -> Option<NamedTempFile<()>> {
    let file = bytes.as_whole()?;
    let metadata = file.metadata().ok()?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || metadata.mode() & 0o777 != 0o644 {
        return None;
    }
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    tempfile::Builder::new()
        .prefix(".new-")
        .make_in(path.parent()?, |name| {
            let follow = AtFlags::SYMLINK_FOLLOW;
            Ok(rustix::fs::linkat(CWD, open.as_str(), CWD, name, follow)?)
        })
        .ok()
}

/// Writes a file under a temporary name beside `path` and renames it.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<bool>,
) -> Result<bool, OutputError> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parent)
        .map_err(at(path))?;
    if !write(temporary.as_file_mut()).map_err(at(path))? {
        return Ok(false);
    }
    temporary
        .persist(path)
        .map_err(|error| at(path)(error.error))?;
    Ok(true)
}
