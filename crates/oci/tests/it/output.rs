// SPDX-License-Identifier: Apache-2.0
//! Writing images: round trips, names that move only at the end, and nothing
//! left behind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use oci::image::Image;
use oci::limits::Limits;
use oci::output::{NewImage, OutputError};
use oci::root::RootView;

use crate::fixture::*;

fn layers() -> Vec<(Form, Vec<u8>)> {
    vec![
        (Form::Gzip, Tar::new().file("a", "from gzip").end()),
        (Form::Zstd, Tar::new().file("b", "from zstd").end()),
        (Form::Plain, Tar::new().file("c", "from plain").end()),
    ]
}

fn merged(image: &Image) -> RootView {
    RootView::open(image, &Limits::default(), &std::env::temp_dir()).expect("view")
}

/// The same layers and settings as a new image.
fn copy_of(image: &Image) -> NewImage {
    let mut config = image.config().carry_over();
    config.env = image.config().env.clone();
    config.entrypoint = vec!["/launch".to_owned()];
    NewImage {
        config,
        layers: merged(image)
            .layers()
            .iter()
            .map(|layer| layer.blob().clone())
            .collect(),
    }
}

fn assert_same_content(image: &Image) {
    let view = merged(image);
    assert_eq!(paths(&view), ["/", "/a", "/b", "/c"]);
    for (path, text) in [
        ("/a", "from gzip"),
        ("/b", "from zstd"),
        ("/c", "from plain"),
    ] {
        assert_eq!(content(&view, path), text);
    }
    assert_eq!(image.config().user, "7");
    assert_eq!(image.config().entrypoint, ["/launch"]);
    assert!(image.config().cmd.is_empty());
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("entry").path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(files_below(&path));
        }
    }
    found
}

#[test]
fn images_travel_from_layout_to_archive_and_back() {
    let dir = temp();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let native = layout_image(&layers());
    let in_layout = format!("oci:{}:v1", path("layout"));
    let staged = copy_of(&native)
        .stage(&reference(&in_layout))
        .expect("stage");
    let (digest, id) = (staged.manifest_digest(), staged.image_id());
    staged.commit().expect("commit");
    let image = open(&in_layout);
    assert_eq!(image.digest(), digest);
    assert_same_content(&image);

    let in_archive = format!("docker-archive:{}:made/here:v1", path("image.tar"));
    copy_of(&image)
        .stage(&reference(&in_archive))
        .expect("stage")
        .commit()
        .expect("commit");
    let archived = open(&in_archive);
    assert_same_content(&archived);
    assert_eq!(
        archived.digest(),
        id,
        "the image ID survives, layers being equal"
    );

    let back = format!("oci:{}:v2", path("layout"));
    copy_of(&archived)
        .stage(&reference(&back))
        .expect("stage")
        .commit()
        .expect("commit");
    assert_same_content(&open(&back));
    assert_same_content(&open(&in_layout));
}

#[test]
fn compressed_archives_are_read() {
    let dir = temp();
    let plain = dir.path().join("image.tar");
    let target = format!("docker-archive:{}:x:1", plain.display());
    copy_of(&layout_image(&layers()))
        .stage(&reference(&target))
        .expect("stage")
        .commit()
        .expect("commit");
    let packed = dir.path().join("image.tar.gz");
    fs::write(&packed, Form::Gzip.pack(&fs::read(&plain).expect("read"))).expect("write");
    assert_same_content(&open(&format!("docker-archive:{}", packed.display())));
    let other = reference(&format!("docker-archive:{}:y:1", packed.display()));
    let error = Image::open(&other, &Limits::default(), dir.path()).expect_err("other name");
    assert!(error.to_string().contains("x:1"), "{error}");
}

