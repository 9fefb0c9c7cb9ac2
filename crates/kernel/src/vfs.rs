// SPDX-License-Identifier: Apache-2.0
//! Files.

pub mod map;

pub use map::{MapSource, ReadAt};

/// Open files of a process.
#[derive(Debug, Default)]
pub struct FdTable {}
