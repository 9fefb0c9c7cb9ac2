// SPDX-License-Identifier: Apache-2.0
//! Seals the image's files: hashes for all, ciphertext for some.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use enclave_abi::startup::Site;
use oci::compression::Level;
use oci::layer::LayerBlob;
use oci::layer::entry::Metadata;
use oci::layer::write::{FileWriter, LayerWriter, NewEntry, WriteError};
use oci::path::RootPath;
use oci::root::{FileData, Node, NodeKind, RootView};
use oci::slice::FileSlice;
use shieldfs::backing::{Backing, InPlace, Sink, Source};
use shieldfs::digest::{CHUNK, Geometry};
use shieldfs::entry::{DeviceNumber, Meta};
use shieldfs::key::FspfKey;
use shieldfs::region::Class as Protection;
use shieldfs::seal::{AddFileError, SealError, SealedFspf, Sealer};

use super::binary::{Binary, Service};
use super::facts::{Facts, Known, sites_of, words};
use super::regions::{OWN, Plan};
use super::startup::{Startup, agent_path};
use crate::exit::{Class, Classify as _, Failure};

/// GCM tag of each encrypted chunk.
const OVERHEAD: u64 = shieldfs::cipher::OVERHEAD as u64;

/// A sealed tree and the layer that carries its ciphertext.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) key: FspfKey,
    pub(crate) fspf: SealedFspf,
    /// Ciphertext at the files' own paths; `None` if nothing is encrypted.
    pub(crate) layer: Option<LayerBlob>,
}

/// Something that stops sealing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Layer(#[from] WriteError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Encrypted(#[from] AddFileError<io::Error, io::Error>),
    #[error(transparent)]
    Authenticated(#[from] AddFileError<io::Error, std::convert::Infallible>),
    #[error("Cannot read '{path}' of the image")]
    Content { path: RootPath, source: io::Error },
    #[error("Size of '{path}' cannot be recorded")]
    Size {
        path: RootPath,
        source: shieldfs::digest::DigestError,
    },
    #[error("Size of the agent cannot be recorded")]
    Agent(#[source] shieldfs::digest::DigestError),
}

/// Seals the merged root under a fresh key.
pub(crate) fn seal(
    view: &RootView,
    plan: &Plan,
    binary: &Binary,
    startup: &Startup,
    facts: &mut Facts,
    adds_generic_name: bool,
    temp: &Path,
) -> Result<Sealed, Failure> {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(key.as_mut())
        .class(Class::Internal, "No randomness")?;
    let key = FspfKey::from_bytes(*key);
    let mut work = Work {
        view,
        plan,
        startup,
        facts,
        binary,
        sealer: Sealer::new(key.clone(), plan.regions.clone()),
        layer: LayerWriter::new(temp, Level::None).class(Class::Files, "Cannot make a layer")?,
        has_ciphertext: false,
        first_names: HashMap::from([(
            (binary.data, Protection::Authenticated),
            startup.program.clone(),
        )]),
    };
    let doing = "Cannot protect the image's files";
    work.tree(adds_generic_name).class(Class::Files, doing)?;
    let fspf = work.sealer.finish().class(Class::Files, doing)?;
    let layer = match work.has_ciphertext {
        true => Some(work.layer.finish().class(Class::Files, doing)?),
        false => None,
    };
    Ok(Sealed { key, fspf, layer })
}

struct Work<'a> {
    view: &'a RootView,
    plan: &'a Plan,
    startup: &'a Startup,
    facts: &'a mut Facts,
    binary: &'a Binary,
    sealer: Sealer,
    layer: LayerWriter,
    has_ciphertext: bool,
    /// Files with several names are stored once per kind of protection.
    first_names: HashMap<(FileData, Protection), RootPath>,
}

