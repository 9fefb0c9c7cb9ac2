// SPDX-License-Identifier: Apache-2.0
//! Conversions remember layers of earlier ones, and believe nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::native::{self, Layer, MARKER};
use crate::tool::{Desk, Finished};

const KNOWN: &str = "known from an earlier conversion";

fn entries(desk: &Desk, kind: &str) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(desk.path(".cache/ensconce/convert")) else {
        return Vec::new();
    };
    let is_kind = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(kind))
    };
    found
        .map(|entry| entry.expect("entry").path())
        .filter(is_kind)
        .collect()
}

/// Everything in the result that does not depend on the fresh key: paths with
/// what the layers hold there, and the measurement.
fn content(desk: &Desk) -> (BTreeMap<String, Option<Vec<u8>>>, String) {
    let view = crate::convert::view(desk);
    let files = view.iter().map(|(path, node)| {
        let is_keyed =
            path.to_string().starts_with("/fspf") || path.to_string().starts_with("/app");
        let content = match &node.kind {
            oci::root::NodeKind::File(data) if !is_keyed => {
                let content = view.content(data).expect("content");
                Some(content.read_all(1 << 30).expect("read"))
            }
            _ => None,
        };
        (path.to_string(), content)
    });
    let report: serde_json::Value = serde_json::from_str(&desk.text("r.json")).expect("JSON");
    (files.collect(), report["mrenclave"].to_string())
}

fn convert(desk: &Desk, options: &[&str]) -> Finished {
    let mut all = vec!["--dir=/app", "--report=r.json", "-x"];
    all.extend_from_slice(options);
    desk.convert_hello(&all)
}

/// A desk with another application over the same base.
fn change_application(desk: &Desk) {
    let app = native::app().file("app/more", 0o644, "more");
    let layers = vec![native::base(desk), app];
    native::write(desk, "amd64", &native::config(), layers);
}

#[test]
fn a_base_is_read_once_and_the_result_is_the_same() {
    let desk = native::desk();
    let first = convert(&desk, &[]).success();
    assert!(!first.stderr.contains(KNOWN), "{}", first.stderr);
    let before = content(&desk);
    let again = convert(&desk, &[]).success();
    assert!(
        again.stderr.contains("layer 0 is known"),
        "{}",
        again.stderr
    );
    assert!(
        !again.stderr.contains("layer 1 is known"),
        "{}",
        again.stderr
    );
    assert_eq!(content(&desk), before);

    change_application(&desk);
    let changed = convert(&desk, &[]).success();
    assert!(changed.stderr.contains("layer 0 is known"));
    // The same without any cache, in a fresh directory.
    let with_cache = content(&desk);
    fs::remove_dir_all(desk.path("result")).expect("remove");
    fs::remove_dir_all(desk.path(".cache")).expect("remove");
    assert!(!convert(&desk, &[]).success().stderr.contains(KNOWN));
    assert_eq!(content(&desk), with_cache);
}

#[test]
fn what_was_not_needed_before_is_read_from_the_layer() {
    let desk = native::desk();
    convert(&desk, &[]).success();
    // Content of the known base that no earlier conversion looked into.
    let done = convert(&desk, &["--dir=/etc"]).success();
    assert!(done.stderr.contains("layer 0 is known"));
    assert!(done.stderr.contains("rewrite layer 0"), "{}", done.stderr);
}

#[test]
fn nothing_that_was_encrypted_is_remembered() {
    let desk = native::desk();
    convert(&desk, &[]).success();
    assert_eq!(entries(&desk, "layer-").len(), 1, "the base");
    let directory = desk.path(".cache/ensconce/convert");
    let mode = |path: &PathBuf| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in entries(&desk, "") {
        assert_eq!(mode(&entry), 0o600, "{}", entry.display());
        let bytes = fs::read(&entry).expect("entry");
        for secret in [MARKER.as_bytes(), b"/app/"] {
            let holds = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!holds, "{}", entry.display());
        }
    }
}

