// SPDX-License-Identifier: Apache-2.0
//! The file tree of an image, as far as looking up programs needs it.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use thiserror::Error;

/// Most symbolic links that one path may lead through, as in the Linux kernel.
const LINKS_MAX: usize = 40;
/// Longest path.
const PATH_MAX: usize = 4096;
/// Largest file that is read whole.
pub const FILE_MAX: u64 = 1 << 30;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A device, socket or pipe.
    Other,
}

/// A file tree.
///
/// Paths given to these functions are absolute, have no `.`, `..` or empty
/// components, and no component but the last is a symbolic link.
pub trait Root {
    /// What lies at `path`; a link is not followed.
    ///
    /// # Errors
    /// Failures of the storage; a missing file is `Ok(None)`.
    fn node(&self, path: &[u8]) -> io::Result<Option<Node>>;

    /// The content of the regular file at `path`.
    ///
    /// # Errors
    /// Failures of the storage, and files larger than [`FILE_MAX`].
    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>>;

    /// The names in the directory at `path`.
    ///
    /// # Errors
    /// Failures of the storage.
    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>>;
}

/// Why a path cannot be looked up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RootError {
    /// The storage failed.
    #[error("Cannot read {} in the image", path.escape_ascii())]
    Io {
        /// Which path.
        path: Vec<u8>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too many symbolic links.
    #[error("{} leads through more than {LINKS_MAX} symbolic links", path.escape_ascii())]
    Links {
        /// Which path.
        path: Vec<u8>,
    },
    /// Not absolute, too long, or with a NUL byte.
    #[error("{} is not an absolute path of at most {PATH_MAX} bytes", path.escape_ascii())]
    Path {
        /// Which path.
        path: Vec<u8>,
    },
}

/// Follows all symbolic links of `path` inside the tree; `..` of the root is the
/// root. Gives the path without links and what lies there.
///
/// # Errors
/// See [`RootError`].
pub fn resolve(root: &dyn Root, path: &[u8]) -> Result<Option<(Vec<u8>, Node)>, RootError> {
    let refused = || RootError::Path {
        path: path.to_vec(),
    };
    if path.first() != Some(&b'/') {
        return Err(refused());
    }
    let mut rest: VecDeque<Vec<u8>> = components(path).collect();
    let mut links = 0;
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut node = Node::Directory;
    while let Some(part) = rest.pop_front() {
        if node != Node::Directory {
            return Ok(None);
        }
        if part == b".." {
            at.pop();
            continue;
        }
        if part.contains(&0) {
            return Err(refused());
        }
        at.push(part);
        let here = join(&at);
        if here.len() > PATH_MAX {
            return Err(refused());
        }
        let found = root.node(&here).map_err(|source| RootError::Io {
            path: here.clone(),
            source,
        })?;
        match found {
            None => return Ok(None),
            Some(Node::Link(target)) => {
                links += 1;
                if links > LINKS_MAX || target.len() > PATH_MAX || rest.len() > PATH_MAX {
                    return Err(RootError::Links {
                        path: path.to_vec(),
                    });
                }
                at.pop();
                if target.first() == Some(&b'/') {
                    at.clear();
                }
                for part in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Some(other) => node = other,
        }
    }
    Ok(Some((join(&at), node)))
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    if parts.is_empty() {
        return b"/".to_vec();
    }
    parts
        .iter()
        .flat_map(|part| std::iter::once(b'/').chain(part.iter().copied()))
        .collect()
}

/// A directory of this machine as a tree.
#[derive(Clone, Debug)]
pub struct HostRoot {
    directory: PathBuf,
}

impl HostRoot {
    /// The tree below `directory`; `/` is the machine's own.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where `path` lies on this machine.
    #[must_use]
    pub fn host_path(&self, path: &[u8]) -> PathBuf {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        self.directory.join(std::ffi::OsStr::from_bytes(relative))
    }
}

impl Root for HostRoot {
    fn node(&self, path: &[u8]) -> io::Result<Option<Node>> {
        let here = self.host_path(path);
        let metadata = match here.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(Some(if metadata.is_file() {
            Node::File
        } else if metadata.is_dir() {
            Node::Directory
        } else if metadata.is_symlink() {
            Node::Link(here.read_link()?.into_os_string().into_vec())
        } else {
            Node::Other
        }))
    }

    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let file = std::fs::File::open(self.host_path(path))?;
        file.take(FILE_MAX + 1).read_to_end(&mut out)?;
        if out.len() as u64 > FILE_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(out)
    }

    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.host_path(path))? {
            names.push(entry?.file_name().into_vec());
        }
        Ok(names)
    }
}
