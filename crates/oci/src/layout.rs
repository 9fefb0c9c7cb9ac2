// SPDX-License-Identifier: Apache-2.0
//! Reads OCI image layouts (OCI image specification, "Image Layout").

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{ConfigError, NativeConfig};
use crate::digest::Digest;
use crate::image::Image;
use crate::layer::StoredLayer;
use crate::limits::Limits;
use crate::manifest::{Descriptor, Index, Manifest, ManifestError, layer_compression};
use crate::path::printable;
use crate::reference::Selector;
use crate::slice::FileSlice;

/// Indexes in indexes: one level is common, three are more than enough.
const MAX_DEPTH: usize = 3;

/// Why a layout has no usable image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Several images and none was chosen.
    #[error("Layout '{}' holds several images; name one of: {tags}", dir.display())]
    Ambiguous {
        /// The layout.
        dir: PathBuf,
        /// The tags it has.
        tags: String,
    },
    /// A blob that is not what its descriptor says.
    #[error("Blob {digest} in layout '{}' is damaged: {found}", dir.display())]
    Blob {
        /// The layout.
        dir: PathBuf,
        /// What was asked for.
        digest: Digest,
        /// Size or digest found instead.
        found: String,
    },
    /// The configuration.
    #[error("Image in layout '{}' has an unusable configuration", dir.display())]
    Config {
        /// The layout.
        dir: PathBuf,
        /// The reason.
        source: ConfigError,
    },
    /// A file could not be read.
    #[error("Cannot read '{}'", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The manifest or an index.
    #[error("Layout '{}' has an unusable manifest", dir.display())]
    Manifest {
        /// The layout.
        dir: PathBuf,
        /// The reason.
        source: ManifestError,
    },
    /// Indexes in indexes without end.
    #[error("Layout '{}' nests indexes more than {MAX_DEPTH} deep", dir.display())]
    Nested {
        /// The layout.
        dir: PathBuf,
    },
    /// No image of this name.
    #[error("Layout '{}' holds no image '{wanted}'; it has: {tags}", dir.display())]
    NotFound {
        /// The layout.
        dir: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The tags it has.
        tags: String,
    },
    /// Not a layout of version 1.
    #[error("'{}' is not an OCI layout of version 1.0.0", dir.display())]
    Version {
        /// The directory.
        dir: PathBuf,
    },
}

pub(crate) const VERSION: &str = "1.0.0";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

struct Layout<'a> {
    dir: &'a Path,
    limits: &'a Limits,
}

/// Opens one image of the layout at `dir`.
pub(crate) fn open(
    dir: &Path,
    selector: Option<&Selector>,
    limits: &Limits,
) -> Result<Image, LayoutError> {
    let layout = Layout { dir, limits };
    let marker = layout.read_file(&dir.join("oci-layout"))?;
    let is_known = serde_json::from_slice::<Marker>(&marker)
        .is_ok_and(|marker| marker.image_layout_version == VERSION);
    if !is_known {
        return Err(LayoutError::Version { dir: dir.into() });
    }
    let index = Index::parse_top(&layout.read_file(&dir.join("index.json"))?)
        .map_err(|source| layout.bad_manifest(source))?;
    let descriptor = layout.select(&index, selector)?;
    layout.image(descriptor)
}

