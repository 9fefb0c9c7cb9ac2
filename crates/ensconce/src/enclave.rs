// SPDX-License-Identifier: Apache-2.0
//! `ensconce enclave`: builds, runs and shows single enclaves, without images
//! and without a CAS.

mod build;
mod cache;
mod plan;
mod run;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::exit::Failure;

/// Build, run and show single enclaves, without container and CAS
#[derive(Debug, Args)]
pub(crate) struct Enclave {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Box<build::Build>),
    Run(run::Run),
    Show(show::Show),
}

/// Executes the subcommand.
pub(crate) fn enclave(options: &Enclave) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Build(options) => build::build(options),
        Command::Run(options) => run::run(options),
        Command::Show(options) => show::show(options),
    }
}
