// SPDX-License-Identifier: Apache-2.0
//! `ioctl` requests that may reach the host: a closed list with known sizes.

use alloc::vec;

use enclave_abi::call::Op;

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Word};

/// Terminal attributes: `struct termios` of the kernel has 36 bytes.
const TCGETS: u64 = 0x5401;
const TCSETS: u64 = 0x5402;
const TCSETSW: u64 = 0x5403;
const TCSETSF: u64 = 0x5404;
const TIOCGPGRP: u64 = 0x540f;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCSWINSZ: u64 = 0x5414;
const FIONREAD: u64 = 0x541b;

/// Sizes of what goes in and what comes out.
fn sizes(request: u64) -> Option<(usize, usize)> {
    Some(match request {
        TCGETS => (0, 36),
        TCSETS | TCSETSW | TCSETSF => (36, 0),
        TIOCGPGRP | FIONREAD => (0, 4),
        TIOCGWINSZ => (0, 8),
        TIOCSWINSZ => (8, 0),
        _ => return None,
    })
}

/// Performs a listed request on a host descriptor.
///
/// # Errors
/// `ENOTTY` for everything else, `EFAULT`, the host's errno.
pub(crate) fn host_ioctl(
    cx: &Context<'_>,
    fd: HostFd,
    request: u64,
    arg: u64,
) -> Result<u64, Errno> {
    let (to_host, from_host) = sizes(request).ok_or(Errno::ENOTTY)?;
    let given = cx.read_vec(arg, to_host)?;
    let mut answer = vec![0; from_host];
    cx.host(
        Op::Ioctl,
        &mut [
            Word::Fd(fd),
            Word::Value(request),
            Word::In(&given),
            Word::Out(&mut answer),
        ],
    )?;
    if request == TIOCGPGRP {
        // Process groups of the host mean nothing inside: ours is in front.
        answer = cx.process().pid.to_le_bytes().to_vec();
    }
    cx.write(arg, &answer)?;
    Ok(0)
}
