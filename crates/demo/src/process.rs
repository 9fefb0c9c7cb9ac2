// SPDX-License-Identifier: Apache-2.0
//! Programs that run beside the demo and end with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// Where the built programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
}

impl Programs {
    /// Programs of a `dist` directory.
    ///
    /// # Errors
    /// The directory holds none.
    pub fn in_dist(dist: &Path) -> Result<Self> {
        let bin = dist.join("bin");
        ensure!(
            bin.join("ensconce").exists(),
            "{} has no ensconce; run `make build` first",
            bin.display()
        );
        Ok(Self { bin })
    }

    /// A program with a clean environment, except what programs need to find
    /// others and themselves.
    #[must_use]
    pub fn command(&self, name: &str, home: &Path) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .stdin(Stdio::null());
        command
    }
}

/// A running program; it is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    id: u32,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with its output in `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(command: &mut Command, name: &str, log: PathBuf) -> Result<Self> {
        let file =
            File::create(&log).with_context(|| format!("while creating {}", log.display()))?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("while starting {name}"))?;
        Ok(Self {
            id: child.id(),
            child: Some(child),
            name: name.to_owned(),
            log,
        })
    }

    /// Process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where the output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it has printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `ready` gives something.
    ///
    /// # Errors
    /// The program ended first, or a minute passed.
    pub fn wait_for<T>(&mut self, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}:\n{}", self.name, self.printed());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "{} was not ready within a minute:\n{}",
                self.name,
                self.printed()
            );
            sleep(STEP);
        }
    }

    /// Waits for a JSON file that the program writes when it is ready.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_json(&mut self, file: &Path) -> Result<Value> {
        self.wait_for(|| serde_json::from_slice(&fs::read(file).ok()?).ok())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It did not end within a minute.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(start.elapsed() < PATIENCE, "{} does not end", self.name);
            sleep(STEP);
        }
    }

    /// Lets the program outlive this value.
    pub fn leave(mut self) {
        self.child = None;
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the program was left alone")?;
        child
            .try_wait()
            .with_context(|| format!("while looking after {}", self.name))
    }

    /// Asks the program to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            Command::new("kill").arg(self.id().to_string()).status()?;
        }
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A program that has already ended cannot be killed, and that is fine.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// It could not be started.
pub fn run(command: &mut Command) -> Result<Finished> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("while starting {shown}"))?;
    Ok(Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output of a success.
    ///
    /// # Errors
    /// It failed; the error holds what it printed.
    pub fn success(self, what: impl AsRef<OsStr>) -> Result<String> {
        ensure!(
            self.status.success(),
            "{} ended with {}:\n{}{}",
            what.as_ref().to_string_lossy(),
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// A TCP port that nobody uses at this moment.
///
/// # Errors
/// The loopback interface is unusable.
pub fn free_port() -> Result<u16> {
    let listener =
        std::net::TcpListener::bind(("127.0.0.1", 0)).context("while looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
