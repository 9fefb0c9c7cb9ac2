// SPDX-License-Identifier: Apache-2.0
//! Starts the server as its users do and talks to it with its own client.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cas::client::{Address, Client, Identity};
use policy::KeyHash;
use serde_json::Value;

/// A running server; killed on drop.
pub(crate) struct Cas {
    child: Child,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) address: Address,
    pub(crate) key: KeyHash,
}

impl Drop for Cas {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cas {
    /// Starts a server with its data below `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// Starts a server with further options.
    pub(crate) fn start_with(dir: &Path, options: &[&str]) -> Self {
        let (data, ready, log) = (dir.join("data"), dir.join("ready.json"), dir.join("log"));
        let _ = fs::remove_file(&ready);
        let out = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .expect("log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ensconce-cas"))
            .args(["serve", "--dev", "--api-port", "0", "--attested-port", "0"])
            .args([
                Path::new("--data"),
                &data,
                Path::new("--ready-file"),
                &ready,
            ])
            .args(options)
            .env("ENSCONCE_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("log"))
            .stderr(out)
            .spawn()
            .expect("the server starts");
        let deadline = Instant::now() + Duration::from_secs(20);
        let state: Value = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break serde_json::from_str(&text).expect("the ready file is JSON");
            }
            let ended = child.try_wait().expect("the server is a child");
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the server ended: {}", said());
            assert!(
                Instant::now() < deadline,
                "the server is not ready: {}",
                said()
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        let port = |name: &str| -> u16 {
            let text = state[name].as_str().expect("an address");
            let address: std::net::SocketAddr = text.parse().expect("an address");
            address.port()
        };
        let text = format!("127.0.0.1:{}:{}", port("api"), port("attested"));
        let key = state["cas_key"].as_str().expect("a key hash");
        Self {
            child,
            data,
            log,
            address: text.parse().expect("an address"),
            key: KeyHash::parse(key).expect("Base58Check"),
        }
    }

    /// Ends the server as an operator does.
    pub(crate) fn terminate(mut self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").arg(pid).status().expect("kill");
        assert!(status.success());
        let status = self.child.wait().expect("the server ends");
        assert!(status.success(), "{status}");
    }

    /// Ends the server as a power cut does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the server lives");
        self.child.wait().expect("the server ends");
    }

    /// Process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client with the identity in `pem`.
    pub(crate) fn client(&self, pem: &str) -> Client {
        let identity = Identity::from_pem(pem).expect("an identity");
        Client::new(self.address.clone(), Some(self.key), Some(identity))
    }

    /// A client without certificate.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address.clone(), Some(self.key), None)
    }

    /// The lines of the audit log.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.data.join("audit.jsonl")).expect("the audit log");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line is JSON"))
            .collect()
    }
}

/// A fresh identity as PEM.
pub(crate) fn identity() -> String {
    Identity::generate()
        .expect("an identity")
        .to_pem()
        .to_string()
}

/// Base58Check key hash of an identity.
pub(crate) fn key_hash(pem: &str) -> String {
    Identity::from_pem(pem)
        .expect("an identity")
        .key_hash()
        .to_string()
}

/// A session without services.
pub(crate) fn plain(name: &str, rest: &str) -> String {
    format!("version: \"0.3.12\"\nname: {name}\n{rest}")
}
