// SPDX-License-Identifier: Apache-2.0
//! Dynamic memory: what EACCEPT, EACCEPTCOPY and EMODPE do inside, and what
//! the Linux driver's calls (EMODPR, EMODT, EREMOVE, and EAUG on first touch)
//! do outside (SDM vol. 3D §40.4; Linux `Documentation/arch/x86/sgx.rst`).

use std::io;
use std::sync::{MutexGuard, PoisonError};

use sgx::PAGE_SIZE;
use sgx::leaf::error;
use sgx::secinfo::{PageFlags, PageType, SecInfo};
use sgx::ssa::vector;
use thiserror::Error;

use crate::Mode;
use crate::enclave::{EmulatedEnclave, access};
use crate::epcm::Entry;
use crate::leaf::Fault;
use crate::memory::{LOWEST, READ_WRITE, discard, populate, protect};

/// Longest run of accepted pages that gets its memory at once, in bytes: a run is
/// longer only if a program asked for a lot that it may never touch.
const POPULATED_MAX: u64 = 256 << 10;

const PAGE: u64 = PAGE_SIZE as u64;
const PERMISSIONS: PageFlags = PageFlags::R.union(PageFlags::W).union(PageFlags::X);

/// Why the driver refuses.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EdmmError {
    /// Not page-aligned, empty or outside ELRANGE; permissions unknown.
    #[error("address, length or permissions are not valid")]
    Invalid,
    /// A page in the range does not exist.
    #[error("no page at {address:#x}")]
    Missing {
        /// Where.
        address: u64,
    },
    /// A page is of the wrong type or was not accepted.
    #[error("page at {address:#x} is not in the right state")]
    State {
        /// Where.
        address: u64,
    },
    /// The machine's kernel refused.
    #[error("cannot change access to enclave memory")]
    Memory(#[from] io::Error),
}

impl EdmmError {
    /// As the driver's errno.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Invalid => libc::EINVAL,
            Self::Missing { .. } => libc::EFAULT,
            Self::State { .. } => libc::EPERM,
            Self::Memory(_) => libc::ENOMEM,
        }
    }
}

/// Neighbouring pages that were accepted but have not got their access yet.
///
/// A kernel accepts memory page by page, and each change of access costs a
/// system call. In fast mode a page gets its access at once, but the pages that
/// follow it directly wait for their first touch: the fault handler then gives
/// it to all of them. An empty run (`start == end`) says where a run would begin.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    start: u64,
    end: u64,
}

