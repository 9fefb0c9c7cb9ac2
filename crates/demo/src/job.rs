// SPDX-License-Identifier: Apache-2.0
//! The main job: convert, run, ask.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::native::Native;
use crate::process::{Finished, Programs, Running, free_port, run};
use crate::services::Services;

/// Name of the session that conversions here upload.
pub const SESSION: &str = "flask-session";
/// Name of its service.
pub const SERVICE: &str = "flask";
/// The enclave's heap in the demo.
const HEAP: &str = "1G";

/// A converted image.
#[derive(Debug)]
pub struct Converted {
    /// `oci:DIR:TAG`.
    pub reference: String,
    /// The layout's directory.
    pub dir: PathBuf,
    /// The session as uploaded; secret.
    pub session: PathBuf,
    /// The port on which the service listens.
    pub port: u16,
}

/// The converter's arguments, in the order of the reference page.
#[must_use]
pub fn arguments(
    native: &str,
    to: &str,
    services: &Services,
    session: &Path,
    port: u16,
) -> Vec<String> {
    vec![
        format!("--from={native}"),
        format!("--to={to}"),
        "--binary=/usr/bin/python3.11".into(),
        "--dir=/app".into(),
        "--dir=/tls".into(),
        format!("--cas={}", services.cas_address()),
        format!("--las={}", services.las_address()),
        format!("--name={SESSION}"),
        format!("--service-name={SERVICE}"),
        format!("--heap={HEAP}"),
        format!("--env=PORT={port}"),
        "--env=LOCAL=1".into(),
        "--env=GREETING=hello from the session".into(),
        format!("--session={}", session.display()),
        // For development, each loud: the CAS is not in an enclave, the enclave is
        // not signed for production, the processor is emulated.
        "--cas-debug".into(),
        "--allow-debug-mode".into(),
        "--allow-emulated-platform".into(),
    ]
}

/// Converts the native image.
///
/// # Errors
/// The converter refuses.
pub fn convert(
    programs: &Programs,
    services: &Services,
    native: &Native,
    work: &Path,
) -> Result<Converted> {
    let dir = work.join("converted");
    let session = work.join("session.yml");
    let port = free_port()?;
    let reference = format!("oci:{}:confidential", dir.display());
    let arguments = arguments(&native.reference(), &reference, services, &session, port);
    let name =
        run(programs.command("sconify_image", work).args(arguments))?.success("sconify_image")?;
    ensure!(
        name.trim_end() == SESSION,
        "the converter printed {name:?} instead of the session's name alone"
    );
    Ok(Converted {
        reference,
        dir,
        session,
        port,
    })
}

/// Starts a converted image without Docker.
///
/// # Errors
/// `ensconce run` cannot be started.
pub fn start(programs: &Programs, reference: &str, work: &Path, log: &str) -> Result<Running> {
    Running::start(
        programs.command("ensconce", work).arg("run").arg(reference),
        "ensconce run",
        work.join(log),
    )
}

/// Runs a converted image that must refuse, and gives what it said.
///
/// # Errors
/// It did not end, or ended with success.
pub fn refused(
    programs: &Programs,
    reference: &str,
    work: &Path,
    env: &[(&str, &str)],
) -> Result<Finished> {
    let mut command = programs.command("ensconce", work);
    command
        .env("ENSCONCE_TIMEOUT", "20")
        .envs(env.iter().copied());
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", "60"])
        .arg(command.get_program())
        .arg("run")
        .arg(reference)
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let finished = run(&mut limited)?;
    ensure!(
        !finished.status.success() && finished.status.code() != Some(124),
        "{reference} should have been refused, but ended with {}:\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    Ok(finished)
}

/// A client that trusts the service's certificate only.
#[derive(Debug, Clone)]
pub struct Client {
    certificate: PathBuf,
    port: u16,
}

impl Client {
    /// A client of a service on this machine.
    #[must_use]
    pub fn new(certificate: &Path, port: u16) -> Self {
        Self {
            certificate: certificate.to_path_buf(),
            port,
        }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// GET.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub fn get(&self, path: &str) -> Result<String> {
        run(self.curl().arg(self.url(path)))?.success("curl")
    }

    /// POST of a JSON text.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub fn post(&self, path: &str, json: &str) -> Result<String> {
        run(self
            .curl()
            .args(["--data", json, "--header", "content-type: application/json"])
            .arg(self.url(path)))?
        .success("curl")
    }

    /// Waits until the service answers.
    ///
    /// # Errors
    /// The service ended, or did not answer in time.
    pub fn wait_until_serving(&self, service: &mut Running) -> Result<String> {
        service
            .wait_for(|| self.get("/").ok())
            .context("while waiting for the service's first answer")
    }

    /// curl with the options that every request has; for people who want to try.
    #[must_use]
    pub fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                "--cacert",
            ])
            .arg(&self.certificate);
        command
    }
}
