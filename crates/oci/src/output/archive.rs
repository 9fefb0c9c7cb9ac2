// SPDX-License-Identifier: Apache-2.0
//! Writes a docker archive: the form that every version of docker loads, with
//! uncompressed layers.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tar::{EntryType, Header};
use tempfile::NamedTempFile;

use super::{Document, OutputError};
use crate::compression::{BUFFER, Compression};
use crate::digest::HashingReader;
use crate::layer::LayerBlob;
use crate::reference::ImageName;

/// A docker archive that can be written anywhere.
#[derive(Debug)]
pub(super) struct DockerArchive {
    config: Document,
    layers: Vec<LayerBlob>,
    tag: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved<'a> {
    config: String,
    repo_tags: Vec<&'a str>,
    layers: Vec<String>,
}

impl DockerArchive {
    pub(super) fn new(config: Document, layers: &[LayerBlob], name: &ImageName) -> Self {
        Self {
            config,
            layers: layers.to_vec(),
            tag: name.tagged(),
        }
    }

    pub(super) fn write(&self, mut to: &mut dyn Write) -> io::Result<()> {
        let config = format!("{}.json", self.config.digest.to_hex());
        let member = |layer: &LayerBlob| format!("{}.tar", layer.diff_id.to_hex());
        let saved = [Saved {
            config: config.clone(),
            repo_tags: self.tag.iter().map(String::as_str).collect(),
            layers: self.layers.iter().map(member).collect(),
        }];
        put(&mut to, "manifest.json", &serde_json::to_vec(&saved)?)?;
        put(&mut to, &config, &self.config.bytes)?;
        let mut seen = std::collections::BTreeSet::new();
        for layer in &self.layers {
            if seen.insert(layer.diff_id) {
                put_layer(&mut to, &member(layer), layer)?;
            }
        }
        to.write_all(&[0; 1024])?;
        to.flush()
    }
}

fn header(name: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    // Names are 64 digits and an extension, well below the field's 100 bytes.
    for (to, from) in header.as_old_mut().name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    header.set_cksum();
    header
}

fn pad(to: &mut impl Write, size: u64) -> io::Result<()> {
    let used = usize::try_from(size % 512).unwrap_or(0);
    if used == 0 {
        return Ok(());
    }
    to.write_all([0; 512].get(used..).unwrap_or_default())
}

fn put(to: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let size = bytes.len() as u64;
    to.write_all(header(name, size).as_bytes())?;
    to.write_all(bytes)?;
    pad(to, size)
}

/// Writes the decompressed layer. Its length must stand before its bytes, so
/// a compressed one is decompressed into an unlinked file first.
fn put_layer(to: &mut impl Write, name: &str, layer: &LayerBlob) -> io::Result<()> {
    let content = match layer.compression {
        Compression::None => layer.bytes.clone(),
        Compression::Gzip | Compression::Zstd => crate::layer::decompress(
            &layer.bytes,
            layer.compression,
            &std::env::temp_dir(),
            crate::limits::Limits::default().content,
        )
        .map_err(io::Error::other)?,
    };
    to.write_all(header(name, content.len()).as_bytes())?;
    let mut reader = HashingReader::new(content.reader());
    io::copy(&mut reader, to)?;
    let (digest, size) = reader.finish();
    if digest != layer.diff_id {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a layer changed while it was copied",
        ));
    }
    pad(to, size)
}

/// An archive beside its final place, not yet renamed.
#[derive(Debug)]
pub(super) struct StagedArchive {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl StagedArchive {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the archive ends here, its layers' files with it"
    )]
    pub(super) fn new(path: &Path, archive: DockerArchive) -> Result<Self, OutputError> {
        let failed = |source| OutputError::Io {
            path: path.into(),
            source,
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut temporary = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(parent)
            .map_err(failed)?;
        let mut out = BufWriter::with_capacity(BUFFER, temporary.as_file_mut());
        archive
            .write(&mut out)
            .and_then(|()| out.flush())
            .map_err(failed)?;
        drop(out);
        Ok(Self {
            temporary,
            path: path.into(),
        })
    }

    pub(super) fn commit(self) -> Result<(), OutputError> {
        let Self { temporary, path } = self;
        temporary.persist(&path).map_err(|error| OutputError::Io {
            path: path.clone(),
            source: error.error,
        })?;
        Ok(())
    }
}
