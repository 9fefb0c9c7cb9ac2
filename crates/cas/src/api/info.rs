// SPDX-License-Identifier: Apache-2.0
//! What the CAS says about itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::service::{FRESHNESS, Service};

/// Answer of `GET /v1/version`.
#[derive(Debug, Serialize)]
pub(super) struct Version {
    version: &'static str,
    api: u32,
    language: &'static str,
    dev: bool,
    freshness: &'static str,
}

/// No query parameters: unknown ones are refused rather than ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn version(
    query: Result<Query<Nothing>, QueryRejection>,
) -> Result<Json<Version>, Problem> {
    query.map_err(|_| Problem::bad_request("'version' takes no parameters"))?;
    Ok(Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        api: 1,
        language: "0.3.12",
        dev: true,
        freshness: FRESHNESS,
    }))
}

/// Answer of `GET /v1/attest`.
#[derive(Debug, Serialize)]
pub(super) struct Attestation {
    /// Always null here: a process outside an enclave has none.
    evidence: Option<String>,
    statement: &'static str,
    /// Base58Check of the CAS key hash.
    cas_key: String,
    /// The same hash in hex: SHA-256 of the root's SubjectPublicKeyInfo.
    cas_root_spki_sha256: String,
    /// Intermediate and root.
    chain: String,
    head: Head,
    dev: bool,
    freshness: &'static str,
}

/// The head of the store.
#[derive(Debug, Serialize)]
struct Head {
    epoch: u64,
    seq: u64,
    root: String,
}

pub(super) async fn attest(
    State(service): State<Arc<Service>>,
    query: Result<Query<Nothing>, QueryRejection>,
) -> Result<Json<Attestation>, Problem> {
    query.map_err(|_| {
        Problem::bad_request(
            "'attest' of a development CAS takes no parameters: it has no evidence",
        )
    })?;
    let head = service.sessions.store().head();
    Ok(Json(Attestation {
        evidence: None,
        statement: "This is a development CAS outside any enclave: there is no evidence, and whoever \
                    controls its machine reads every secret. Compare the key hash with the one it \
                    printed at its start.",
        cas_key: service.key_hash().to_string(),
        cas_root_spki_sha256: service.key_hash().to_hex(),
        chain: service.identity.chain_pem(),
        head: Head {
            epoch: head.epoch,
            seq: head.seq,
            root: hex::encode(head.root),
        },
        dev: true,
        freshness: FRESHNESS,
    }))
}