impl EmulatedEnclave {
    fn lock(&self) -> MutexGuard<'_, Deferred> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks, with no change deferred.
    fn settled(&self) -> Result<MutexGuard<'_, Deferred>, EdmmError> {
        let mut deferred = self.lock();
        self.make_deferred(&mut deferred)?;
        Ok(deferred)
    }

    fn make_deferred(&self, deferred: &mut Deferred) -> io::Result<()> {
        let Deferred { start, end } = *deferred;
        *deferred = Deferred { start: end, end };
        if start == end {
            return Ok(());
        }
        // Every page of the run is fresh, so their access is equal.
        let access = self
            .epcm
            .get(start)
            .map_or(0, |entry| access(entry, self.mode));
        // SAFETY: pages of this enclave, whose access follows their EPCM entries.
        unsafe { protect(start, end - start, access) }?;
        // Pages are accepted because they are about to be used.
        if access & READ_WRITE == READ_WRITE && end - start <= POPULATED_MAX {
            // SAFETY: as above.
            unsafe { populate(start, end - start) };
        }
        Ok(())
    }

    /// Gives all accepted pages their access. Returns whether that worked.
    pub(crate) fn catch_up(&self) -> bool {
        self.settled().is_ok()
    }

    /// The same if the page of `address` waits for it.
    pub(crate) fn catch_up_with(&self, address: u64) -> bool {
        let mut deferred = self.lock();
        if (deferred.start..deferred.end).contains(&address) {
            self.make_deferred(&mut deferred).is_ok()
        } else {
            true
        }
    }

    /// Whether a fault at `address` has gone away: the page has now the access
    /// that it should have, and that suffices for `wanted`.
    pub(crate) fn resolve_fault(&self, address: u64, wanted: i32) -> bool {
        let allowed = self
            .epcm
            .get(address)
            .is_some_and(|entry| access(entry, self.mode) & wanted == wanted);
        allowed && self.catch_up_with(address)
    }

    /// `SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS`: pages keep at most `permissions`
    /// and wait for EACCEPT to confirm it.
    ///
    /// # Errors
    /// [`EdmmError`].
    pub fn restrict(&self, start: u64, len: u64, permissions: u64) -> Result<(), EdmmError> {
        let permissions = PageFlags::from_bits(permissions)
            .filter(|&flags| PERMISSIONS.contains(flags))
            .filter(|flags| flags.contains(PageFlags::R) || !flags.contains(PageFlags::W))
            .ok_or(EdmmError::Invalid)?;
        self.change(start, len, |entry| {
            let usable = entry.page_type == PageType::Reg
                && !entry
                    .flags
                    .intersects(PageFlags::PENDING | PageFlags::MODIFIED);
            usable.then(|| Entry {
                flags: (entry.flags & permissions) | PageFlags::PR,
                exact: true,
                ..entry
            })
        })
    }

    /// `SGX_IOC_ENCLAVE_MODIFY_TYPES` to PT_TRIM.
    ///
    /// # Errors
    /// [`EdmmError`].
    pub fn trim(&self, start: u64, len: u64) -> Result<(), EdmmError> {
        self.change(start, len, |entry| {
            let usable = matches!(entry.page_type, PageType::Reg | PageType::Tcs)
                && !entry
                    .flags
                    .intersects(PageFlags::PENDING | PageFlags::MODIFIED);
            usable.then_some(Entry {
                flags: PageFlags::MODIFIED,
                page_type: PageType::Trim,
                exact: true,
            })
        })
    }

    /// `SGX_IOC_ENCLAVE_REMOVE_PAGES`: pages that were trimmed and accepted so.
    ///
    /// # Errors
    /// [`EdmmError`].
    pub fn remove(&self, start: u64, len: u64) -> Result<(), EdmmError> {
        let _lock = self.settled()?;
        for address in self.pages(start, len)? {
            let entry = self
                .epcm
                .get(address)
                .ok_or(EdmmError::Missing { address })?;
            if entry.page_type != PageType::Trim || entry.flags.contains(PageFlags::MODIFIED) {
                return Err(EdmmError::State { address });
            }
        }
        // SAFETY: trimmed pages of this enclave, without access since `trim`.
        unsafe { discard(start, len) }?;
        for address in self.pages(start, len)? {
            self.epcm.set(address, None);
        }
        Ok(())
    }

    fn pages(
        &self,
        start: u64,
        len: u64,
    ) -> Result<std::iter::StepBy<std::ops::Range<u64>>, EdmmError> {
        let end = start.checked_add(len).filter(|&end| end <= self.size());
        let aligned = start.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        match end {
            Some(end) if aligned && len > 0 && start >= LOWEST => {
                Ok((start..end).step_by(PAGE_SIZE))
            }
            _ => Err(EdmmError::Invalid),
        }
    }

    /// Applies `rule` to each page in order, as the driver does: pages before
    /// the first refusal stay changed.
    fn change(
        &self,
        start: u64,
        len: u64,
        rule: impl Fn(Entry) -> Option<Entry>,
    ) -> Result<(), EdmmError> {
        let _lock = self.settled()?;
        let mut run = Run::new(self);
        for address in self.pages(start, len)? {
            let Some(old) = self.epcm.get(address) else {
                run.flush()?;
                return Err(EdmmError::Missing { address });
            };
            let Some(new) = rule(old) else {
                run.flush()?;
                return Err(EdmmError::State { address });
            };
            self.epcm.set(address, Some(new));
            run.extend(address, access(new, self.mode))?;
        }
        run.flush()?;
        Ok(())
    }

    /// EACCEPT. `Ok` holds the value for RAX.
    pub(crate) fn accept(&self, secinfo: &SecInfo, address: u64) -> Result<u64, Fault> {
        self.check_accept_operands(secinfo, address)?;
        let mut deferred = self.lock();
        let entry = self.existing_or_augmented(address);
        if entry.secinfo() != *secinfo {
            return Ok(error::PAGE_ATTRIBUTES_MISMATCH);
        }
        let waiting = PageFlags::PENDING | PageFlags::MODIFIED | PageFlags::PR;
        if !entry.flags.intersects(waiting) {
            // The page waits for nothing: accepting it again is refused, which
            // is what makes replaying an old page impossible.
            return Ok(error::PAGE_ATTRIBUTES_MISMATCH);
        }
        let new = Entry {
            flags: entry.flags - waiting,
            ..entry
        };
        if access(entry, self.mode) == access(new, self.mode) {
            self.epcm.set(address, Some(new));
            return Ok(error::SUCCESS);
        }
        let continues = deferred.end == address;
        if !continues {
            self.make_deferred(&mut deferred)
                .map_err(|error| machine_check(&error))?;
        }
        let end = address + PAGE;
        if self.mode == Mode::Fast && !new.exact && continues {
            deferred.end = end;
            self.epcm.set(address, Some(new));
            return Ok(error::SUCCESS);
        }
        *deferred = Deferred { start: end, end };
        self.settle(address, new)
    }

    /// EACCEPTCOPY: accepts a pending page and fills it from `source`.
    pub(crate) fn accept_copy(
        &self,
        secinfo: &SecInfo,
        address: u64,
        source: u64,
    ) -> Result<u64, Fault> {
        let fresh = PageFlags::R | PageFlags::W | PageFlags::PENDING;
        let wanted = secinfo.flags & PERMISSIONS;
        if secinfo.page_type != PageType::Reg
            || secinfo.flags != wanted
            || !source.is_multiple_of(PAGE)
        {
            return Err(Fault::general_protection());
        }
        self.check_page(address)?;
        let readable = |entry: Entry| entry.allows(PageFlags::R);
        if !self.epcm.get(source).is_some_and(readable) {
            return Err(Fault::page(source, false));
        }
        let _lock = self.settled().map_err(|_| Fault::page(address, true))?;
        if self.existing_or_augmented(address).flags != fresh {
            return Ok(error::PAGE_ATTRIBUTES_MISMATCH);
        }
        // SAFETY: a page of this enclave that nobody could use so far.
        unsafe { protect(address, PAGE, READ_WRITE) }.map_err(|error| machine_check(&error))?;
        // SAFETY: the source is a readable page (checked), the target was just
        // made writable; they differ because the target was pending.
        unsafe {
            std::ptr::copy_nonoverlapping(source as *const u8, address as *mut u8, PAGE_SIZE);
        }
        let new = Entry {
            flags: wanted,
            page_type: PageType::Reg,
            exact: false,
        };
        self.settle(address, new)
    }

    /// EMODPE: adds permissions.
    pub(crate) fn extend(&self, secinfo: &SecInfo, address: u64) -> Result<(), Fault> {
        if secinfo.flags - PERMISSIONS != PageFlags::empty() {
            return Err(Fault::general_protection());
        }
        self.check_page(address)?;
        let _lock = self.settled().map_err(|_| Fault::page(address, true))?;
        let entry = self
            .epcm
            .get(address)
            .filter(|entry| entry.allows(PageFlags::empty()))
            .ok_or_else(|| Fault::page(address, true))?;
        let new = Entry {
            flags: entry.flags | secinfo.flags,
            ..entry
        };
        if access(entry, self.mode) == access(new, self.mode) {
            self.epcm.set(address, Some(new));
        } else {
            self.settle(address, new)?;
        }
        Ok(())
    }

    /// Stores an entry and gives the page the access that follows from it.
    fn settle(&self, address: u64, entry: Entry) -> Result<u64, Fault> {
        self.epcm.set(address, Some(entry));
        // SAFETY: one page of this enclave, whose access follows its EPCM entry.
        unsafe { protect(address, PAGE, access(entry, self.mode)) }
            .map_err(|error| machine_check(&error))?;
        Ok(error::SUCCESS)
    }

    /// The page's entry. A page that does not exist is EAUGed first, as the
    /// driver does when the instruction's access to it faults.
    fn existing_or_augmented(&self, address: u64) -> Entry {
        self.epcm.get(address).unwrap_or_else(|| {
            let entry = Entry {
                flags: PageFlags::R | PageFlags::W | PageFlags::PENDING,
                page_type: PageType::Reg,
                exact: false,
            };
            self.epcm.set(address, Some(entry));
            entry
        })
    }

    fn check_page(&self, address: u64) -> Result<(), Fault> {
        if !address.is_multiple_of(PAGE) || address >= self.size() {
            return Err(Fault::general_protection());
        }
        if address < LOWEST {
            // The driver cannot map anything here.
            return Err(Fault::page(address, true));
        }
        Ok(())
    }

    /// The combinations that SDM vol. 3D, EACCEPT, lets through.
    fn check_accept_operands(&self, secinfo: &SecInfo, address: u64) -> Result<(), Fault> {
        let known = PERMISSIONS | PageFlags::PENDING | PageFlags::MODIFIED | PageFlags::PR;
        let shape = match secinfo.page_type {
            PageType::Reg => !secinfo.flags.contains(PageFlags::MODIFIED),
            PageType::Tcs | PageType::Trim => secinfo.flags == PageFlags::MODIFIED,
            _ => false,
        };
        if !shape || !known.contains(secinfo.flags) {
            return Err(Fault::general_protection());
        }
        self.check_page(address)
    }
}

