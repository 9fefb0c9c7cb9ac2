// SPDX-License-Identifier: Apache-2.0
//! Converted images, unpacked once, so that starting them costs what starting
//! costs and not what unpacking does.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use demo::layout::{self, LayerFile};
use demo::process::run;
use demo::services::Services;
use oci::image::Image;
use oci::limits::Limits;
use oci::reference::Reference;
use oci::root::RootView;
use oci::unpack::unpack_below;
use serde_json::json;

use crate::Bench;
use crate::subject::Mode;

/// The one program of the images made here.
const PROGRAM: &str = "bin/program";
const INSTALLED: &str = "/bin/program";

/// Entries of a layer: path, mode, content; directories have none.
pub(crate) type Entries<'a> = Vec<(&'a str, u32, Option<&'a [u8]>)>;

/// Writes a native image: a static program, `command` to start it with, and
/// `files` beside it.
pub(crate) fn native(
    dir: &Path,
    program: &Path,
    command: &[&str],
    files: Entries<'_>,
) -> Result<String> {
    fs::create_dir_all(dir).with_context(|| format!("while making {}", dir.display()))?;
    let program = fs::read(program).context("while reading a program")?;
    let mut entries: Entries<'_> = vec![
        ("bin/", 0o755, None),
        (PROGRAM, 0o755, Some(&program[..])),
        ("etc/", 0o755, None),
        // Without it a C library may ask the network first who localhost is.
        ("etc/nsswitch.conf", 0o644, Some(b"hosts: files dns\n")),
    ];
    entries.extend(files);
    let layer = LayerFile::pack(entries, dir.join("layer.tar.gz"))?;
    let command = [&[INSTALLED], command].concat();
    let layout = dir.join("native");
    layout::write(
        &layout,
        "native",
        &[layer],
        json!({"config": {"Entrypoint": command}}),
    )?;
    Ok(format!("oci:{}:native", layout.display()))
}

/// Converts `from` to a layout in `dir`, attested by these services.
pub(crate) fn convert(
    bench: &Bench,
    services: &Services,
    from: &str,
    dir: &Path,
    options: &[&str],
) -> Result<String> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let to = format!("oci:{}:confidential", dir.join("converted").display());
    run(bench
        .programs
        .command("ensconce", &bench.work)
        .arg("convert")
        .arg(format!("--from={from}"))
        .arg(format!("--to={to}"))
        .arg(format!("--name=bench-{name}"))
        .arg(format!("--binary={INSTALLED}"))
        .arg(format!("--cas={}", services.cas_address()))
        .arg(format!("--las={}", services.las_address()))
        .args([
            "--cas-debug",
            "--allow-debug-mode",
            "--allow-emulated-platform",
        ])
        .args(options))?
    .success("ensconce convert")?;
    Ok(to)
}

/// A converted image in a directory of its own.
#[derive(Debug)]
pub(crate) struct Unpacked {
    root: PathBuf,
    launcher: PathBuf,
    env: Vec<(String, String)>,
}

impl Unpacked {
    /// Unpacks `reference` into `root`, which must not exist.
    pub(crate) fn new(bench: &Bench, reference: &str, root: &Path) -> Result<Self> {
        let limits = Limits::default();
        let parsed: Reference = reference.parse().context("while parsing a reference")?;
        let image = Image::open(&parsed, &limits, &bench.work)
            .with_context(|| format!("while opening {reference}"))?;
        let view = RootView::open(&image, &limits, &bench.work)
            .with_context(|| format!("while reading {reference}"))?;
        DirBuilder::new()
            .mode(0o700)
            .create(root)
            .with_context(|| format!("while making {}", root.display()))?;
        unpack_below(&File::open(root)?, &view)
            .with_context(|| format!("while unpacking {reference}"))?;
        // As container engines do.
        fs::copy("/etc/hosts", root.join("etc/hosts")).context("while copying /etc/hosts")?;
        let is_for_the_launcher = |(name, _): &(String, String)| name.starts_with("SCONE_");
        Ok(Self {
            root: root.to_path_buf(),
            launcher: bench.launcher(),
            env: image
                .config()
                .env
                .iter()
                .filter(|variable| is_for_the_launcher(variable))
                .cloned()
                .collect(),
        })
    }

    /// Where it lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Starts it: what `ensconce run` becomes after unpacking.
    pub(crate) fn command(&self, mode: Mode) -> Command {
        let mut command = Command::new(&self.launcher);
        command
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .arg("--image")
            .arg(self.root.join("ensconce/enclave.img"))
            .arg("--root")
            .arg(&self.root)
            .args(mode.option())
            .arg("--");
        command
    }
}
