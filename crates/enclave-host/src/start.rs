// SPDX-License-Identifier: Apache-2.0
//! What the enclave is told at its start: the start block and CONFIGID.
//! Everything here is a claim of the host; the enclave and the CAS judge it.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use enclave_abi::las;
use enclave_abi::manifest::{Dlopen, Manifest, StartMode};
use enclave_abi::start::StartBlock;
use sha2::{Digest as _, Sha256};

use crate::options::{Options, Settings};

/// Port of the CAS's attested channel.
const CAS_PORT: u16 = 18765;

/// Fills the start block.
///
/// # Errors
/// A configuration id or address that cannot be one.
pub fn start_block(options: &Options) -> Result<StartBlock> {
    let settings = &options.settings;
    let (config_id, one_time_password) = config_id(settings)?;
    let mut env = Vec::with_capacity(options.environment.len());
    for (name, value) in &options.environment {
        env.push([name.as_slice(), b"=", value].concat());
    }
    Ok(StartBlock {
        config_id,
        one_time_password,
        cas_addr: settings
            .value("SCONE_CAS_ADDR")
            .map_or(Ok(String::new()), cas_address)?,
        las_addr: las_address(settings),
        access_token: settings
            .value("SCONE_SERVICE_ACCESS_TOKEN")
            .unwrap_or_default()
            .to_owned(),
        log: options.log,
        argv: options.arguments.clone(),
        env,
        cwd: std::env::current_dir()
            .map_or_else(|_| b"/".to_vec(), |dir| dir.as_os_str().as_bytes().to_vec()),
    })
}

/// `SCONE_CONFIG_ID` and the one-time password after `@`.
fn config_id(settings: &Settings) -> Result<(String, String)> {
    let Some(text) = settings.value("SCONE_CONFIG_ID") else {
        return Ok((String::new(), String::new()));
    };
    let (id, password) = text.split_once('@').unwrap_or((text, ""));
    ensure!(
        id.split('/').count() >= 2 && id.split('/').all(|part| !part.is_empty()),
        "SCONE_CONFIG_ID is '{id}'; it must be SESSION/SERVICE"
    );
    Ok((id.to_owned(), password.to_owned()))
}

/// The attested port of `HOST`, `HOST:ATTESTED_PORT` or `HOST:REST_PORT:ATTESTED_PORT`.
fn cas_address(text: &str) -> Result<String> {
    // A bracketed IPv6 address may hold colons itself.
    let host_end = text.rfind(']').map_or(0, |at| at + 1);
    let (bracketed, rest) = text.split_at(host_end);
    let mut parts = rest.split(':');
    let host = format!("{bracketed}{}", parts.next().unwrap_or_default());
    let port = match parts.by_ref().last() {
        None => CAS_PORT,
        Some(port) => port.parse().with_context(|| {
            format!("SCONE_CAS_ADDR is '{text}'; it must be HOST[:REST_PORT[:ATTESTED_PORT]]")
        })?,
    };
    ensure!(
        !host.is_empty(),
        "SCONE_CAS_ADDR is '{text}', without a host"
    );
    Ok(format!("{host}:{port}"))
}

/// `SCONE_LAS_ADDR` if set; else the unix socket if there is one; else the
/// default port of this machine.
#[must_use]
pub fn las_address(settings: &Settings) -> String {
    match settings.value("SCONE_LAS_ADDR") {
        Some(text) if text.starts_with("unix:") || has_port(text) => text.to_owned(),
        Some(host) => format!("{host}:{}", las::PORT),
        None if Path::new(las::DEFAULT_SOCKET).exists() => format!("unix:{}", las::DEFAULT_SOCKET),
        None => format!("localhost:{}", las::PORT),
    }
}

