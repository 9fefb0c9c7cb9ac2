// SPDX-License-Identifier: Apache-2.0
//! Sockets.

use crate::context::Context;
use crate::errno::Errno;

pub(super) fn dispatch(
    _cx: &Context<'_>,
    _number: u32,
    _args: [u64; 6],
) -> Option<Result<u64, Errno>> {
    None
}
