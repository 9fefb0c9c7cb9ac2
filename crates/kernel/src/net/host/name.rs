// SPDX-License-Identifier: Apache-2.0
//! Addresses on their way to the host. Paths become absolute: the host knows
//! nothing of a program's working directory.

use alloc::vec::Vec;

use super::Address;
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::path;

/// Longest path the host can take (`sun_path` with its NUL).
const MAX_PATH: usize = 107;

/// The bytes of an address for the host.
///
/// # Errors
/// `ENAMETOOLONG` if the absolute path does not fit.
pub(super) fn for_host(cx: &Context<'_>, address: &Address) -> Result<Vec<u8>, Errno> {
    let Address::Path(given) = address else {
        return Ok(address.encode());
    };
    let absolute = if given.first() == Some(&b'/') {
        given.clone()
    } else {
        path::join(&cx.process().files.cwd(), given)
    };
    if absolute.len() > MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(Address::Path(absolute).encode())
}
