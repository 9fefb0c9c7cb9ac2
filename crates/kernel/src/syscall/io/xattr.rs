// SPDX-License-Identifier: Apache-2.0
//! Extended attributes: read-only, from protected files.

use alloc::vec::Vec;

use super::{namespace, path_at, usable};
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::filesystem::Attributes;

/// Longest name of an attribute (XATTR_NAME_MAX) with its NUL.
const NAME_MAX: usize = 256;

fn answer(cx: &Context<'_>, bytes: &[u8], out: u64, len: u64) -> Result<u64, Errno> {
    if len > 0 {
        if len < bytes.len() as u64 {
            return Err(Errno::ERANGE);
        }
        cx.write(out, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn get_from(
    cx: &Context<'_>,
    all: &Attributes,
    name: u64,
    out: u64,
    len: u64,
) -> Result<u64, Errno> {
    let name = cx.read_cstr(name, NAME_MAX).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    let found = all.iter().find(|(known, _)| *known == name);
    let (_, value) = found.ok_or(Errno::ENODATA)?;
    answer(cx, value, out, len)
}

fn list_from(cx: &Context<'_>, all: &Attributes, out: u64, len: u64) -> Result<u64, Errno> {
    let mut names = Vec::new();
    for (name, _) in all {
        names.extend_from_slice(name);
        names.push(0);
    }
    answer(cx, &names, out, len)
}

fn of_path(cx: &Context<'_>, path: u64, follow: bool) -> Result<Attributes, Errno> {
    let (base, path) = path_at(cx, super::AT_FDCWD as u64, path)?;
    namespace(cx).xattrs(cx, &base, &path, follow)
}

fn of_file(cx: &Context<'_>, fd: u64) -> Result<Attributes, Errno> {
    let file = usable(cx, fd)?;
    if file.path.first() != Some(&b'/') {
        return Err(Errno::EOPNOTSUPP);
    }
    namespace(cx).xattrs(cx, b"/", &file.path, false)
}

pub(super) fn get(
    cx: &Context<'_>,
    path: u64,
    name: u64,
    out: u64,
    len: u64,
    follow: bool,
) -> Result<u64, Errno> {
    get_from(cx, &of_path(cx, path, follow)?, name, out, len)
}

pub(super) fn fget(cx: &Context<'_>, fd: u64, name: u64, out: u64, len: u64) -> Result<u64, Errno> {
    get_from(cx, &of_file(cx, fd)?, name, out, len)
}

/// Where attributes are not offered, there are none to list.
fn none(errno: Errno) -> Result<Attributes, Errno> {
    match errno {
        Errno::EOPNOTSUPP => Ok(Attributes::new()),
        other => Err(other),
    }
}

pub(super) fn list(
    cx: &Context<'_>,
    path: u64,
    out: u64,
    len: u64,
    follow: bool,
) -> Result<u64, Errno> {
    let all = of_path(cx, path, follow).or_else(none)?;
    list_from(cx, &all, out, len)
}

pub(super) fn flist(cx: &Context<'_>, fd: u64, out: u64, len: u64) -> Result<u64, Errno> {
    let all = of_file(cx, fd).or_else(none)?;
    list_from(cx, &all, out, len)
}
