// SPDX-License-Identifier: Apache-2.0
//! Turns the kernel and a manifest into an enclave image, its measurement and
//! its signature, and inspects the programs that will run in it.
//!
//! ```text
//! kernel.elf + Manifest + StartupList ──plan──▶ enclave.img, MRENCLAVE ──sign──▶ enclave.img.sig
//! program ──closure──▶ files it needs ──startup──▶ StartupList (chunk hashes, system-call sites)
//! ```
//!
//! Everything here is a pure function of its inputs: equal inputs, equal bytes.
//!
//! | module | what |
//! |---|---|
//! | [`plan`](mod@plan) | page plan, `enclave.img`, MRENCLAVE |
//! | [`sign`](mod@sign) | SIGSTRUCT with an RSA-3072 key, the debug key |
//! | [`sites`] | system-call sites of one ELF file |
//! | [`closure`] | which files a program needs to start |
//! | [`root`] | the file tree in which the closure is looked up |
//! | [`startup`] | the startup list of a closure |
//! | [`inspect`] | reads a finished image back |
//! | [`lint`](mod@lint) | instructions that an enclave must not contain |
//! | [`elf`] | the bounded ELF reader below all of them |

pub mod closure;
pub mod elf;
pub mod inspect;
pub mod lint;
pub mod plan;
pub mod root;
pub mod sign;
pub mod sites;
pub mod startup;
