// SPDX-License-Identifier: Apache-2.0
//! The whole test suite. Tests that drive the built programs find them in
//! `target/dist`, so that is built first.

use std::process::Command;

use anyhow::Result;

use crate::dist::{self, dist};
use crate::run::{cargo, root, run};

/// Builds the programs, runs every test of the workspace, then those of a
/// launcher that attacks its enclave: a build of its own that is never installed.
pub(crate) fn test() -> Result<()> {
    dist()?;
    run(suite()
        .args(["--workspace", "--no-fail-fast", "--features"])
        .arg("enclave-abi/wire"))?;
    run(suite()
        .args(["--package", "enclave-host", "--package", "sgx-emu"])
        .args(["--features", "enclave-host/hostile", "--test", "hostile"]))
}

/// `cargo test` with what tests look for.
fn suite() -> Command {
    let mut command = cargo();
    command
        .args(["test", "--locked"])
        .env("ENSCONCE_DIST", dist::directory());
    // Relative paths are meant from the project's root, but tests run elsewhere.
    if let Some(vectors) = std::env::var_os("ENSCONCE_VECTORS") {
        command.env("ENSCONCE_VECTORS", root().join(vectors));
    }
    command
}
