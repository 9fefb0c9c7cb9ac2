// SPDX-License-Identifier: Apache-2.0
//! `ensconce-las`: the local attestation service of one machine.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use attest::time::UnixTime;
use clap::Parser;
use las::platform::{DEFAULT_DIR, Platform};
use las::service::{Options, Service, serve};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns REPORTs of enclaves on this machine into quotes.
#[derive(Debug, Parser)]
#[command(name = "ensconce-las", version)]
struct Arguments {
    /// Be the emulated platform. It protects nothing against root of this
    /// machine; its evidence counts only where its anchor was installed.
    #[arg(long)]
    emulated: bool,
    /// Directory of the emulated platform.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
    platform: PathBuf,
    /// Path of the unix socket.
    #[arg(long, value_name = "PATH", default_value = enclave_abi::las::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Permission bits of the unix socket, octal.
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = octal)]
    mode: u32,
    /// Also listen on TCP, without EREPORT and EGETKEY.
    #[arg(long, value_name = "ADDR:PORT")]
    tcp: Option<SocketAddr>,
    /// Let other machines reach the TCP address. Whoever reaches it can have
    /// quotes made for enclaves of this machine.
    #[arg(long, requires = "tcp")]
    insecure_public: bool,
    /// File to write when the service listens: one address per line.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ensconce-las: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.emulated {
        bail!(
            "quoting with SGX hardware (AESM) is not supported yet; \
             start with --emulated to use the emulated platform"
        );
    }
    protect_memory()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ENSCONCE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();

    let platform = Platform::open(&arguments.platform).context("while opening the platform")?;
    let service = Service::new(platform, UnixTime::from_system())
        .context("while starting the quoting enclave")?;
    tracing::warn!(
        platform = service.platform_id(),
        anchor = service.anchor(),
        "this is an EMULATED platform: it protects nothing against root of this machine"
    );
    if let Some(address) = arguments.tcp.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "INSECURE: other machines can have quotes made for enclaves of this machine"
        );
    }
    let running = serve(
        Arc::new(service),
        &Options {
            socket: arguments.socket.clone(),
            mode: arguments.mode,
            tcp: arguments.tcp,
            insecure_public: arguments.insecure_public,
        },
    )
    .context("while starting to listen")?;
    let mut addresses = format!("unix:{}\n", running.socket.display());
    if let Some(tcp) = running.tcp {
        addresses.push_str(&format!("{tcp}\n"));
    }
    if let Some(path) = &arguments.ready_file {
        let new = path.with_extension("new");
        fs::write(&new, &addresses)
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| format!("while writing {}", path.display()))?;
    }
    tracing::info!(addresses = addresses.trim_end(), "listening");
    running.wait();
    Ok(())
}

/// No core files, no other process of the user that reads the fuse key.
fn protect_memory() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("while forbidding other processes to read the keys")?;
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .context("while forbidding core files")
}
