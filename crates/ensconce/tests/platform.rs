// SPDX-License-Identifier: Apache-2.0
//! `ensconce platform` as users call it.

use std::path::Path;
use std::process::{Command, Output};

fn platform(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ensconce"))
        .arg("platform")
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_platform_is_made_once_and_shown() {
    let dir = tempfile::tempdir().expect("directory");
    let made = platform(dir.path(), &["init", "p"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("protects nothing against root"));
    assert!(text(&made.stdout).contains("emulated-platform:"));

    let shown = platform(dir.path(), &["show", "p"]);
    assert_eq!(text(&shown.stdout), text(&made.stdout));
    let json = platform(dir.path(), &["show", "p", "--report", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let anchor = json["anchor"].as_str().expect("an anchor");
    assert!(text(&shown.stdout).contains(&format!("emulated-platform:{anchor}\n")));

    let key = std::fs::read(dir.path().join("p/fuse.key")).expect("fuses");
    let again = platform(dir.path(), &["init", "p"]);
    assert_eq!(again.status.code(), Some(5));
    assert!(text(&again.stderr).contains("never overwritten"));
    assert_eq!(
        std::fs::read(dir.path().join("p/fuse.key")).expect("fuses"),
        key
    );
}

#[test]
fn an_absent_platform_names_the_next_step() {
    let dir = tempfile::tempdir().expect("directory");
    let shown = platform(dir.path(), &["show", "nothing"]);
    assert_eq!(shown.status.code(), Some(5));
    assert!(text(&shown.stderr).contains("ensconce platform init"));
}
