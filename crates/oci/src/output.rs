// SPDX-License-Identifier: Apache-2.0
//! Writes new images: everything is put in place first, and only
//! [`Staged::commit`] gives the image its name.

mod archive;
mod layout;

use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::compression::BUFFER;
use crate::config::{ConfigError, ResultConfig};
use crate::daemon::{Daemon, DaemonError};
use crate::digest::{Digest, HashingReader};
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST};
use crate::reference::{ImageName, Reference, Selector};
use archive::StagedArchive;
use layout::StagedLayout;

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Somebody else is writing to the same layout.
    #[error("Layout '{}' is being written by another process", dir.display())]
    Busy {
        /// The layout.
        dir: PathBuf,
    },
    /// A layer of the native image is not what it was when it was verified.
    #[error("Layer {expected} is damaged, or changed while it was copied")]
    Changed {
        /// Its digest when it was verified.
        expected: Digest,
    },
    /// The configuration.
    #[error("Cannot encode the new image's configuration")]
    Config(#[from] ConfigError),
    /// The docker daemon.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A file could not be written.
    #[error("Cannot write '{}'", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The manifest, or an existing index.
    #[error("Cannot encode the manifest, or the existing index is malformed")]
    Json(#[from] serde_json::Error),
    /// A directory with other content stands in the place of the layout.
    #[error("'{}' exists and is not an OCI layout; name an empty or new directory", dir.display())]
    NotALayout {
        /// The directory.
        dir: PathBuf,
    },
    /// Results need a name by which they are found again.
    #[error("'{reference}' needs a tag to write to, such as {example}")]
    TagMissing {
        /// What was given.
        reference: String,
        /// A complete form.
        example: &'static str,
    },
}

/// A new image: a configuration and layers from the bottom.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// What the configuration says; layer digests are added.
    pub config: ResultConfig,
    /// The layers: new ones, or those of a native image.
    pub layers: Vec<LayerBlob>,
}

impl NewImage {
    /// Puts everything where `target` says, without giving it a name.
    ///
    /// # Errors
    /// [`OutputError`]; nothing is left behind then.
    pub fn stage(&self, target: &Reference) -> Result<Staged, OutputError> {
        let needs_tag = |example| OutputError::TagMissing {
            reference: target.to_string(),
            example,
        };
        let encoded = Encoded::new(self)?;
        let manifest_digest = encoded.manifest.digest;
        let image_id = encoded.config.digest;
        let place = match target {
            Reference::OciLayout {
                dir,
                selector: Some(Selector::Tag(tag)),
            } => Place::Layout(StagedLayout::new(dir, tag, &encoded, &self.layers)?),
            Reference::OciLayout { .. } => return Err(needs_tag("oci:DIR:TAG")),
            Reference::DockerArchive {
                file,
                name: Some(name),
            } if name.tagged().is_some() => {
                Place::Archive(StagedArchive::new(file, encoded.into_archive(self, name))?)
            }
            Reference::DockerArchive { .. } => {
                return Err(needs_tag("docker-archive:FILE:NAME:TAG"));
            }
            Reference::DockerDaemon(name) if name.tagged().is_some() => Place::Daemon {
                daemon: Daemon::from_env()?,
                archive: encoded.into_archive(self, name),
            },
            Reference::DockerDaemon(_) => return Err(needs_tag("NAME:TAG")),
        };
        Ok(Staged {
            manifest_digest,
            image_id,
            place,
        })
    }
}

/// An image that is written but has no name yet. Dropping it removes what
/// staging wrote.
#[derive(Debug)]
pub struct Staged {
    manifest_digest: Digest,
    image_id: Digest,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Archive(StagedArchive),
    Daemon {
        daemon: Daemon,
        archive: archive::DockerArchive,
    },
    Layout(StagedLayout),
}

impl Staged {
    /// The digest of the OCI manifest.
    #[must_use]
    pub fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// The digest of the configuration, docker's image ID.
    #[must_use]
    pub fn image_id(&self) -> Digest {
        self.image_id
    }

    /// Gives the image its name: the last step of a conversion.
    ///
    /// # Errors
    /// [`OutputError`]; the name then still means what it meant before.
    pub fn commit(self) -> Result<(), OutputError> {
        match self.place {
            Place::Archive(archive) => archive.commit(),
            Place::Daemon { daemon, archive } => Ok(daemon.load(|stream| archive.write(stream))?),
            Place::Layout(layout) => layout.commit(),
        }
    }
}

/// A small blob and its digest.
#[derive(Debug, Clone)]
struct Document {
    digest: Digest,
    bytes: Vec<u8>,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: self.digest,
            size: self.bytes.len() as u64,
            annotations: std::collections::BTreeMap::new(),
            platform: None,
        }
    }
}

/// Configuration and manifest of a new image.
struct Encoded {
    config: Document,
    manifest: Document,
}

impl Encoded {
    fn new(image: &NewImage) -> Result<Self, OutputError> {
        let diff_ids: Vec<Digest> = image.layers.iter().map(LayerBlob::diff_id).collect();
        let config = Document::new(image.config.encode(&diff_ids)?);
        let layers = image.layers.iter().map(|layer| Descriptor {
            media_type: layer.compression.media_type().to_owned(),
            digest: layer.digest,
            size: layer.stored_size(),
            annotations: std::collections::BTreeMap::new(),
            platform: None,
        });
        let manifest = Manifest::new(config.descriptor(OCI_CONFIG), layers.collect());
        Ok(Self {
            config,
            manifest: Document::new(serde_json::to_vec(&manifest)?),
        })
    }

    fn manifest_descriptor(&self) -> Descriptor {
        self.manifest.descriptor(OCI_MANIFEST)
    }

    fn into_archive(self, image: &NewImage, name: &ImageName) -> archive::DockerArchive {
        archive::DockerArchive::new(self.config, &image.layers, name)
    }
}

/// Copies a stored layer, hashing it again if others could have changed it.
fn copy_blob(layer: &LayerBlob, to: &mut impl Write) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER];
    let mut copy = |from: &mut dyn Read| -> io::Result<()> {
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                read => to.write_all(buffer.get(..read).unwrap_or_default())?,
            }
        }
    };
    if layer.is_private {
        copy(&mut layer.bytes.reader())?;
        return Ok(true);
    }
    let mut reader = HashingReader::new(layer.bytes.reader());
    copy(&mut reader)?;
    Ok(reader.finish().0 == layer.digest)
}
