// SPDX-License-Identifier: Apache-2.0
//! The command line of Ensconce.
//!
//! One file per subcommand. Under the name `sconify_image` the program is
//! `ensconce convert`, under `determine_sgx_device` it is
//! `ensconce doctor --sgx-device`.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "doc comments of options are help texts, where brackets are brackets"
)]

mod args;
mod cache_home;
mod console;
mod convert;
mod dev;
mod doctor;
mod enclave;
mod exit;
mod libexec;
mod platform;
mod run;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Failure;

/// Turns container images into confidential ones and runs them in attested
/// enclaves.
#[derive(Debug, Parser)]
#[command(name = "ensconce", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant per file of the same name.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    CleanUp(run::CleanUp),
    Convert(Box<args::Convert>),
    Dev(dev::Dev),
    Doctor(doctor::Doctor),
    Enclave(enclave::Enclave),
    Platform(platform::Platform),
    Run(run::Run),
}

impl Command {
    fn execute(self) -> Result<ExitCode, Failure> {
        match self {
            Self::CleanUp(options) => run::clean_up(&options),
            Self::Convert(options) => convert::convert(*options).map(|()| ExitCode::SUCCESS),
            Self::Enclave(options) => enclave::enclave(&options),
            Self::Dev(options) => dev::dev(&options),
            Self::Doctor(options) => doctor::doctor(&options),
            Self::Platform(options) => platform::platform(&options),
            Self::Run(options) => run::run(&options),
        }
    }
}

/// What the program's own name asks for.
fn parse(arguments: Vec<OsString>) -> Result<Command, clap::Error> {
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name());
    if name.is_some_and(|name| name == "sconify_image") {
        return args::SconifyImage::try_parse_from(arguments)
            .map(|parsed| Command::Convert(Box::new(parsed.convert)));
    }
    if name.is_some_and(|name| name == "determine_sgx_device") {
        return doctor::DetermineSgxDevice::try_parse_from(arguments)
            .map(|parsed| Command::Doctor(parsed.options()));
    }
    Cli::try_parse_from(arguments).map(|cli| cli.command)
}

fn main() -> ExitCode {
    let command = match parse(std::env::args_os().collect()) {
        Ok(command) => command,
        Err(error) => {
            // Help goes to standard output with code 0, errors to standard
            // error with code 2; a closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match command.execute() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