fn has_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// CONFIGID (rule S1): who configures this enclave. Zero without a configuration.
///
/// # Errors
/// There is a configuration id, but nobody says which CAS it belongs to.
pub fn configid(options: &Options, manifest: &Manifest) -> Result<[u8; 64]> {
    let mut out = [0; 64];
    if manifest.start_mode != StartMode::Session {
        return Ok(out);
    }
    let (id, _) = config_id(&options.settings)?;
    let Some((session, service)) = id.rsplit_once('/') else {
        bail!("SCONE_CONFIG_ID is not set; this image starts only with SESSION/SERVICE");
    };
    let pin = match (manifest.cas_pin, options.settings.value("SCONE_CAS_KEY")) {
        (Some(pin), None) => pin,
        (pin, Some(text)) => {
            let mut given = [0; 32];
            hex::decode_to_slice(text, &mut given)
                .ok()
                .context("SCONE_CAS_KEY must be 64 hexadecimal digits")?;
            ensure!(
                pin.is_none_or(|pin| pin == given),
                "SCONE_CAS_KEY is {text}, but the image is bound to the CAS key {}",
                hex::encode(pin.unwrap_or_default())
            );
            given
        }
        (None, None) => bail!(
            "the image is not bound to a CAS; set SCONE_CAS_KEY to the SHA-256 of its root key \
             (64 hexadecimal digits, printed by the CAS at its start)"
        ),
    };
    let mut hash = Sha256::new();
    hash.update(b"ensconce-config-v1");
    hash.update(pin);
    hash.update(session);
    hash.update([0]);
    hash.update(service);
    out[..32].copy_from_slice(&hash.finalize());
    Ok(out)
}

/// Checks variables that repeat a measured value: a wish that the image cannot
/// fulfil must not be ignored.
///
/// # Errors
/// The variable and the measured value, when they differ.
pub fn agrees_with_measured(settings: &Settings, manifest: &Manifest) -> Result<()> {
    let size = |name: &str, measured: u64| -> Result<()> {
        let Some(text) = settings.value(name) else {
            return Ok(());
        };
        let wanted = bytes(text).with_context(|| format!("{name} is '{text}', not a size"))?;
        ensure!(
            wanted == measured,
            "{name} is {wanted} bytes, but this image was built and measured with {measured}; \
             convert it again to change that"
        );
        Ok(())
    };
    size("SCONE_HEAP", manifest.heap)?;
    size("SCONE_STACK", manifest.stack)?;
    if let Some(text) = settings.value("SCONE_ALLOW_DLOPEN") {
        let measured = manifest.dlopen as u8;
        ensure!(
            text.parse() == Ok(measured),
            "SCONE_ALLOW_DLOPEN is {text}, but this image was built and measured with {measured}; \
             convert it again to change that"
        );
    }
    Ok(())
}

/// A number with an optional K, M or G.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (text.get(..text.len() - 1)?, 10),
        b'M' => (text.get(..text.len() - 1)?, 20),
        b'G' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// What `SCONE_VERSION=1` prints.
