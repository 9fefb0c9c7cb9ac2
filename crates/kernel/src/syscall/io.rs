// SPDX-License-Identifier: Apache-2.0
//! Calls on files and sockets.

use crate::context::Context;
use crate::errno::Errno;

/// Serves a call on files or sockets; `None` if the number is none of them.
pub fn dispatch(_cx: &Context<'_>, number: u64, _args: [u64; 6]) -> Option<Result<u64, Errno>> {
    let _ = number;
    None
}
