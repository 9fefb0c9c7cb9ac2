// SPDX-License-Identifier: Apache-2.0
//! Manifests and indexes of OCI and docker (schema 2), as far as they are
//! needed to find and to write one image for linux/amd64.
//!
//! The structures are our own because docker's forms differ from OCI's in
//! places where a strict type would refuse real images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compression::Compression;
use crate::digest::Digest;
use crate::limits::Limits;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Annotation that carries an image's tag in `index.json`.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why a manifest or an index cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Both `layers` and `manifests`: two readers could see two images.
    #[error("Document is a manifest and an index at once")]
    Ambiguous,
    /// Encrypted layers.
    #[error("Layer {layer} is encrypted ({media_type}), which is not supported yet")]
    EncryptedLayer {
        /// Its number from the bottom, from 0.
        layer: usize,
        /// Its media type.
        media_type: String,
    },
    /// Not JSON of the expected shape.
    #[error("Document is not a valid {what}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// The document says it is something else than its descriptor does.
    #[error("Document calls itself '{found}' where '{expected}' is expected")]
    MediaType {
        /// What the descriptor says.
        expected: String,
        /// What the document says.
        found: String,
    },
    /// No image for this platform.
    #[error("Image has no variant for linux/amd64, only for: {found}")]
    NoPlatform {
        /// The platforms it has.
        found: String,
    },
    /// Neither 2 nor absent.
    #[error("Schema version {version} is not supported; push the image again with a newer tool")]
    SchemaVersion {
        /// What the document says.
        version: u32,
    },
    /// A layer of unknown form.
    #[error("Layer {layer} has the unsupported media type '{media_type}'")]
    UnknownLayer {
        /// Its number from the bottom, from 0.
        layer: usize,
        /// Its media type.
        media_type: String,
    },
    /// More layers, or larger ones, than allowed.
    #[error("Image has {layers} layers of {bytes} bytes, more than the limits allow")]
    TooLarge {
        /// Number of layers.
        layers: usize,
        /// The largest stored layer.
        bytes: u64,
    },
}

/// Points to a blob by digest (OCI image specification, "Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Key-value notes, such as the tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For members of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// The tag in an `index.json`.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
    }
}

/// Operating system and processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// Such as `v8`; unused on amd64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The only platform enclaves run on.
    #[must_use]
    pub fn linux_amd64() -> Self {
        Self {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    /// Whether this is linux on amd64, of any variant.
    #[must_use]
    pub fn is_linux_amd64(&self) -> bool {
        self.os == "linux" && self.architecture == "amd64"
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config,
            layers,
        }
    }

    /// Parses what `descriptor` points to and checks it against `limits`.
    pub(crate) fn parse(
        bytes: &[u8],
        descriptor: &Descriptor,
        limits: &Limits,
    ) -> Result<Self, ManifestError> {
        Shape::check(bytes, descriptor, &[OCI_MANIFEST, DOCKER_MANIFEST])?;
        let manifest: Self = parse_json(bytes, "image manifest")?;
        let largest = manifest.layers.iter().map(|layer| layer.size).max();
        let bytes = largest.unwrap_or(0);
        if manifest.layers.len() > limits.layers || bytes > limits.stored_layer {
            return Err(ManifestError::TooLarge {
                layers: manifest.layers.len(),
                bytes,
            });
        }
        Ok(manifest)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Index {
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// Parses an `index.json`, which no descriptor describes.
    pub(crate) fn parse_top(bytes: &[u8]) -> Result<Self, ManifestError> {
        let index: Self = parse_json(bytes, "image index")?;
        check_version(index.schema_version)?;
        Ok(index)
    }

    pub(crate) fn parse(bytes: &[u8], descriptor: &Descriptor) -> Result<Self, ManifestError> {
        Shape::check(bytes, descriptor, &[OCI_INDEX, DOCKER_INDEX])?;
        parse_json(bytes, "image index")
    }

    /// The first member for linux/amd64.
    ///
    /// A member without a platform counts only if it is the only one.
    pub(crate) fn for_linux_amd64(&self) -> Result<&Descriptor, ManifestError> {
        if let [only] = self.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let fits = |member: &&Descriptor| {
            member
                .platform
                .as_ref()
                .is_some_and(Platform::is_linux_amd64)
        };
        self.manifests.iter().find(fits).ok_or_else(|| {
            let mut found: Vec<String> = self
                .manifests
                .iter()
                .take(16)
                .map(|member| match &member.platform {
                    Some(platform) => crate::path::printable(
                        format!("{}/{}", platform.os, platform.architecture).as_bytes(),
                    ),
                    None => "unnamed".to_owned(),
                })
                .collect();
            found.dedup();
            ManifestError::NoPlatform {
                found: found.join(", "),
            }
        })
    }
}

/// The fields that tell a manifest from an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Shape {
    // A document with both lists must be refused: readers that look at one
    // or the other would disagree about the image behind one digest
    // (OCI image specification 1.0.2, security notice on mediaType).
    fn check(bytes: &[u8], descriptor: &Descriptor, allowed: &[&str]) -> Result<(), ManifestError> {
        let shape: Self = parse_json(bytes, "manifest or index")?;
        if shape.layers.is_some() && shape.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        check_version(shape.schema_version.unwrap_or(2))?;
        let found = shape.media_type.as_ref().unwrap_or(&descriptor.media_type);
        if found != &descriptor.media_type || !allowed.contains(&found.as_str()) {
            return Err(ManifestError::MediaType {
                expected: crate::path::printable(descriptor.media_type.as_bytes()),
                found: crate::path::printable(found.as_bytes()),
            });
        }
        Ok(())
    }
}

fn check_version(version: u32) -> Result<(), ManifestError> {
    if version == 2 {
        Ok(())
    } else {
        Err(ManifestError::SchemaVersion { version })
    }
}

fn parse_json<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|source| ManifestError::Json { what, source })
}

