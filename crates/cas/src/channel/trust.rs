// SPDX-License-Identifier: Apache-2.0
//! What the operator lets the CAS believe: Intel's anchor, and emulated platforms that were named.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use attest::anchor::{Anchor, AnchorError, Platform};
use attest::collateral::{Collateral, CollateralError, MAX_BUNDLE};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Anchors and collateral.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(super) anchors: Vec<Anchor>,
    pub(super) collateral: Vec<Collateral>,
}

/// A file of the operator is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file cannot be read.
    #[error("Cannot read '{path}'")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a PEM certificate.
    #[error("'{path}' holds no PEM certificate")]
    Pem {
        /// The file.
        path: String,
    },
    /// Not a root that may be installed.
    #[error("'{path}' cannot be installed as an anchor")]
    Anchor {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: AnchorError,
    },
    /// Not a collateral bundle.
    #[error("'{path}' is not a collateral bundle")]
    Collateral {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: CollateralError,
    },
}

impl Default for Trust {
    /// Intel's anchor alone.
    fn default() -> Self {
        Self {
            anchors: vec![Anchor::intel()],
            collateral: Vec::new(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::Io {
        path: path.display().to_string(),
        source,
    };
    let limit = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl Trust {
    /// Reads root certificates (PEM) of emulated platforms and collateral bundles (JSON).
    ///
    /// # Errors
    /// A file is not readable or not what it should be.
    pub fn load(anchors: &[PathBuf], collateral: &[PathBuf]) -> Result<Self, TrustError> {
        let mut trust = Self::default();
        for path in anchors {
            let name = || path.display().to_string();
            let der = CertificateDer::from_pem_slice(&read(path)?)
                .map_err(|_| TrustError::Pem { path: name() })?;
            let anchor = Anchor::emulated(&der).map_err(|source| TrustError::Anchor {
                path: name(),
                source,
            })?;
            trust.anchors.push(anchor);
        }
        for path in collateral {
            let bundle = Collateral::from_json(&read(path)?);
            trust
                .collateral
                .push(bundle.map_err(|source| TrustError::Collateral {
                    path: path.display().to_string(),
                    source,
                })?);
        }
        Ok(trust)
    }

    /// SHA-256 of the SPKI of each emulated platform that is believed, hex.
    pub fn emulated(&self) -> Vec<String> {
        let emulated = self
            .anchors
            .iter()
            .filter_map(|anchor| match anchor.platform() {
                Platform::Intel => None,
                Platform::Emulated(hash) => Some(hex::encode(hash)),
            });
        emulated.collect()
    }
}
