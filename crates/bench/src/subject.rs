// SPDX-License-Identifier: Apache-2.0
//! What is measured: C programs of this crate, and enclaves of programs of the
//! host in start mode `test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use demo::process::{Programs, run};

/// Compiles a program of `crates/bench/programs`.
pub(crate) fn compile(name: &str, work: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(format!("{name}.c"));
    let program = work.join(name);
    let status = Command::new("gcc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .context("while starting gcc")?;
    ensure!(status.success(), "gcc cannot compile {}", source.display());
    Ok(program)
}

/// A built enclave of a host program.
#[derive(Debug)]
pub(crate) struct Enclave {
    image: PathBuf,
    launch: PathBuf,
}

impl Enclave {
    /// Builds the enclave of `program` with this heap.
    pub(crate) fn build(
        programs: &Programs,
        dist: &Path,
        program: &Path,
        heap: &str,
        work: &Path,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let dir = work.join(format!("{name}-{heap}.enclave"));
        run(programs
            .command("ensconce", work)
            .args(["enclave", "build", "--mode=test", "--heap", heap, "-o"])
            .arg(&dir)
            .arg(program))?
        .success("ensconce enclave build")?;
        Ok(Self {
            image: dir.join("enclave.img"),
            launch: dist.join("libexec/launch"),
        })
    }

    /// Starts it in fast mode.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.launch);
        command
            .env("SCONE_MODE", "sim")
            .arg("--image")
            .arg(&self.image)
            .args(["--root", "/", "--"])
            .args(arguments);
        command
    }
}

/// Runs a command that prints numbers.
pub(crate) fn numbers(command: &mut Command) -> Result<Vec<f64>> {
    let shown = format!("{command:?}");
    let printed = run(command)?.success(&shown)?;
    printed
        .split_whitespace()
        .map(|word| {
            word.parse()
                .with_context(|| format!("{shown} printed {printed:?}"))
        })
        .collect()
}
