// SPDX-License-Identifier: Apache-2.0
//! An emulated platform, its LAS and a development CAS, all private to one run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{Programs, Running, run};

/// Running services; they end when this is dropped.
#[derive(Debug)]
pub struct Services {
    /// The quoting service.
    pub las: Running,
    /// The policy service.
    pub cas: Running,
    socket: PathBuf,
    api_port: u16,
    attested_port: u16,
    data: PathBuf,
}

impl Services {
    /// Brings everything up below `work`.
    ///
    /// # Errors
    /// A program does not start.
    pub fn start(programs: &Programs, work: &Path) -> Result<Self> {
        let platform = work.join("platform");
        run(programs
            .command("ensconce", work)
            .args(["platform", "init"])
            .arg(&platform))?
        .success("ensconce platform init")?;
        let socket = work.join("las.sock");
        let mut las = Running::start(
            programs
                .command("ensconce-las", work)
                .args(["--emulated", "--platform"])
                .arg(&platform)
                .arg("--socket")
                .arg(&socket),
            "ensconce-las",
            work.join("las.log"),
        )?;
        las.wait_for(|| socket.exists().then_some(()))?;

        let data = work.join("cas");
        let ready = work.join("cas.ready");
        let mut cas = Running::start(
            programs
                .command("ensconce-cas", work)
                .args([
                    "serve",
                    "--dev",
                    "--api-port=0",
                    "--attested-port=0",
                    "--data",
                ])
                .arg(&data)
                .arg("--anchor")
                .arg(platform.join("root.crt"))
                .arg("--ready-file")
                .arg(&ready),
            "ensconce-cas",
            work.join("cas.log"),
        )?;
        let ports = cas.wait_for_json(&ready)?;
        let port = |name: &str| {
            let address = ports[name]
                .as_str()
                .and_then(|text| text.parse::<SocketAddr>().ok());
            address
                .map(|address| address.port())
                .with_context(|| format!("the CAS's ready file has no {name}: {ports}"))
        };
        Ok(Self {
            api_port: port("api")?,
            attested_port: port("attested")?,
            las,
            cas,
            socket,
            data,
        })
    }

    /// For `--cas`: `HOST:REST_PORT:ATTESTED_PORT`.
    #[must_use]
    pub fn cas_address(&self) -> String {
        format!("localhost:{}:{}", self.api_port, self.attested_port)
    }

    /// The port of the CAS's REST interface.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// For `--las`.
    #[must_use]
    pub fn las_address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Lets the services outlive this value.
    pub fn leave(self) {
        self.las.leave();
        self.cas.leave();
    }

    /// The CAS's audit log: the owner's view of refusals.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.data.join("audit.jsonl")
    }
}
