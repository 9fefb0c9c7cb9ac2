// SPDX-License-Identifier: Apache-2.0
//! `ensconce doctor`: what this machine offers, what it lacks, what to do.

mod device;
mod docker;
mod launcher;
mod machine;
mod report;
mod services;

use std::process::ExitCode;

use clap::{Args, Parser, ValueEnum};

use crate::exit::Failure;
use report::Check;

/// Longest foreign text that is shown.
const SHOWN_MAX: usize = 200;

/// Check what this machine offers to enclaves
///
/// Each line is ok, warn or fail, with the next step where there is one. A
/// warning means that something will not work that not everybody needs.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit codes: 0 nothing failed, 1 something failed, 2 usage. With --sgx-device: 0 a flag was \
printed, 1 there is neither a device nor an emulated platform.

Examples:
  ensconce doctor
  docker run $(ensconce doctor --sgx-device) IMAGE")]
pub(crate) struct Doctor {
    /// Print only the flag that gives a container this machine's SGX: a device, or the emulated platform's socket
    #[arg(long, conflicts_with = "report")]
    sgx_device: bool,
    /// Print the result in this form instead of a table
    #[arg(long, value_name = "FORM")]
    report: Option<Form>,
}

/// Forms of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object.
    Json,
}

/// Print the docker flag that gives a container this machine's SGX
///
/// Under this name the program is `ensconce doctor --sgx-device`.
#[derive(Debug, Parser)]
#[command(name = "determine_sgx_device", version)]
pub(crate) struct DetermineSgxDevice {}

impl DetermineSgxDevice {
    /// The options that the name stands for.
    pub(crate) const fn options(&self) -> Doctor {
        Doctor {
            sgx_device: true,
            report: None,
        }
    }
}

/// Runs all checks.
pub(crate) fn doctor(options: &Doctor) -> Result<ExitCode, Failure> {
    let device = device::find();
    if options.sgx_device {
        return Ok(device::print_flag(&device));
    }
    let mut checks: Vec<Check> = Vec::new();
    checks.extend(machine::checks());
    checks.extend(launcher::checks());
    checks.extend(device::checks(&device));
    checks.push(services::default_cas());
    checks.push(docker::check());
    match options.report {
        Some(Form::Json) => print!("{}", report::json(&checks, device.flag().as_deref())?),
        None => print!("{}", report::table(&checks)),
    }
    Ok(report::exit_code(&checks))
}

/// Foreign text, fit for a terminal: printable ASCII of bounded length.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(SHOWN_MAX)
        .map(|char| match char {
            ' '..='~' => char,
            _ => '?',
        })
        .collect()
}
