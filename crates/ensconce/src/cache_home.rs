// SPDX-License-Identifier: Apache-2.0
//! Where things lie that can be made again.

use std::fs::{self, DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::exit::{Class, Classify as _, Failure};

/// `$XDG_CACHE_HOME/ensconce/NAME`, else below `~/.cache`; made with mode 0700.
///
/// # Errors
/// No home, a directory that cannot be made, or one that others may write to.
pub(crate) fn directory(name: &str) -> Result<PathBuf, Failure> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| {
            Failure::new(
                Class::Files,
                "Neither XDG_CACHE_HOME nor HOME names a directory for the cache; set one",
            )
        })?;
    let path = base.join("ensconce").join(name);
    let doing = || format!("Cannot use the cache directory '{}'", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .class(Class::Files, doing())?;
    let metadata = fs::metadata(&path).class(Class::Files, doing())?;
    let is_private =
        metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if !is_private {
        return Err(Failure::new(
            Class::Files,
            format!("{}: others may write to it; remove it", doing()),
        ));
    }
    Ok(path)
}

/// What changes when a file does; empty bytes stand for no file. Links are
/// followed, so that a link to another file counts as a change.
pub(crate) fn state(path: &Path) -> Option<Vec<u8>> {
    let look = |metadata: &Metadata| {
        format!(
            "{}:{}:{}:{}.{}:{}.{}",
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        )
        .into_bytes()
    };
    fs::metadata(path).ok().as_ref().map(look)
}
