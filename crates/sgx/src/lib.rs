// SPDX-License-Identifier: Apache-2.0
//! SGX architectural facts: structures, measurement stream, signing digest,
//! reports, keys and quotes. No I/O and no `unsafe`.
//!
//! Layouts follow Intel SDM volume 3D, chapter 38 ("Enclave access control and
//! data structures"); each type names its section. Every structure converts to
//! and from its exact binary form; nothing is ever transmuted.
//!
//! | module | what |
//! |---|---|
//! | [`attributes`] | ATTRIBUTES, XFRM, MISCSELECT |
//! | [`secinfo`] | page types and permissions |
//! | [`secs`], [`tcs`], [`ssa`] | enclave, thread and save-area control structures |
//! | [`measurement`] | the ECREATE/EADD/EEXTEND stream whose SHA-256 is MRENCLAVE |
//! | [`sigstruct`] | SIGSTRUCT, its signing digest, q1 and q2 |
//! | [`report`], [`key`] | TARGETINFO, REPORT, KEYREQUEST |
//! | [`quote`] | ECDSA quotes as made by DCAP |
//! | [`mod@derive`] | the emulated CPU's keys and reports |
//! | [`leaf`] | ENCLU leaf numbers and their error codes |
#![no_std]
extern crate alloc;

pub mod attributes;
pub mod derive;
mod field;
pub mod key;
pub mod leaf;
pub mod measurement;
pub mod quote;
pub mod report;
pub mod secinfo;
pub mod secs;
pub mod sigstruct;
pub mod ssa;
pub mod tcs;

/// Bytes in one enclave page.
pub const PAGE_SIZE: usize = 4096;
