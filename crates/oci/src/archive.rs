// SPDX-License-Identifier: Apache-2.0
//! Reads what `docker save` writes: an archive with a `manifest.json` that
//! names a configuration and layers among its other members.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::compression::Compression;
use crate::config::{ConfigError, NativeConfig};
use crate::digest::Digest;
use crate::image::Image;
use crate::layer::entry::EntryKind;
use crate::layer::walk::{WalkError, Walker};
use crate::layer::{LayerError, StoredLayer};
use crate::limits::Limits;
use crate::path::{RootPath, printable};
use crate::reference::ImageName;
use crate::slice::FileSlice;

/// Members of an archive; the largest images have a few hundred.
const MAX_MEMBERS: u64 = 100_000;
/// Links from one member to another: old archives link equal layers.
const MAX_LINKS: usize = 8;

/// Why an archive has no usable image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Several images and none was chosen.
    #[error("Archive holds several images; name one of: {names}")]
    Ambiguous {
        /// The names it has.
        names: String,
    },
    /// The configuration.
    #[error("Image in the archive has an unusable configuration")]
    Config(#[from] ConfigError),
    /// The configuration is not the one its name promises.
    #[error("Configuration '{name}' in the archive has the digest {found}")]
    ConfigDigest {
        /// Its member name.
        name: String,
        /// Its digest.
        found: Digest,
    },
    /// A compressed archive that does not decompress.
    #[error("Cannot decompress the archive")]
    Decompress(#[from] LayerError),
    /// A file could not be read.
    #[error("Cannot read '{}'", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// `manifest.json` is not of the expected shape.
    #[error("The archive's manifest.json is malformed")]
    Json(#[from] serde_json::Error),
    /// More layers, or a larger one, than allowed.
    #[error("Image in the archive is larger than the limits allow")]
    Limit,
    /// `manifest.json` names something that is not there.
    #[error("Archive has no member '{name}'; was it written by 'docker save'?")]
    Member {
        /// What is missing.
        name: String,
    },
    /// No image of this name.
    #[error("Archive holds no image '{wanted}'; it has: {names}")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// The names it has.
        names: String,
    },
    /// A member could not be read.
    #[error("Cannot read '{name}' in the archive")]
    Read {
        /// The member.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// The archive's own structure.
    #[error("Archive is damaged")]
    Walk(#[from] WalkError),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Opens an archive file, decompressing it if need be.
pub(crate) fn open_file(
    path: &Path,
    name: Option<&ImageName>,
    limits: &Limits,
    temp: &Path,
) -> Result<Image, ArchiveError> {
    let failed = |source| ArchiveError::Io {
        path: path.into(),
        source,
    };
    let file = FileSlice::whole(File::open(path).map_err(failed)?).map_err(failed)?;
    let mut start = [0; 4];
    let read = file.read_at(0, &mut start).map_err(failed)?;
    let compression = Compression::sniff(start.get(..read).unwrap_or_default());
    if compression == Compression::None {
        return open(&file, name, limits);
    }
    let content = crate::layer::decompress(&file, compression, temp, limits.stream)?;
    open(&content, name, limits)
}

/// Opens an archive that is at hand.
pub(crate) fn open(
    archive: &FileSlice,
    name: Option<&ImageName>,
    limits: &Limits,
) -> Result<Image, ArchiveError> {
    let members = Members::read(archive, limits)?;
    let saved: Vec<Saved> = serde_json::from_slice(&members.document(b"manifest.json", limits)?)?;
    let saved = select(&saved, name)?;
    let config_bytes = members.document(saved.config.as_bytes(), limits)?;
    let digest = Digest::of(&config_bytes);
    // "<digest>.json" or "blobs/sha256/<digest>"; other names promise nothing.
    let stem = saved.config.rsplit('/').next().unwrap_or_default();
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    if Digest::from_hex(stem).is_ok_and(|promised| promised != digest) {
        return Err(ArchiveError::ConfigDigest {
            name: printable(saved.config.as_bytes()),
            found: digest,
        });
    }
    let config = NativeConfig::parse(&config_bytes)?;
    if config.diff_ids.len() != saved.layers.len() {
        return Err(ConfigError::LayerCount {
            layers: saved.layers.len(),
            diff_ids: config.diff_ids.len(),
        }
        .into());
    }
    if saved.layers.len() > limits.layers {
        return Err(ArchiveError::Limit);
    }
    let pairs = saved.layers.iter().zip(&config.diff_ids);
    let layers = pairs
        .map(|(member, diff_id)| {
            let blob = members.find(member.as_bytes())?;
            if blob.len() > limits.stored_layer {
                return Err(ArchiveError::Limit);
            }
            let mut start = [0; 4];
            let read = blob
                .read_at(0, &mut start)
                .map_err(|source| ArchiveError::Read {
                    name: printable(member.as_bytes()),
                    source,
                })?;
            Ok(StoredLayer {
                compression: Compression::sniff(start.get(..read).unwrap_or_default()),
                blob,
                digest: None,
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

fn select<'a>(saved: &'a [Saved], name: Option<&ImageName>) -> Result<&'a Saved, ArchiveError> {
    let tags = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    let names = || {
        let names: Vec<String> = saved
            .iter()
            .flat_map(tags)
            .take(16)
            .map(|tag| printable(tag.as_bytes()))
            .collect();
        names.join(", ")
    };
    // Tools differ in how much of a name they spell out.
    let spelled_out =
        |name: &ImageName| Some((name.canonical_repository()?, name.tag()?.to_owned()));
    match (name, saved) {
        (None, [only]) => Ok(only),
        (None, _) => Err(ArchiveError::Ambiguous { names: names() }),
        (Some(name), _) => saved
            .iter()
            .find(|image| {
                let mut tags = tags(image).into_iter();
                let wanted = spelled_out(name);
                tags.any(|tag| {
                    wanted.is_some() && tag.parse().ok().as_ref().and_then(spelled_out) == wanted
                })
            })
            .ok_or_else(|| ArchiveError::NotFound {
                wanted: name.to_string(),
                names: names(),
            }),
    }
}

enum Member {
    File(FileSlice),
    Link(RootPath),
}

/// The members of an archive by name.
struct Members(HashMap<RootPath, Member>);

impl Members {
    fn read(archive: &FileSlice, limits: &Limits) -> Result<Self, ArchiveError> {
        let limits = Limits {
            entries: MAX_MEMBERS,
            ..limits.clone()
        };
        let mut members = HashMap::new();
        for entry in Walker::new(archive, &limits) {
            let entry = entry?;
            let member = match entry.kind {
                EntryKind::File { offset, size } => archive.slice(offset, size).map(Member::File),
                EntryKind::HardLink { target } => Some(Member::Link(target)),
                // Docker before 25 writes "../<layer>/layer.tar".
                EntryKind::Symlink { target } => symlinked(&entry.path, &target).map(Member::Link),
                _ => None,
            };
            if let Some(member) = member {
                members.insert(entry.path, member);
            }
        }
        Ok(Self(members))
    }

    fn find(&self, name: &[u8]) -> Result<FileSlice, ArchiveError> {
        let missing = || ArchiveError::Member {
            name: printable(name),
        };
        let mut path = RootPath::parse(name).map_err(|_| missing())?;
        for _ in 0..=MAX_LINKS {
            match self.0.get(&path) {
                Some(Member::File(content)) => return Ok(content.clone()),
                Some(Member::Link(target)) => path = target.clone(),
                None => break,
            }
        }
        Err(missing())
    }

    fn document(&self, name: &[u8], limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
        self.find(name)?
            .read_all(limits.document)
            .map_err(|source| ArchiveError::Read {
                name: printable(name),
                source,
            })
    }
}

/// Where a relative link of an archive member leads, by its text alone.
fn symlinked(link: &RootPath, target: &[u8]) -> Option<RootPath> {
    let mut path = link.parent()?;
    for component in target.split(|byte| *byte == b'/') {
        path = match component {
            b"" | b"." => path,
            b".." => path.parent()?,
            _ => path.join(component).ok()?,
        };
    }
    Some(path)
}
