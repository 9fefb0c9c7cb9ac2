// SPDX-License-Identifier: Apache-2.0
//! Removes a private directory when the process that uses it has ended, in
//! whatever way. The launcher takes the place of `ensconce run`, so that
//! signals and exit codes are its own; somebody else must tidy up.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};

use super::PREFIX;
use crate::exit::{Class, Classify as _, Failure};

/// Wait for the parent's end, then remove its private directory
#[derive(Debug, Args)]
pub(crate) struct CleanUp {
    directory: PathBuf,
}

/// Starts the process that will remove `directory`.
pub(super) fn start(directory: &Path) -> Result<(), Failure> {
    let doing = "Cannot start the process that tidies up";
    let program = std::env::current_exe().class(Class::Internal, doing)?;
    let mut cleaner = Command::new(program)
        .arg("clean-up")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Interrupts from the terminal are for the launcher alone.
        .process_group(0)
        .spawn()
        .class(Class::Internal, doing)?;
    let mut ready = [0];
    let mut answer = cleaner
        .stdout
        .take()
        .ok_or_else(|| Failure::new(Class::Internal, doing))?;
    answer
        .read_exact(&mut ready)
        .class(Class::Internal, doing)?;
    Ok(())
}

/// Waits for the end of the process that started this one.
pub(crate) fn clean_up(options: &CleanUp) -> Result<ExitCode, Failure> {
    let name = options.directory.file_name().unwrap_or_default();
    if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
        return Err(Failure::new(
            Class::Usage,
            "This subcommand only removes directories of 'ensconce run'",
        ));
    }
    let doing = "Cannot watch the launcher";
    let parent = getppid().ok_or_else(|| Failure::new(Class::Internal, doing))?;
    let watched = pidfd_open(parent, PidfdFlags::empty()).class(Class::Internal, doing)?;
    // A parent that ended before it was watched may have left its number.
    if getppid() == Some(parent) {
        let mut out = std::io::stdout();
        out.write_all(b"1")
            .and_then(|()| out.flush())
            .class(Class::Internal, doing)?;
        let mut events = [PollFd::new(&watched, PollFlags::IN)];
        while let Err(error) = poll(&mut events, None) {
            if error != rustix::io::Errno::INTR {
                break;
            }
        }
    }
    std::fs::remove_dir_all(&options.directory)
        .class(Class::Internal, "Cannot remove the private directory")?;
    Ok(ExitCode::SUCCESS)
}
