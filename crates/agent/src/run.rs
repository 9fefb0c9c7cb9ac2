// SPDX-License-Identifier: Apache-2.0
//! The agent's way from the start block to the program's end.

use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use attest::channel::client::{ClientError, Connect, Session};
use attest::channel::config::Config;
use attest::channel::encoding::SecretText;
use attest::channel::frame::Exit;
use attest::channel::{PORT, binding};
use attest::las::Address;
use enclave_abi::manifest::{Manifest, StartMode};
use enclave_abi::start::{Inject, Mount, StartBlock};

use crate::control::{Control, Ended};
use crate::{address, evidence, program};

/// Attests, starts the program and waits for its end. The result is the
/// program's exit code.
///
/// # Errors
/// Anything that kept the program from starting, with the next step. No message
/// holds a secret.
pub fn run(control: &mut impl Control) -> Result<u8> {
    let block = control.start_block()?;
    let manifest = control.manifest()?;
    ensure!(
        manifest.start_mode == StartMode::Session,
        "this image is not started by a session; its program is started without an agent"
    );
    let (config, session) = fetch(control, &block, &manifest)?;
    if config.dev {
        // Said at each use (S24).
        eprintln!(
            "ensconce: the CAS runs in development mode: who controls its machine reads this service's secrets"
        );
    }
    start(control, config, &block)?;
    let ended = control.wait()?;
    let exit = match ended {
        Ended::Code(code) => Exit { code, signal: None },
        Ended::Signal(signal) => Exit {
            code: ended.code(),
            signal: Some(signal),
        },
    };
    // The program is over, whether the CAS hears of it or not.
    if let Err(error) = session.send_exit(exit) {
        eprintln!(
            "ensconce: the CAS was not told that the program ended: {:#}",
            anyhow!(error)
        );
    }
    Ok(ended.code())
}

/// Connects, attests and receives the configuration.
fn fetch(
    control: &mut impl Control,
    block: &StartBlock,
    manifest: &Manifest,
) -> Result<(Config, Session)> {
    ensure!(
        binding::split_config_id(&block.config_id).is_some(),
        "SCONE_CONFIG_ID is missing or not of the form session/service; this image starts nothing without a session"
    );
    ensure!(
        !block.cas_addr.is_empty(),
        "SCONE_CAS_ADDR is missing; this image starts nothing without its CAS"
    );
    let las = match block.las_addr.as_str() {
        "" => Address::Unix(enclave_abi::las::DEFAULT_SOCKET.into()),
        text => Address::parse(text).with_context(|| {
            format!("SCONE_LAS_ADDR {text:?} is neither HOST:PORT nor unix:/PATH")
        })?,
    };
    let (host, port) = split_address(&block.cas_addr)?;
    let stream = address::resolve(host, port, Path::new(address::HOSTS))
        .and_then(|addresses| TcpStream::connect(&addresses[..]))
        .with_context(|| {
            format!("cannot reach the CAS at {host}:{port}; start it or correct SCONE_CAS_ADDR")
        })?;
    let connect = Connect {
        server_name: host,
        pin: manifest.cas_pin,
        config_id: &block.config_id,
        otp: secret(&block.one_time_password),
        token: secret(&block.access_token),
    };
    Session::connect(stream, &connect, |request| {
        evidence::make(control, &las, &block.config_id, request)
            .map_err(Into::<Box<dyn std::error::Error + Send + Sync>>::into)
    })
    .map_err(|error| explain(error, &block.cas_addr))
}

fn secret(text: &str) -> Option<SecretText> {
    (!text.is_empty()).then(|| text.into())
}

/// `HOST:PORT`, `[V6]:PORT` or `HOST` with the default port.
fn split_address(address: &str) -> Result<(&str, u16)> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.starts_with('[') => (
            host,
            port.parse().with_context(|| {
                format!("SCONE_CAS_ADDR {address:?} has no port number after the colon")
            })?,
        ),
        _ => (address, PORT),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ensure!(!host.is_empty(), "SCONE_CAS_ADDR {address:?} names no host");
    Ok((host, port))
}

/// Adds the next step to what went wrong on the channel.
fn explain(error: ClientError, cas: &str) -> anyhow::Error {
    let hint = match &error {
        ClientError::Refused { code, .. } => code.next_step().to_owned(),
        ClientError::Handshake(_) => format!(
            "{cas} is no CAS, or its key is not the one in this image; convert the image again if the CAS's key was changed on purpose"
        ),
        ClientError::TokenNotProved => {
            "the CAS does not know the service access token; check it on both sides".to_owned()
        }
        ClientError::Evidence(_) => "the program was not started".to_owned(),
        _ => format!("check that a CAS of the same version runs at {cas}"),
    };
    anyhow!(error).context(format!("no configuration from the CAS ({hint})"))
}

/// Hands everything to the kernel, in the order it demands, and starts.
fn start(control: &mut impl Control, config: Config, block: &StartBlock) -> Result<()> {
    if !config.volumes.is_empty() {
        bail!(
            "session gives the service volumes, which are not supported yet; remove them from its image"
        );
    }
    let program = program::program(&config, block)?;
    let has_root = config.root.is_some();
    if let Some(root) = &config.root {
        control
            .mount(&Mount {
                path: root.fspf_path.as_bytes().to_vec(),
                key: *root.key.expose(),
                tag: root.tag.0,
            })
            .with_context(|| {
                format!(
                    "protected root {} cannot be mounted: files of the image were changed or belong to another session; pull the image again or update fspf_tag",
                    root.fspf_path
                )
            })?;
    }
    for file in &config.files {
        control
            .inject(&Inject {
                path: file.path.as_bytes().to_vec(),
                mode: file.mode,
                content: file.content.expose().to_vec(),
            })
            .with_context(|| format!("injection file {} cannot be created", file.path))?;
    }
    drop(config);
    control
        .configure(&program)
        .context("kernel refuses the program's arguments")?;
    control.start().context(if has_root {
        "kernel does not start the program"
    } else {
        "kernel does not start the program: the session gives it no files; it needs fspf_path, fspf_key and fspf_tag of this image"
    })
}
