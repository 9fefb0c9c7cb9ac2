// SPDX-License-Identifier: Apache-2.0
//! The whole test suite. Tests that drive the built programs find them in
//! `target/dist`, so that is built first.

use anyhow::Result;

use crate::dist::{self, dist};
use crate::run::{cargo, root, run};

/// Builds the programs, then runs every test of the workspace.
pub(crate) fn test() -> Result<()> {
    dist()?;
    let mut command = cargo();
    command.env("ENSCONCE_DIST", dist::directory());
    // Relative paths are meant from the project's root, but tests run elsewhere.
    if let Some(vectors) = std::env::var_os("ENSCONCE_VECTORS") {
        command.env("ENSCONCE_VECTORS", root().join(vectors));
    }
    run(command.args([
        "test",
        "--workspace",
        "--locked",
        "--features",
        "enclave-abi/wire",
    ]))
}