/// How the layer that `descriptor` points to is stored.
pub(crate) fn layer_compression(
    layer: usize,
    descriptor: &Descriptor,
) -> Result<Compression, ManifestError> {
    let media_type = descriptor.media_type.as_str();
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        _ => {
            let media_type = crate::path::printable(media_type.as_bytes());
            Err(if media_type.ends_with("+encrypted") {
                ManifestError::EncryptedLayer { layer, media_type }
            } else {
                ManifestError::UnknownLayer { layer, media_type }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(b""),
            size: 0,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    fn for_platform(os: &str, architecture: &str) -> Descriptor {
        Descriptor {
            platform: Some(Platform {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
                variant: None,
            }),
            ..descriptor(OCI_MANIFEST)
        }
    }

    #[test]
    fn documents_that_are_both_are_refused() {
        let both = br#"{"schemaVersion":2,"layers":[],"manifests":[],"config":{}}"#;
        for media_type in [OCI_MANIFEST, OCI_INDEX] {
            let error = Shape::check(both, &descriptor(media_type), &[OCI_MANIFEST, OCI_INDEX]);
            assert!(matches!(error, Err(ManifestError::Ambiguous)));
        }
    }

    #[test]
    fn a_document_must_be_what_its_descriptor_says() {
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let error = Manifest::parse(index, &descriptor(OCI_MANIFEST), &Limits::default());
        assert!(matches!(error, Err(ManifestError::MediaType { .. })));
    }

    #[test]
    fn the_first_schema_is_refused() {
        let old = br#"{"schemaVersion":1,"layers":[]}"#;
        let error = Manifest::parse(old, &descriptor(DOCKER_MANIFEST), &Limits::default());
        assert!(matches!(
            error,
            Err(ManifestError::SchemaVersion { version: 1 })
        ));
    }

    #[test]
    fn indexes_yield_linux_amd64_or_say_what_they_have() {
        let index = Index::new(vec![
            for_platform("linux", "arm64"),
            for_platform("unknown", "unknown"),
            for_platform("linux", "amd64"),
        ]);
        let found = index.for_linux_amd64().expect("has amd64");
        assert_eq!(found, &for_platform("linux", "amd64"));
        let index = Index::new(vec![for_platform("linux", "arm64")]);
        let error = index.for_linux_amd64().expect_err("arm only");
        assert!(error.to_string().contains("linux/arm64"), "{error}");
    }

    #[test]
    fn encrypted_layers_are_named_as_such() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
        assert!(matches!(
            layer_compression(3, &layer),
            Err(ManifestError::EncryptedLayer { layer: 3, .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_documents_never_panic(text in "\\PC{0,200}") {
            let _ = Manifest::parse(text.as_bytes(), &descriptor(OCI_MANIFEST), &Limits::default());
            let _ = Index::parse_top(text.as_bytes());
        }
    }
}
