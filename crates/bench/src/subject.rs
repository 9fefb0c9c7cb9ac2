// SPDX-License-Identifier: Apache-2.0
//! What is measured: C programs of this crate, and enclaves of programs of the
//! host in start mode `test`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use demo::process::run;

use crate::Bench;

/// How the processor is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As in everyday use.
    Fast,
    /// Each instruction of SGX by its fault.
    Strict,
}

impl Mode {
    /// The launcher's option.
    pub(crate) fn option(self) -> Option<&'static str> {
        match self {
            Self::Fast => None,
            Self::Strict => Some("--strict"),
        }
    }

    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Strict => "strict",
        }
    }
}

/// How a C program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Dynamic,
    /// Static and position independent: images made here hold nothing else.
    Static,
}

/// The directory of this crate's C programs.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

/// Compiles `NAME.c` of a directory below `work`.
pub(crate) fn compile(sources: &Path, name: &str, link: Link, work: &Path) -> Result<PathBuf> {
    let source = sources.join(format!("{name}.c"));
    let program = work.join(name);
    let options: &[&str] = match link {
        Link::Dynamic => &["-O2", "-pthread"],
        Link::Static => &["-O2", "-pthread", "-static-pie"],
    };
    let status = Command::new("gcc")
        .args(options)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .arg("-lm")
        .status()
        .context("while starting gcc; install it: apt-get install gcc libc6-dev")?;
    ensure!(status.success(), "gcc cannot compile {}", source.display());
    Ok(program)
}

/// A built enclave of a host program.
#[derive(Debug)]
pub(crate) struct Enclave {
    image: PathBuf,
    launcher: PathBuf,
}

impl Enclave {
    /// Builds the enclave of `program` with this heap.
    pub(crate) fn build(bench: &Bench, program: &Path, heap: &str, work: &Path) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let dir = work.join(format!("{name}-{heap}.enclave"));
        run(bench
            .programs
            .command("ensconce", work)
            .args(["enclave", "build", "--mode=test", "--heap", heap, "-o"])
            .arg(&dir)
            .arg(program))?
        .success("ensconce enclave build")?;
        Ok(Self {
            image: dir.join("enclave.img"),
            launcher: bench.launcher(),
        })
    }

    /// Starts it: the program's name, then its arguments.
    pub(crate) fn command(&self, mode: Mode, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.launcher);
        let (name, arguments) = arguments.split_first().unwrap_or((&"program", &[]));
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command
            .env("SCONE_MODE", "sim")
            .stdin(Stdio::null())
            .arg("--image")
            .arg(&self.image)
            .args(["--root", "/"])
            .args(mode.option())
            .arg("--")
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
