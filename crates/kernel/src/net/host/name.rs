// SPDX-License-Identifier: Apache-2.0
//! Addresses on their way to the host. A path is walked as files' are, and only
//! names in the host's own regions leave: a socket at a protected or ephemeral
//! path is never one that the host put there.

use alloc::vec::Vec;

use super::Address;
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::path;

/// Longest path the host can take (`sun_path` with its NUL).
const MAX_PATH: usize = 107;

/// The address of a socket to be made. A last symbolic link is not followed.
///
/// # Errors
/// `EOPNOTSUPP` for a path that is not the host's, `ENAMETOOLONG` if the absolute
/// path does not fit; path errors.
pub(super) fn to_bind(cx: &Context<'_>, address: &Address) -> Result<Vec<u8>, Errno> {
    outside(cx, address, false, Errno::EOPNOTSUPP)
}

/// The address of a socket that should exist.
///
/// # Errors
/// `ECONNREFUSED` for a path that is not the host's; else as [`to_bind`].
pub(super) fn to_reach(cx: &Context<'_>, address: &Address) -> Result<Vec<u8>, Errno> {
    outside(cx, address, true, Errno::ECONNREFUSED)
}

fn outside(
    cx: &Context<'_>,
    address: &Address,
    follow: bool,
    refusal: Errno,
) -> Result<Vec<u8>, Errno> {
    let Address::Path(given) = address else {
        return Ok(address.encode());
    };
    let files = &cx.process().files;
    let cwd = files.cwd();
    // The agent reaches the attestation service, wherever regions lie: what it
    // says there is evidence, not trust.
    let path = if cx.process().is_agent() {
        Some(if given.first() == Some(&b'/') {
            given.clone()
        } else {
            path::join(&cwd, given)
        })
    } else {
        files.namespace().host_path(cx, &cwd, given, follow)?
    };
    let path = path.ok_or(refusal)?;
    if path.len() > MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(Address::Path(path).encode())
}
