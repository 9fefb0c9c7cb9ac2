// SPDX-License-Identifier: Apache-2.0
//! Paths below the container's root.
//!
//! In a container the root is the process's own. For `ensconce run` it is an
//! unpacked image below a private directory, and every path, with every link in
//! it, is resolved as if that directory were `/`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::area::Errno;

/// The directory that the enclave sees as `/`.
#[derive(Debug)]
pub struct Root(Option<OwnedFd>);

/// A directory and a name in it: what the `*at` calls want.
#[derive(Debug)]
pub struct At {
    dir: Option<OwnedFd>,
    name: CString,
}

impl At {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd)
    }

    /// The name; empty means the directory itself.
    #[must_use]
    pub fn name(&self) -> &CStr {
        &self.name
    }
}

impl Root {
    /// The process's own root.
    #[must_use]
    pub fn own() -> Self {
        Self(None)
    }

    /// An open directory.
    #[must_use]
    pub fn below(dir: OwnedFd) -> Self {
        Self(Some(dir))
    }

    /// The same directory behind a descriptor that enclaves cannot name.
    ///
    /// # Errors
    /// What moving the descriptor gives.
    pub fn into_private(self) -> std::io::Result<Self> {
        Ok(Self(self.0.map(crate::private::keep).transpose()?))
    }

    /// Opens a path.
    ///
    /// # Errors
    /// Linux's.
    pub fn open(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = c_path(path)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        match &self.0 {
            None => rustix::fs::open(&path, flags, mode),
            Some(root) => rustix::fs::openat2(root, &path, flags, mode, ResolveFlags::IN_ROOT),
        }
        .map_err(number)
    }

    /// Finds the parent of a path, so that its last part can be used by name.
    /// Links in the parent are followed below the root; the last part is not.
    ///
    /// # Errors
    /// Linux's.
    pub fn parent(&self, path: &[u8]) -> Result<At, Errno> {
        let Some(root) = &self.0 else {
            return Ok(At {
                dir: None,
                name: c_path(path)?,
            });
        };
        let trimmed = path.strip_suffix(b"/").unwrap_or(path);
        let cut = trimmed.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let (parent, name) = trimmed.split_at(cut);
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let is_special = name.is_empty() || name == b"." || name == b"..";
        // The root itself, or a name that only resolution can give a meaning.
        let (open, name) = if is_special {
            (path, &b""[..])
        } else {
            (parent, name)
        };
        let open = if open.is_empty() { b"/" } else { open };
        let dir = rustix::fs::openat2(
            root,
            &c_path(open)?,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
        .map_err(number)?;
        Ok(At {
            dir: Some(dir),
            name: c_path(name)?,
        })
    }
}

fn c_path(path: &[u8]) -> Result<CString, Errno> {
    if path.len() >= libc::PATH_MAX as usize {
        return Err(libc::ENAMETOOLONG);
    }
    CString::new(path).map_err(|_| libc::EINVAL)
}

/// The number of a rustix error.
pub(crate) fn number(error: rustix::io::Errno) -> Errno {
    error.raw_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_cannot_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/hostname"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", dir.path().join("up")).unwrap();
        let root = Root::below(std::fs::File::open(dir.path()).unwrap().into());
        for path in [
            "/etc/hostname",
            "/link/hostname",
            "/up/hostname",
            "/../../etc/hostname",
        ] {
            let fd = root
                .open(path.as_bytes(), OFlags::RDONLY, Mode::empty())
                .unwrap();
            let text = std::io::read_to_string(std::fs::File::from(fd)).unwrap();
            assert_eq!(text, "inside", "{path}");
            let at = root.parent(path.as_bytes()).unwrap();
            let stat =
                rustix::fs::statat(at.dir(), at.name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                    .unwrap();
            assert_eq!(stat.st_size, 6, "{path}");
        }
    }

    #[test]
    fn the_root_has_itself_as_parent() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::below(std::fs::File::open(dir.path()).unwrap().into());
        for path in ["/", "/.", "/.."] {
            assert_eq!(root.parent(path.as_bytes()).unwrap().name(), c"", "{path}");
        }
    }
}
