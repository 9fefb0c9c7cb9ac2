// SPDX-License-Identifier: Apache-2.0
//! The configuration and attestation service.
//!
//! Owners upload sessions over REST ([`api`]); services prove who they are over the attested channel
//! ([`channel`]) and receive their configuration. All state is sealed records below an authenticated
//! head ([`store`]). [`client`] is the other end of the REST interface, for command-line tools.
//!
//! Only the development server exists: it runs outside an enclave, says so in every answer, and
//! protects nothing from its own machine.

pub mod api;
pub mod audit;
pub mod channel;
pub mod client;
pub mod data_dir;
pub mod identity;
pub mod limits;
mod pem;
pub mod seal;
pub mod serve;
pub mod service;
pub mod sessions;
pub mod store;
