// SPDX-License-Identifier: Apache-2.0
//! `target/dist`: what a user installs.
//!
//! `bin` holds the programs for the host, `libexec` the parts that conversion
//! puts into images: kernel.elf, agent and launch.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::enclave;
use crate::run::{cargo, root, run};

/// Programs of `bin` and the packages that build them.
const PROGRAMS: [(&str, &str); 3] = [
    ("ensconce", "ensconce"),
    ("ensconce-cas", "cas"),
    ("ensconce-las", "las"),
];
/// Other names under which `ensconce` knows what to do.
const NAMES: [&str; 2] = ["determine_sgx_device", "sconify_image"];

/// Where everything lands.
pub(crate) fn directory() -> PathBuf {
    root().join("target/dist")
}

/// Builds everything and lays it out.
pub(crate) fn dist() -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked"]);
    for (_, package) in PROGRAMS {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    let parts = enclave::build()?;

    let (bin, libexec) = (directory().join("bin"), directory().join("libexec"));
    for dir in [&bin, &libexec] {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("while creating {}", dir.display()))?;
    }
    for (program, _) in PROGRAMS {
        install(
            &root().join("target/release").join(program),
            &bin.join(program),
        )?;
    }
    for name in NAMES {
        let link = bin.join(name);
        if !link.exists() {
            symlink("ensconce", &link)
                .with_context(|| format!("while linking {}", link.display()))?;
        }
    }
    for (name, built) in parts {
        install(&built, &libexec.join(name))?;
    }
    Ok(())
}

/// Replaces `to` in one step, so that a running program is never overwritten;
/// leaves it alone when nothing changed, so that caches stay valid.
fn install(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| format!("while reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let staged = to.with_extension("new");
    std::fs::copy(from, &staged)
        .and_then(|_| std::fs::rename(&staged, to))
        .with_context(|| format!("while installing {}", to.display()))
}
