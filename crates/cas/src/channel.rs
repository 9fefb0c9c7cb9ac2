// SPDX-License-Identifier: Apache-2.0
//! The CAS's half of the attested channel (port 18765).
//!
//! A service says which configuration it wants, receives a fresh nonce, and answers with evidence that
//! covers this TLS connection, both keys and the nonce. What the evidence must show is decided by the
//! session alone. The refused party learns a code; the owner's audit log holds every reason.

mod appraise;
mod configure;
mod connection;
mod floor;
mod trust;

pub use connection::{Server, accept_loop};
pub use floor::{Floor, FloorError};
pub use trust::{Trust, TrustError};

/// Port of the attested channel.
pub const PORT: u16 = attest::channel::PORT;
