// SPDX-License-Identifier: Apache-2.0
//! What converting the demo's image costs, and how much the image grows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use demo::job;
use demo::native::Native;
use demo::services::Services;
use serde_json::Value;

use crate::Bench;
use crate::flask::native_image;
use crate::report::Report;
use crate::sample::{RUNS, Samples, sample};

/// First conversion, second conversion over the same base, growth.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let services = Services::start(&bench.programs, &bench.work)?;
    let first = native_image(bench)?;
    // The same base below another service: its key and certificate are new.
    let other = bench.work.join("other");
    fs::create_dir_all(&other).context("while making a directory")?;
    let second = demo::native::build(&bench.target.join("demo/cache"), &other)?;

    let (mut cold, mut warm, mut unpacking, mut copying) = Default::default();
    let mut result = None;
    for number in 0..RUNS {
        let home = Home::new(bench, &format!("home{number}"))?;
        let push = |samples: &mut Samples, command: &mut Command| -> Result<()> {
            samples.push(sample(command)?);
            Ok(())
        };
        push(&mut cold, &mut home.convert(&services, &first, "first"))?;
        push(&mut warm, &mut home.convert(&services, &second, "second"))?;
        push(&mut unpacking, &mut unpack(&first)?)?;
        push(&mut copying, &mut copy(&second, &home.dir.join("copy")))?;
        if number == 0 {
            result = Some(size(&home.dir.join("first"))?);
        }
        fs::remove_dir_all(&home.dir).context("while removing a result")?;
    }
    bar(
        report,
        "first conversion against gzip -dc piped to sha256sum, CPU",
        &cold,
        &unpacking,
        1.5,
    );
    bar(
        report,
        "second conversion against skopeo copy, CPU",
        &warm,
        &copying,
        0.5,
    );
    let native = size(&first.dir)?;
    let result = result.context("there was no run")?;
    report.bar(
        "growth of the image, compressed",
        (result - native) / 1e6,
        "MB",
        12.0,
        false,
        &format!("from {:.1} MB to {:.1} MB", native / 1e6, result / 1e6),
    );
    Ok(())
}

fn bar(report: &mut Report, what: &str, ours: &Samples, other: &Samples, limit: f64) {
    report.bar(
        what,
        ours.median_cpu() / other.median_cpu(),
        "x",
        limit,
        false,
        &format!(
            "{:.2} s against {:.2} s (best {:.2} and {:.2}); wall {:.2} and {:.2} s",
            ours.median_cpu(),
            other.median_cpu(),
            ours.best_cpu(),
            other.best_cpu(),
            ours.median_wall(),
            other.median_wall()
        ),
    );
}

/// A user who has never converted anything: caches start empty.
struct Home<'a> {
    bench: &'a Bench,
    dir: PathBuf,
    name: String,
}

impl<'a> Home<'a> {
    fn new(bench: &'a Bench, name: &str) -> Result<Self> {
        let dir = bench.work.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("while making {}", dir.display()))?;
        Ok(Self {
            bench,
            dir,
            name: name.to_owned(),
        })
    }

    fn reference(&self, what: &str) -> String {
        format!("oci:{}:confidential", self.dir.join(what).display())
    }

    /// The demo's conversion under a session name of its own.
    fn convert(&self, services: &Services, native: &Native, what: &str) -> Command {
        let name = format!("--name={}-{what}", self.name);
        let arguments = job::arguments(
            &native.reference(),
            &self.reference(what),
            services,
            &self.dir.join("session.yml"),
            8443,
        );
        let mut command = self.bench.programs.command("sconify_image", &self.dir);
        command.args(arguments.into_iter().map(|argument| {
            if argument.starts_with("--name=") {
                name.clone()
            } else {
                argument
            }
        }));
        command
    }
}

/// What everybody must do at least who looks into an image.
fn unpack(native: &Native) -> Result<Command> {
    let mut command = Command::new("sh");
    command.args([
        "-ec",
        "for blob; do gzip -dc \"$blob\" | sha256sum; done",
        "sh",
    ]);
    for layer in blobs(&native.dir)? {
        command.arg(layer);
    }
    Ok(command)
}

/// The layers of the only image of a layout.
fn blobs(layout: &Path) -> Result<Vec<PathBuf>> {
    let read = |path: &Path| -> Result<Value> {
        let bytes = fs::read(path).with_context(|| format!("while reading {}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let blob = |descriptor: &Value| -> Result<PathBuf> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let hex = digest
            .strip_prefix("sha256:")
            .with_context(|| format!("{} has a descriptor without digest", layout.display()))?;
        Ok(layout.join("blobs/sha256").join(hex))
    };
    let index = read(&layout.join("index.json"))?;
    let manifest = read(&blob(&index["manifests"][0])?)?;
    let layers = manifest["layers"]
        .as_array()
        .context("there are no layers")?;
    layers.iter().map(blob).collect()
}

fn copy(native: &Native, to: &Path) -> Command {
    let mut command = Command::new("skopeo");
    command
        .args(["copy", "--quiet", "--insecure-policy"])
        .arg(native.reference())
        .arg(format!("oci:{}:copy", to.display()));
    command
}

/// Compressed bytes of all layers.
fn size(layout: &Path) -> Result<f64> {
    let mut bytes = 0;
    for blob in blobs(layout)? {
        bytes += fs::metadata(&blob)
            .with_context(|| format!("while looking at {}", blob.display()))?
            .len();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "images are far below 2^52 bytes"
    )]
    Ok(bytes as f64)
}
