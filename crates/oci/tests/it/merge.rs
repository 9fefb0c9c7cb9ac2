// SPDX-License-Identifier: Apache-2.0
//! The merged root: what upper layers hide, replace and link to.

use oci::root::{NodeKind, ResolveError};

use crate::fixture::*;

#[test]
fn upper_layers_replace_and_delete() {
    let lower = Tar::new()
        .dir("etc")
        .file("etc/a", "lower a")
        .file("etc/b", "lower b")
        .file("gone/deep/file", "x")
        .end();
    let upper = Tar::new()
        .file("etc/a", "upper a")
        .file("etc/.wh.b", "")
        .file(".wh.gone", "")
        .end();
    let view = view(&[lower, upper]);
    assert_eq!(paths(&view), ["/", "/etc", "/etc/a"]);
    assert_eq!(content(&view, "/etc/a"), "upper a");
}

#[test]
fn opaque_directories_keep_what_their_own_layer_adds_before_and_after() {
    let lower = Tar::new().file("d/old", "").file("d/sub/old", "").end();
    let upper = Tar::new()
        .dir("d")
        .file("d/before", "")
        .file("d/.wh..wh..opq", "")
        .file("d/sub/after", "")
        .end();
    assert_eq!(
        paths(&view(&[lower, upper])),
        ["/", "/d", "/d/before", "/d/sub", "/d/sub/after"]
    );
}

#[test]
fn whiteouts_spare_entries_of_their_own_layer() {
    let lower = Tar::new().file("a", "old").end();
    for upper in [
        Tar::new().file(".wh.a", "").file("a", "new").end(),
        Tar::new().file("a", "new").file(".wh.a", "").end(),
    ] {
        assert_eq!(content(&view(&[lower.clone(), upper]), "/a"), "new");
    }
}

#[test]
fn names_with_dots_do_not_disturb_subtrees() {
    // "a.b" sorts between "a" and "a/x".
    let lower = Tar::new()
        .file("a/x", "")
        .file("a.b", "")
        .file("a0", "")
        .end();
    let listed = |view: &oci::root::RootView, path: &str| -> Vec<String> {
        view.children(&at(path))
            .map(|(path, _)| path.to_string())
            .collect()
    };
    let both = view(std::slice::from_ref(&lower));
    assert_eq!(listed(&both, "/"), ["/a", "/a.b", "/a0"]);
    assert_eq!(listed(&both, "/a"), ["/a/x"]);
    let below: Vec<_> = both
        .subtree(&at("/a"))
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(below, ["/a", "/a/x"]);
    assert_eq!(both.subtree(&at("/")).count(), 5);
    let upper = Tar::new().file(".wh.a", "").end();
    assert_eq!(paths(&view(&[lower, upper])), ["/", "/a.b", "/a0"]);
}

#[test]
fn kinds_replace_each_other() {
    let lower = Tar::new()
        .file("d/x", "")
        .symlink("l", "d")
        .file("f", "")
        .end();
    let upper = Tar::new()
        .file("d", "now a file")
        .dir("l")
        .dir("f")
        .file("f/y", "")
        .end();
    let view = view(&[lower, upper]);
    assert_eq!(paths(&view), ["/", "/d", "/f", "/f/y", "/l"]);
    assert!(view.node(&at("/l")).expect("there").is_directory());
}

#[test]
fn directories_listed_again_keep_their_members_and_change_their_mode() {
    let lower = Tar::new().dir("d").file("d/x", "").end();
    let upper = Tar::new()
        .entry("d", b'5', b"", |header| header.set_mode(0o700))
        .end();
    let view = view(&[lower, upper]);
    assert_eq!(paths(&view), ["/", "/d", "/d/x"]);
    assert_eq!(view.node(&at("/d")).expect("there").metadata.mode, 0o700);
}

#[test]
fn entries_below_linked_directories_land_where_the_link_leads() {
    let lower = Tar::new().dir("usr/bin").symlink("bin", "usr/bin").end();
    let upper = Tar::new().file("bin/tool", "found").end();
    let view = view(&[lower, upper]);
    assert_eq!(
        paths(&view),
        ["/", "/bin", "/usr", "/usr/bin", "/usr/bin/tool"]
    );
    assert_eq!(content(&view, "/bin/tool"), "found");
}

#[test]
fn links_never_lead_out_of_the_root() {
    let layer = Tar::new()
        .file("etc/passwd", "the image's own")
        .symlink("up", "../../../../etc/passwd")
        .symlink("abs", "/etc/passwd")
        .symlink("d/rel", "../etc/./passwd")
        .symlink("twice", "d/rel")
        .symlink("loop", "pool")
        .symlink("pool", "loop")
        .symlink("dangling", "/nowhere/x")
        .end();
    let view = view(&[layer]);
    for path in ["/up", "/abs", "/d/rel", "/twice"] {
        let (path, _) = view.resolve(&at(path)).expect("resolves");
        assert_eq!(path, at("/etc/passwd"));
    }
    let error = |path: &str| view.resolve(&at(path)).expect_err("leads nowhere");
    assert!(matches!(error("/loop"), ResolveError::Loop { .. }));
    assert_eq!(
        error("/dangling"),
        ResolveError::Missing {
            path: at("/nowhere")
        }
    );
    assert!(matches!(
        error("/etc/passwd/x"),
        ResolveError::NotADirectory { .. }
    ));
}

#[test]
fn hard_links_are_one_file_even_over_layers() {
    let lower = Tar::new().file("a", "shared").hard_link("b", "a").end();
    let upper = Tar::new().hard_link("c", "/b").file(".wh.a", "").end();
    let view = view(&[lower, upper]);
    assert_eq!(paths(&view), ["/", "/b", "/c"]);
    let kind = |path: &str| view.node(&at(path)).expect("there").kind.clone();
    assert_eq!(kind("/b"), kind("/c"));
    assert_eq!(content(&view, "/c"), "shared");
}

#[test]
fn duplicates_in_one_layer_count_once_and_the_last_wins() {
    let layer = Tar::new().file("a", "first").file("./a", "second").end();
    let view = view(&[layer]);
    assert_eq!(paths(&view), ["/", "/a"]);
    assert_eq!(content(&view, "/a"), "second");
    assert_eq!(view.entries(0).count(), 2);
}

#[test]
fn metadata_devices_and_attributes_are_kept() {
    let layer = Tar::new()
        .pax(
            &[
                record("SCHILY.xattr.user.n", b"v\0w\xff"),
                record("mtime", "12.000000005"),
            ]
            .concat(),
        )
        .entry("f", b'0', b"x", |header| {
            header.set_mode(0o104_755);
            header.set_uid(1000);
            header.set_gid(50);
        })
        .entry("null", b'3', b"", |header| {
            header.set_device_major(1).expect("ustar");
            header.set_device_minor(3).expect("ustar");
        })
        .entry("pipe", b'6', b"", |_| {})
        .end();
    let view = view(&[layer]);
    let metadata = &view.node(&at("/f")).expect("there").metadata;
    assert_eq!(
        (metadata.mode, metadata.uid, metadata.gid),
        (0o4755, 1000, 50)
    );
    assert_eq!(
        (metadata.mtime.seconds, metadata.mtime.nanoseconds),
        (12, 5)
    );
    assert_eq!(
        metadata.xattrs.get(&b"user.n"[..]),
        Some(&b"v\0w\xff".to_vec())
    );
    let kind = |path: &str| view.node(&at(path)).expect("there").kind.clone();
    assert_eq!(kind("/null"), NodeKind::CharDevice { major: 1, minor: 3 });
    assert_eq!(kind("/pipe"), NodeKind::Fifo);
}
