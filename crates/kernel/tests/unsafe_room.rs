// SPDX-License-Identifier: Apache-2.0
//! `unsafe` lives under `machine/` and nowhere else.

#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_the_machine_may_lift_the_ban() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources are not where they should be");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap();
        let lifts = text
            .split_whitespace()
            .any(|word| word.starts_with("unsafe_code"));
        assert_eq!(
            lifts,
            name == Path::new("machine.rs"),
            "{}: the ban on unsafe code is lifted for `machine` alone",
            name.display()
        );
        let blocks = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        assert!(
            !blocks || lifts || name.starts_with("machine"),
            "{} holds unsafe code",
            name.display()
        );
    }
}
