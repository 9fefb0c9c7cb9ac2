// SPDX-License-Identifier: Apache-2.0
//! JSON messages of the local attestation service (spec: "LAS" in the wire
//! protocol, version 1). Frames are a `u32` little-endian length and one JSON
//! object; unknown fields are errors.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest frame in bytes.
pub const FRAME_MAX: usize = 64 << 10;
/// Seconds that one request may take.
pub const TIMEOUT_S: u64 = 5;
/// Where the service listens by default.
pub const DEFAULT_SOCKET: &str = "/run/ensconce/las.sock";
/// TCP port of the service.
pub const PORT: u16 = 18766;

/// Bytes that travel as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl core::fmt::Debug for Base64 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Who are you?
    Info {},
    /// Turn a REPORT for the quoting enclave into a quote.
    Quote {
        /// 432 bytes.
        report: Base64,
    },
    /// Everything a verifier needs for this platform.
    Collateral {
        /// Platform family, 12 hex digits.
        fmspc: String,
        /// `processor` or `platform`.
        ca: String,
    },
    /// Are you able to quote?
    Health {},
    /// Emulated CPU, unix socket only: EREPORT.
    Ereport {
        /// 512 bytes.
        targetinfo: Base64,
        /// 64 bytes.
        reportdata: Base64,
        /// The calling enclave.
        secs: SecsIdentity,
    },
    /// Emulated CPU, unix socket only: EGETKEY.
    Egetkey {
        /// 512 bytes.
        keyrequest: Base64,
        /// The calling enclave.
        secs: SecsIdentity,
    },
}

/// What the emulated CPU knows of an enclave after EINIT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecsIdentity {
    /// 16 bytes.
    pub attributes: Base64,
    /// MISCSELECT.
    pub miscselect: u32,
    /// 32 bytes.
    pub mrenclave: Base64,
    /// 32 bytes.
    pub mrsigner: Base64,
    /// 64 bytes.
    pub config_id: Base64,
    /// Product id.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// Configuration security version.
    pub config_svn: u16,
    /// 16 bytes.
    pub isv_ext_prod_id: Base64,
    /// 16 bytes.
    pub isv_family_id: Base64,
}

/// Whether silicon or software stands behind the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SGX hardware.
    Hardware,
    /// The emulated platform: protects nothing against root.
    Emulated,
}

/// What the service answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To `info`.
    Info {
        /// Hardware or emulated.
        kind: Kind,
        /// 512 bytes: the quoting enclave, as TARGETINFO of a REPORT to be quoted.
        qe_target_info: Base64,
        /// Hex.
        platform_id: String,
        /// Hex SHA-256 of the anchor's SubjectPublicKeyInfo.
        anchor: String,
    },
    /// To `quote`.
    Quote {
        /// A DCAP quote.
        quote: Base64,
    },
    /// To `collateral`.
    Collateral {
        /// The bundle as JSON text.
        bundle: String,
    },
    /// To `health`.
    Health {
        /// Whether quotes can be made.
        ready: bool,
    },
    /// To `ereport`.
    Ereport {
        /// 432 bytes.
        report: Base64,
    },
    /// To `egetkey`: either a key or the leaf's error code.
    Egetkey {
        /// 16 bytes, absent when refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Base64>,
        /// RAX of the leaf (0 = success).
        error: u64,
    },
    /// The request was refused.
    Error {
        /// Why and what to do.
        message: String,
    },
}
