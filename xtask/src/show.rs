// SPDX-License-Identifier: Apache-2.0
//! The programs that show and measure: built like everything else, then run.

use anyhow::Result;

use crate::dist::dist;
use crate::run::{cargo, root, run};

/// `make demo`.
pub(crate) fn demo() -> Result<()> {
    built("demo")
}

/// `make bench`.
pub(crate) fn bench() -> Result<()> {
    built("bench")
}

fn built(package: &str) -> Result<()> {
    dist()?;
    run(cargo().env("ENSCONCE_TARGET", root().join("target")).args([
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        package,
    ]))
}