#[must_use]
pub fn version_text(
    options: &Options,
    manifest: &Manifest,
    mrenclave: &[u8; 32],
    is_debug: bool,
    is_emulated: bool,
) -> String {
    let mut out = String::new();
    let dlopen = match manifest.dlopen {
        Dlopen::None => "no",
        Dlopen::Protected => "yes (protected)",
        Dlopen::Any => "yes (unprotected)",
    };
    let mode = if is_emulated { "sim" } else { "hw" };
    let config_id = options
        .settings
        .value("SCONE_CONFIG_ID")
        .map(|id| id.split('@').next().unwrap_or_default());
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "SCONE_MODE={mode}\nSCONE_HEAP={}\nSCONE_STACK={}\nSCONE_TCS={}\nSCONE_ALLOW_DLOPEN={dlopen}\n\
         SCONE_FORK=no\nSCONE_LOG={:?}\nConfiguration ID: {}\nEnsconce {}\nEnclave hash: {}\n{}{}\n",
        manifest.heap,
        manifest.stack,
        manifest.threads,
        options.log,
        config_id.unwrap_or("not specified"),
        env!("CARGO_PKG_VERSION"),
        hex::encode(mrenclave),
        if is_debug {
            "Enclave in debug mode"
        } else {
            "Enclave in production mode"
        },
        if is_emulated {
            ", on an emulated platform that protects nothing against root"
        } else {
            ""
        },
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::new(
            variables
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect(),
        )
    }

    fn manifest() -> Manifest {
        Manifest {
            start_mode: StartMode::Session,
            heap: 64 << 20,
            stack: 1 << 20,
            threads: 8,
            dlopen: Dlopen::Protected,
            fork: false,
            program: b"/bin/true".to_vec(),
            agent: b"/ensconce/agent".to_vec(),
            regions: vec![],
            cas_pin: Some([7; 32]),
            standalone: None,
        }
    }

    fn options(variables: &[(&str, &str)]) -> Options {
        let variables = variables
            .iter()
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        Options::parse(true, vec!["launch".into()], variables).unwrap()
    }

    #[test]
    fn addresses_of_the_cas() {
        for (text, expected) in [
            ("cas", "cas:18765"),
            ("cas:1", "cas:1"),
            ("cas:8081:2", "cas:2"),
            ("[::1]", "[::1]:18765"),
            ("[::1]:8081:3", "[::1]:3"),
        ] {
            assert_eq!(cas_address(text).unwrap(), expected);
        }
        assert!(cas_address("cas:x").is_err());
        assert!(cas_address(":1").is_err());
    }

    #[test]
    fn configid_binds_cas_session_and_service() {
        let id = |variables: &[(&str, &str)]| configid(&options(variables), &manifest());
        let base = id(&[("SCONE_CONFIG_ID", "ns/session/service")]).unwrap();
        assert_eq!(base[32..], [0; 32]);
        // The same value as in the CAS's test: all computations of CONFIGID agree.
        let expected = "909f839baaac4cee383b051524f9ca0aeaa85f7bc3449a8ec1a498c95ac92a50";
        assert_eq!(hex::encode(&base[..32]), expected);
        assert_eq!(
            base,
            id(&[("SCONE_CONFIG_ID", "ns/session/service@123456")]).unwrap()
        );
        assert!(id(&[]).is_err());
        assert!(id(&[("SCONE_CONFIG_ID", "session")]).is_err());
        let other = "08".repeat(32);
        assert!(id(&[("SCONE_CONFIG_ID", "a/b"), ("SCONE_CAS_KEY", &other)]).is_err());
    }

    #[test]
    fn measured_values_cannot_be_wished_away() {
        assert!(
            agrees_with_measured(
                &settings(&[("SCONE_HEAP", "64M"), ("SCONE_ALLOW_DLOPEN", "1")]),
                &manifest()
            )
            .is_ok()
        );
        let error = agrees_with_measured(&settings(&[("SCONE_HEAP", "1G")]), &manifest())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1073741824") && error.contains("67108864"),
            "{error}"
        );
        assert!(
            agrees_with_measured(&settings(&[("SCONE_ALLOW_DLOPEN", "2")]), &manifest()).is_err()
        );
        assert!(agrees_with_measured(&settings(&[("SCONE_STACK", "lots")]), &manifest()).is_err());
    }

    #[test]
    fn the_one_time_password_is_kept_apart() {
        let block =
            start_block(&options(&[("SCONE_CONFIG_ID", "a/b@123456"), ("X", "1")])).unwrap();
        assert_eq!(
            (block.config_id.as_str(), block.one_time_password.as_str()),
            ("a/b", "123456")
        );
        assert_eq!(block.env, [b"X=1".to_vec()]);
    }

    #[test]
    fn the_version_text_keeps_the_lines_that_scripts_look_for() {
        let text = version_text(&options(&[]), &manifest(), &[1; 32], true, true);
        assert!(text.starts_with("SCONE_MODE=sim\n"));
        assert!(text.contains(&format!("\nEnclave hash: {}\n", "01".repeat(32))));
        assert!(text.contains("debug mode"));
    }
}
