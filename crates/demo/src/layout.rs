// SPDX-License-Identifier: Apache-2.0
//! Writing native images as OCI layouts, with everything a careless builder
//! leaves in them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use oci::digest::Digest;
use serde_json::{Value, json};

/// A compressed layer in a file.
#[derive(Debug, Clone)]
pub struct LayerFile {
    /// The gzip archive.
    pub blob: PathBuf,
    /// SHA-256 of the archive before compression, in hex.
    pub diff_id: String,
}

impl LayerFile {
    /// Compresses an archive into `blob`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn compress(tar: &[u8], blob: PathBuf) -> Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(tar)
            .context("while compressing a layer")?;
        let bytes = encoder.finish().context("while compressing a layer")?;
        fs::write(&blob, bytes).with_context(|| format!("while writing {}", blob.display()))?;
        Ok(Self {
            blob,
            diff_id: Digest::of(tar).to_hex(),
        })
    }

    /// Packs files into a layer: path, mode, content; directories have none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn pack<'a>(
        entries: impl IntoIterator<Item = (&'a str, u32, Option<&'a [u8]>)>,
        blob: PathBuf,
    ) -> Result<Self> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(if content.is_some() {
                tar::EntryType::Regular
            } else {
                tar::EntryType::Directory
            });
            header.set_mode(mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let content = content.unwrap_or_default();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content)
                .with_context(|| format!("while packing {path}"))?;
        }
        Self::compress(&tar.into_inner().context("while packing a layer")?, blob)
    }
}

/// Writes a layout with one image: `config` is the configuration without
/// `rootfs`.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(dir: &Path, tag: &str, layers: &[LayerFile], mut config: Value) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("while making {}", blobs.display()))?;
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let bytes = fs::read(&layer.blob)
            .with_context(|| format!("while reading {}", layer.blob.display()))?;
        descriptors.push(store(&blobs, "layer.v1.tar+gzip", &bytes)?);
        diff_ids.push(format!("sha256:{}", layer.diff_id));
    }
    config["architecture"] = "amd64".into();
    config["os"] = "linux".into();
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    let config = store(&blobs, "config.v1+json", &serde_json::to_vec(&config)?)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": descriptors,
    }))?;
    let mut manifest = store(&blobs, "manifest.v1+json", &manifest)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(dir.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(())
}

/// Stores a blob and gives its descriptor.
fn store(blobs: &Path, kind: &str, bytes: &[u8]) -> Result<Value> {
    let digest = Digest::of(bytes).to_hex();
    fs::write(blobs.join(&digest), bytes).context("while writing a blob")?;
    Ok(json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": bytes.len(),
    }))
}
