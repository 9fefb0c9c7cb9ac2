// SPDX-License-Identifier: Apache-2.0
//! Unpacking never leaves its directory and grants nothing.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use oci::unpack::{UnpackError, unpack_below};
use tempfile::TempDir;

use crate::fixture::*;

fn private() -> TempDir {
    let dir = temp();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).expect("chmod");
    dir
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("metadata").mode() & 0o7777
}

#[test]
fn merged_roots_are_unpacked_with_whiteouts_and_links_as_data() {
    let lower = Tar::new().file("etc/a", "old").file("etc/gone", "x").end();
    let upper = Tar::new()
        .file("etc/a", "new")
        .file("etc/.wh.gone", "")
        .hard_link("etc/b", "etc/a")
        .symlink("outside", "/etc/passwd")
        .entry("script", b'0', b"#!", |header| header.set_mode(0o555))
        .entry("secretive", b'5', b"", |header| header.set_mode(0))
        .file("secretive/inside", "x")
        .end();
    let dir = private();
    let done = unpack_below(
        File::open(dir.path()).expect("open"),
        &view(&[lower, upper]),
    )
    .expect("unpack");
    assert_eq!(done.created, 7);
    let path = |name: &str| dir.path().join(name);
    assert_eq!(fs::read_to_string(path("etc/a")).expect("read"), "new");
    assert!(!path("etc/gone").exists() && !path("etc/.wh.gone").exists());
    let inode = |name: &str| fs::metadata(path(name)).expect("metadata").ino();
    assert_eq!(inode("etc/a"), inode("etc/b"));
    assert_eq!(
        fs::read_link(path("outside")).expect("link"),
        Path::new("/etc/passwd")
    );
    assert_eq!(mode(&path("script")), 0o555);
    assert_eq!(mode(&path("secretive")), 0o700);
    assert_eq!(
        fs::metadata(path("etc/a")).expect("metadata").mtime(),
        1_700_000_000
    );
}

#[test]
fn devices_set_id_bits_owners_and_attributes_are_not_applied() {
    let layer = Tar::new()
        .entry("disk", b'4', b"", |header| {
            header.set_device_major(8).expect("ustar");
            header.set_device_minor(0).expect("ustar");
        })
        .pax(&record("SCHILY.xattr.user.name", "val"))
        .entry("su", b'0', b"x", |header| {
            header.set_mode(0o6755);
            header.set_uid(4242);
            header.set_gid(4242);
        })
        .entry("tmp", b'5', b"", |header| header.set_mode(0o1777))
        .end();
    let dir = private();
    let done =
        unpack_below(File::open(dir.path()).expect("open"), &view(&[layer])).expect("unpack");
    assert_eq!(done.skipped_devices, [at("/disk")]);
    assert_eq!(done.cleared_set_id, [at("/su")]);
    assert_eq!((done.created, done.without_xattrs), (2, 1));
    assert!(!dir.path().join("disk").exists());
    assert_eq!(mode(&dir.path().join("su")), 0o755);
    assert_eq!(mode(&dir.path().join("tmp")), 0o777);
    let owner = fs::metadata(dir.path().join("su")).expect("metadata").uid();
    assert_eq!(owner, fs::metadata(dir.path()).expect("metadata").uid());
}

#[test]
fn nothing_is_written_through_links_that_were_planted() {
    // Somebody puts a link where a directory of the image will be.
    let outside = temp();
    let dir = private();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("etc")).expect("symlink");
    let layer = Tar::new().file("etc/passwd", "owned").end();
    let error = unpack_below(File::open(dir.path()).expect("open"), &view(&[layer]));
    assert!(
        matches!(error, Err(UnpackError::Create { .. })),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0);
}

#[test]
fn entries_through_links_of_the_image_stay_inside() {
    let lower = Tar::new().symlink("escape", "/../../../../tmp").end();
    let upper = Tar::new().file("escape/planted-by-image", "x").end();
    let dir = private();
    unpack_below(
        File::open(dir.path()).expect("open"),
        &view(&[lower, upper]),
    )
    .expect("unpack");
    assert!(dir.path().join("tmp/planted-by-image").exists());
    assert!(!Path::new("/tmp/planted-by-image").exists());
}

#[test]
fn directories_open_to_others_are_refused() {
    let dir = temp();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
    let error = unpack_below(File::open(dir.path()).expect("open"), &view(&[]));
    assert!(matches!(
        error,
        Err(UnpackError::NotPrivate { mode: 0o755 })
    ));
}
