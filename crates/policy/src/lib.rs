// SPDX-License-Identifier: Apache-2.0
//! The session language, version 0.3: a YAML text becomes a checked [`Session`], or a list of every
//! error with line, column and a snippet that hides secret values.
//!
//! Pure functions only: no files, no network, no clock. What belongs to the language but cannot be
//! done by this version is refused by name; nothing is ignored silently.
//!
//! ```
//! let text = r#"
//! version: "0.3.12"
//! name: acme/ledger
//! services:
//!   - name: api
//!     command: ledgerd --password $$SCONE::db_pw$$
//!     attestation: { mrenclave: ["0000000000000000000000000000000000000000000000000000000000000001"] }
//! secrets:
//!   - { name: db_pw, kind: ascii, size: 32 }
//! "#;
//! let session = policy::parse(text)?.session;
//! assert_eq!(session.name.as_str(), "acme/ledger");
//! assert_eq!(session.hash(), policy::parse(&session.to_yaml())?.session.hash());
//! # Ok::<(), policy::Refusal>(())
//! ```

pub mod access;
pub mod attestation;
mod canonical;
pub mod config_id;
mod emit;
mod fields;
pub mod key_hash;
pub mod model;
pub mod name;
mod parse;
pub mod placeholder;
mod problem;
mod source;
mod template;
mod yaml;

pub use access::{AccessPolicy, Decision, Operation};
pub use config_id::{ConfigId, config_id_hash};
pub use emit::quoted;
pub use key_hash::KeyHash;
pub use model::{Session, SessionHash};
pub use name::{Name, SessionName};
pub use parse::{Parsed, parse, parse_template};
pub use problem::Problem;
pub use source::{Finding, Refusal, Severity, Span};
pub use template::Variables;
pub use yaml::{MAX_DEPTH, MAX_DOCUMENT, MAX_NODES};

#[cfg(test)]
mod arbitrary;
