// SPDX-License-Identifier: Apache-2.0
//! The native image: Debian with Flask, and above it the service with its TLS
//! key. It is as careless as native images are: markers sit in the code, in
//! the key's file, in an environment variable, a label and the history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::layout::{self, LayerFile};

/// Packages above Debian's minimal base.
const PACKAGES: &str = "python3-flask";
/// Debian release of the base.
const RELEASE: &str = "bookworm";
const SERVICE: &str = include_str!("../app/rest_api.py");

/// Strings that must never be found outside the enclave.
pub const MARKERS: [&str; 5] = [
    "ensconce-demo-marker-in-code-5f1d",
    "ensconce-demo-marker-in-key-77aa",
    "ensconce-demo-marker-in-cert-c3e0",
    "ensconce-demo-marker-in-label-08b2",
    "ensconce-demo-marker-in-history-e94c",
];

/// A native image in an OCI layout.
#[derive(Debug)]
pub struct Native {
    /// The layout's directory.
    pub dir: PathBuf,
    /// The tag in it.
    pub tag: &'static str,
    /// The service's certificate, for clients.
    pub certificate: PathBuf,
}

impl Native {
    /// `oci:DIR:TAG`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("oci:{}:{}", self.dir.display(), self.tag)
    }
}

/// Builds the image below `work`; the base layer is kept in `cache`.
///
/// # Errors
/// What is missing: mmdebstrap, openssl, or Debian's archive out of reach.
pub fn build(cache: &Path, work: &Path) -> Result<Native> {
    let dir = work.join("native");
    let base = base_layer(cache)?;
    let certificate = work.join("flask.crt");
    let app = app_layer(work, &certificate)?;
    let tag = "native";
    let config = json!({
        "config": {
            "Cmd": ["python3", "-B", "/app/rest_api.py"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/app",
            "ExposedPorts": {"8443/tcp": {}},
            "Labels": {"note": MARKERS[3]},
        },
        "history": [{"created_by": "mmdebstrap"}, {"created_by": format!("COPY . # {}", MARKERS[4])}],
    });
    layout::write(&dir, tag, &[base, app], config)?;
    Ok(Native {
        dir,
        tag,
        certificate,
    })
}

/// Debian's base with Flask: made once, kept in the cache.
fn base_layer(cache: &Path) -> Result<LayerFile> {
    fs::create_dir_all(cache).context("while making the cache")?;
    let name = format!("{RELEASE}-{PACKAGES}");
    let blob = cache.join(format!("{name}.tar.gz"));
    let id_file = cache.join(format!("{name}.diff-id"));
    if !blob.exists() || !id_file.exists() {
        let tar = cache.join(format!("{name}.tar"));
        let status = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .args(["--aptopt=Acquire::Retries \"3\"", RELEASE])
            .arg(&tar)
            .status()
            .context("while starting mmdebstrap; install it: apt-get install mmdebstrap")?;
        ensure!(
            status.success(),
            "mmdebstrap ended with {status}: is Debian's archive within reach?"
        );
        let bytes = fs::read(&tar).context("while reading the base")?;
        let made = LayerFile::compress(&bytes, blob.clone())?;
        fs::write(&id_file, made.diff_id).context("while keeping the base")?;
        fs::remove_file(&tar).context("while tidying the cache")?;
    }
    let diff_id = fs::read_to_string(&id_file).context("while reading the cache")?;
    Ok(LayerFile { blob, diff_id })
}

/// The service, its key and certificate.
fn app_layer(work: &Path, certificate: &Path) -> Result<LayerFile> {
    let key = work.join("flask.key");
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
        .args(["-days", "30", "-subj", "/CN=localhost"])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(certificate)
        .stderr(std::process::Stdio::null())
        .status()
        .context("while starting openssl; install it: apt-get install openssl")?;
    ensure!(status.success(), "openssl ended with {status}");

    let key = format!("{}\n{}", MARKERS[1], fs::read_to_string(&key)?);
    let cert = format!("{}\n{}", MARKERS[2], fs::read_to_string(certificate)?);
    LayerFile::pack(
        [
            ("app/", 0o755, None),
            ("app/rest_api.py", 0o644, Some(SERVICE.as_bytes())),
            ("tls/", 0o755, None),
            ("tls/flask.crt", 0o644, Some(cert.as_bytes())),
            ("tls/flask.key", 0o644, Some(key.as_bytes())),
        ],
        work.join("app.tar.gz"),
    )
}
