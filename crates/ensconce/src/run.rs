// SPDX-License-Identifier: Apache-2.0
//! `ensconce run`: unpacks a converted image below a private directory and
//! starts its launcher there, without root and without a container.

mod clean_up;
mod network_files;

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use oci::image::Image;
use oci::limits::Limits;
use oci::path::RootPath;
use oci::reference::Reference;
use oci::root::RootView;
use oci::unpack::unpack_below;

use crate::exit::{Class, Classify as _, Failure};
use crate::libexec::Libexec;

pub(crate) use clean_up::{CleanUp, clean_up};

/// How private directories are named.
const PREFIX: &str = "ensconce-run-";

/// Run a converted image without a container
///
/// Unpacks the image below a private directory, which is removed at the end,
/// and starts the enclave. Needs no root. Of the environment, only SCONE_*
/// variables reach the launcher; what the program sees is decided by the
/// session.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Variable for the launcher, beside those of this process; may be repeated
    #[arg(long, short, value_name = "SCONE_NAME=VALUE")]
    env: Vec<String>,
    /// Converted image: oci:DIR:TAG, docker-archive:FILE, or a name in the docker daemon
    image: Reference,
    /// Arguments for placeholders @@1, @@2, … of the session's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the image; returns only if that fails.
pub(crate) fn run(options: &Run) -> Result<ExitCode, Failure> {
    let temp = private_directory()?;
    let temp = temp.as_path();
    let limits = Limits::default();
    let image = Image::open(&options.image, &limits, temp).class(
        Class::NativeImage,
        format!("Cannot open '{}'", options.image),
    )?;
    let view = RootView::open(&image, &limits, temp).class(
        Class::NativeImage,
        format!("Cannot read '{}'", options.image),
    )?;
    let marker = RootPath::parse("/ensconce/enclave.img").class(Class::Internal, "Own path")?;
    if view.node(&marker).is_none() {
        return Err(Failure::new(
            Class::NativeImage,
            format!(
                "'{}' is not a converted image: it has no {marker}; convert it first with \
                 'ensconce convert'",
                options.image
            ),
        ));
    }
    let root = temp.join("root");
    DirBuilder::new()
        .mode(0o700)
        .create(&root)
        .class(Class::Internal, "Cannot make a private directory")?;
    let root_fd = File::open(&root).class(Class::Internal, "Cannot open the private directory")?;
    unpack_below(&root_fd, &view).class(Class::NativeImage, "Cannot unpack the image")?;
    network_files::put(&root_fd)
        .class(Class::Internal, "Cannot write the unpacked image's /etc")?;
    drop(view);

    // The launcher takes this process's place: signals, exit code and
    // standard streams are then its own.
    let mut command = launcher(options, &image, &root_fd)?;
    let error = command.exec();
    Err(error).class(
        Class::Internal,
        format!(
            "Cannot start '{}'",
            Path::new(command.get_program()).display()
        ),
    )
}

/// A directory that is removed when this process, whatever it becomes, ends.
fn private_directory() -> Result<PathBuf, Failure> {
    let temp = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir()
        .class(Class::Internal, "Cannot make a private directory")?;
    clean_up::start(temp.path())?;
    Ok(temp.keep())
}

fn launcher(options: &Run, image: &Image, root: &File) -> Result<Command, Failure> {
    let launcher = Libexec::find()?.path("launch")?;
    // The directory must stay open in the launcher.
    rustix::io::fcntl_setfd(root, rustix::io::FdFlags::empty())
        .class(Class::Internal, "Cannot pass the directory on")?;
    let mut command = Command::new(launcher);
    command
        .arg("--root-fd")
        .arg(root.as_raw_fd().to_string())
        .arg("--")
        .args(&options.arguments)
        .env_clear();
    // First what the image says, then this process's own, then --env.
    for (name, value) in &image.config().env {
        if is_forwarded(OsStr::new(name)) {
            command.env(name, value);
        }
    }
    for (name, value) in std::env::vars_os() {
        if is_forwarded(&name) {
            command.env(name, value);
        }
    }
    for text in &options.env {
        let Some((name, value)) = text
            .split_once('=')
            .filter(|(name, _)| is_forwarded(OsStr::new(name)))
        else {
            return Err(Failure::new(
                Class::Usage,
                "--env needs the form SCONE_NAME=VALUE; other variables never reach the program, \
                 put them into the session",
            ));
        };
        command.env(name, value);
    }
    Ok(command)
}

fn is_forwarded(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"SCONE_")
}
