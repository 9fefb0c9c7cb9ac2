// SPDX-License-Identifier: Apache-2.0
//! The native image: Debian with Flask, and above it the service with its TLS
//! key. It is as careless as native images are: markers sit in the code, in
//! the key's file, in an environment variable, a label and the history.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use oci::digest::Digest;
use serde_json::json;

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
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).context("while making the native image's directory")?;
    let base = base_layer(cache)?;
    let certificate = work.join("flask.crt");
    let app = app_layer(work, &certificate)?;

    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in [&base, &app] {
        let digest = store(
            &blobs,
            &fs::read(&layer.blob).context("while reading a layer")?,
        )?;
        layers.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digest}"),
            "size": fs::metadata(&layer.blob)?.len(),
        }));
        diff_ids.push(format!("sha256:{}", layer.diff_id));
    }
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Cmd": ["python3", "-B", "/app/rest_api.py"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/app",
            "ExposedPorts": {"8443/tcp": {}},
            "Labels": {"note": MARKERS[3]},
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "mmdebstrap"}, {"created_by": format!("COPY . # {}", MARKERS[4])}],
    }))?;
    let config_digest = store(&blobs, &config)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_digest}"),
            "size": config.len(),
        },
        "layers": layers,
    }))?;
    let manifest_digest = store(&blobs, &manifest)?;
    let tag = "native";
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(
        dir.join("index.json"),
        serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{manifest_digest}"),
                "size": manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": tag},
            }],
        }))?,
    )?;
    Ok(Native {
        dir,
        tag,
        certificate,
    })
}

fn store(blobs: &Path, bytes: &[u8]) -> Result<String> {
    let digest = Digest::of(bytes).to_hex();
    fs::write(blobs.join(&digest), bytes).context("while writing a blob")?;
    Ok(digest)
}

struct LayerFile {
    blob: PathBuf,
    diff_id: String,
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
        fs::write(&blob, gzip(&bytes)?).context("while keeping the base")?;
        fs::write(&id_file, Digest::of(&bytes).to_hex()).context("while keeping the base")?;
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

    let mut tar = tar::Builder::new(Vec::new());
    let key = format!("{}\n{}", MARKERS[1], fs::read_to_string(&key)?);
    let cert = format!("{}\n{}", MARKERS[2], fs::read_to_string(certificate)?);
    for (path, content) in [
        ("app/", None),
        ("app/rest_api.py", Some(SERVICE)),
        ("tls/", None),
        ("tls/flask.crt", Some(cert.as_str())),
        ("tls/flask.key", Some(key.as_str())),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if content.is_some() {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        });
        header.set_mode(if content.is_some() { 0o644 } else { 0o755 });
        header.set_mtime(0);
        let content = content.unwrap_or_default().as_bytes();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content)
            .context("while packing the service")?;
    }
    let bytes = tar.into_inner().context("while packing the service")?;
    let blob = work.join("app.tar.gz");
    fs::write(&blob, gzip(&bytes)?).context("while packing the service")?;
    Ok(LayerFile {
        blob,
        diff_id: Digest::of(&bytes).to_hex(),
    })
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .context("while compressing a layer")?;
    encoder.finish().context("while compressing a layer")
}
