// SPDX-License-Identifier: Apache-2.0
//! Files.

pub mod map;

pub use map::{MapSource, ReadAt};

/// Open files of a process.
#[derive(Debug, Default)]
pub struct FdTable {}

/// What a process has open, where it stands and what it sees.
#[derive(Debug, Default)]
pub struct ProcessFiles {}
