// SPDX-License-Identifier: Apache-2.0
//! The protected file system: authenticated tree, chunks, regions, FSPF key and tag.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

extern crate alloc;

pub mod backing;
pub mod blob;
pub mod cipher;
pub mod digest;
pub mod entry;
pub mod header;
pub mod key;
pub mod page;
pub mod path;
pub mod read;
pub mod region;
pub mod seal;
pub mod sites;
pub mod wire;
pub mod xattr;
