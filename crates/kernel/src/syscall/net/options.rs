// SPDX-License-Identifier: Apache-2.0
//! getsockopt and setsockopt.

use super::{open, socket};
use crate::context::Context;
use crate::errno::Errno;

/// No listed option has a longer value.
const MAX_VALUE: usize = 64;

pub(super) fn set(
    cx: &Context<'_>,
    fd: u64,
    level: u64,
    name: u64,
    addr: u64,
    len: u64,
) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
    let value = cx.read_vec(addr, len.min(MAX_VALUE))?;
    socket(&file)?.set_option(cx, level as u32, name as u32, &value)?;
    Ok(0)
}

pub(super) fn get(
    cx: &Context<'_>,
    fd: u64,
    level: u64,
    name: u64,
    addr: u64,
    len_addr: u64,
) -> Result<u64, Errno> {
    let file = open(cx, fd)?;
    let room = cx.read_u32(len_addr)? as i32;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = socket(&file)?.option(cx, level as u32, name as u32)?;
    let kept = value.get(..room.min(value.len())).unwrap_or_default();
    cx.write(addr, kept)?;
    cx.write_u32(len_addr, kept.len() as u32)?;
    Ok(0)
}
