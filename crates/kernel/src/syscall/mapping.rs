// SPDX-License-Identifier: Apache-2.0
//! mmap and its family.

use enclave_abi::manifest::Dlopen;

use crate::context::Context;
use crate::errno::Errno;
use crate::memory::area::Area;
use crate::memory::pages::{PAGE, Prot};
use crate::memory::{self, Memory, Request};
use crate::vfs::MapSource;

const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const PROT_GROWS: u64 = 0x0300_0000;
const MAP_TYPE: u64 = 0xf;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_POPULATE: u64 = 0x8000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

fn memory() -> Result<&'static Memory, Errno> {
    memory::current().ok_or(Errno::ENOMEM)
}

/// Linux's permissions in ours; as on x86, writable or executable means readable.
fn prot(bits: u64) -> Result<Prot, Errno> {
    if bits & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWS) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::R, bits & (PROT_READ | PROT_WRITE | PROT_EXEC) != 0);
    prot.set(Prot::W, bits & PROT_WRITE != 0);
    prot.set(Prot::X, bits & PROT_EXEC != 0);
    Ok(prot)
}

/// Whether a file's bytes may run in this process.
fn may_run(cx: &Context<'_>, source: &MapSource) -> bool {
    match cx.process().dlopen {
        Dlopen::None => source.startup,
        Dlopen::Protected => source.startup || source.protected,
        Dlopen::Any => true,
    }
}

/// mmap.
///
/// # Errors
/// As in Linux; `ENODEV` for writable shared mappings of files that cannot be
/// written back or are mapped so already, `EACCES` for code
/// that the manifest does not allow.
pub fn mmap(
    cx: &Context<'_>,
    [addr, len, bits, flags, fd, offset]: [u64; 6],
) -> Result<u64, Errno> {
    let memory = memory()?;
    let prot = prot(bits)?;
    let shared = match flags & MAP_TYPE {
        MAP_PRIVATE => false,
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let mut write_back = false;
    let file = if flags & MAP_ANONYMOUS != 0 {
        None
    } else {
        let source = cx.process().files.get(fd)?.map_source(cx)?;
        if prot.contains(Prot::X) && !may_run(cx, &source) {
            return Err(Errno::EACCES);
        }
        if shared {
            let may_write = cx.process().files.get(fd)?.flags().can_write();
            if prot.contains(Prot::W) && !may_write {
                return Err(Errno::EACCES);
            }
            write_back = may_write && source.bytes.can_write();
        }
        Some((source, offset))
    };
    if flags & MAP_FIXED != 0 {
        memory.sync(cx.machine, cx.process().pid, addr, len)?;
    }
    let is_file = file.is_some();
    let owner = cx.process().pid;
    let at = memory.map(
        owner,
        &Request {
            addr,
            len,
            prot,
            fixed: flags & MAP_FIXED != 0 && flags & MAP_FIXED_NOREPLACE == 0,
            keep: flags & MAP_FIXED_NOREPLACE != 0,
            shared,
            write_back,
            file,
            label: memory::area::Label::None,
        },
    )?;
    let end = at + len.next_multiple_of(PAGE);
    // A second thread must never see a file's pages half filled.
    if flags & MAP_POPULATE != 0 || is_file && cx.process().tasks.lock().len() > 1 {
        memory.populate(cx.machine, at, end, prot);
    }
    Ok(at)
}

/// mprotect.
///
/// # Errors
/// As in Linux.
pub fn mprotect(cx: &Context<'_>, addr: u64, len: u64, bits: u64) -> Result<u64, Errno> {
    let allowed = |area: &Area| {
        area.file
            .as_ref()
            .is_none_or(|(source, _)| may_run(cx, source))
    };
    memory()?.protect(cx.process().pid, addr, len, prot(bits)?, allowed)?;
    Ok(0)
}

/// munmap.
///
/// # Errors
/// As in Linux.
pub fn munmap(cx: &Context<'_>, addr: u64, len: u64) -> Result<u64, Errno> {
    let memory = memory()?;
    memory.sync(cx.machine, cx.process().pid, addr, len)?;
    memory.unmap(cx.process().pid, addr, len)?;
    Ok(0)
}

/// brk: the break afterwards.
///
/// # Errors
/// None that Linux would not have.
pub fn brk(cx: &Context<'_>, wanted: u64) -> Result<u64, Errno> {
    let process = cx.process();
    Ok(memory()?.brk(process.pid, &mut process.brk.lock(), wanted))
}

/// mremap.
///
/// # Errors
/// As in Linux.
pub fn mremap(cx: &Context<'_>, [addr, old, new, flags, to, _]: [u64; 6]) -> Result<u64, Errno> {
    let memory = memory()?;
    let owner = cx.process().pid;
    if new < old {
        memory.sync(cx.machine, owner, addr, old)?;
    }
    memory.remap(owner, addr, old, new, flags, to)
}

/// madvise.
///
/// # Errors
/// As in Linux.
pub fn madvise(cx: &Context<'_>, addr: u64, len: u64, advice: u64) -> Result<u64, Errno> {
    memory()?.advise(cx.machine, cx.process().pid, addr, len, advice)?;
    Ok(0)
}

/// msync: shared mappings are written back, whatever the flags.
///
/// # Errors
/// As in Linux.
pub fn msync(cx: &Context<'_>, addr: u64, len: u64, flags: u64) -> Result<u64, Errno> {
    if flags & !7 != 0 || flags & 5 == 5 || !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let memory = memory()?;
    if !memory.is_mapped(cx.process().pid, addr, len) {
        return Err(Errno::ENOMEM);
    }
    memory.sync(cx.machine, cx.process().pid, addr, len)?;
    Ok(0)
}

/// mincore.
///
/// # Errors
/// As in Linux.
pub fn mincore(cx: &Context<'_>, addr: u64, len: u64, out: u64) -> Result<u64, Errno> {
    let memory = memory()?;
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if !memory.is_mapped(cx.process().pid, addr, len) {
        return Err(Errno::ENOMEM);
    }
    let mut page = 0;
    while page < len {
        let state = u8::from(memory.is_present(addr + page));
        cx.write(out + page / PAGE, &[state])?;
        page += PAGE;
    }
    Ok(0)
}
