// SPDX-License-Identifier: Apache-2.0
//! A session owner with curl: the REST interface as its documentation shows it,
//! with the identity taken out of the client's configuration or made by openssl.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{Finished, run};

/// Who talks to the CAS.
#[derive(Debug, Clone)]
pub struct Owner {
    identity: PathBuf,
    chain: PathBuf,
    api: String,
}

impl Owner {
    /// The identity of `home/.cas/config.json`: what `jq -r .identity` gives.
    ///
    /// # Errors
    /// There is no such configuration, or it does not know `cas`.
    pub fn from_config(home: &Path, api_port: u16) -> Result<Self> {
        let path = home.join(".cas/config.json");
        let config: Value = serde_json::from_slice(
            &fs::read(&path).with_context(|| format!("while reading {}", path.display()))?,
        )?;
        let identity = config["identity"]
            .as_str()
            .context("the configuration has no identity")?;
        let file = home.join("owner.pem");
        write_private(&file, identity)?;
        Ok(Self {
            identity: file,
            chain: chain(&config, home)?,
            api: format!("https://localhost:{api_port}"),
        })
    }

    /// A stranger: a key and certificate made by openssl.
    ///
    /// # Errors
    /// openssl is missing.
    pub fn from_openssl(home: &Path, api_port: u16) -> Result<Self> {
        let config = serde_json::from_slice(&fs::read(home.join(".cas/config.json"))?)?;
        let (key, certificate) = (home.join("stranger.key"), home.join("stranger.crt"));
        let status = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-days", "30", "-subj", "/CN=stranger", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(std::process::Stdio::null())
            .status()
            .context("while starting openssl; install it: apt-get install openssl")?;
        ensure!(status.success(), "openssl ended with {status}");
        let identity = home.join("stranger.pem");
        write_private(
            &identity,
            &(fs::read_to_string(&key)? + &fs::read_to_string(&certificate)?),
        )?;
        Ok(Self {
            identity,
            chain: chain(&config, home)?,
            api: format!("https://localhost:{api_port}"),
        })
    }

    /// The identity file, for `--identity`.
    #[must_use]
    pub fn identity(&self) -> &Path {
        &self.identity
    }

    /// Uploads a session and gives the answer.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn upload(&self, yaml: &str) -> Result<Finished> {
        let file = tempfile::NamedTempFile::new().context("while writing a session")?;
        fs::write(file.path(), yaml).context("while writing a session")?;
        run(self
            .curl()
            .arg("--data-binary")
            .arg(format!("@{}", file.path().display()))
            .arg(format!("{}/v1/sessions", self.api)))
    }

    /// Reads a session and gives the answer.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn read(&self, name: &str) -> Result<Finished> {
        run(self.curl().arg(format!("{}/v1/sessions/{name}", self.api)))
    }

    fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                "--cacert",
            ])
            .arg(&self.chain)
            .arg("--cert")
            .arg(&self.identity);
        command
    }
}

/// The certificate chain that the client recorded for its CAS.
fn chain(config: &Value, home: &Path) -> Result<PathBuf> {
    let name = config["default_cas"].as_str();
    let all = config["cas_db"]
        .as_object()
        .context("the configuration knows no CAS")?;
    let entry = name
        .and_then(|name| all.get(name))
        .or_else(|| all.values().next())
        .context("the configuration knows no CAS")?;
    let chain = entry["chain"]
        .as_str()
        .context("the recorded CAS has no chain")?;
    let file = home.join("cas-chain.pem");
    fs::write(&file, chain).context("while writing the CAS's chain")?;
    Ok(file)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("while creating {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("while writing {}", path.display()))
}
