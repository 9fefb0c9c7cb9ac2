// SPDX-License-Identifier: Apache-2.0
//! Images of `ensconce enclave run`, kept until a file they were made from
//! changes.
//!
//! Only DEBUG enclaves of this user's own programs lie here, so that a file's
//! size, time and inode may stand for its content. Nothing of a converted image
//! is ever taken from this cache.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::build::write;
use super::plan::{Built, Shape};
use crate::cache_home::{self, state};
use crate::exit::{Class, Classify as _, Failure};

/// Names the files of an entry, one per line, with what they looked like.
const SOURCES: &str = "sources";
/// Files that decide which libraries a program gets, beside the libraries.
const CONFIGURATION: [&str; 4] = [
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.cache",
    "/etc/ld-musl-x86_64.path",
];
/// Most entries that are kept.
const ENTRIES_MAX: usize = 64;

/// The cache's directory.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

/// What an entry is found by.
#[derive(Debug)]
pub(super) struct Key {
    name: String,
    program: PathBuf,
}

impl Key {
    /// Of a program, a kernel and sizes; changes with either file.
    pub(super) fn new(program: &Path, kernel: &Path, shape: &Shape) -> Result<Self, Failure> {
        let mut hash = Context::new(&SHA256);
        for text in [
            env!("CARGO_PKG_VERSION").as_bytes(),
            program.as_os_str().as_bytes(),
            kernel.as_os_str().as_bytes(),
            &state(kernel).unwrap_or_default(),
            // A new build of this program may plan or decode in another way.
            &state(Path::new("/proc/self/exe")).unwrap_or_default(),
            format!("{} {} {}", shape.heap.0, shape.stack.0, shape.threads).as_bytes(),
        ] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        Ok(Self {
            name: hex::encode(hash.finish()),
            program: program.to_owned(),
        })
    }
}

impl Cache {
    /// `$XDG_CACHE_HOME/ensconce/enclave`, else below `~/.cache`; made with mode 0700.
    pub(super) fn open() -> Result<Self, Failure> {
        cache_home::directory("enclave").map(Self)
    }

    /// The directory of a valid entry.
    pub(super) fn find(&self, key: &Key) -> Option<PathBuf> {
        let directory = self.0.join(&key.name);
        let sources = fs::read(directory.join(SOURCES)).ok()?;
        let is_valid = sources
            .split(|&byte| byte == b'\0')
            .filter(|line| !line.is_empty())
            .all(|line| {
                let mut parts = line.splitn(2, |&byte| byte == b' ');
                let (expected, path) = (parts.next(), parts.next());
                path.is_some_and(|path| {
                    let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
                    expected == Some(&state(&path).unwrap_or_default())
                })
            });
        if !is_valid {
            return None;
        }
        // What is in use is not the oldest.
        let _ = fs::File::open(&directory)
            .and_then(|entry| entry.set_modified(std::time::SystemTime::now()));
        Some(directory)
    }

    /// Writes an entry, whole or not at all.
    pub(super) fn store(&self, key: &Key, built: &Built) -> Result<PathBuf, Failure> {
        self.forget_oldest();
        let doing = || format!("Cannot write to the cache '{}'", self.0.display());
        let temporary = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(&self.0)
            .class(Class::Files, doing())?;
        write(temporary.path(), built.image.bytes(), &built.signature)?;
        let mut sources = Vec::new();
        let files = built.closure.files.iter();
        let paths = files
            .map(|file| PathBuf::from(std::ffi::OsString::from_vec(file.path.clone())))
            .chain([key.program.clone()])
            .chain(CONFIGURATION.map(PathBuf::from));
        for path in paths {
            sources.extend_from_slice(&state(&path).unwrap_or_default());
            sources.push(b' ');
            sources.extend_from_slice(path.as_os_str().as_bytes());
            sources.push(b'\0');
        }
        fs::write(temporary.path().join(SOURCES), sources).class(Class::Files, doing())?;
        let directory = self.0.join(&key.name);
        let made = temporary.keep();
        // Another process may have been faster, or the entry may be outdated.
        let _ = fs::remove_dir_all(&directory);
        if fs::rename(&made, &directory).is_ok() {
            return Ok(directory);
        }
        Ok(made)
    }

    /// Keeps the number of entries bounded; failures to do so do no harm.
    fn forget_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return;
        };
        let mut entries: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        entries.sort();
        let surplus = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
        for (_, path) in entries.into_iter().take(surplus) {
            let _ = fs::remove_dir_all(path);
        }
    }
}
