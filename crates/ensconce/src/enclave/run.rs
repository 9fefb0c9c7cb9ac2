// SPDX-License-Identifier: Apache-2.0
//! `ensconce enclave run`: a program of this machine in a DEBUG enclave.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, ValueEnum};
use enclave_image::root::HostRoot;
use enclave_image::sign::Signer;

use super::cache::{Cache, Key};
use super::plan::{Purpose, Shape, assemble};
use crate::exit::{Class, Classify as _, Failure};
use crate::libexec::Libexec;

/// Run a program of this machine in an enclave, for development
///
/// The enclave is a DEBUG enclave and takes arguments, environment and files from
/// the host: it protects nothing. Images are kept in a cache below
/// $XDG_CACHE_HOME/ensconce until the program, its libraries or the kernel
/// change.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is the program's own, or 128 plus the number of the signal that ended it.

Example:
  ensconce enclave run --heap 256M python3 -c 'print(sum(range(10**6)))'")]
pub(crate) struct Run {
    #[command(flatten)]
    shape: Shape,
    /// Emulate every instruction of SGX by its fault, as the hardware behaves
    #[arg(long)]
    strict: bool,
    /// Where the enclave runs [default: SCONE_MODE, else auto]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Program: a path, or a name in PATH
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Where an enclave runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// On an SGX device; refused without one
    Hw,
    /// On the emulated platform
    Sim,
    /// On the device if there is one, else emulated
    Auto,
}

/// Builds the image unless it is cached, then becomes the launcher.
pub(super) fn run(options: &Run) -> Result<ExitCode, Failure> {
    let libexec = Libexec::find()?;
    let launcher = libexec.path("launch")?;
    let kernel = libexec.path("kernel.elf")?;
    let program = locate(&options.program)?;
    let cache = Cache::open()?;
    let key = Key::new(&program, &kernel, &options.shape)?;
    let directory = match cache.find(&key) {
        Some(directory) => directory,
        None => {
            let kernel = libexec.read("kernel.elf")?;
            let built = assemble(
                &kernel,
                &HostRoot::new("/"),
                &program,
                &options.shape,
                Purpose::Test,
                &Signer::debug(),
                true,
            )?;
            cache.store(&key, &built)?
        }
    };
    let image = directory.join(enclave_abi::image::FILE_NAME);
    let mut signature = image.clone().into_os_string();
    signature.push(".sig");
    let mut command = Command::new(&launcher);
    // The launcher hands its own name on as the program's first argument.
    command
        .arg0(&options.program)
        .arg("--image")
        .arg(&image)
        .arg("--sig")
        .arg(&signature)
        .args(["--root", "/", "--mode", mode(options)]);
    if options.strict {
        command.arg("--strict");
    }
    command.arg("--").args(&options.arguments);
    let error = command.exec();
    Err::<ExitCode, _>(error).class(
        Class::Internal,
        format!("Cannot start '{}'", launcher.display()),
    )
}

fn mode(options: &Run) -> &'static str {
    let given = options.mode.or_else(|| {
        let text = std::env::var("SCONE_MODE").ok()?;
        Mode::from_str(&text, true).ok()
    });
    match given {
        Some(Mode::Hw) => "hw",
        Some(Mode::Sim) => "sim",
        Some(Mode::Auto) | None => "auto",
    }
}

/// The program's absolute path, found as a shell finds it.
fn locate(program: &Path) -> Result<PathBuf, Failure> {
    let absent = || {
        Failure::new(
            Class::Binary,
            format!(
                "'{}' is neither a file nor a name in PATH",
                program.display()
            ),
        )
    };
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return std::path::absolute(program).class(
            Class::Binary,
            format!("Cannot make '{}' an absolute path", program.display()),
        );
    }
    std::env::split_paths(&std::env::var_os("PATH").ok_or_else(absent)?)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(absent)
}
