// SPDX-License-Identifier: Apache-2.0
//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`: container engines put
//! the machine's own into every container, because images cannot know them.
//! Converted images read them unprotected.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Puts the machine's files into the directory's `etc`, in the place of the
/// image's. What the machine does not have is left out.
///
/// # Errors
/// The directory cannot be changed.
pub(super) fn put(root: impl AsFd) -> std::io::Result<()> {
    let etc = open_etc(root.as_fd())?;
    for name in NAMES {
        let Ok(content) = std::fs::read(Path::new("/etc").join(name)) else {
            continue;
        };
        match rustix::fs::unlinkat(&etc, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        // Never through a link: the name was just removed, and O_EXCL says so.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&etc, name, flags, Mode::from_raw_mode(0o644))?;
        File::from(file).write_all(&content)?;
    }
    Ok(())
}

/// The directory's `etc`, made if need be; links in it never lead outside.
fn open_etc(root: impl AsFd) -> std::io::Result<OwnedFd> {
    let open = || {
        rustix::fs::openat2(
            &root,
            "etc",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    };
    match open() {
        Err(rustix::io::Errno::NOENT) => {
            rustix::fs::mkdirat(&root, "etc", Mode::from_raw_mode(0o755))?;
            Ok(open()?)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_image_are_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "kept").unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("etc/hosts")).unwrap();
        put(File::open(&root).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept");
        let hosts = root.join("etc/hosts");
        assert!(!hosts.is_symlink());
        assert_eq!(
            std::fs::read(hosts).unwrap(),
            std::fs::read("/etc/hosts").unwrap()
        );
    }

    #[test]
    fn a_missing_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        put(File::open(dir.path()).unwrap()).unwrap();
        assert!(dir.path().join("etc/hosts").is_file());
    }
}
