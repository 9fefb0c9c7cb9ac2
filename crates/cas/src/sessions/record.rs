// SPDX-License-Identifier: Apache-2.0
//! Stored forms of sessions: the active state as JSON, each version as its normalised YAML.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use policy::model::Session;
use policy::{Name, SessionHash};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A stored record does not hold what it should; it was written by another version of the CAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not the JSON of a session's state.
    #[error("The stored state of a session has an unknown form")]
    Form,
    /// The active version is missing.
    #[error("The active version of a session is missing")]
    NoVersion,
    /// The stored text is not a session.
    #[error("A stored version of a session does not parse")]
    Version,
    /// A stored session without creator.
    #[error("A stored session has no creator")]
    NoCreator,
}

/// Active state of a session: which version, and the values that the CAS generated for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    active: SessionHash,
    generated: BTreeMap<Name, Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("active", &hex::encode(self.active))
            .field("generated", &self.generated.keys())
            .finish()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    active: String,
    generated: BTreeMap<String, Zeroizing<String>>,
}

impl Record {
    pub(super) fn new(active: SessionHash, generated: BTreeMap<Name, Zeroizing<Vec<u8>>>) -> Self {
        Self { active, generated }
    }

    /// Hash of the active version.
    pub fn active(&self) -> &SessionHash {
        &self.active
    }

    /// The generated value of a secret.
    pub fn generated(&self, name: &Name) -> Option<&Zeroizing<Vec<u8>>> {
        self.generated.get(name)
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        let encode = |(name, value): (&Name, &Zeroizing<Vec<u8>>)| {
            (name.to_string(), Zeroizing::new(STANDARD.encode(value)))
        };
        let stored = Stored {
            active: hex::encode(self.active),
            generated: self.generated.iter().map(encode).collect(),
        };
        let json = serde_json::to_vec(&stored).map_err(|_| RecordError::Form)?;
        Ok(Zeroizing::new(json))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| RecordError::Form)?;
        let mut active = [0; 32];
        hex::decode_to_slice(&stored.active, &mut active).map_err(|_| RecordError::Form)?;
        let mut generated = BTreeMap::new();
        for (name, value) in &stored.generated {
            let name = Name::parse(name).map_err(|_| RecordError::Form)?;
            let value = STANDARD.decode(&**value).map_err(|_| RecordError::Form)?;
            generated.insert(name, Zeroizing::new(value));
        }
        Ok(Self { active, generated })
    }
}

pub(super) fn encode_version(session: &Session) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(session.to_yaml().as_bytes().to_vec())
}

pub(super) fn decode_version(bytes: &[u8]) -> Result<Session, RecordError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Version)?;
    let parsed = policy::parse(text).map_err(|_| RecordError::Version)?;
    Ok(parsed.session)
}
