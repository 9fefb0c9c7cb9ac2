// SPDX-License-Identifier: Apache-2.0
//! The options of `ensconce convert`.

mod not_yet;
mod size;

use std::path::PathBuf;

use clap::{Args, Parser};

pub(crate) use not_yet::NotYet;
pub(crate) use size::Size;

/// `sconify_image`: the same options without a subcommand.
#[derive(Debug, Parser)]
#[command(name = "sconify_image", version, args_override_self = true)]
pub(crate) struct SconifyImage {
    #[command(flatten)]
    pub(crate) convert: Convert,
}

/// Convert a container image into a confidential one
///
/// Takes one program of a native image and makes an image in which it runs
/// inside an enclave: the program, its libraries and all files around it are
/// authenticated, and what --dir names is encrypted. The native command,
/// environment and working directory move into a session, which only an
/// attested enclave receives.
///
/// Standard output is the session's name and nothing else.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_long_help = "\
Images are named oci:DIR[:TAG], docker-archive:FILE[:NAME] or, bare, by their name in the docker \
daemon.

Services that are recognised: Python 3, Node.js, Java, Go; any other ELF program is treated as \
native code. No program is replaced by another build.

Exit codes: 0 done, 1 internal, 2 usage, 3 native image, 4 binary, 5 files, 6 signing, 7 CAS, \
8 session, 9 writing the result.

Recognised but not supported yet (exit code 2): see the option list of the documentation.

Example:
  ensconce convert --from=oci:native:flask --to=oci:confidential:flask \\
      --binary=/usr/bin/python3.11 --dir=/app --dir=/tls --disable-session-upload"
)]
pub(crate) struct Convert {
    /// Native image to convert
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: String,
    /// Name of the result
    #[arg(long, value_name = "IMAGE")]
    pub(crate) to: String,
    /// Program that runs in the enclave: an absolute path, or a name in the image's PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: String,

    /// Name of the session [default: made from --to]
    #[arg(long, value_name = "SESSION")]
    pub(crate) name: Option<String>,
    /// Name of the service in the session
    #[arg(long, value_name = "NAME", default_value = "service")]
    pub(crate) service_name: String,
    /// Command of the service [default: ENTRYPOINT and CMD of the native image]
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) command: Option<String>,
    /// Variable for the service, beside those of the native image; may be repeated
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub(crate) env: Vec<String>,

    /// Directory (or file) to encrypt; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: Vec<String>,
    /// Directory that is neither encrypted nor authenticated; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) plain: Vec<String>,
    /// File that is neither encrypted nor authenticated; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) plain_file: Vec<String>,
    /// Path that is served from the container as it is at run time; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) host_path: Vec<String>,

    /// CAS that keeps the session: HOST[:REST_PORT[:ATTESTED_PORT]] [default: default_cas of the client configuration]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) cas: Option<String>,
    /// Quoting service [default: chosen by the launcher]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) las: Option<String>,
    /// Insecure: accept a CAS that runs in debug mode or outside an enclave
    #[arg(long, alias = "cas_debug")]
    pub(crate) cas_debug: bool,
    /// Insecure: let enclaves in debug mode receive the session's secrets
    #[arg(long)]
    pub(crate) allow_debug_mode: bool,
    /// Insecure: let enclaves of an emulated platform receive the session's secrets [default anchor: this machine's platform]
    #[arg(long, value_name = "ANCHOR", num_args = 0..=1, require_equals = true)]
    #[expect(
        clippy::option_option,
        reason = "absent, given, and given with a value"
    )]
    pub(crate) allow_emulated_platform: Option<Option<String>>,
    /// Identity that owns the session: PEM key and certificate, or a client configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Write the session to this file (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(crate) session: Option<PathBuf>,
    /// Contact no CAS; the session is only written to a file
    #[arg(long)]
    pub(crate) disable_session_upload: bool,

    /// Do not copy the native image's variables into the session
    #[arg(long)]
    pub(crate) disable_copy_envvars: bool,
    /// Do not place the service's libraries in the authenticated region by itself
    #[arg(long)]
    pub(crate) disable_copy_service_libraries: bool,
    /// Do not add a generic name such as python3 beside python3.11
    #[arg(long)]
    pub(crate) disable_binary_symlink_detection: bool,

    /// Do not generate LD_LIBRARY_PATH for libraries that the image's loader would not find
    #[arg(long)]
    pub(crate) disable_ld_library_path_in_session: bool,

    /// Most memory of the program, such as 512M or 4G [default: by kind of service]
    #[arg(long, value_name = "SIZE")]
    pub(crate) heap: Option<Size>,
    /// Stack of the program's first thread [default: by kind of service]
    #[arg(long, value_name = "SIZE")]
    pub(crate) stack: Option<Size>,
    /// Loading code after start: 0 never, 1 protected files, 2 any file (debug only)
    #[arg(long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) dlopen: u8,
    /// Creating processes; only 0 is supported yet
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) fork: u8,
    /// Log level of the runtime: trace, debug, info, warning, error, fatal
    #[arg(long, value_name = "LEVEL", value_parser = parse_log)]
    pub(crate) log: Option<&'static str>,
    /// Sign the enclave for production with this RSA-3072 key (exponent 3)
    #[arg(long, value_name = "KEY", alias = "sign")]
    pub(crate) scone_signer: Option<PathBuf>,

    /// Check and plan everything, write and upload nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Show the texts that are made, secrets left out
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
    /// Show each step
    #[arg(short = 'x', long)]
    pub(crate) debug: bool,
    /// No colours
    #[arg(long)]
    pub(crate) no_color: bool,

    #[command(flatten)]
    pub(crate) not_yet: NotYet,
    /// Words that belong to no option, usually by a quote that was forgotten
    #[arg(hide = true)]
    pub(crate) stray: Vec<String>,
}

/// Names in any case, and the old number for the most verbose level.
fn parse_log(text: &str) -> Result<&'static str, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" | "7" => Ok("TRACE"),
        "debug" => Ok("DEBUG"),
        "info" => Ok("INFO"),
        "warning" => Ok("WARNING"),
        "error" => Ok("ERROR"),
        "fatal" => Ok("FATAL"),
        _ => Err("expected trace, debug, info, warning, error or fatal".to_owned()),
    }
}

#[cfg(test)]
mod tests;
