// SPDX-License-Identifier: Apache-2.0
//! ioctl: a few requests that every file knows, the rest by kind.

use super::usable;
use crate::context::Context;
use crate::errno::Errno;
use crate::vfs::OpenFlags;

const FIONCLEX: u64 = 0x5450;
const FIOCLEX: u64 = 0x5451;
const FIONBIO: u64 = 0x5421;
const FIOASYNC: u64 = 0x5452;
const FIONREAD: u64 = 0x541b;

pub(super) fn ioctl(cx: &Context<'_>, fd: u64, request: u64, arg: u64) -> Result<u64, Errno> {
    let file = usable(cx, fd)?;
    match u64::from(request as u32) {
        FIOCLEX | FIONCLEX => {
            let on = request as u32 == FIOCLEX as u32;
            let table = cx.process().files.table();
            table.lock().set_close_on_exec(fd, on)?;
            Ok(0)
        }
        FIONBIO => {
            let mut flags = file.flags();
            flags.set(OpenFlags::NONBLOCK, cx.read_u32(arg)? != 0);
            file.set_flags(cx, flags)?;
            Ok(0)
        }
        // Signal-driven input and output is not offered; turning it off is.
        FIOASYNC if cx.read_u32(arg)? == 0 => Ok(0),
        FIONREAD if file.file.is_seekable() => {
            let at = file.seek(cx, 0, crate::vfs::opened::Whence::Current)?;
            let left = file.file.stat(cx)?.size.saturating_sub(at);
            cx.write_u32(arg, u32::try_from(left).unwrap_or(i32::MAX as u32))?;
            Ok(0)
        }
        request => file.file.ioctl(cx, request, arg),
    }
}
