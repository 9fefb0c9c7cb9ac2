// SPDX-License-Identifier: Apache-2.0
//! The `config` frame: everything that an attested service receives.

use serde::{Deserialize, Serialize};

use super::encoding::{Fixed, SecretBytes, SecretFixed, SecretText};

/// Configuration of one instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Arguments, the program's name first.
    pub argv: Vec<SecretText>,
    /// Environment in order; names hold no `=`.
    pub env: Vec<(String, SecretText)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// The image's protected root file system, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Volumes to mount.
    pub volumes: Vec<Volume>,
    /// Files that exist in enclave memory only.
    pub files: Vec<InjectionFile>,
    /// How much the enclave may say.
    pub log: LogLevel,
    /// The state of the CAS at the time of the answer.
    pub head: Head,
    /// The CAS runs unprotected, for development.
    pub dev: bool,
    /// SHA-256 of the CAS root's SubjectPublicKeyInfo (DER).
    pub cas_root_spki: Fixed<32>,
}

/// Key and tag of the protected root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Path of the FSPF in the image.
    pub fspf_path: String,
    /// FSPF key.
    pub key: SecretFixed<32>,
    /// FSPF tag: the only acceptable state.
    pub tag: Fixed<16>,
}

/// A volume and its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Name in the session.
    pub name: String,
    /// Mount point, absolute.
    pub path: String,
    /// FSPF key.
    pub key: SecretFixed<32>,
    /// The acceptable tag; absent before the first acknowledged write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Fixed<16>>,
    /// Mount epoch that this instance received.
    pub epoch: u64,
    /// Seconds for which the lease holds.
    pub lease_s: u32,
    /// How writes are protected.
    pub policy: UpdatePolicy,
}

/// How a volume's writes are protected (session language 0.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdatePolicy {
    /// Each write's tag goes to the CAS.
    RollbackProtected,
    /// Writes are forgotten.
    Ephemeral,
    /// Tags are accepted without order.
    NoRollbackProtection,
}

/// A file that exists in enclave memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectionFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Content, placeholders already replaced.
    pub content: SecretBytes,
}

/// Level of the enclave's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Nothing but fatal errors.
    Off,
    /// Errors.
    #[default]
    Error,
    /// And warnings.
    Warn,
    /// And progress.
    Info,
    /// And details.
    Debug,
}

/// The state of the CAS that an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Raised by recovery and handover.
    pub epoch: u64,
    /// Raised by each commit.
    pub seq: u64,
    /// Root hash of the authenticated map.
    pub root: Fixed<32>,
    /// Whether witnesses confirm that this is the newest state.
    pub freshness: Freshness,
}

/// Whether somebody else remembers the newest state (S6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// A quorum of witnesses countersigned the head.
    Witnessed,
    /// No witness: a rollback of the store would go unnoticed.
    Degraded,
}