impl Work<'_> {
    fn tree(&mut self, adds_generic_name: bool) -> Result<(), Trouble> {
        for (path, node) in self.view.iter() {
            let was_encrypted = self
                .plan
                .encrypted
                .iter()
                .any(|prefix| path.is_within(prefix));
            self.node(path, node, was_encrypted)?;
        }
        self.mount_points()?;
        self.own_files()?;
        if adds_generic_name {
            self.generic_name()?;
        }
        Ok(())
    }

    fn node(&mut self, path: &RootPath, node: &Node, was_encrypted: bool) -> Result<(), Trouble> {
        let bytes = path.as_bytes();
        let (prefix, class) = self.plan.regions.region_of(bytes);
        let is_prefix = prefix == bytes;
        if was_encrypted && class != Protection::Encrypted {
            // Its entries were left out of the layers with everything around.
            self.restore(path, node)?;
        }
        if !class.is_protected() {
            if is_prefix && node.is_directory() {
                self.sealer.add_dir(bytes, meta(&node.metadata))?;
            }
            return Ok(());
        }
        let meta = meta(&node.metadata);
        match &node.kind {
            NodeKind::Directory => {
                self.sealer.add_dir(bytes, meta)?;
                let is_top = self.plan.encrypted.contains(path);
                if class == Protection::Encrypted && !is_top {
                    self.directory(path)?;
                }
            }
            NodeKind::Symlink { target } => self.sealer.add_symlink(bytes, meta, target)?,
            NodeKind::Fifo => self.sealer.add_fifo(bytes, meta)?,
            NodeKind::CharDevice { major, minor } => {
                let number = DeviceNumber {
                    major: *major,
                    minor: *minor,
                };
                self.sealer.add_char_device(bytes, meta, number)?;
            }
            NodeKind::BlockDevice { major, minor } => {
                let number = DeviceNumber {
                    major: *major,
                    minor: *minor,
                };
                self.sealer.add_block_device(bytes, meta, number)?;
            }
            NodeKind::File(data) => {
                if let Some(first) = self.first_names.get(&(*data, class)) {
                    self.sealer.add_hard_link(bytes, first.as_bytes())?;
                    return Ok(());
                }
                self.file(path, data, meta, class == Protection::Encrypted)?;
                self.first_names.insert((*data, class), path.clone());
            }
            _ => return Ok(()),
        }
        if !node.metadata.xattrs.is_empty() {
            self.sealer.set_xattrs(bytes, &node.metadata.xattrs)?;
        }
        Ok(())
    }

    fn content(&self, path: &RootPath, data: &FileData) -> Result<Content, Trouble> {
        self.view
            .content(data)
            .map(Content)
            .map_err(|source| Trouble::Content {
                path: path.clone(),
                source,
            })
    }

    fn file(
        &mut self,
        path: &RootPath,
        data: &FileData,
        meta: Meta,
        is_encrypted: bool,
    ) -> Result<(), Trouble> {
        if !is_encrypted {
            return self.authenticated(path, data, meta);
        }
        let content = self.content(path, data)?;
        let sites = content.sites(path)?;
        let sealer = &mut self.sealer;
        let size = stored_size(data.size).map_err(|source| Trouble::Size {
            path: path.clone(),
            source,
        })?;
        self.has_ciphertext = true;
        // Whoever runs the launcher must be able to read ciphertext.
        let stored = Metadata::of_root(0o644);
        self.layer.append_with(path, size, &stored, |file| {
            let mut sink = LayerSink(file);
            sealer
                .add_file(path.as_bytes(), meta, &content, &mut sink)
                .map(|_| ())
                .map_err(Trouble::from)
        })?;
        Ok(sealer.set_sites(path.as_bytes(), &words(&sites))?)
    }

    /// A file that stays where it is and is hashed, if it was not before.
    fn authenticated(
        &mut self,
        path: &RootPath,
        data: &FileData,
        meta: Meta,
    ) -> Result<(), Trouble> {
        let bytes = path.as_bytes();
        if let Some(known) = self.facts.get(data) {
            self.sealer
                .add_known_file(bytes, meta, known.list.clone())?;
            return self.sites(bytes, &known.sites);
        }
        let content = self.content(path, data)?;
        let added = self.sealer.add_file(bytes, meta, &content, &mut InPlace)?;
        let sites = content.sites(path)?;
        self.sites(bytes, &sites)?;
        let list = added.plaintext;
        self.facts.learn(*data, Known { list, sites });
        Ok(())
    }

    fn sites(&mut self, path: &[u8], sites: &[Site]) -> Result<(), Trouble> {
        // Most files have none, which needs no saying.
        if !sites.is_empty() {
            self.sealer.set_sites(path, &words(sites))?;
        }
        Ok(())
    }

    /// A directory that leads to ciphertext.
    fn directory(&mut self, path: &RootPath) -> Result<(), Trouble> {
        self.has_ciphertext = true;
        let metadata = Metadata::of_root(0o755);
        Ok(self
            .layer
            .append(path, &NewEntry::Directory, &metadata, io::empty())?)
    }

    /// Puts back what was left out of the layers and is not encrypted.
    fn restore(&mut self, path: &RootPath, node: &Node) -> Result<(), Trouble> {
        if path.is_root() {
            return Ok(());
        }
        let metadata = Metadata {
            // Capabilities and the like count inside only.
            xattrs: oci::layer::entry::Xattrs::new(),
            ..node.metadata.clone()
        };
        let (entry, content) = match &node.kind {
            NodeKind::Directory => (NewEntry::Directory, None),
            NodeKind::Symlink { target } => (NewEntry::Symlink { target }, None),
            NodeKind::File(data) => (
                NewEntry::File { size: data.size },
                Some(self.content(path, data)?),
            ),
            // Devices and pipes are only seen, which the tree is enough for.
            _ => return Ok(()),
        };
        self.has_ciphertext = true;
        match content {
            Some(Content(content)) => {
                self.layer
                    .append(path, &entry, &metadata, content.reader())?;
            }
            None => self.layer.append(path, &entry, &metadata, io::empty())?,
        }
        Ok(())
    }

    /// Directories for regions that the image has no directory for.
    fn mount_points(&mut self) -> Result<(), Trouble> {
        for (prefix, class) in self.plan.regions.iter() {
            let mode = match class {
                Protection::Ephemeral => 0o1777,
                Protection::Synthetic => 0o755,
                _ => continue,
            };
            let is_absent =
                RootPath::parse(prefix).is_ok_and(|path| self.view.node(&path).is_none());
            if is_absent {
                self.parents(prefix)?;
                self.sealer.add_dir(prefix, Meta::with_mode(mode))?;
            }
        }
        Ok(())
    }

    /// Directories above a path that the image does not have. They sort
    /// before it, so regions among them were added already.
    fn parents(&mut self, path: &[u8]) -> Result<(), Trouble> {
        let Ok(path) = RootPath::parse(path) else {
            return Ok(());
        };
        let mut parent = RootPath::root();
        let depth = path.components().count().saturating_sub(1);
        for component in path.components().take(depth) {
            let Ok(next) = parent.join(component) else {
                return Ok(());
            };
            parent = next;
            let is_region = self
                .plan
                .regions
                .iter()
                .any(|(prefix, _)| prefix == parent.as_bytes());
            if self.view.node(&parent).is_none() && !is_region {
                match self
                    .sealer
                    .add_dir(parent.as_bytes(), Meta::with_mode(0o755))
                {
                    Ok(()) | Err(SealError::Duplicate { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The agent, and the program's file at its new place. Both are in the
    /// startup list, and the kernel compares the two views.
    fn own_files(&mut self) -> Result<(), Trouble> {
        self.sealer
            .add_dir(OWN.as_bytes(), Meta::with_mode(0o755))?;
        let path = agent_path();
        let agent = Known::of_startup(self.startup.agent()).map_err(Trouble::Agent)?;
        self.sealer
            .add_known_file(path.as_bytes(), Meta::with_mode(0o755), agent.list)?;
        self.sealer
            .set_sites(path.as_bytes(), &words(&agent.sites))?;
        let program = self.startup.program.clone();
        self.parents(program.as_bytes())?;
        let meta = meta(&self.binary.node.metadata);
        self.authenticated(&program, &self.binary.data, meta)
    }

    /// `python3` beside `python3.11`.
    fn generic_name(&mut self) -> Result<(), Trouble> {
        let path = &self.binary.path;
        let name = path.file_name();
        let generic = name.split(|byte| *byte == b'.').next().unwrap_or_default();
        if self.binary.service != Service::Python || generic == name {
            return Ok(());
        }
        if let Some(generic) = path.parent().and_then(|parent| parent.join(generic).ok())
            && self.view.node(&generic).is_none()
        {
            let meta = Meta::with_mode(0o777);
            self.sealer.add_symlink(generic.as_bytes(), meta, name)?;
        }
        Ok(())
    }
}

fn stored_size(size: u64) -> Result<u64, shieldfs::digest::DigestError> {
    let chunks = Geometry::new(size, CHUNK)?.chunk_count();
    Ok(size.saturating_add(chunks.saturating_mul(OVERHEAD)))
}

fn meta(metadata: &Metadata) -> Meta {
    Meta {
        // Twelve bits, checked when the layer was read.
        mode: u16::try_from(metadata.mode & 0o7777).unwrap_or(0),
        uid: metadata.uid,
        gid: metadata.gid,
        mtime_s: metadata.mtime.seconds,
        mtime_ns: metadata.mtime.nanoseconds,
    }
}

/// A file's plaintext, readable twice.
struct Content(FileSlice);

impl Content {
    fn sites(&self, path: &RootPath) -> Result<Vec<Site>, Trouble> {
        sites_of(&self.0).map_err(|source| Trouble::Content {
            path: path.clone(),
            source,
        })
    }
}

impl Backing for Content {
    type Error = io::Error;

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }
}

impl Source for Content {
    fn size(&self) -> u64 {
        self.0.len()
    }
}

struct LayerSink<'a, 'b>(&'a mut FileWriter<'b>);

impl Sink for LayerSink<'_, '_> {
    type Error = io::Error;

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}
