// SPDX-License-Identifier: Apache-2.0
//! Where a shared object is looked for (ld.so(8), musl `ldso/dynlink.c`).

use std::rc::Rc;

use enclave_abi::startup::Role;

use super::object::Object;
use super::{ClosureError, File, Libc, base_name, configuration, read};
use crate::elf::{Elf, ElfError};
use crate::root::{Node, Root, resolve};

/// Subdirectories with objects for newer CPUs, which glibc prefers when CPUID
/// says so. All that exist are taken, so that the answer does not depend on it.
const CPU_LEVELS: [&str; 3] = ["x86-64-v4", "x86-64-v3", "x86-64-v2"];
/// Deepest chain of objects that want each other.
const DEPTH_MAX: usize = 64;

/// One object in the chain of who wanted whom.
#[derive(Clone)]
pub(super) struct Scope(Rc<Link>);

struct Link {
    object: Object,
    path: Vec<u8>,
    parent: Option<Scope>,
    depth: usize,
}

impl Scope {
    pub(super) fn program(object: Object, path: Vec<u8>) -> Self {
        Self(Rc::new(Link {
            object,
            path,
            parent: None,
            depth: 0,
        }))
    }

    pub(super) fn child(&self, object: Object, path: Vec<u8>) -> Self {
        let depth = self.0.depth + 1;
        // Beyond any real chain the object counts as wanted by the program itself.
        let parent = (depth < DEPTH_MAX).then(|| self.clone());
        Self(Rc::new(Link {
            object,
            path,
            parent,
            depth: depth % DEPTH_MAX,
        }))
    }

    pub(super) fn needed(&self) -> &[Vec<u8>] {
        &self.0.object.needed
    }

    fn chain(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(Some(&*self.0), |link| {
            link.parent.as_ref().map(|scope| &*scope.0)
        })
    }
}

impl Link {
    fn expand(&self, paths: &[u8], library_directory: &str) -> Vec<Vec<u8>> {
        let end = self.path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let origin = self.path.get(..end).unwrap_or_default();
        paths
            .split(|&b| b == b':')
            .map(|path| substitute(path, origin, library_directory))
            .filter(|path| path.first() == Some(&b'/'))
            .collect()
    }
}

/// The system-wide part of a search.
pub(super) struct Search<'a> {
    root: &'a dyn Root,
    libc: Libc,
    directories: Vec<Vec<u8>>,
    library_directory: &'static str,
}

impl<'a> Search<'a> {
    pub(super) fn new(root: &'a dyn Root, interpreter: &[u8]) -> Result<Self, ClosureError> {
        let is_musl = base_name(interpreter).is_some_and(|name| name.starts_with(b"ld-musl"));
        let (libc, directories) = if is_musl {
            (Libc::Musl, configuration::musl(root, interpreter)?)
        } else {
            (Libc::Glibc, configuration::glibc(root)?)
        };
        // `$LIB` is fixed when glibc is built: multiarch where that directory exists.
        let multiarch = resolve(root, b"/usr/lib/x86_64-linux-gnu")?.is_some();
        Ok(Self {
            root,
            libc,
            directories,
            library_directory: if multiarch {
                "lib/x86_64-linux-gnu"
            } else {
                "lib64"
            },
        })
    }

    pub(super) fn libc(&self) -> Libc {
        self.libc
    }

    /// Whether the name means the loader itself: musl's is also its C library.
    pub(super) fn is_loader(&self, name: &[u8]) -> bool {
        self.libc == Libc::Musl && (name == b"libc.so" || name.starts_with(b"libc.musl-"))
    }

    /// Finds an object; more than one file if there are variants for newer CPUs.
    pub(super) fn find(&self, name: &[u8], scope: &Scope) -> Result<Vec<File>, ClosureError> {
        let directories = if name.contains(&b'/') {
            // A path is taken as it is.
            Vec::new()
        } else {
            self.directories_for(scope)
        };
        if name.first() == Some(&b'/')
            && let Some(file) = self.library(name)?
        {
            return Ok(vec![file]);
        }
        for directory in &directories {
            let mut found = Vec::new();
            if self.libc == Libc::Glibc {
                for level in CPU_LEVELS {
                    let middle = [b"/glibc-hwcaps/", level.as_bytes(), b"/"].concat();
                    found.extend(self.library(&[directory, &middle[..], name].concat())?);
                }
            }
            found.extend(self.library(&[directory, &b"/"[..], name].concat())?);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(ClosureError::Missing {
            name: name.to_vec(),
            wanted_by: scope.0.path.clone(),
            searched: directories,
        })
    }

    fn directories_for(&self, scope: &Scope) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut add = |link: &Link, paths: Option<&Vec<u8>>| {
            if let Some(paths) = paths {
                out.extend(link.expand(paths, self.library_directory));
            }
        };
        match self.libc {
            // musl treats both tags alike and inherits them.
            Libc::Musl => {
                for link in scope.chain() {
                    add(
                        link,
                        link.object.runpath.as_ref().or(link.object.rpath.as_ref()),
                    );
                }
            }
            Libc::Glibc | Libc::Static => {
                let own = &scope.0.object;
                if own.runpath.is_none() {
                    for link in scope.chain().filter(|link| link.object.runpath.is_none()) {
                        add(link, link.object.rpath.as_ref());
                    }
                }
                add(&scope.0, own.runpath.as_ref());
            }
        }
        out.extend_from_slice(&self.directories);
        out
    }

    /// The library at `path`; `None` if there is none for this machine, in which
    /// case loaders go on to the next directory.
    fn library(&self, path: &[u8]) -> Result<Option<File>, ClosureError> {
        let Some((path, Node::File)) = resolve(self.root, path)? else {
            return Ok(None);
        };
        let file = read(self.root, path, Role::Library)?;
        match Elf::parse(&file.bytes) {
            Ok(_) => Ok(Some(file)),
            Err(ElfError::Class32 | ElfError::Machine { .. }) => Ok(None),
            Err(source) => Err(ClosureError::Elf {
                path: file.path,
                source,
            }),
        }
    }
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`, with or without braces.
fn substitute(path: &[u8], origin: &[u8], library_directory: &str) -> Vec<u8> {
    let values: [(&[u8], &[u8]); 6] = [
        (b"$ORIGIN", origin),
        (b"${ORIGIN}", origin),
        (b"$LIB", library_directory.as_bytes()),
        (b"${LIB}", library_directory.as_bytes()),
        (b"$PLATFORM", b"x86_64"),
        (b"${PLATFORM}", b"x86_64"),
    ];
    let mut out = Vec::new();
    let mut rest = path;
    while let Some(&byte) = rest.first() {
        let hit = values.iter().find(|(name, _)| rest.starts_with(name));
        let skip = match hit {
            Some((name, value)) => {
                out.extend_from_slice(value);
                name.len()
            }
            None => {
                out.push(byte);
                1
            }
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    out
}
