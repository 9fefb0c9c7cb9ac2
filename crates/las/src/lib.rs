// SPDX-License-Identifier: Apache-2.0
//! The local attestation service: one per machine, trusted by nobody. It turns
//! an enclave's REPORT into a quote that a verifier elsewhere understands.
//!
//! With the emulated back end it *is* the emulated platform: fuse keys, PCK
//! chain, quoting enclave. The evidence it makes is of the same form as that of
//! silicon, but ends in this platform's own anchor; it protects nothing against
//! root of the machine, and no key of it ever leaves the process (S19).
//!
//! * [`pki`]: keys, certificates, revocation lists and signed documents.
//! * [`platform`]: the emulated platform's directory.
//! * [`quoting`]: the emulated quoting enclave.
//! * [`service`]: requests and listeners.

pub mod pki;
pub mod platform;
pub mod quoting;
pub mod service;
