// SPDX-License-Identifier: Apache-2.0
//! Follows symbolic links inside the view; nothing can lead out of it.

use std::collections::BTreeMap;

use super::{Node, NodeKind, RootView};
use crate::path::{PathError, RootPath};

/// Links followed in one resolution, as in Linux (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// More than 40 symbolic links.
    #[error("Too many symbolic links on the way to '{path}'")]
    Loop {
        /// What was asked for.
        path: RootPath,
    },
    /// Nothing there.
    #[error("'{path}' does not exist in the image")]
    Missing {
        /// The first path that is missing.
        path: RootPath,
    },
    /// Something on the way is no directory.
    #[error("'{path}' is no directory")]
    NotADirectory {
        /// That thing.
        path: RootPath,
    },
    /// A link that leads to an impossible path.
    #[error("A symbolic link on the way to '{path}' leads to an unusable path")]
    Path {
        /// What was asked for.
        path: RootPath,
        /// The reason.
        source: PathError,
    },
}

/// Where a path leads.
pub(super) struct Walked {
    pub(super) path: RootPath,
    /// The first component that does not exist; the rest is only spelled out.
    pub(super) missing: Option<RootPath>,
}

/// Follows `path` component by component, and its last link if asked to.
pub(super) fn walk(
    nodes: &BTreeMap<RootPath, Node>,
    path: &RootPath,
    follows_last: bool,
) -> Result<Walked, ResolveError> {
    // Components still to go, the next one last.
    let mut pending: Vec<&[u8]> = path.components().rev().collect();
    let mut current = RootPath::root();
    let mut missing = None;
    let mut links = 0;
    while let Some(component) = pending.pop() {
        if component == b".." {
            // At the root, "..", as in any root directory, stays there.
            current = current.parent().unwrap_or_else(RootPath::root);
            continue;
        }
        let next = current
            .join(component)
            .map_err(|source| ResolveError::Path {
                path: path.clone(),
                source,
            })?;
        match nodes.get(&next).map(|node| &node.kind) {
            None => {
                missing.get_or_insert_with(|| next.clone());
                current = next;
            }
            Some(NodeKind::Symlink { target }) if follows_last || !pending.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(ResolveError::Loop { path: path.clone() });
                }
                if target.starts_with(b"/") {
                    current = RootPath::root();
                }
                let components = target.split(|byte| *byte == b'/').rev();
                pending.extend(components.filter(|part| !matches!(*part, b"" | b".")));
            }
            Some(NodeKind::Directory) => current = next,
            Some(_) if pending.is_empty() => current = next,
            Some(_) => return Err(ResolveError::NotADirectory { path: next }),
        }
    }
    Ok(Walked {
        path: current,
        missing,
    })
}

impl RootView {
    /// Follows all symbolic links, never out of the root.
    ///
    /// # Errors
    /// [`ResolveError`] if there is nothing, a loop, or something that is no
    /// directory on the way.
    pub fn resolve(&self, path: &RootPath) -> Result<(RootPath, &Node), ResolveError> {
        let walked = walk(&self.nodes, path, true)?;
        if let Some(path) = walked.missing {
            return Err(ResolveError::Missing { path });
        }
        match self.nodes.get(&walked.path) {
            Some(node) => Ok((walked.path, node)),
            None => Err(ResolveError::Missing { path: walked.path }),
        }
    }
}