#[test]
fn the_same_image_gives_the_same_digest() {
    let native = layout_image(&layers());
    let digests: Vec<_> = (0..2)
        .map(|_| {
            let dir = temp();
            let target = format!("oci:{}:v1", dir.path().join("l").display());
            copy_of(&native)
                .stage(&reference(&target))
                .expect("stage")
                .manifest_digest()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_staged_image_that_is_dropped_leaves_nothing() {
    let native = layout_image(&layers());
    let dir = temp();
    for target in ["oci:LAYOUT:v1", "docker-archive:LAYOUT.tar:x:1"] {
        let target = target.replace("LAYOUT", &dir.path().join("layout").display().to_string());
        drop(copy_of(&native).stage(&reference(&target)).expect("stage"));
        assert_eq!(files_below(dir.path()), [] as [&str; 0], "{target}");
    }
}

#[test]
fn dropping_spares_images_that_were_there() {
    let native = layout_image(&layers());
    let dir = temp();
    let target = reference(&format!("oci:{}:v1", dir.path().display()));
    copy_of(&native)
        .stage(&target)
        .expect("stage")
        .commit()
        .expect("commit");
    let before = files_below(dir.path()).len();
    let mut other = copy_of(&native);
    other.config.user = "8".to_owned();
    drop(other.stage(&target).expect("stage"));
    assert_eq!(files_below(dir.path()).len(), before);
    assert_same_content(&open(&target.to_string()));
}

#[test]
fn a_tag_moves_and_other_tags_stay() {
    let native = layout_image(&layers());
    let dir = temp();
    let tag = |tag: &str| format!("oci:{}:{tag}", dir.path().display());
    for name in ["v1", "v2"] {
        copy_of(&native)
            .stage(&reference(&tag(name)))
            .expect("stage")
            .commit()
            .expect("commit");
    }
    let mut other = copy_of(&native);
    other.config.user = "8".to_owned();
    other
        .stage(&reference(&tag("v1")))
        .expect("stage")
        .commit()
        .expect("commit");
    assert_eq!(open(&tag("v1")).config().user, "8");
    assert_eq!(open(&tag("v2")).config().user, "7");
    let untagged = reference(&format!("oci:{}", dir.path().display()));
    let error = Image::open(&untagged, &Limits::default(), dir.path()).expect_err("two images");
    assert!(error.to_string().contains("v2, v1"), "{error}");
    let missing = reference(&tag("v3"));
    let error = Image::open(&missing, &Limits::default(), dir.path()).expect_err("no v3");
    assert!(error.to_string().contains("'v3'"), "{error}");
}

#[test]
fn unsuitable_targets_are_refused_and_untouched() {
    let native = layout_image(&[]);
    let dir = temp();
    let occupied = dir.path().join("occupied");
    fs::create_dir(&occupied).expect("mkdir");
    fs::write(occupied.join("thesis.tex"), "years of work").expect("write");
    let stage = |target: String| copy_of(&native).stage(&reference(&target));
    let error = stage(format!("oci:{}:v1", occupied.display()));
    assert!(matches!(error, Err(OutputError::NotALayout { .. })));
    assert_eq!(files_below(&occupied).len(), 1);
    let layout = dir.path().join("layout");
    let error = stage(format!("oci:{}", layout.display()));
    assert!(matches!(error, Err(OutputError::TagMissing { .. })));
    let first = stage(format!("oci:{}:v1", layout.display())).expect("stage");
    let second = stage(format!("oci:{}:v2", layout.display()));
    assert!(matches!(second, Err(OutputError::Busy { .. })));
    drop(first);
    let error = stage(format!(
        "docker-archive:{}/no/such/dir/x.tar:x:1",
        dir.path().display()
    ));
    assert!(matches!(error, Err(OutputError::Io { .. })));
}

#[test]
fn layers_that_change_under_our_hands_are_noticed() {
    let dir = temp();
    let layer = Tar::new().file("a", &"content ".repeat(1000)).end();
    write_layout(dir.path(), &[(Form::Plain, layer)]);
    let image = open(&format!("oci:{}", dir.path().display()));
    let new = copy_of(&image);
    let largest = fs::read_dir(dir.path().join("blobs/sha256"))
        .expect("blobs")
        .map(|entry| entry.expect("entry").path())
        .max_by_key(|path| fs::metadata(path).expect("metadata").len())
        .expect("a blob");
    let mut bytes = fs::read(&largest).expect("read");
    bytes[600] ^= 1;
    fs::write(&largest, bytes).expect("write");
    let out = temp();
    let target = reference(&format!("oci:{}:v1", out.path().join("l").display()));
    assert!(matches!(
        new.stage(&target),
        Err(OutputError::Changed { .. })
    ));
    assert_eq!(files_below(out.path()), [] as [&str; 0]);
}

#[test]
fn neighbours_share_layers_that_nobody_else_can_change() {
    let temp = temp();
    let native_dir = temp.path().join("native");
    write_layout(&native_dir, &layers());
    let blobs = || {
        let found = fs::read_dir(native_dir.join("blobs/sha256")).expect("blobs");
        found.map(|entry| entry.expect("entry").path())
    };
    let shared_with = |name: &str| {
        let native = open(&format!("oci:{}:native", native_dir.display()));
        let target = format!("oci:{}:x", temp.path().join(name).display());
        let staged = copy_of(&native).stage(&reference(&target));
        staged.expect("stage").commit().expect("commit");
        assert_same_content(&open(&target));
        blobs()
            .filter(|blob| {
                let copy = temp.path().join(name).join("blobs/sha256");
                let copy = copy.join(blob.file_name().expect("name"));
                let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
                inode(&copy).is_some() && inode(&copy) == inode(blob)
            })
            .count()
    };
    for blob in blobs() {
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("chmod");
    }
    assert_eq!(shared_with("shared"), layers().len());
    for blob in blobs() {
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o664)).expect("chmod");
    }
    assert_eq!(shared_with("copied"), 0);
}
