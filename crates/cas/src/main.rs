// SPDX-License-Identifier: Apache-2.0
//! `ensconce-cas`: the configuration and attestation service.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use cas::serve::{Options, start_dev};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Configuration and attestation service of Ensconce.
#[derive(Debug, Parser)]
#[command(name = "ensconce-cas", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve sessions (REST) and attested services.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Run outside an enclave, for development: whoever controls this machine reads every secret.
    #[arg(long)]
    dev: bool,
    /// Directory for database, keys and audit log (made with mode 0700).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    listen: IpAddr,
    /// Port of the REST interface; 0 takes a free one.
    #[arg(long, default_value_t = cas::api::PORT, value_name = "PORT")]
    api_port: u16,
    /// Port of the attested channel; 0 takes a free one.
    #[arg(long, default_value_t = cas::channel::PORT, value_name = "PORT")]
    attested_port: u16,
    /// Further host name or address for the TLS certificate; may be repeated.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Root certificate (PEM) of an emulated platform to believe; may be repeated. Protects nothing
    /// from the root user of that platform's machine.
    #[arg(long = "anchor", value_name = "FILE")]
    anchors: Vec<PathBuf>,
    /// Collateral bundle (JSON) to verify quotes with; may be repeated.
    #[arg(long = "collateral", value_name = "FILE")]
    collateral: Vec<PathBuf>,
    /// Where to write ports and key hash (JSON) once listening.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Address of a LAS to fetch collateral from.
    #[arg(long, value_name = "ADDRESS")]
    las: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ENSCONCE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let Command::Serve(serve) = arguments.command;
    match run(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ensconce-cas: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve: Serve) -> anyhow::Result<()> {
    if !serve.dev {
        bail!(
            "serving in production needs the CAS inside an enclave, which this version cannot do yet; \
             for development run 'ensconce-cas serve --dev --data DIR'"
        );
    }
    if serve.las.is_some() {
        bail!(
            "--las is not supported yet; services bring their collateral along, or give it with --collateral FILE"
        );
    }
    forbid_core_files().context("while forbidding core files")?;
    let trust = cas::channel::Trust::load(&serve.anchors, &serve.collateral)
        .context("while reading anchors and collateral")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("while starting the runtime")?;
    runtime.block_on(async {
        let ready_file = serve.ready_file;
        let running = start_dev(Options {
            data: serve.data,
            listen: serve.listen,
            api_port: serve.api_port,
            attested_port: serve.attested_port,
            names: serve.names,
            trust,
            clock: attest::time::UnixTime::from_system,
        })
        .await
        .context("while starting the development CAS")?;
        announce(&running);
        if let Some(path) = ready_file {
            running.write_ready_file(&path)?;
        }
        let mut terminate = signal(SignalKind::terminate()).context("while waiting for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("while waiting for signals")?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}

/// Memory holds every secret: it must not reach a core file or another process of the same user.
fn forbid_core_files() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Says what this is, and the hash that clients compare.
fn announce(running: &cas::serve::Running) {
    let key = running.service.key_hash();
    eprintln!("WARNING: this is a DEVELOPMENT CAS outside any enclave.");
    eprintln!(
        "WARNING: whoever controls this machine or reads dev-sealing.key reads every secret."
    );
    eprintln!(
        "WARNING: freshness: degraded - no witness; an older copy of the database would go unnoticed."
    );
    for anchor in running.emulated_anchors() {
        eprintln!(
            "WARNING: believes the emulated platform with anchor {anchor}, which protects nothing from its root user."
        );
    }
    eprintln!("CAS key hash (Base58Check): {key}");
    eprintln!("CAS root SPKI SHA-256 (hex): {}", key.to_hex());
    eprintln!("REST interface: https://{}", running.api);
    eprintln!("Attested channel: {}", running.attested);
}
