// SPDX-License-Identifier: Apache-2.0
//! The protected file system: authenticated tree, chunks, regions, FSPF key and tag.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

extern crate alloc;

pub mod blob;
pub mod cipher;
pub mod digest;
pub mod entry;
pub mod key;
mod page;
pub mod path;
pub mod region;
pub mod wire;
