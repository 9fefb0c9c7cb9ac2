// SPDX-License-Identifier: Apache-2.0
//! The frames of the attested channel. Each is a JSON object whose member
//! `frame` names it; unknown members and unknown names are errors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::encoding::{Bytes, Fixed, SecretText};

/// What the agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum ClientFrame {
    /// First frame: who is asked for.
    Hello(Hello),
    /// Answer to the challenge.
    Evidence(Evidence),
    /// A volume's tag moves on; answered by [`ServerFrame::Ack`].
    Tag(Tag),
    /// Asks for a longer lease; answered by [`ServerFrame::Lease`].
    Renew(Renew),
    /// The program ended; the last frame, not answered.
    Exit(Exit),
}

/// What the CAS sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum ServerFrame {
    /// Answer to hello: what the evidence has to cover.
    Challenge(Challenge),
    /// Answer to accepted evidence.
    Config(Box<Config>),
    /// The request is refused; the CAS closes the connection afterwards.
    Refused(Refused),
    /// The tag is durable.
    Ack(Ack),
    /// How long the instance may go on; also pushed unasked.
    Lease(Lease),
}

/// Role under which an end speaks; part of the report data, so that evidence
/// made for one role is worth nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An enclave that asks for its service's configuration.
    Service,
}

impl Role {
    /// The name on the wire and in the report data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
        }
    }
}

/// `hello`, agent to CAS, at most 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Protocol version: [`super::PROTOCOL`].
    pub protocol: u32,
    /// `session/service` (the session may hold slashes itself).
    pub config_id: String,
    /// Role of the sender.
    pub role: Role,
    /// One-time password, where the session asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otp: Option<SecretText>,
    /// Proof of the service access token, never the token itself:
    /// [`super::binding::token_proof`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_proof: Option<Fixed<32>>,
}

/// Kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// An ECDSA quote as made by DCAP (also the emulated platform's).
    SgxDcap,
}

/// `challenge`, CAS to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Fresh random value; part of the report data.
    pub nonce: Fixed<32>,
    /// Kinds of evidence that the CAS takes.
    pub accepts: Vec<EvidenceKind>,
    /// One-time token of a singleton service; must equal CONFIGID[32..64].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub singleton: Option<Fixed<32>>,
    /// The CAS's proof of the service access token; only ever sent in answer
    /// to a right proof of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_proof: Option<Fixed<32>>,
}

/// `evidence`, agent to CAS, at most 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Kind of the evidence.
    pub kind: EvidenceKind,
    /// The quote.
    pub quote: Bytes,
    /// What comes with the quote; nothing in it is trusted by itself.
    pub claims: Claims,
}

/// Companion of a quote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Collateral as the LAS gave it (the JSON text of a
    /// bundle). It proves itself by its signatures; the CAS may prefer its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<String>,
}

/// `refused`, CAS to agent: a code and nothing else. The reasons go to the
/// owner's audit log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Why, as far as the asker may know.
    pub code: RefusalCode,
    /// Seconds after which asking again may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// The closed list of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No such session or service.
    UnknownService,
    /// The evidence does not satisfy the session.
    AttestationRefused,
    /// One-time password or access token missing, wrong or used before.
    SecondFactor,
    /// Another instance holds a volume's lease.
    VolumeLocked,
    /// Too many attempts.
    RateLimited,
    /// The CAS is starting, stopping or without its store.
    NotReady,
    /// Protocol version not spoken here.
    Version,
}

impl RefusalCode {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownService => "unknown-service",
            Self::AttestationRefused => "attestation-refused",
            Self::SecondFactor => "second-factor",
            Self::VolumeLocked => "volume-locked",
            Self::RateLimited => "rate-limited",
            Self::NotReady => "not-ready",
            Self::Version => "version",
        }
    }

    /// What the operator of the refused service can do next.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::UnknownService => {
                "check SCONE_CONFIG_ID (session/service) and that the session was uploaded to this CAS"
            }
            Self::AttestationRefused => {
                "the session's owner finds every reason in the CAS audit log; compare MRENCLAVE, signer and tolerations"
            }
            Self::SecondFactor => {
                "append a current one-time password (session/service@123456) or set the service access token"
            }
            Self::VolumeLocked => "stop the other instance or wait until its lease ends",
            Self::RateLimited => "wait before starting again",
            Self::NotReady => "wait until the CAS is ready and start again",
            Self::Version => "use an image and a CAS of the same protocol version",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `tag`, agent to CAS: compare-and-swap of a volume's tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Name of the volume in the session.
    pub volume: String,
    /// Mount epoch under which this instance holds it.
    pub epoch: u64,
    /// Tag that the CAS holds now.
    pub old: Fixed<16>,
    /// Tag that it shall hold.
    pub new: Fixed<16>,
}

/// `ack`, CAS to agent: the receipt of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Sequence number of the commit.
    pub seq: u64,
    /// Signature of the CAS over volume, epoch, tag and sequence number.
    pub signature: Bytes,
}

/// `renew`, agent to CAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {}

/// `lease`, CAS to agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Seconds from now during which the instance may go on.
    pub lease_s: u32,
}

/// `exit`, agent to CAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// Exit code of the program, 0..=255.
    pub code: u8,
    /// Signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
}