impl Layout<'_> {
    fn bad_manifest(&self, source: ManifestError) -> LayoutError {
        LayoutError::Manifest {
            dir: self.dir.into(),
            source,
        }
    }

    fn open_file(path: &Path) -> Result<FileSlice, LayoutError> {
        let open = || {
            // O_NONBLOCK: a pipe in the place of a file must not hang us.
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            let file: File = OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not a regular file",
                ));
            }
            FileSlice::whole(file)
        };
        open().map_err(|source| LayoutError::Io {
            path: path.into(),
            source,
        })
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>, LayoutError> {
        let file = Self::open_file(path)?;
        file.read_all(self.limits.document)
            .map_err(|source| LayoutError::Io {
                path: path.into(),
                source,
            })
    }

    /// A blob of the size its descriptor states; the digest is not checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<FileSlice, LayoutError> {
        let path = self
            .dir
            .join("blobs/sha256")
            .join(descriptor.digest.to_hex());
        let blob = Self::open_file(&path)?;
        if blob.len() != descriptor.size {
            return Err(LayoutError::Blob {
                dir: self.dir.into(),
                digest: descriptor.digest,
                found: format!("{} bytes instead of {}", blob.len(), descriptor.size),
            });
        }
        Ok(blob)
    }

    /// A small blob, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let blob = self.blob(descriptor)?;
        let bytes = blob
            .read_all(self.limits.document)
            .map_err(|source| LayoutError::Io {
                path: self
                    .dir
                    .join("blobs/sha256")
                    .join(descriptor.digest.to_hex()),
                source,
            })?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(LayoutError::Blob {
                dir: self.dir.into(),
                digest: descriptor.digest,
                found: format!("digest {found}"),
            });
        }
        Ok(bytes)
    }

    fn select<'i>(
        &self,
        index: &'i Index,
        selector: Option<&Selector>,
    ) -> Result<&'i Descriptor, LayoutError> {
        let tags = || {
            let tags: Vec<String> = index
                .manifests
                .iter()
                .filter_map(Descriptor::tag)
                .take(16)
                .map(|tag| printable(tag.as_bytes()))
                .collect();
            if tags.is_empty() {
                "(no tags)".to_owned()
            } else {
                tags.join(", ")
            }
        };
        let matches = |descriptor: &&Descriptor| match selector {
            None => true,
            Some(Selector::Digest(digest)) => descriptor.digest == *digest,
            Some(Selector::Tag(tag)) => descriptor.tag() == Some(tag),
        };
        let mut found = index.manifests.iter().filter(matches);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            // The same image under one name twice is no contradiction.
            (Some(first), Some(second))
                if selector.is_some()
                    && first.digest == second.digest
                    && found.all(|other| other.digest == first.digest) =>
            {
                Ok(first)
            }
            (Some(_), Some(_)) => Err(LayoutError::Ambiguous {
                dir: self.dir.into(),
                tags: tags(),
            }),
            (None, _) => Err(LayoutError::NotFound {
                dir: self.dir.into(),
                wanted: match selector {
                    None => "(any)".to_owned(),
                    Some(Selector::Digest(digest)) => digest.to_string(),
                    Some(Selector::Tag(tag)) => tag.clone(),
                },
                tags: tags(),
            }),
        }
    }

    fn image(&self, descriptor: &Descriptor) -> Result<Image, LayoutError> {
        let mut descriptor = descriptor.clone();
        for _ in 0..MAX_DEPTH {
            let bytes = self.document(&descriptor)?;
            if descriptor.is_index() {
                descriptor = Index::parse(&bytes, &descriptor)
                    .and_then(|index| index.for_linux_amd64().cloned())
                    .map_err(|source| self.bad_manifest(source))?;
                continue;
            }
            let manifest = Manifest::parse(&bytes, &descriptor, self.limits)
                .map_err(|source| self.bad_manifest(source))?;
            return self.image_of(descriptor.digest, &manifest);
        }
        Err(LayoutError::Nested {
            dir: self.dir.into(),
        })
    }

    fn image_of(&self, digest: Digest, manifest: &Manifest) -> Result<Image, LayoutError> {
        let bad_config = |source| LayoutError::Config {
            dir: self.dir.into(),
            source,
        };
        let config = NativeConfig::parse(&self.document(&manifest.config)?).map_err(bad_config)?;
        if config.diff_ids.len() != manifest.layers.len() {
            return Err(bad_config(ConfigError::LayerCount {
                layers: manifest.layers.len(),
                diff_ids: config.diff_ids.len(),
            }));
        }
        let pairs = manifest.layers.iter().zip(&config.diff_ids).enumerate();
        let layers = pairs
            .map(|(number, (layer, diff_id))| {
                Ok(StoredLayer {
                    compression: layer_compression(number, layer)
                        .map_err(|source| self.bad_manifest(source))?,
                    blob: self.blob(layer)?,
                    digest: Some(layer.digest),
                    diff_id: *diff_id,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Image {
            digest,
            config,
            layers,
        })
    }
}
