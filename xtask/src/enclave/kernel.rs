// SPDX-License-Identifier: Apache-2.0
//! The bootable kernel image.

use std::path::PathBuf;

use anyhow::Result;

use super::program::remap;
use crate::run::{cargo, root, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds `kernel.elf`: a static PIE without a C library.
pub(crate) fn kernel() -> Result<PathBuf> {
    let target_dir = root().join("target/enclave/kernel");
    let flags = [
        "-C relocation-model=pie",
        "-C link-arg=-nostartfiles",
        "-C link-arg=-nostdlib",
        "-C link-arg=-static-pie",
        "-C link-arg=-Wl,-z,norelro,-z,separate-code,--build-id=none",
    ];
    run(cargo()
        .env("RUSTFLAGS", format!("{} {}", flags.join(" "), remap()))
        .args([
            "build",
            "--locked",
            "--profile",
            "enclave",
            "--target",
            TARGET,
        ])
        .args([
            "--package",
            "kernel",
            "--bin",
            "kernel",
            "--features",
            "image",
            "--target-dir",
        ])
        .arg(&target_dir))?;
    Ok(target_dir.join(TARGET).join("enclave/kernel"))
}
