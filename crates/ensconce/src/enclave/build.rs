// SPDX-License-Identifier: Apache-2.0
//! `ensconce enclave build`: writes `enclave.img` and its SIGSTRUCT.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use enclave_abi::image::FILE_NAME;
use enclave_abi::manifest::ProgramConfig;
use enclave_image::root::HostRoot;
use enclave_image::sign::Signer;

use super::plan::{Purpose, Shape, assemble};
use crate::exit::{Class, Classify as _, Failure};
use crate::libexec::Libexec;

/// Build an enclave from a program of this machine
///
/// Writes enclave.img and enclave.img.sig into a directory and prints MRENCLAVE.
/// Equal programs, libraries and options give equal files.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Without --sign the enclave is signed with a key that everybody has, and is a DEBUG enclave: the \
host can read its memory.

Example:
  ensconce enclave build --mode standalone --sign key.pem -o out /usr/bin/server --listen :443")]
pub(crate) struct Build {
    /// Directory for enclave.img and enclave.img.sig
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    shape: Shape,
    /// Where arguments, environment and directory come from
    #[arg(long, value_enum, default_value_t = Mode::Test)]
    mode: Mode,
    /// Sign with this RSA-3072 key (exponent 3), for production unless --debug is given
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Make a DEBUG enclave although it is signed with --sign
    #[arg(long, requires = "sign")]
    debug: bool,
    /// Directory that is the image's root
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Variable for the program, standalone only; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// Working directory, standalone only
    #[arg(long, value_name = "PATH", default_value = "/")]
    workdir: PathBuf,
    /// Path served from the host unprotected, standalone only; may be repeated
    #[arg(long, value_name = "PATH")]
    host_path: Vec<PathBuf>,
    /// Insecure: load code from --host-path too, standalone DEBUG enclaves only
    #[arg(long)]
    allow_any_code: bool,
    /// Absolute path of the program below the root
    program: PathBuf,
    /// Its arguments, standalone only
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Where arguments, environment and directory come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// From the host, at start; DEBUG enclaves only
    Test,
    /// From this command line, measured
    Standalone,
}

/// Builds and writes.
pub(super) fn build(options: &Build) -> Result<ExitCode, Failure> {
    let is_debug = options.sign.is_none() || options.debug;
    let purpose = purpose(options)?;
    if !is_debug && options.mode == Mode::Test {
        return Err(Failure::new(
            Class::Usage,
            "An enclave of mode test takes its arguments from the host and must be a DEBUG \
             enclave; add --debug, or choose --mode standalone",
        ));
    }
    let signer = signer(options.sign.as_deref())?;
    let kernel = Libexec::find()?.read("kernel.elf")?;
    let built = assemble(
        &kernel,
        &HostRoot::new(&options.root),
        &options.program,
        &options.shape,
        purpose,
        &signer,
        is_debug,
    )?;
    write(&options.output, built.image.bytes(), &built.signature)?;
    println!("{}", hex::encode(built.image.mrenclave));
    Ok(ExitCode::SUCCESS)
}

/// Writes image and signature below `directory`, which is made.
pub(super) fn write(directory: &Path, image: &[u8], signature: &[u8]) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).class(
        Class::Output,
        format!("Cannot make the directory '{}'", directory.display()),
    )?;
    for (name, bytes) in [
        (FILE_NAME.to_owned(), image),
        (format!("{FILE_NAME}.sig"), signature),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, bytes)
            .class(Class::Output, format!("Cannot write '{}'", path.display()))?;
    }
    Ok(())
}

/// The key of `--sign`, or the well-known debug key.
fn signer(path: Option<&Path>) -> Result<Signer, Failure> {
    let Some(path) = path else {
        return Ok(Signer::debug());
    };
    let doing = || format!("Cannot sign with '{}'", path.display());
    let pem = std::fs::read(path)
        .map(zeroize::Zeroizing::new)
        .class(Class::Signing, doing())?;
    Signer::from_pem(&pem).class(Class::Signing, doing())
}

fn purpose(options: &Build) -> Result<Purpose, Failure> {
    if options.mode == Mode::Test {
        let is_given = !options.env.is_empty()
            || !options.arguments.is_empty()
            || !options.host_path.is_empty()
            || options.allow_any_code
            || options.workdir != Path::new("/");
        if is_given {
            return Err(Failure::new(
                Class::Usage,
                "Arguments, --env, --workdir, --host-path and --allow-any-code need --mode \
                 standalone; in mode test the host gives them at start",
            ));
        }
        return Ok(Purpose::Test);
    }
    for path in options.host_path.iter().chain([&options.workdir]) {
        if !path.is_absolute() {
            return Err(Failure::new(
                Class::Usage,
                format!("'{}' is not an absolute path", path.display()),
            ));
        }
    }
    if let Some(bad) = options.env.iter().find(|text| !is_variable(text)) {
        return Err(Failure::new(
            Class::Usage,
            format!("'{}' does not have the form NAME=VALUE", bad.display()),
        ));
    }
    let mut argv = vec![options.program.clone().into_os_string().into_vec()];
    argv.extend(options.arguments.iter().map(|text| text.clone().into_vec()));
    Ok(Purpose::Standalone {
        config: ProgramConfig {
            argv,
            env: options.env.iter().map(|v| v.clone().into_vec()).collect(),
            cwd: options.workdir.clone().into_os_string().into_vec(),
        },
        host_paths: options
            .host_path
            .iter()
            .map(|path| path.clone().into_os_string().into_vec())
            .collect(),
        loads_any: options.allow_any_code,
    })
}

fn is_variable(text: &OsString) -> bool {
    let name = text.as_bytes().split(|&byte| byte == b'=').next();
    text.as_bytes().contains(&b'=') && name.is_some_and(|name| !name.is_empty())
}
