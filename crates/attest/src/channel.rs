// SPDX-License-Identifier: Apache-2.0
//! The attested channel, version 1: agent to CAS, TCP 18765.
//!
//! TLS 1.3 without resumption carries length-prefixed JSON frames. The agent
//! authenticates itself with evidence whose report data covers both ends' keys
//! and the TLS exporter ([`binding`]), so that evidence is worth nothing on any
//! other connection. The CAS authenticates itself by a certificate chain that
//! ends in its root key.
//!
//! * [`frame`] and [`config`]: the messages.
//! * [`encoding`]: binary and secret values inside them.
//! * [`codec`]: length prefix and JSON, for blocking and asynchronous callers.
//! * [`binding`]: report data and CONFIGID.
//! * [`tls`]: rustls configurations of both ends.
//! * [`client`]: the agent's half.

pub mod binding;
pub mod client;
pub mod codec;
pub mod config;
pub mod encoding;
pub mod frame;
pub mod tls;

/// Version of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// TCP port of the attested channel at the CAS.
pub const PORT: u16 = 18765;

/// ALPN name of the protocol; both ends refuse a connection without it.
pub const ALPN: &[u8] = b"ensconce-attest/1";

/// TLS exporter label (RFC 8446 §7.5); the context is empty, the length 32.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-ensconce-attest";
