// SPDX-License-Identifier: Apache-2.0
//! Applies layers one above the other (OCI image specification, "Applying
//! Changesets").

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::resolve::{ResolveError, walk};
use super::{FileData, Node, NodeKind, Record, RootError, RootView};
use crate::layer::Layer;
use crate::layer::entry::{EntryKind, Metadata, TarEntry, Whiteout};
use crate::layer::walk::{WalkError, Walker};
use crate::limits::Limits;
use crate::path::RootPath;

impl RootView {
    /// Merges layers that are at hand, the bottom first.
    ///
    /// # Errors
    /// [`RootError`] for entries that are hostile or beyond `limits`.
    pub fn merge(layers: Vec<Layer>, limits: &Limits) -> Result<Self, RootError> {
        let mut merge = Merge::new();
        let mut limits = limits.clone();
        let mut records = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            merge.layer = number;
            let mut of_layer = Vec::new();
            for entry in entries(layer, number, &limits)? {
                of_layer.push(merge.apply(entry)?);
            }
            limits.entries = limits.entries.saturating_sub(of_layer.len() as u64);
            records.push(of_layer);
        }
        Ok(Self {
            nodes: merge.nodes,
            layers,
            records,
            asked: Mutex::default(),
        })
    }
}

/// The entries of a layer, from what is remembered or from the layer itself.
fn entries(layer: &Layer, number: usize, limits: &Limits) -> Result<Vec<TarEntry>, RootError> {
    let failed = |source| RootError::Walk {
        layer: number,
        source,
    };
    if let Some(entries) = layer.recalled_entries() {
        if entries.len() as u64 > limits.entries {
            let limit = limits.entries;
            return Err(failed(WalkError::TooManyEntries { limit }));
        }
        return Ok(entries.to_vec());
    }
    let content = layer.content().map_err(|source| RootError::Layer {
        layer: number,
        source,
    })?;
    Walker::new(&content, limits)
        .collect::<Result<_, _>>()
        .map_err(failed)
}

struct Merge {
    nodes: BTreeMap<RootPath, Node>,
    layer: usize,
    /// The directory of the last entry and where it leads: archives list the
    /// members of a directory together. Only valid while no link changes.
    last_parent: Option<(RootPath, RootPath)>,
}

impl Merge {
    fn new() -> Self {
        let root = Node {
            kind: NodeKind::Directory,
            metadata: Metadata::of_root(0o755),
            layer: 0,
        };
        Self {
            nodes: BTreeMap::from([(RootPath::root(), root)]),
            layer: 0,
            last_parent: None,
        }
    }

    fn apply(&mut self, entry: TarEntry) -> Result<Record, RootError> {
        let whiteout = Whiteout::parse(&entry.path).map_err(|source| RootError::Whiteout {
            layer: self.layer,
            source,
        })?;
        let Some(parent) = entry.path.parent() else {
            return self.apply_root(entry);
        };
        let parent = self.directory(&parent, &entry, whiteout.is_none())?;
        let effective = self.member(&parent, &entry)?;
        let mut data = None;
        match whiteout {
            Some(Whiteout::Opaque(_)) => {
                self.remove_lower(&parent, false);
            }
            Some(Whiteout::Path(hidden)) => {
                if let Ok(hidden) = parent.join(hidden.file_name()) {
                    self.remove_lower(&hidden, true);
                }
            }
            Some(Whiteout::Reserved) => {}
            None => data = self.insert(&effective, &entry)?,
        }
        Ok(Record {
            entry,
            effective,
            data,
        })
    }

    fn apply_root(&mut self, entry: TarEntry) -> Result<Record, RootError> {
        let root = RootPath::root();
        if entry.kind != EntryKind::Directory {
            return Err(RootError::Root { layer: self.layer });
        }
        if let Some(node) = self.nodes.get_mut(&root) {
            node.metadata = entry.metadata.clone();
            node.layer = self.layer;
        }
        Ok(Record {
            entry,
            effective: root,
            data: None,
        })
    }

    fn member(&self, parent: &RootPath, entry: &TarEntry) -> Result<RootPath, RootError> {
        parent.join(entry.path.file_name()).map_err(|source| {
            self.bad_parent(
                entry,
                ResolveError::Path {
                    path: entry.path.clone(),
                    source,
                },
            )
        })
    }

    fn bad_parent(&self, entry: &TarEntry, source: ResolveError) -> RootError {
        RootError::Parent {
            layer: self.layer,
            path: entry.path.clone(),
            source,
        }
    }

