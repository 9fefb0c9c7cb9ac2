// SPDX-License-Identifier: Apache-2.0
//! Habits that a machine can check.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{output, root};

/// Longest file in lines.
const LINES_MAX: usize = 600;
/// The rooms that may use `unsafe`.
const UNSAFE_ROOMS: [&str; 4] = [
    "crates/kernel/src/machine",
    "crates/sgx-emu/",
    "crates/enclave-host/",
    "crates/pal/",
];
/// Names that say nothing.
const VAGUE: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];

/// Checks every tracked Rust file.
pub(crate) fn check() -> Result<()> {
    let files = output(
        Command::new("git")
            .current_dir(root())
            .args(["ls-files", "*.rs"]),
    )?;
    let mut found = Vec::new();
    for file in files.lines() {
        let path = root().join(file);
        if !path.exists() {
            continue;
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("while reading {file}"))?;
        found.extend(faults(file, &text));
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!("style:\n  {}", found.join("\n  "))
}

fn faults(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push(format!(
            "{file}: {lines} lines, at most {LINES_MAX}; split it by idea"
        ));
    }
    if !text.starts_with("// SPDX-License-Identifier: Apache-2.0") {
        found.push(format!("{file}: the first line is not the SPDX line"));
    }
    let may_be_unsafe = UNSAFE_ROOMS.iter().any(|room| file.starts_with(room));
    // Files that look for the forms hold them as text.
    let looks_for_it = ["xtask/src/style.rs", "kernel/tests/unsafe_room.rs"]
        .iter()
        .any(|name| file.ends_with(name));
    if !may_be_unsafe && !looks_for_it {
        for form in [
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "unsafe(",
        ] {
            if text
                .lines()
                .any(|line| line.contains(form) && !line.trim_start().starts_with("//"))
            {
                found.push(format!(
                    "{file}: `{form}` outside the rooms that may use it"
                ));
            }
        }
    }
    let vague = Path::new(file)
        .with_extension("")
        .components()
        .any(|part| VAGUE.iter().any(|name| part.as_os_str() == *name));
    if vague {
        found.push(format!(
            "{file}: a name that says nothing; call it by its idea"
        ));
    }
    if file.ends_with("/mod.rs") {
        found.push(format!("{file}: modules are `foo.rs` beside `foo/`"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::faults;

    const SPDX: &str = "// SPDX-License-Identifier: Apache-2.0\n";

    #[test]
    fn each_habit_is_seen() {
        assert!(faults("crates/a/src/lib.rs", SPDX).is_empty());
        assert_eq!(faults("crates/a/src/lib.rs", "").len(), 1);
        assert_eq!(faults("crates/a/src/utils.rs", SPDX).len(), 1);
        assert_eq!(faults("crates/a/src/b/mod.rs", SPDX).len(), 1);
        assert_eq!(
            faults("crates/a/src/b.rs", &(SPDX.to_owned() + "unsafe { x() }\n")).len(),
            1
        );
        assert!(
            faults(
                "crates/sgx-emu/src/b.rs",
                &(SPDX.to_owned() + "unsafe { x() }\n")
            )
            .is_empty()
        );
        assert_eq!(
            faults("crates/a/src/b.rs", &(SPDX.to_owned() + &"\n".repeat(600))).len(),
            1
        );
    }
}