#[test]
fn damaged_and_forged_entries_are_told_about_and_made_again() {
    let desk = native::desk();
    convert(&desk, &[]).success();
    let before = content(&desk);
    let names: BTreeSet<_> = entries(&desk, "").into_iter().collect();
    for kind in ["layer-", "file-", "blob-", "code-"] {
        assert!(!entries(&desk, kind).is_empty(), "{kind}");
        for entry in entries(&desk, kind) {
            let mut bytes = fs::read(&entry).expect("entry");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&entry, bytes).expect("write");
        }
        let done = convert(&desk, &[]).success();
        assert!(done.stderr.contains("damaged or forged"), "{}", done.stderr);
        assert!(done.stderr.contains(kind), "{}", done.stderr);
        assert_eq!(content(&desk), before, "{kind}");
        assert_eq!(
            entries(&desk, "").into_iter().collect::<BTreeSet<_>>(),
            names
        );
    }
    // An entry of another user's making has another key.
    fs::remove_file(desk.path(".cache/ensconce/convert/key")).expect("remove");
    let done = convert(&desk, &[]).success();
    assert!(done.stderr.contains("damaged or forged"));
    assert!(!done.stderr.contains(KNOWN), "{}", done.stderr);
}

#[test]
fn a_known_layer_that_was_damaged_since_makes_no_image() {
    let desk = native::desk();
    convert(&desk, &[]).success();
    fs::remove_dir_all(desk.path("result")).expect("remove");
    let blobs = fs::read_dir(desk.path("native/blobs/sha256")).expect("blobs");
    let blobs = blobs.map(|entry| entry.expect("entry").path());
    let largest = blobs.max_by_key(|path| fs::metadata(path).expect("blob").len());
    let largest = largest.expect("a layer");
    let mut bytes = fs::read(&largest).expect("blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).expect("write");
    convert(&desk, &[]).refused(3, &["is damaged"]);
    assert!(!desk.path("result").exists());
}

#[test]
fn the_cache_can_be_switched_off_or_missing() {
    let desk = native::desk();
    let run = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = desk.command();
        command.args(["convert", "--from=oci:native:app", "--to=oci:result:app"]);
        command.args(["--binary=/usr/bin/hello", "--disable-session-upload"]);
        change(&mut command);
        Finished::of(&mut command).success()
    };
    run(&|command| {
        command.env("ENSCONCE_CACHE", "off");
    });
    assert!(!desk.path(".cache").exists());
    let done = run(&|command| {
        command.env_remove("HOME");
    });
    assert!(done.stderr.contains("no cache"), "{}", done.stderr);
    run(&|command| {
        command.env("XDG_CACHE_HOME", desk.path("elsewhere"));
    });
    assert!(desk.path("elsewhere/ensconce/convert/key").exists());
    let open = desk.path("elsewhere/ensconce/convert");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("chmod");
    let done = run(&|command| {
        command.env("XDG_CACHE_HOME", desk.path("elsewhere"));
    });
    assert!(done.stderr.contains("others may write"), "{}", done.stderr);
}

#[test]
fn layers_that_grew_knowledge_are_kept_with_it() {
    let desk = Desk::new();
    let hidden = Layer::new().file("etc/passwd", 0o644, "replaced");
    let upper = vec![native::base(&desk), native::app(), hidden];
    native::write(&desk, "amd64", &native::config(), upper);
    convert(&desk, &[]).success();
    // Now what was hidden before shows, and its hashes are new.
    let layers = vec![native::base(&desk), native::app()];
    native::write(&desk, "amd64", &native::config(), layers);
    // The base has by far the most entries.
    let largest = || {
        let entries = entries(&desk, "layer-").into_iter();
        let sizes = entries.map(|path| fs::metadata(path).expect("entry").len());
        sizes.max().expect("an entry")
    };
    let before = largest();
    let done = convert(&desk, &[]).success();
    assert!(done.stderr.contains("layer 0 is known"));
    assert!(largest() > before, "one more file is known");
}