    /// Where the directory of an entry leads; makes it if it is missing.
    fn directory(
        &mut self,
        path: &RootPath,
        entry: &TarEntry,
        is_made: bool,
    ) -> Result<RootPath, RootError> {
        if let Some((asked, found)) = &self.last_parent
            && asked == path
        {
            return Ok(found.clone());
        }
        let walked =
            walk(&self.nodes, path, true).map_err(|source| self.bad_parent(entry, source))?;
        if let Some(node) = self.nodes.get(&walked.path)
            && !node.is_directory()
        {
            let source = ResolveError::NotADirectory { path: walked.path };
            return Err(self.bad_parent(entry, source));
        }
        if walked.missing.is_none() {
            self.last_parent = Some((path.clone(), walked.path.clone()));
        } else if is_made {
            let mut made = RootPath::root();
            for component in walked.path.components() {
                made = made.join(component).map_err(|source| {
                    self.bad_parent(
                        entry,
                        ResolveError::Path {
                            path: entry.path.clone(),
                            source,
                        },
                    )
                })?;
                let layer = self.layer;
                self.nodes.entry(made.clone()).or_insert_with(|| Node {
                    kind: NodeKind::Directory,
                    metadata: Metadata::of_root(0o755),
                    layer,
                });
            }
        }
        Ok(walked.path)
    }

    fn insert(&mut self, path: &RootPath, entry: &TarEntry) -> Result<Option<FileData>, RootError> {
        let mut metadata = entry.metadata.clone();
        let kind = match &entry.kind {
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice {
                major: *major,
                minor: *minor,
            },
            EntryKind::CharDevice { major, minor } => NodeKind::CharDevice {
                major: *major,
                minor: *minor,
            },
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::File { offset, size } => NodeKind::File(FileData {
                layer: self.layer,
                offset: *offset,
                size: *size,
            }),
            EntryKind::HardLink { target } => {
                let linked = self.linked(target, entry)?;
                // Both names are one file: what the first entry said holds.
                metadata = linked.metadata.clone();
                linked.kind.clone()
            }
            EntryKind::Symlink { target } => NodeKind::Symlink {
                target: target.clone(),
            },
        };
        let data = match &kind {
            NodeKind::File(data) => Some(*data),
            _ => None,
        };
        let node = Node {
            kind,
            metadata,
            layer: self.layer,
        };
        match self.nodes.get(path) {
            Some(old) if old.is_directory() && node.is_directory() => {}
            Some(old) => {
                // The directory or link that goes may be on a cached way.
                self.last_parent = None;
                if old.is_directory() {
                    self.remove(path, |_| true);
                }
            }
            None => {}
        }
        self.nodes.insert(path.clone(), node);
        Ok(data)
    }

    /// The file that a hard link names, its directory's links followed.
    fn linked(&self, target: &RootPath, entry: &TarEntry) -> Result<&Node, RootError> {
        walk(&self.nodes, target, false)
            .ok()
            .filter(|walked| walked.missing.is_none())
            .and_then(|walked| self.nodes.get(&walked.path))
            .filter(|node| !node.is_directory())
            .ok_or_else(|| RootError::HardLink {
                layer: self.layer,
                path: entry.path.clone(),
                target: target.clone(),
            })
    }

    /// Removes what lower layers put at and below `path`. Entries of the same
    /// layer stay, whether they came before the whiteout or come after it.
    fn remove_lower(&mut self, path: &RootPath, with_itself: bool) {
        self.last_parent = None;
        let layer = self.layer;
        self.remove(path, |node| node.layer < layer);
        if with_itself
            && self.nodes.get(path).is_some_and(|node| node.layer < layer)
            && !self.has_children(path)
        {
            self.nodes.remove(path);
        }
    }

    fn has_children(&self, path: &RootPath) -> bool {
        self.nodes
            .range(path.before_children()..path.after_subtree())
            .any(|(below, _)| !below.is_root())
    }

    /// Removes the nodes below `path` that `goes` selects, deepest first; a
    /// directory with members that stay is kept, too.
    fn remove(&mut self, path: &RootPath, goes: impl Fn(&Node) -> bool) {
        let below: Vec<RootPath> = self
            .nodes
            .range(path.before_children()..path.after_subtree())
            .filter(|(below, node)| !below.is_root() && goes(node))
            .map(|(below, _)| below.clone())
            .collect();
        for path in below.iter().rev() {
            if !self.has_children(path) {
                self.nodes.remove(path);
            }
        }
    }
}
