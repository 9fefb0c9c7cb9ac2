// SPDX-License-Identifier: Apache-2.0
//! Static-PIE programs: they run on whatever C library an image has, or none.

use std::path::PathBuf;

use anyhow::Result;

use crate::run::{cargo, root, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds binary `name` of `package` without dynamic dependencies.
pub(crate) fn program(package: &str, name: &str) -> Result<PathBuf> {
    let target_dir = root().join("target/enclave/static");
    run(cargo()
        .env(
            "RUSTFLAGS",
            format!("-C target-feature=+crt-static {}", remap()),
        )
        .args([
            "build",
            "--locked",
            "--profile",
            "enclave",
            "--target",
            TARGET,
        ])
        .args(["--package", package, "--bin", name, "--target-dir"])
        .arg(&target_dir))?;
    Ok(target_dir.join(TARGET).join("enclave").join(name))
}

/// Flags that keep the builder's directories out of the result, so that two
/// checkouts give the same bytes.
pub(crate) fn remap() -> String {
    let cargo_home = std::env::var("CARGO_HOME")
        .ok()
        .or_else(|| Some(format!("{}/.cargo", std::env::var("HOME").ok()?)))
        .unwrap_or_default();
    format!(
        "--remap-path-prefix={}=/ensconce --remap-path-prefix={cargo_home}=/cargo",
        root().display()
    )
}
