// SPDX-License-Identifier: Apache-2.0
//! Licences, sources and advisories, by cargo-deny.

use anyhow::{Context as _, Result};

use crate::run::{cargo, run};

/// Runs the whole of `deny.toml`.
pub(crate) fn audit() -> Result<()> {
    run(cargo().args(["deny", "--version"]))
        .context("cargo-deny is missing: cargo install --locked cargo-deny")?;
    run(cargo().args(["deny", "check"]))
}
