// SPDX-License-Identifier: Apache-2.0
//! System calls: one dispatch table, one file per call or tight family.

pub mod io;

use crate::context::Context;
use crate::errno::Errno;

/// Serves one call. Calls on files and sockets are [`io::dispatch`]'s.
///
/// # Errors
/// The errno the program sees; `ENOSYS` for what does not exist.
pub fn dispatch(cx: &Context<'_>, number: u64, args: [u64; 6]) -> Result<u64, Errno> {
    io::dispatch(cx, number, args).unwrap_or(Err(Errno::ENOSYS))
}
