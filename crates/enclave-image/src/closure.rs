// SPDX-License-Identifier: Apache-2.0
//! Which files a program needs before its first own instruction: interpreter
//! and shared objects, found as glibc's and musl's loaders find them.
//!
//! The environment has no say (no `LD_LIBRARY_PATH`, no `LD_PRELOAD`): what is
//! found here is measured, and the kernel refuses other code.

mod configuration;
mod object;
mod search;

use std::collections::{BTreeSet, VecDeque};

use enclave_abi::startup::{FILES_MAX, Role};
use thiserror::Error;

use crate::elf::ElfError;
use crate::root::{Node, Root, RootError, resolve};
use object::Object;
use search::{Scope, Search};

/// Most bytes of all files together.
const BYTES_MAX: usize = 2 << 30;
/// Most names of libraries that are looked up.
const NAMES_MAX: usize = 4 * FILES_MAX;

/// Which C library starts the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library, dynamic.
    Glibc,
    /// musl, dynamic.
    Musl,
    /// No interpreter: linked statically, or none at all.
    Static,
}

/// Why a program's files cannot be found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClosureError {
    /// The tree cannot be read.
    #[error("The image's files cannot be looked up")]
    Root(#[from] RootError),
    /// The program is not there.
    #[error("{} is not in the image", path.escape_ascii())]
    NotFound {
        /// The path asked for.
        path: Vec<u8>,
    },
    /// The program is a directory or device.
    #[error("{} is not a regular file", path.escape_ascii())]
    NotAFile {
        /// Its path.
        path: Vec<u8>,
    },
    /// The program is a script.
    #[error(
        "{} is a script; name its interpreter as the binary and the script as an argument ({})",
        path.escape_ascii(), first_line.escape_ascii()
    )]
    Script {
        /// Its path.
        path: Vec<u8>,
        /// Its first line.
        first_line: Vec<u8>,
    },
    /// A file is not ELF for this machine.
    #[error("{} cannot run in an enclave", path.escape_ascii())]
    Elf {
        /// Its path.
        path: Vec<u8>,
        /// Why.
        #[source]
        source: ElfError,
    },
    /// The interpreter that the program names is missing.
    #[error("{} wants the interpreter {}, which is not in the image", path.escape_ascii(), interpreter.escape_ascii())]
    Interpreter {
        /// The program.
        path: Vec<u8>,
        /// What it names.
        interpreter: Vec<u8>,
    },
    /// A shared object is missing.
    #[error("{} wants {}, which is in none of the {} library directories of the image", wanted_by.escape_ascii(), name.escape_ascii(), searched.len())]
    Missing {
        /// The name in DT_NEEDED.
        name: Vec<u8>,
        /// Which file wants it.
        wanted_by: Vec<u8>,
        /// Where it was looked for.
        searched: Vec<Vec<u8>>,
    },
    /// More files than a startup list holds.
    #[error("The program needs more than {FILES_MAX} files to start")]
    TooMany,
    /// More bytes than anybody starts.
    #[error("The program and its libraries have more than {BYTES_MAX} bytes")]
    TooLarge,
}

/// One file of a closure.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Path in the image without symbolic links.
    pub path: Vec<u8>,
    /// What it is for.
    pub role: Role,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.role, self.path.escape_ascii())
    }
}

/// The files that a program needs to start: itself first, then its loader, then
/// shared objects in the order of discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    /// Which C library starts it.
    pub libc: Libc,
    /// The files.
    pub files: Vec<File>,
}

impl Closure {
    /// The program's path without symbolic links.
    #[must_use]
    pub fn program(&self) -> &[u8] {
        self.files.first().map_or(b"", |file| &file.path)
    }

    /// Finds the files of the program at `path`.
    ///
    /// # Errors
    /// See [`ClosureError`].
    pub fn find(root: &dyn Root, path: &[u8]) -> Result<Self, ClosureError> {
        let program = read_program(root, path)?;
        let object = parse(&program)?;
        let Some(interpreter) = object.interpreter.clone() else {
            return Ok(Self {
                libc: Libc::Static,
                files: vec![program],
            });
        };
        let Some((loader_path, Node::File)) = resolve(root, &interpreter)? else {
            return Err(ClosureError::Interpreter {
                path: program.path,
                interpreter,
            });
        };
        let loader = read(root, loader_path, Role::Loader)?;
        let loader_object = parse(&loader)?;
        let search = Search::new(root, &interpreter)?;
        let libc = search.libc();
        let mut loaded: BTreeSet<Vec<u8>> = loader_object.soname.iter().cloned().collect();
        loaded.extend(base_name(&interpreter).map(<[u8]>::to_vec));
        let program_path = program.path.clone();
        let mut bytes = program.bytes.len().saturating_add(loader.bytes.len());
        let mut files = vec![program, loader];
        let mut queue = VecDeque::from([Scope::program(object, program_path)]);
        while let Some(scope) = queue.pop_front() {
            for name in scope.needed().to_vec() {
                if search.is_loader(&name) || !loaded.insert(name.clone()) {
                    continue;
                }
                if loaded.len() > NAMES_MAX {
                    return Err(ClosureError::TooMany);
                }
                for found in search.find(&name, &scope)? {
                    if files.iter().any(|file| file.path == found.path) {
                        continue;
                    }
                    if files.len() >= FILES_MAX {
                        return Err(ClosureError::TooMany);
                    }
                    bytes = bytes.saturating_add(found.bytes.len());
                    if bytes > BYTES_MAX {
                        return Err(ClosureError::TooLarge);
                    }
                    let object = parse(&found)?;
                    loaded.extend(object.soname.iter().cloned());
                    queue.push_back(scope.child(object, found.path.clone()));
                    files.push(found);
                }
            }
        }
        Ok(Self { libc, files })
    }
}

fn read_program(root: &dyn Root, path: &[u8]) -> Result<File, ClosureError> {
    let program = match resolve(root, path)? {
        Some((path, Node::File)) => read(root, path, Role::Program)?,
        Some((path, _)) => return Err(ClosureError::NotAFile { path }),
        None => {
            return Err(ClosureError::NotFound {
                path: path.to_vec(),
            });
        }
    };
    if program.bytes.starts_with(b"#!") {
        let line = program.bytes.split(|&b| b == b'\n').next();
        let mut first_line = line.unwrap_or_default().to_vec();
        first_line.truncate(256);
        return Err(ClosureError::Script {
            path: program.path,
            first_line,
        });
    }
    Ok(program)
}

fn read(root: &dyn Root, path: Vec<u8>, role: Role) -> Result<File, RootError> {
    match root.read(&path) {
        Ok(bytes) => Ok(File { path, role, bytes }),
        Err(source) => Err(RootError::Io { path, source }),
    }
}

fn parse(file: &File) -> Result<Object, ClosureError> {
    Object::parse(&file.bytes).map_err(|source| ClosureError::Elf {
        path: file.path.clone(),
        source,
    })
}

fn base_name(path: &[u8]) -> Option<&[u8]> {
    path.rsplit(|&b| b == b'/').next()
}
