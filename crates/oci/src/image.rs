// SPDX-License-Identifier: Apache-2.0
//! An image that was found: its digest, configuration and stored layers.

use std::path::Path;

use crate::archive::{self, ArchiveError};
use crate::config::NativeConfig;
use crate::daemon::{self, DaemonError};
use crate::digest::Digest;
use crate::layer::StoredLayer;
use crate::layout::{self, LayoutError};
use crate::limits::Limits;
use crate::reference::Reference;

/// Why an image cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A docker archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The docker daemon.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// An OCI layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// An image whose manifest and configuration are verified. Layers are
/// verified when they are opened.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) digest: Digest,
    pub(crate) config: NativeConfig,
    pub(crate) layers: Vec<StoredLayer>,
}

impl Image {
    /// Finds the image that `reference` names.
    ///
    /// Streams from the docker daemon are spooled into a private unlinked
    /// file below `temp`.
    ///
    /// # Errors
    /// [`ImageError`] if there is no such image, or a damaged or foreign one.
    pub fn open(reference: &Reference, limits: &Limits, temp: &Path) -> Result<Self, ImageError> {
        Ok(match reference {
            Reference::DockerArchive { file, name } => {
                archive::open_file(file, name.as_ref(), limits, temp)?
            }
            Reference::DockerDaemon(name) => {
                let stream = daemon::Daemon::from_env()?.export(name, limits, temp)?;
                archive::open(&stream, None, limits)?
            }
            Reference::OciLayout { dir, selector } => layout::open(dir, selector.as_ref(), limits)?,
        })
    }

    /// What pins the image: the digest of its manifest, or for docker
    /// archives, which have none, of its configuration (docker's image ID).
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &NativeConfig {
        &self.config
    }

    /// The layers from the bottom.
    #[must_use]
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }
}
