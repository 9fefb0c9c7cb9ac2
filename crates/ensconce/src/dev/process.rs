// SPDX-License-Identifier: Apache-2.0
//! Starting programs that outlive this one, and stopping them later.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::record::Record;
use crate::exit::{Class, Classify as _, Failure};

/// How long a service may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a service may take to end before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);
/// Lines of the log that an error shows.
const SHOWN_LINES: usize = 6;

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// By itself, when asked to.
    Ended,
    /// By force.
    Killed,
    /// It did not run.
    WasNotRunning,
}

/// A service that was started and is not ready yet; ended when dropped.
#[derive(Debug)]
pub(super) struct Starting {
    child: Child,
    name: &'static str,
    log: PathBuf,
    is_ready: bool,
}

impl Starting {
    /// Starts `program` in a session of its own with its output in `log`.
    pub(super) fn spawn(
        name: &'static str,
        program: &Path,
        arguments: &[OsString],
        log: &Path,
    ) -> Result<Self, Failure> {
        let own = std::env::current_exe().class(Class::Internal, "Cannot find this program")?;
        let output = new_log(log).class(
            Class::Internal,
            format!("Cannot write the log '{}'", log.display()),
        )?;
        let errors = output
            .try_clone()
            .class(Class::Internal, "Cannot use the log twice")?;
        let mut command = Command::new(own);
        command
            .arg0("ensconce")
            .args(["dev", "detached", "--"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        for forwarded in ["PATH", "ENSCONCE_LOG"] {
            if let Some(value) = std::env::var_os(forwarded) {
                command.env(forwarded, value);
            }
        }
        let child = command
            .spawn()
            .class(Class::Internal, format!("Cannot start {name}"))?;
        Ok(Self {
            child,
            name,
            log: log.to_owned(),
            is_ready: false,
        })
    }

    /// The record of the process.
    pub(super) fn record(&self, socket: Option<PathBuf>) -> Result<Record, Failure> {
        i32::try_from(self.child.id())
            .map_err(io::Error::other)
            .and_then(|pid| Record::of(pid, socket))
            .map_err(|error| self.failed(&format!("cannot be found ({error})")))
    }

    /// Waits until `ready` gives something; afterwards the service goes on
    /// without this program.
    pub(super) fn wait_for<T>(
        mut self,
        mut ready: impl FnMut() -> Result<T, String>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            let problem = match ready() {
                Ok(found) => {
                    self.is_ready = true;
                    return Ok(found);
                }
                Err(problem) => problem,
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended with {status}")));
            }
            if start.elapsed() > START_PATIENCE {
                let seconds = START_PATIENCE.as_secs();
                return Err(self.failed(&format!("was not ready in {seconds} s ({problem})")));
            }
            sleep(STEP);
        }
    }

    fn failed(&self, how: &str) -> Failure {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines
            .get(lines.len().saturating_sub(SHOWN_LINES)..)
            .unwrap_or_default();
        Failure::new(
            Class::Internal,
            format!(
                "{} {how}; the end of '{}':\n  {}",
                self.name,
                self.log.display(),
                shown.join("\n  ")
            ),
        )
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.is_ready {
            // It may have ended already, and that is fine.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// An empty log that only its owner reads; the one before is kept as `.old`.
fn new_log(path: &Path) -> io::Result<File> {
    match fs::rename(path, path.with_extension("log.old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Waits until all threads of a process are gone, with all that they held.
fn has_ended(handle: &OwnedFd) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let left = STOP_PATIENCE.saturating_sub(start.elapsed());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut event = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut event, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends exactly the recorded process.
pub(super) fn stop(record: &Record) -> Result<Stopped, Failure> {
    let doing = format!("Cannot stop process {}", record.pid);
    let Some(pid) = Pid::from_raw(record.pid) else {
        return Ok(Stopped::WasNotRunning);
    };
    // First a handle, then the question whose it is: from here on the number
    // cannot pass to somebody else unnoticed.
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(Stopped::WasNotRunning),
        Err(error) => return Err(error).class(Class::Internal, doing),
    };
    if !record.is_running() {
        return Ok(Stopped::WasNotRunning);
    }
    for (signal, outcome) in [
        (Signal::TERM, Stopped::Ended),
        (Signal::KILL, Stopped::Killed),
    ] {
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).class(Class::Internal, doing),
        }
        if has_ended(&handle).class(Class::Internal, doing.clone())? {
            return Ok(outcome);
        }
    }
    Err(Failure::new(
        Class::Internal,
        format!("{doing}: it survives SIGKILL; look at it with 'ps'"),
    ))
}
