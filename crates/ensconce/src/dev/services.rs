// SPDX-License-Identifier: Apache-2.0
//! The two services: how they are started and how one sees that they answer.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use cas::client::Address as CasAddress;
use enclave_abi::las::{Answer, Kind, Request};
use serde::Deserialize;

use super::place::Place;
use crate::exit::{Class, Classify as _, Failure};

/// Name of the LAS in messages and files.
pub(super) const LAS: &str = "las";
/// Name of the CAS in messages and files.
pub(super) const CAS: &str = "cas";
/// Both, in the order of starting.
pub(super) const ALL: [&str; 2] = [LAS, CAS];

/// The record of a service.
pub(super) fn record_file(place: &Place, service: &str) -> PathBuf {
    place.file(&format!("{service}.pid"))
}

/// The log of a service.
pub(super) fn log_file(place: &Place, service: &str) -> PathBuf {
    place.file(&format!("{service}.log"))
}

/// Written by the CAS when it listens.
pub(super) fn ready_file(place: &Place) -> PathBuf {
    place.file("cas.ready")
}

/// The program of a service: beside this one.
pub(super) fn program(service: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().class(Class::Internal, "Cannot find this program's path")?;
    let path = own.with_file_name(format!("ensconce-{service}"));
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(
        Class::Internal,
        format!(
            "'{}' is missing; it belongs beside '{}', 'make build' puts it there",
            path.display(),
            own.display()
        ),
    ))
}

/// Arguments of the LAS.
pub(super) fn las_arguments(place: &Place, mode: u32) -> Vec<OsString> {
    vec![
        "--emulated".into(),
        "--platform".into(),
        place.platform.clone().into(),
        "--socket".into(),
        place.socket.clone().into(),
        "--mode".into(),
        format!("{mode:04o}").into(),
    ]
}

/// Arguments of the CAS.
pub(super) fn cas_arguments(
    place: &Place,
    listen: IpAddr,
    api_port: u16,
    attested_port: u16,
) -> Vec<OsString> {
    vec![
        "serve".into(),
        "--dev".into(),
        format!("--listen={listen}").into(),
        format!("--api-port={api_port}").into(),
        format!("--attested-port={attested_port}").into(),
        "--data".into(),
        place.file("cas").into(),
        "--anchor".into(),
        las::platform::PlatformInfo::root_certificate(&place.platform).into(),
        "--ready-file".into(),
        ready_file(place).into(),
    ]
}

/// What a LAS says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LasAnswer {
    /// Emulated rather than silicon.
    pub(crate) is_emulated: bool,
    /// Its anchor, hex.
    pub(crate) anchor: String,
}

/// Asks a LAS who it is.
pub(crate) fn ask_las(address: &attest::las::Address) -> Result<LasAnswer, String> {
    let ask = || attest::las::Client::connect(address)?.ask(&Request::Info {});
    match ask() {
        Ok(Answer::Info { kind, anchor, .. }) => Ok(LasAnswer {
            is_emulated: kind == Kind::Emulated,
            anchor: crate::doctor::printable(&anchor),
        }),
        Ok(_) => Err(format!("{address} does not answer like a LAS")),
        Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// What a CAS says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CasAnswer {
    /// Where it listens, as `--cas` wants it.
    pub(super) address: CasAddress,
    /// On which address it listens.
    pub(super) listen: IpAddr,
    /// Base58Check of its root key's hash.
    pub(super) key: String,
}

/// The members of the ready file that are used.
#[derive(Debug, Deserialize)]
struct Ready {
    api: SocketAddr,
    attested: SocketAddr,
    cas_key: String,
}

/// Asks the CAS that wrote `ready_file` whether it answers under its key.
pub(super) fn ask_cas(ready_file: &Path) -> Result<CasAnswer, String> {
    let bytes = std::fs::read(ready_file)
        .map_err(|error| format!("'{}': {error}", ready_file.display()))?;
    let ready: Ready = serde_json::from_slice(&bytes)
        .map_err(|error| format!("'{}': {error}", ready_file.display()))?;
    let address = CasAddress {
        host: host(ready.api.ip()),
        rest_port: ready.api.port(),
        attested_port: ready.attested.port(),
    };
    let pin = policy::KeyHash::parse(&ready.cas_key).map_err(|error| error.to_string())?;
    let client = cas::client::Client::new(address.clone(), Some(pin), None);
    client
        .attest()
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    Ok(CasAnswer {
        address,
        listen: ready.api.ip(),
        key: ready.cas_key,
    })
}

/// How this machine calls an address on which a service listens.
fn host(ip: IpAddr) -> String {
    if ip.is_loopback() || ip.is_unspecified() {
        "localhost".to_owned()
    } else {
        ip.to_string()
    }
}
