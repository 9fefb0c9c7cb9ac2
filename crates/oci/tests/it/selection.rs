// SPDX-License-Identifier: Apache-2.0
//! Nothing under protected paths survives in any layer of a result.

use oci::compression::Level;
use oci::layer::write::WriteError;
use oci::root::RootView;

use crate::fixture::*;

const MARKER: &str = "marker-of-the-secret";

/// Which layers may be used again as they are.
fn clean(view: &RootView, prefixes: &[&str]) -> Vec<bool> {
    let prefixes: Vec<_> = prefixes.iter().map(at).collect();
    let selection = view.select(&prefixes);
    (0..view.layers().len())
        .map(|layer| selection.is_clean(layer))
        .collect()
}

/// The decompressed bytes of every layer after leaving out what is selected.
fn rewritten(view: &RootView, prefixes: &[&str], level: Level) -> Vec<Vec<u8>> {
    let prefixes: Vec<_> = prefixes.iter().map(at).collect();
    let selection = view.select(&prefixes);
    let temp = temp();
    (0..view.layers().len())
        .map(|layer| {
            let blob = view
                .rewrite_without(&selection, layer, level, temp.path())
                .expect("rewrites");
            let image = oci::output::NewImage {
                config: oci::config::NativeConfig::parse(
                    br#"{"architecture":"amd64","os":"linux","rootfs":{}}"#,
                )
                .expect("config")
                .carry_over(),
                layers: vec![blob],
            };
            let dir = temp.path().join(format!("out{layer}"));
            let target = format!("oci:{}:x", dir.display());
            image
                .stage(&reference(&target))
                .expect("stage")
                .commit()
                .expect("commit");
            let again =
                RootView::open(&open(&target), &oci::limits::Limits::default(), temp.path())
                    .expect("own output");
            again.layers()[0]
                .content()
                .expect("opened")
                .read_all(1 << 30)
                .expect("read")
        })
        .collect()
}

fn assert_gone(view: &RootView, prefixes: &[&str]) {
    for level in [Level::None, Level::Zstd(3), Level::Gzip(6)] {
        for (number, layer) in rewritten(view, prefixes, level).iter().enumerate() {
            let text = String::from_utf8_lossy(layer);
            assert!(
                !text.contains(MARKER),
                "layer {number} still has the secret"
            );
        }
    }
}

#[test]
fn layers_without_protected_entries_are_used_again() {
    let base = Tar::new()
        .dir("app")
        .file("usr/lib/x", "")
        .file("apple", "")
        .end();
    let above = Tar::new().file("app/secret", MARKER).end();
    let view = view(&[base, above]);
    assert_eq!(clean(&view, &["/app"]), [true, false]);
    assert_eq!(clean(&view, &["/app", "/usr"]), [false, false]);
    assert_eq!(clean(&view, &[]), [true, true]);
    assert_gone(&view, &["/app"]);
}

#[test]
fn content_that_upper_layers_deleted_or_replaced_is_found() {
    let deleted = Tar::new().file("app/key", MARKER).end();
    let replaced = Tar::new()
        .file("app/.wh.key", "")
        .file("app/conf", MARKER)
        .end();
    let last = Tar::new()
        .file("app/conf", "harmless")
        .file("other", "stays")
        .end();
    let view = view(&[deleted, replaced, last]);
    assert_eq!(clean(&view, &["/app"]), [false, false, false]);
    assert_gone(&view, &["/app"]);
    let kept = rewritten(&view, &["/app"], Level::None);
    assert!(String::from_utf8_lossy(&kept[2]).contains("stays"));
}

#[test]
fn a_deleted_directory_is_found_too() {
    let lower = Tar::new().file("app/old/key", MARKER).end();
    let upper = Tar::new().file(".wh.app", "").end();
    let view = view(&[lower, upper]);
    assert_eq!(clean(&view, &["/app"]), [false, true]);
    assert_gone(&view, &["/app"]);
}

#[test]
fn duplicates_hidden_inside_one_layer_are_found() {
    let layer = Tar::new()
        .file("app/key", MARKER)
        .file("app/key", "new")
        .end();
    assert_gone(&view(&[layer]), &["/app"]);
}

