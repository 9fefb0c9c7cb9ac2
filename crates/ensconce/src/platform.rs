// SPDX-License-Identifier: Apache-2.0
//! `ensconce platform`: the emulated SGX platform of this machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use attest::time::UnixTime;
use clap::{Args, Subcommand, ValueEnum};
use las::platform::{DEFAULT_DIR, Platform as Emulated, PlatformError, PlatformInfo};

use crate::exit::{Class, Classify as _, Failure};

/// Make or show an emulated SGX platform
///
/// An emulated platform takes the place of SGX hardware for development and
/// tests. It protects nothing against root of its machine: its evidence counts
/// only where its root certificate was installed as an anchor and the session
/// tolerates it by name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ensconce platform init
  ensconce-las --emulated
  ensconce platform show --report json")]
pub(crate) struct Platform {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a platform: fuse keys, certificates, revocation lists, TCB info; nothing is ever overwritten
    Init(Init),
    /// Print what is public about a platform
    Show(Show),
}

#[derive(Debug, Args)]
struct Init {
    /// Where to make it
    #[arg(value_name = "DIR", default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Show {
    /// Where it lies
    #[arg(value_name = "DIR", default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Print the result in this form instead of lines
    #[arg(long, value_name = "FORM")]
    report: Option<Form>,
}

/// Forms of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object.
    Json,
}

/// Runs the subcommand.
pub(crate) fn platform(options: &Platform) -> Result<ExitCode, Failure> {
    match &options.verb {
        Verb::Init(init) => {
            let platform = Emulated::init(&init.dir, UnixTime::from_system())
                .class(Class::Files, "the platform cannot be made")?;
            print!("{}", lines(&init.dir, platform.info()));
            eprintln!(
                "This platform is emulated: it protects nothing against root of this machine.\n\
                 Next: ensconce-las --emulated{}",
                if init.dir == Path::new(DEFAULT_DIR) {
                    String::new()
                } else {
                    format!(" --platform {}", init.dir.display())
                }
            );
        }
        Verb::Show(show) => {
            let info = PlatformInfo::read(&show.dir).map_err(|error| {
                let class = match error {
                    PlatformError::Absent { .. } | PlatformError::File { .. } => Class::Files,
                    _ => Class::Internal,
                };
                Failure::new(class, format!("{:#}", anyhow::Error::from(error)))
            })?;
            match show.report {
                Some(Form::Json) => println!(
                    "{}",
                    serde_json::to_string_pretty(&info)
                        .class(Class::Internal, "the report cannot be written")?
                ),
                None => print!("{}", lines(&show.dir, &info)),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(dir: &Path, info: &PlatformInfo) -> String {
    let mut text = String::new();
    let root = PlatformInfo::root_certificate(dir);
    for (name, value) in [
        ("directory", dir.display().to_string()),
        ("anchor certificate", root.display().to_string()),
        ("tolerance", format!("emulated-platform:{}", info.anchor)),
        ("platform", format!("INTEL_QE_ID:{}", info.qe_id)),
        ("FMSPC", info.fmspc.clone()),
        ("created", info.created.clone()),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<19} {value}");
    }
    text
}