/// Out of memory or mappings while a page should become usable: silicon has no
/// such state, the driver answers an EAUG that fails with SIGBUS, which reaches
/// the enclave as a page fault.
fn machine_check(error: &io::Error) -> Fault {
    eprintln!(
        "[ENSCONCE|ERROR] cannot give enclave memory its access rights: {error}; raise vm.max_map_count or the memory limit"
    );
    Fault {
        vector: vector::PF,
        error: 0,
        address: 0,
    }
}

/// Neighbouring pages that get equal access in one call.
struct Run<'a> {
    _enclave: &'a EmulatedEnclave,
    start: u64,
    len: u64,
    access: i32,
}

impl<'a> Run<'a> {
    fn new(enclave: &'a EmulatedEnclave) -> Self {
        Self {
            _enclave: enclave,
            start: 0,
            len: 0,
            access: 0,
        }
    }

    fn extend(&mut self, address: u64, access: i32) -> io::Result<()> {
        if self.len > 0 && self.access == access && self.start + self.len == address {
            self.len += PAGE;
            return Ok(());
        }
        self.flush()?;
        (self.start, self.len, self.access) = (address, PAGE, access);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.len > 0 {
            // SAFETY: pages of the enclave that `self` borrows.
            unsafe { protect(self.start, self.len, self.access) }?;
            self.len = 0;
        }
        Ok(())
    }
}
