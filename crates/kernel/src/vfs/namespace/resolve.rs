// SPDX-License-Identifier: Apache-2.0
//! Walking paths.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{MAX_LINKS, Namespace, Place};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::filesystem::{Component, FileSystem};
use crate::vfs::path;

struct Walk {
    path: Vec<u8>,
    must_be_directory: bool,
}

impl Namespace {
    /// The file system that a normalised absolute path belongs to.
    pub(super) fn fs_of(&self, path: &[u8]) -> Result<&Arc<dyn FileSystem>, Errno> {
        self.mounts
            .iter()
            .find(|mount| path::below(path, &mount.prefix).is_some())
            .map_or(Err(Errno::ENOENT), |mount| Ok(&mount.fs))
    }

    /// Where the host has a path, for sockets: `None` if the path lies in a region
    /// that is not the host's. With `follow` it must exist.
    ///
    /// # Errors
    /// `ENOENT`, `ELOOP`, `ENOTDIR`; the host's errno.
    pub fn host_path(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        follow: bool,
    ) -> Result<Option<Vec<u8>>, Errno> {
        self.at_last(cx, base, name, follow, |place, _| {
            if follow && let Component::Symlink(_) = place.fs.component(cx, &place.path)? {
                return Err(Errno::ELOOP);
            }
            Ok(place.fs.host_path(&place.path))
        })
    }

    /// Resolves everything but a last symbolic link; whether the path demands a
    /// directory comes with it.
    pub(super) fn place_of(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
    ) -> Result<(Place, bool), Errno> {
        let mut links = MAX_LINKS;
        let walk = self.walk(cx, base, name, &mut links)?;
        let place = self.place(walk.path)?;
        Ok((place, walk.must_be_directory))
    }

    /// Runs `act` at the end of a path. `act` answers `ELOOP` where it finds a
    /// symbolic link; the link is then followed, if it is to be.
    pub(super) fn at_last<T>(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        follow: bool,
        mut act: impl FnMut(&Place, bool) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut links = MAX_LINKS;
        let mut walk = self.walk(cx, base, name, &mut links)?;
        loop {
            let place = self.place(walk.path)?;
            match act(&place, walk.must_be_directory) {
                Err(Errno::ELOOP) if follow || walk.must_be_directory => {}
                other => return other,
            }
            // A host may claim a link where there is none: then it has no target.
            let target = match place.fs.readlink(cx, &place.path) {
                Err(Errno::EINVAL) => return Err(Errno::ELOOP),
                other => other?,
            };
            links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
            let (parent, _) = path::split(&place.path);
            let must_be_directory = walk.must_be_directory;
            walk = self.walk(cx, parent, &target, &mut links)?;
            walk.must_be_directory |= must_be_directory;
        }
    }

    fn place(&self, path: Vec<u8>) -> Result<Place, Errno> {
        Ok(Place {
            fs: Arc::clone(match self.fs_of(&path) {
                Ok(fs) => fs,
                Err(_) => return Err(Errno::ENOENT),
            }),
            path,
        })
    }

    fn walk(
        &self,
        cx: &Context<'_>,
        base: &[u8],
        name: &[u8],
        links: &mut u32,
    ) -> Result<Walk, Errno> {
        path::check(name)?;
        let must_be_directory = path::demands_directory(name);
        let mut at = if name.first() == Some(&b'/') {
            b"/".to_vec()
        } else {
            base.to_vec()
        };
        let mut rest: Vec<Vec<u8>> = path::components(name).rev().map(<[u8]>::to_vec).collect();
        while let Some(name) = rest.pop() {
            if name == b".." {
                path::pop(&mut at);
                continue;
            }
            if name.len() > path::MAX_NAME {
                return Err(Errno::ENAMETOOLONG);
            }
            path::push(&mut at, &name);
            if at.len() > path::MAX_PATH {
                return Err(Errno::ENAMETOOLONG);
            }
            if rest.is_empty() {
                break;
            }
            match self.component(cx, &at)? {
                Component::Directory => {}
                Component::Other => return Err(Errno::ENOTDIR),
                Component::Symlink(target) => {
                    path::check(&target)?;
                    *links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                    if target.first() == Some(&b'/') {
                        at = b"/".to_vec();
                    } else {
                        path::pop(&mut at);
                    }
                    rest.extend(path::components(&target).rev().map(<[u8]>::to_vec));
                }
            }
        }
        Ok(Walk {
            path: at,
            must_be_directory,
        })
    }

    fn component(&self, cx: &Context<'_>, path: &[u8]) -> Result<Component, Errno> {
        if self
            .startup
            .as_ref()
            .is_some_and(|startup| startup.stat(path).is_some())
        {
            return Ok(Component::Other);
        }
        match self.fs_of(path).and_then(|fs| fs.component(cx, path)) {
            Err(Errno::ENOENT) if self.is_bare(path) => Ok(Component::Directory),
            other => other,
        }
    }
}
