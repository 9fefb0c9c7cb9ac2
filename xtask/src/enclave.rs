// SPDX-License-Identifier: Apache-2.0
//! The parts that go into images, each built for its own peculiar world.

mod kernel;
mod program;

use std::path::PathBuf;

use anyhow::Result;

/// Builds every part; gives its name in `libexec` and where it was built.
pub(crate) fn build() -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![
        ("kernel.elf", kernel::kernel()?),
        ("agent", program::program("agent", "agent")?),
        ("launch", program::program("enclave-host", "launch")?),
    ])
}