#[test]
fn entries_that_arrive_through_links_are_found() {
    let lower = Tar::new().dir("app").symlink("alias", "app").end();
    let upper = Tar::new().file("alias/key", MARKER).end();
    let through_alias = view(&[lower, upper]);
    assert_eq!(clean(&through_alias, &["/app"]), [true, false]);
    assert_gone(&through_alias, &["/app"]);
    // The other way round: the protected path itself is the link.
    let layer = Tar::new()
        .file("opt/app/key", MARKER)
        .symlink("app", "opt/app")
        .end();
    let to_elsewhere = view(&[layer]);
    assert_eq!(clean(&to_elsewhere, &["/app"]), [false]);
    assert_gone(&to_elsewhere, &["/app"]);
}

#[test]
fn second_names_of_protected_files_are_found_and_named() {
    // The first name lies outside, deleted later: only the link is visible.
    let lower = Tar::new()
        .file("tmp/build", MARKER)
        .hard_link("app/key", "tmp/build")
        .end();
    let upper = Tar::new().file("tmp/.wh.build", "").end();
    let hidden = view(&[lower.clone(), upper]);
    assert_gone(&hidden, &["/app"]);
    assert!(hidden.select(&[at("/app")]).shared_outside.is_empty());
    // Still visible outside: the caller must know.
    let visible = view(&[lower]);
    assert_gone(&visible, &["/app"]);
    assert_eq!(
        visible.select(&[at("/app")]).shared_outside,
        [at("/tmp/build")]
    );
}

#[test]
fn rewriting_keeps_every_other_byte_and_is_repeatable() {
    let mut layer = Tar::new();
    for number in 0..50 {
        layer = layer.file(&format!("usr/{number}"), &format!("content {number}"));
        if number % 7 == 0 {
            layer = layer.file(&format!("app/{number}"), MARKER);
        }
    }
    let without: Vec<u8> = {
        let mut kept = Tar::new();
        for number in 0..50 {
            kept = kept.file(&format!("usr/{number}"), &format!("content {number}"));
        }
        kept.end()
    };
    let view = view(&[layer.end()]);
    for level in [Level::None, Level::Gzip(6), Level::Zstd(3)] {
        assert_eq!(
            rewritten(&view, &["/app"], level),
            std::slice::from_ref(&without)
        );
    }
    let selection = view.select(&[at("/app")]);
    let temp = temp();
    let digests: Vec<_> = (0..2)
        .map(|_| {
            let level = Level::Zstd(3);
            let blob = view.rewrite_without(&selection, 0, level, temp.path());
            blob.expect("rewrites").digest()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_link_whose_target_would_go_is_refused_by_the_writer() {
    let layer = Tar::new().file("a", "x").hard_link("b", "a").end();
    let view = view(&[layer]);
    let entries: Vec<_> = view.entries(0).cloned().collect();
    let error = oci::layer::rewrite::rewrite(
        &view.layers()[0],
        &entries,
        Level::None,
        &std::env::temp_dir(),
        |number, _| match number {
            0 => oci::layer::rewrite::Action::Drop,
            _ => oci::layer::rewrite::Action::Keep,
        },
    );
    assert!(matches!(error, Err(WriteError::DanglingLink { .. })));
}

#[test]
fn entries_can_be_replaced_in_place() {
    let layer = Tar::new().file("a", "old").file("b", "other").end();
    let view = view(&[layer]);
    let entries: Vec<_> = view.entries(0).cloned().collect();
    let temp = temp();
    let new = oci::slice::FileSlice::spool(temp.path(), &b"brand new"[..]).expect("spool");
    let blob = oci::layer::rewrite::rewrite(
        &view.layers()[0],
        &entries,
        Level::None,
        temp.path(),
        |number, entry| match number {
            0 => oci::layer::rewrite::Action::Replace {
                metadata: entry.metadata.clone(),
                content: new.clone(),
            },
            _ => oci::layer::rewrite::Action::Keep,
        },
    )
    .expect("rewrites");
    let expected = Tar::new().file("a", "brand new").file("b", "other").end();
    assert_eq!(blob.diff_id(), oci::digest::Digest::of(&expected));
}
