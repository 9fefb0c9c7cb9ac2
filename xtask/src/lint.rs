// SPDX-License-Identifier: Apache-2.0
//! Everything that judges the code without running it.

use anyhow::{Result, bail};

use crate::run::{cargo, output, run};
use crate::style;

/// Crates that must never be built, whatever the lock file lists as inactive
/// options (see `deny.toml` for the reasons).
const BANNED: [&str; 4] = ["openssl-sys", "native-tls", "ring", "libsqlite3-sys"];

/// Format, clippy, documentation, style, banned dependencies.
pub(crate) fn lint() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    style::check()?;
    for banned in BANNED {
        let tree = output(cargo().args([
            "tree",
            "--workspace",
            "--locked",
            "--prefix",
            "none",
            "--edges",
            "normal,build",
            "--format",
            "{p}",
        ]))?;
        if tree
            .lines()
            .any(|line| line.split(' ').next() == Some(banned))
        {
            bail!("{banned} is in the tree, deny.toml forbids it: cargo tree -i {banned}");
        }
    }
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    run(cargo().env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--workspace",
        "--no-deps",
        "--locked",
        "--quiet",
    ]))
}
