// SPDX-License-Identifier: Apache-2.0
//! `ensconce dev`: an emulated platform, its LAS and a development CAS on this
//! machine, in one command.

mod down;
mod place;
mod process;
mod purge;
mod record;
mod services;
mod status;
mod up;

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};

use crate::exit::{Class, Failure};
use place::Place;
pub(crate) use services::{LasAnswer, ask_las};

/// Where the LAS of `dev up` listens for this user, if that can be told.
pub(crate) fn usual_socket() -> Option<PathBuf> {
    Place::find(None, None).ok().map(|place| place.socket)
}

/// A local platform, LAS and CAS for development
///
/// Everything runs on this machine and protects nothing from its root user:
/// the processor is emulated and the CAS runs outside any enclave. Sessions
/// say so, and a production CAS believes none of it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Where things are:
  root        state /var/lib/ensconce/dev, platform /var/lib/ensconce/platform,
              socket /run/ensconce/las.sock
  other user  state and platform below $XDG_STATE_HOME/ensconce (else
              ~/.local/state/ensconce), socket $XDG_RUNTIME_DIR/ensconce/las.sock
              (else below the state)
  --dir DIR   everything below DIR: platform, run/las.sock, cas, logs

Exit codes: 0 done, 1 failed, 2 usage. For status: 0 everything answers, 1 something does not, \
3 nothing runs.

Example:
  ensconce dev up --allow-user 1000
  ensconce dev status
  ensconce dev down")]
pub(crate) struct Dev {
    #[command(subcommand)]
    command: DevCommand,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Start what does not run yet, and say how to use it
    Up(Up),
    /// Stop both services; keys, sessions and logs stay
    Down(Down),
    /// Show what runs
    Status(Status),
    /// Become a program in a session of its own
    #[command(hide = true)]
    Detached(Detached),
}

/// Options of `up`.
#[derive(Debug, Args)]
struct Up {
    /// Directory for everything [default: see `ensconce dev --help`]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Socket of the LAS; containers need its directory as /run/ensconce
    #[arg(long, value_name = "PATH")]
    las_socket: Option<PathBuf>,
    /// Address on which the CAS listens [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// Port of the CAS for clients; 0 takes a free one [default: 8081]
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Port of the CAS for enclaves; 0 takes a free one [default: 18765]
    #[arg(long, value_name = "PORT")]
    attested_port: Option<u16>,
    /// Insecure: make this user (number) the owner of the socket, such as 1000 for a container's; root only
    #[arg(long, value_name = "UID")]
    allow_user: Option<u32>,
    /// Insecure beyond 0660: permission bits of the socket, octal [default: 0660]
    #[arg(long, value_name = "MODE", value_parser = socket_mode)]
    socket_mode: Option<u32>,
}

/// Options of `down`.
#[derive(Debug, Args)]
struct Down {
    /// Directory that was given to `up`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Also remove all sessions, keys and logs, and the platform if `up` made it
    #[arg(long)]
    purge: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
struct Status {
    /// Directory that was given to `up`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The program to become.
#[derive(Debug, Args)]
struct Detached {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// Runs one of the subcommands.
pub(crate) fn dev(options: &Dev) -> Result<ExitCode, Failure> {
    match &options.command {
        DevCommand::Up(options) => {
            let place = Place::find(options.dir.as_deref(), options.las_socket.as_deref())?;
            up::up(&place, options).map(|()| ExitCode::SUCCESS)
        }
        DevCommand::Down(options) => {
            let place = Place::find(options.dir.as_deref(), None)?;
            down::down(&place, options.purge).map(|()| ExitCode::SUCCESS)
        }
        DevCommand::Status(options) => {
            let place = Place::find(options.dir.as_deref(), None)?;
            status::status(&place)
        }
        DevCommand::Detached(options) => Err(become_program(options)),
    }
}

/// Leaves the terminal's session, so that neither its end nor its interrupt
/// key reaches the service. Returns only if that fails.
fn become_program(options: &Detached) -> Failure {
    let Some((program, arguments)) = options.program.split_first() else {
        return Failure::new(Class::Usage, "No program is named");
    };
    // A leader of a process group has its own session already.
    let _ = rustix::process::setsid();
    let error = Command::new(program).args(arguments).exec();
    Failure::new(
        Class::Internal,
        format!("Cannot start '{}': {error}", program.display()),
    )
}

fn socket_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).map_err(|error| error.to_string())?;
    if mode & !0o666 != 0 || mode & 0o600 != 0o600 {
        return Err("between 0600 and 0666, without execute and special bits".to_owned());
    }
    Ok(mode)
}
