// SPDX-License-Identifier: Apache-2.0
//! How much of a foreign image is believed before it is refused.

/// Upper bounds on everything an image can make its reader do.
///
/// Sizes are in bytes. The defaults fit every image that is meant to run and
/// stop archives that are built to exhaust disk, memory or time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Size of a manifest, an index, `manifest.json` or a configuration.
    pub document: u64,
    /// Layers in one image.
    pub layers: usize,
    /// Size of one stored (compressed) layer.
    pub stored_layer: u64,
    /// Sum of the decompressed sizes of all layers.
    pub content: u64,
    /// Entries over all layers.
    pub entries: u64,
    /// Size of one PAX or GNU extension record of an archive entry.
    pub extension: u64,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Size of one stream from the docker daemon.
    pub stream: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            document: 8 << 20,
            layers: 512,
            stored_layer: 32 * GIB,
            content: 64 * GIB,
            entries: 4_000_000,
            extension: 1 << 20,
            xattrs: 128,
            stream: 64 * GIB,
        }
    }
}
