// SPDX-License-Identifier: Apache-2.0
//! The client of the REST interface, for command-line tools. Blocking.
//!
//! A CAS is recognised by the hash of its root key and by nothing else; names in its certificate are
//! not compared. Without a known hash the caller decides whether the first connection may record one.

mod address;
mod http;
mod identity;
mod state;

use policy::KeyHash;
use policy::model::Session;
use serde::Deserialize;
use zeroize::Zeroizing;

pub use address::{Address, AddressError};
pub use identity::{Identity, IdentityError};
pub use state::{KnownCas, State, StateError};

/// Exit code of tools for a CAS that is unreachable, unacceptable or refuses the identity.
pub const EXIT_CAS: u8 = 7;
/// Exit code of tools for a session that is refused.
pub const EXIT_SESSION: u8 = 8;

/// A request to a CAS failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection.
    #[error("The CAS at {address} is unreachable")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS failed for another reason than the key.
    #[error("TLS with the CAS at {address} failed")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The root key is not the expected one.
    #[error(
        "The CAS at {address} does not have the expected key {expected}; \
         either it was set up anew or somebody else answers there"
    )]
    WrongKey {
        /// Where.
        address: String,
        /// The hash that was pinned.
        expected: KeyHash,
    },
    /// TLS could not be set up on this side.
    #[error("TLS cannot be set up with this identity")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not one of a CAS.
    #[error("The server at {address} does not answer like a CAS: {problem}")]
    Protocol {
        /// Where.
        address: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The CAS refused.
    #[error("The CAS refused: {title}: {detail}{}", rendered(.findings))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Name of the problem, such as `session-exists`.
        problem: String,
        /// Title of the problem.
        title: String,
        /// What the CAS says.
        detail: String,
        /// Findings about the document, rendered.
        findings: Vec<String>,
    },
    /// The document is refused before anything is sent.
    #[error("The session document is not valid")]
    Invalid(#[source] policy::Refusal),
}

fn rendered(findings: &[String]) -> String {
    findings
        .iter()
        .map(|finding| format!("\n{finding}"))
        .collect()
}

impl ClientError {
    /// The exit code that tools use.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) => EXIT_SESSION,
            // Without a certificate nothing is wrong with the session itself.
            Self::Refused { status: 401, .. } => EXIT_CAS,
            Self::Refused { status, .. } if (400..500).contains(status) => EXIT_SESSION,
            _ => EXIT_CAS,
        }
    }

    /// Whether the CAS refused with this problem.
    pub fn is_problem(&self, name: &str) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem == name)
    }
}

/// A CAS and who talks to it.
#[derive(Debug)]
pub struct Client {
    address: Address,
    pin: Option<KeyHash>,
    identity: Option<Identity>,
}

/// What the CAS says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Hash of the root key that the connection was made under.
    pub key_hash: KeyHash,
    /// A development CAS: it protects nothing from its own machine.
    pub dev: bool,
    /// How fresh its store is known to be.
    pub freshness: String,
    /// Intermediate and root certificates as PEM.
    pub chain: String,
}

/// What an upload did.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Uploaded {
    /// Name of the session.
    pub name: String,
    /// Hash of the active version, hex.
    pub hash: String,
    /// Whether the session is new.
    pub created: bool,
    /// Warnings, rendered.
    pub warnings: Vec<String>,
    /// Uploaded to a development CAS.
    pub dev: bool,
    /// How fresh its store is known to be.
    pub freshness: String,
}

/// A session as read.
#[derive(Clone, Deserialize)]
pub struct ReadSession {
    /// Normalised YAML; holds explicit secrets.
    pub session: Zeroizing<String>,
    /// Hash of the version, hex.
    pub hash: String,
}

impl std::fmt::Debug for ReadSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadSession({})", self.hash)
    }
}

#[derive(Deserialize)]
struct AttestAnswer {
    chain: String,
    dev: bool,
    freshness: String,
}

#[derive(Deserialize)]
struct ListAnswer {
    sessions: Vec<String>,
}

#[derive(Deserialize)]
struct ProblemAnswer {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    detail: String,
    #[serde(default)]
    findings: Vec<String>,
}

impl Client {
    /// A client of the CAS at `address`, which must have the root key `pin` if one is given.
    pub fn new(address: Address, pin: Option<KeyHash>, identity: Option<Identity>) -> Self {
        Self {
            address,
            pin,
            identity,
        }
    }

    /// Asks the CAS what it is. Without a pin this is how a first use learns the key hash.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn attest(&self) -> Result<Attestation, ClientError> {
        let (answer, key_hash) = self.ask::<AttestAnswer>("GET", "/v1/attest", None)?;
        Ok(Attestation {
            key_hash,
            dev: answer.dev,
            freshness: answer.freshness,
            chain: answer.chain,
        })
    }

    /// Reads the active version of a session, or the one with `hash` (hex). `None`: there is none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn read(&self, name: &str, hash: Option<&str>) -> Result<Option<ReadSession>, ClientError> {
        let mut path = format!("/v1/sessions/{}", http::encode_path(name));
        if let Some(hash) = hash {
            path.push_str(&format!("?hash={}", http::encode_path(hash)));
        }
        match self.ask("GET", &path, None) {
            Ok((session, _)) => Ok(Some(session)),
            Err(error) if error.is_problem("no-such-session") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of the sessions below `under`, or of those that this identity may read.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn list(&self, under: Option<&str>) -> Result<Vec<String>, ClientError> {
        let mut path = "/v1/sessions".to_owned();
        if let Some(under) = under {
            path.push_str(&format!("?under={}", http::encode_path(under)));
        }
        let (answer, _) = self.ask::<ListAnswer>("GET", &path, None)?;
        Ok(answer.sessions)
    }

    /// Creates or updates a session exactly as the document says.
    ///
    /// # Errors
    /// See [`ClientError`]; nothing has changed then.
    pub fn upload(&self, yaml: &str) -> Result<Uploaded, ClientError> {
        let (uploaded, _) = self.ask("POST", "/v1/sessions", Some(yaml.as_bytes()))?;
        Ok(uploaded)
    }

    /// Creates a session; if it exists and `update` is set, replaces its active version: a document
    /// without predecessor then receives the active hash.
    ///
    /// # Errors
    /// See [`ClientError`]; `session-exists` if it exists and `update` is not set.
    pub fn create_or_update(&self, yaml: &str, update: bool) -> Result<Uploaded, ClientError> {
        let mut session = policy::parse(yaml).map_err(ClientError::Invalid)?.session;
        let refused = match self.upload(yaml) {
            Err(error) if update && error.is_problem("session-exists") => error,
            result => return result,
        };
        let Some(active) = self.read(session.name.as_str(), None)? else {
            return Err(refused);
        };
        let mut predecessor = [0; 32];
        hex::decode_to_slice(&active.hash, &mut predecessor).map_err(|_| {
            ClientError::Protocol {
                address: self.address.rest(),
                problem: "a session hash is not 64 hexadecimal digits",
            }
        })?;
        session.predecessor = Some(predecessor);
        self.upload(&session.to_yaml())
    }

    /// The hash that an upload of `session` by this client's identity will have.
    ///
    /// # Errors
    /// The identity's certificate cannot be read.
    pub fn hash_as_creator(&self, mut session: Session) -> Result<[u8; 32], IdentityError> {
        if let (None, Some(identity)) = (&session.creator, &self.identity) {
            session.creator = Some(identity.creator()?);
        }
        Ok(session.hash())
    }

    fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<(T, KeyHash), ClientError> {
        let request = http::Request { method, path, body };
        let identity = self.identity.as_ref();
        let answer = http::exchange(&self.address, self.pin.as_ref(), identity, &request)?;
        let odd = |problem| ClientError::Protocol {
            address: self.address.rest(),
            problem,
        };
        if (200..300).contains(&answer.status) {
            let parsed = serde_json::from_slice(&answer.body);
            let parsed = parsed.map_err(|_| odd("the answer is not the expected JSON"))?;
            return Ok((parsed, answer.key_hash));
        }
        let problem: ProblemAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| odd("an error is not a problem document"))?;
        let name = problem.kind.rsplit(':').next().unwrap_or_default();
        Err(ClientError::Refused {
            status: answer.status,
            problem: name.to_owned(),
            title: problem.title,
            detail: problem.detail,
            findings: problem.findings,
        })
    }
}
