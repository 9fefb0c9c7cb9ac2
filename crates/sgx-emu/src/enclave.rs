// SPDX-License-Identifier: Apache-2.0
//! Building an enclave: ECREATE, EADD, EEXTEND, EINIT
//! (SDM vol. 3D chapter 40.3).

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use enclave_abi::entry::{GATE_BYTES, GATE_LEN};
use sgx::PAGE_SIZE;
use sgx::attributes::{Attributes, Flags, MiscSelect, XFRM_ALLOWED, XFRM_REQUIRED};
use sgx::derive::SecsIdentity;
use sgx::leaf::error;
use sgx::measurement::Measurement;
use sgx::secinfo::{PageFlags, PageType, SecInfo};
use sgx::secs::Secs;
use sgx::sigstruct::{Sigstruct, SigstructError};
use sgx::tcs::Tcs;
use thiserror::Error;

use crate::Mode;
use crate::edmm::Deferred;
use crate::epcm::{Entry, Epcm};
use crate::keys::KeySource;
use crate::memory::{LOWEST, Mapping, NONE, READ_WRITE, discard, machine, protect};
use crate::processor::switch;

const PAGE: u64 = PAGE_SIZE as u64;

/// Why an enclave could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnclaveError {
    /// ELRANGE could not be reserved.
    #[error(
        "cannot reserve addresses {LOWEST:#x}..{end:#x} for the enclave; the program must be position-independent and vm.mmap_min_addr at most 65536"
    )]
    Reserve {
        /// End of ELRANGE.
        end: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Memory for the processor's own tables, or access to a page.
    #[error("cannot set up memory for the enclave")]
    Memory(#[from] io::Error),
    /// A parameter that ECREATE refuses.
    #[error("ECREATE refuses {field} {value:#x}")]
    Create {
        /// Which field of the SECS.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A page that EADD refuses.
    #[error("EADD refuses the page at {offset:#x}: {rule}")]
    Add {
        /// Where.
        offset: u64,
        /// The broken rule.
        rule: &'static str,
    },
    /// EINIT refuses the SIGSTRUCT as such.
    #[error("EINIT ends with code {}", self.einit_code())]
    Sigstruct(#[source] SigstructError),
    /// EINIT: another enclave was signed.
    #[error("EINIT ends with code 4 (INVALID_MEASUREMENT): the SIGSTRUCT is for another enclave")]
    Measurement {
        /// The enclave's MRENCLAVE.
        measured: [u8; 32],
        /// The SIGSTRUCT's.
        signed: [u8; 32],
    },
    /// EINIT: attributes or MISCSELECT differ from those signed.
    #[error("EINIT ends with code 2 (INVALID_ATTRIBUTE): {field} is not what was signed")]
    Attribute {
        /// Which.
        field: &'static str,
    },
    /// The gate is not where the image says.
    #[error("no gate lies at {offset:#x}, where the image says")]
    Gate {
        /// Where it should be.
        offset: u64,
    },
}

impl EnclaveError {
    /// The code that EINIT would leave in RAX; 0 for failures before EINIT.
    #[must_use]
    pub fn einit_code(&self) -> u64 {
        match self {
            Self::Sigstruct(SigstructError::Signature) => error::INVALID_SIGNATURE,
            Self::Sigstruct(_) => error::INVALID_SIG_STRUCT,
            Self::Measurement { .. } => error::INVALID_MEASUREMENT,
            Self::Attribute { .. } => error::INVALID_ATTRIBUTE,
            _ => 0,
        }
    }
}

/// What ECREATE takes from the SECS page. The base is always 0.
#[derive(Clone, Debug)]
pub struct Creation {
    /// Size of ELRANGE, a power of two.
    pub size: u64,
    /// SSA frame size in pages; only 1 is supported.
    pub ssa_frame_size: u32,
    /// Saved exception details.
    pub miscselect: MiscSelect,
    /// Attributes without INIT.
    pub attributes: Attributes,
    /// KSS configuration id.
    pub config_id: [u8; 64],
    /// KSS configuration security version.
    pub config_svn: u16,
}

/// Content of pages to be added.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// This many zero pages.
    Zero(u32),
    /// Whole pages.
    Bytes(&'a [u8]),
}

/// An enclave between ECREATE and EINIT.
#[derive(Debug)]
pub struct Builder {
    mode: Mode,
    secs: Secs,
    range: Mapping,
    epcm: Epcm,
    measurement: Measurement,
    threads: HashMap<u64, Arc<Thread>>,
}

/// The processor's part of a TCS.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) tcs: Tcs,
    /// Held by the logical processor that may enter.
    pub(crate) busy: AtomicBool,
    pub(crate) cssa: AtomicU32,
}

impl Builder {
    /// ECREATE.
    ///
    /// # Errors
    /// [`EnclaveError::Create`] for parameters that the instruction refuses or
    /// this machine lacks, [`EnclaveError::Reserve`] if the addresses are taken.
    pub fn create(creation: &Creation, mode: Mode) -> Result<Self, EnclaveError> {
        check_creation(creation)?;
        let end = creation.size;
        let range =
            Mapping::elrange(end).map_err(|source| EnclaveError::Reserve { end, source })?;
        Ok(Self {
            mode,
            secs: Secs {
                size: end,
                base: 0,
                ssa_frame_size: creation.ssa_frame_size,
                miscselect: creation.miscselect,
                attributes: creation.attributes,
                mrenclave: [0; 32],
                mrsigner: [0; 32],
                config_id: creation.config_id,
                isv_prod_id: 0,
                isv_svn: 0,
                config_svn: creation.config_svn,
                isv_ext_prod_id: [0; 16],
                isv_family_id: [0; 16],
            },
            range,
            epcm: Epcm::new(end)?,
            measurement: Measurement::ecreate(creation.ssa_frame_size, end),
            threads: HashMap::new(),
        })
    }

    /// EADD of pages with equal SECINFO from `offset` on, each followed by its
    /// EEXTENDs if `measured`.
    ///
    /// # Errors
    /// [`EnclaveError::Add`].
    pub fn add(
        &mut self,
        offset: u64,
        secinfo: &SecInfo,
        content: Content<'_>,
        measured: bool,
    ) -> Result<(), EnclaveError> {
        let pages = match content {
            Content::Zero(pages) => u64::from(pages),
            Content::Bytes(bytes) => (bytes.len() / PAGE_SIZE) as u64,
        };
        let len = pages * PAGE;
        let refuse = |rule| Err(EnclaveError::Add { offset, rule });
        if !offset.is_multiple_of(PAGE) || offset < LOWEST {
            return refuse("it is not aligned or lies in the hole at 0");
        }
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.secs.size)
        {
            return refuse("it lies outside ELRANGE");
        }
        let valid = match secinfo.page_type {
            PageType::Tcs => secinfo.flags.is_empty(),
            PageType::Reg => {
                let known = PageFlags::R | PageFlags::W | PageFlags::X;
                let write_only =
                    secinfo.flags.contains(PageFlags::W) && !secinfo.flags.contains(PageFlags::R);
                known.contains(secinfo.flags) && !write_only
            }
            _ => false,
        };
        if !valid {
            return refuse("its SECINFO is not one that EADD takes");
        }
        if let (PageType::Reg, Content::Bytes(bytes)) = (secinfo.page_type, content) {
            // SAFETY: the range is this enclave's own, nothing runs in it yet.
            unsafe { protect(offset, len, READ_WRITE) }?;
            // SAFETY: `len` bytes at `offset` were just made writable, and the
            // source is ordinary memory elsewhere.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), offset as *mut u8, machine(len));
            }
        }
        let zero = [0; PAGE_SIZE];
        for page in 0..pages {
            let at = offset + page * PAGE;
            if self.epcm.get(at).is_some() {
                return refuse("the page exists already");
            }
            let bytes = match content {
                Content::Zero(_) => &zero,
                Content::Bytes(bytes) => usize::try_from(page)
                    .ok()
                    .and_then(|page| bytes.as_chunks::<PAGE_SIZE>().0.get(page))
                    .unwrap_or(&zero),
            };
            if measured {
                self.measurement.measured_page(at, secinfo, bytes);
            } else {
                self.measurement.eadd(at, secinfo);
            }
            if secinfo.page_type == PageType::Tcs {
                self.add_thread(at, bytes)?;
            }
            let entry = Entry {
                flags: secinfo.flags,
                page_type: secinfo.page_type,
                exact: true,
            };
            self.epcm.set(at, Some(entry));
        }
        let entry = Entry {
            flags: secinfo.flags,
            page_type: secinfo.page_type,
            exact: true,
        };
        // SAFETY: as above.
        unsafe { protect(offset, len, access(entry, self.mode)) }?;
        Ok(())
    }

    fn add_thread(&mut self, offset: u64, page: &[u8; PAGE_SIZE]) -> Result<(), EnclaveError> {
        let refuse = |rule| EnclaveError::Add { offset, rule };
        let tcs = Tcs::from_page(page).ok_or_else(|| {
            refuse("a TCS field that must be zero is not, or debugging is opted in")
        })?;
        let frames = u64::from(tcs.nssa) * PAGE;
        let in_range = |at: u64, len: u64| {
            at.is_multiple_of(PAGE) && at.checked_add(len).is_some_and(|end| end <= self.secs.size)
        };
        let placed = tcs.nssa > 0
            && in_range(tcs.ossa, frames)
            && tcs.oentry < self.secs.size
            && in_range(tcs.ofsbase, 0)
            && in_range(tcs.ogsbase, PAGE);
        if !placed {
            return Err(refuse("the TCS points outside ELRANGE or has no SSA frame"));
        }
        self.threads.insert(
            offset,
            Arc::new(Thread {
                tcs,
                busy: AtomicBool::new(false),
                cssa: AtomicU32::new(0),
            }),
        );
        Ok(())
    }

    /// EINIT. `gate` is where fast mode may redirect the kernel's ENCLU.
    ///
    /// # Errors
    /// [`EnclaveError::Sigstruct`], [`EnclaveError::Measurement`],
    /// [`EnclaveError::Attribute`] as the instruction refuses;
    /// [`EnclaveError::Gate`] in fast mode.
    pub fn init(
        mut self,
        sigstruct: &[u8; Sigstruct::SIZE],
        gate: u64,
        keys: Arc<dyn KeySource>,
    ) -> Result<Arc<EmulatedEnclave>, EnclaveError> {
        let signed = Sigstruct::from_bytes(sigstruct).map_err(EnclaveError::Sigstruct)?;
        signed.verify().map_err(EnclaveError::Sigstruct)?;
        let measured = self.measurement.clone().finish();
        if measured != signed.body.mrenclave {
            return Err(EnclaveError::Measurement {
                measured,
                signed: signed.body.mrenclave,
            });
        }
        let mask = &signed.body.attribute_mask;
        if self.secs.attributes.masked(mask) != signed.body.attributes.masked(mask) {
            return Err(EnclaveError::Attribute {
                field: "ATTRIBUTES",
            });
        }
        let mask = signed.body.misc_mask;
        if self.secs.miscselect & mask != signed.body.miscselect & mask {
            return Err(EnclaveError::Attribute {
                field: "MISCSELECT",
            });
        }
        self.secs.attributes.flags |= Flags::INIT;
        self.secs.mrenclave = measured;
        self.secs.mrsigner = signed.mrsigner();
        self.secs.isv_prod_id = signed.body.isv_prod_id;
        self.secs.isv_svn = signed.body.isv_svn;
        self.secs.isv_ext_prod_id = signed.body.isv_ext_prod_id;
        self.secs.isv_family_id = signed.body.isv_family_id;
        if self.mode == Mode::Fast {
            self.patch_gate(gate)?;
        }
        let blocks = Mapping::anywhere(blocks_len(self.secs.size)?)?;
        switch::publish_blocks(blocks.start() as u64, self.secs.size / PAGE);
        Ok(Arc::new(EmulatedEnclave {
            identity: SecsIdentity::from(&self.secs),
            mode: self.mode,
            secs: self.secs,
            range: self.range,
            epcm: self.epcm,
            changes: Mutex::new(Deferred::default()),
            threads: self.threads,
            gate,
            keys,
            blocks,
            statistics: Statistics::default(),
            #[cfg(feature = "hostile")]
            attacker: std::sync::OnceLock::new(),
        }))
    }

    /// Overwrites the gate with `jmp [rip+0]; .quad trampoline`.
    fn patch_gate(&mut self, gate: u64) -> Result<(), EnclaveError> {
        let fail = || EnclaveError::Gate { offset: gate };
        let end = gate.checked_add(GATE_LEN as u64).ok_or_else(fail)?;
        let first = gate / PAGE * PAGE;
        let pages: Vec<u64> = (first..end).step_by(PAGE_SIZE).collect();
        let executable = PageFlags::R | PageFlags::X;
        if !pages.iter().all(|&page| {
            self.epcm
                .get(page)
                .is_some_and(|entry| entry.allows(executable))
        }) {
            return Err(fail());
        }
        // SAFETY: the pages exist and are readable (checked above).
        let found = unsafe { std::ptr::read_unaligned(gate as *const [u8; GATE_LEN]) };
        if found != GATE_BYTES {
            return Err(fail());
        }
        let mut patch = [0; GATE_LEN];
        patch[..6].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
        patch[6..].copy_from_slice(&switch::gate_address().to_le_bytes());
        for &page in &pages {
            // SAFETY: this enclave's own pages; nothing runs in them yet.
            unsafe { protect(page, PAGE, READ_WRITE) }?;
        }
        // SAFETY: made writable above; all bytes lie inside the pages.
        unsafe { std::ptr::write_unaligned(gate as *mut [u8; GATE_LEN], patch) };
        for &page in &pages {
            if let Some(entry) = self.epcm.get(page) {
                // SAFETY: as above.
                unsafe { protect(page, PAGE, access(entry, self.mode)) }?;
            }
        }
        Ok(())
    }

    /// MRENCLAVE of what was added so far.
    #[must_use]
    pub fn mrenclave(&self) -> [u8; 32] {
        self.measurement.clone().finish()
    }
}

fn blocks_len(elrange: u64) -> io::Result<usize> {
    let len = usize::try_from(elrange / PAGE * 8).map_err(io::Error::other)?;
    Ok(len.next_multiple_of(PAGE_SIZE))
}

fn check_creation(creation: &Creation) -> Result<(), EnclaveError> {
    let refuse = |field, value| Err(EnclaveError::Create { field, value });
    if !creation.size.is_power_of_two() || !(2 * LOWEST..=1 << 46).contains(&creation.size) {
        return refuse("ELRANGE size", creation.size);
    }
    if creation.ssa_frame_size != 1 {
        return refuse("SSA frame size", creation.ssa_frame_size.into());
    }
    if creation.miscselect.bits() & !MiscSelect::EXINFO.bits() != 0 {
        return refuse("MISCSELECT", creation.miscselect.bits().into());
    }
    let known =
        Flags::DEBUG | Flags::MODE64BIT | Flags::PROVISIONKEY | Flags::EINITTOKEN_KEY | Flags::KSS;
    let flags = creation.attributes.flags;
    if flags.bits() & !known.bits() != 0 || !flags.contains(Flags::MODE64BIT) {
        return refuse("ATTRIBUTES", flags.bits());
    }
    let xfrm = creation.attributes.xfrm;
    let available = crate::platform::xcr0() & XFRM_ALLOWED;
    if xfrm & XFRM_REQUIRED != XFRM_REQUIRED || xfrm & !available != 0 {
        return refuse("XFRM", xfrm);
    }
    Ok(())
}

/// Access of the host's page tables that stands for an EPCM entry.
pub(crate) fn access(entry: Entry, mode: Mode) -> i32 {
    let waiting = PageFlags::PENDING | PageFlags::MODIFIED;
    if entry.page_type != PageType::Reg || entry.flags.intersects(waiting) {
        return NONE;
    }
    let flags = if mode == Mode::Fast && !entry.exact {
        PageFlags::R | PageFlags::W | PageFlags::X
    } else {
        entry.flags
    };
    let mut out = NONE;
    for (flag, bit) in [
        (PageFlags::R, libc::PROT_READ),
        (PageFlags::W, libc::PROT_WRITE),
        (PageFlags::X, libc::PROT_EXEC),
    ] {
        if flags.contains(flag) {
            out |= bit;
        }
    }
    out
}

/// How often the processor did what, for measurements and tests.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Asynchronous exits.
    pub exits: AtomicU64,
    /// ENCLU leaves that arrived as a fault.
    pub trapped_leaves: AtomicU64,
}

/// An enclave after EINIT.
#[derive(Debug)]
pub struct EmulatedEnclave {
    pub(crate) identity: SecsIdentity,
    pub(crate) mode: Mode,
    secs: Secs,
    range: Mapping,
    pub(crate) epcm: Epcm,
    /// Held while EPCM entries and page access change together.
    pub(crate) changes: Mutex<Deferred>,
    pub(crate) threads: HashMap<u64, Arc<Thread>>,
    pub(crate) gate: u64,
    pub(crate) keys: Arc<dyn KeySource>,
    /// For each page of ELRANGE, the block of the thread whose GS base it is.
    blocks: Mapping,
    pub(crate) statistics: Statistics,
    #[cfg(feature = "hostile")]
    pub(crate) attacker: std::sync::OnceLock<Arc<dyn crate::hostile::Attacker>>,
}

impl EmulatedEnclave {
    /// The SECS as EINIT left it.
    #[must_use]
    pub fn secs(&self) -> &Secs {
        &self.secs
    }

    /// Size of ELRANGE: addresses below belong to the enclave.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.secs.size
    }

    /// Counters.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The cell in which the trampoline finds the block of the thread whose
    /// GS base is `gs_base`.
    pub(crate) fn block_cell(&self, gs_base: u64) -> Option<&AtomicU64> {
        if gs_base >= self.secs.size {
            return None;
        }
        let at = self.blocks.start() + usize::try_from(gs_base / PAGE).ok()? * 8;
        // SAFETY: one cell per page of ELRANGE; zeroed memory that lives as
        // long as `self`.
        Some(unsafe { &*(at as *const AtomicU64) })
    }

    /// The enclave's memory as the owner of the machine sees it: what debuggers
    /// and memory dumps read. `None` where no readable page is.
    #[must_use]
    pub fn peek(&self, address: u64) -> Option<u8> {
        let entry = self.epcm.get(address)?;
        if access(entry, self.mode) & libc::PROT_READ == 0 || !self.catch_up() {
            return None;
        }
        // SAFETY: a readable page of this enclave.
        Some(unsafe { std::ptr::read_volatile(address as *const u8) })
    }
}

impl Drop for EmulatedEnclave {
    fn drop(&mut self) {
        switch::publish_blocks(0, 0);
        let start = self.range.start() as u64;
        // SAFETY: no processor is attached any more (each holds an Arc), so
        // nothing runs in or refers to the range, which is unmapped next.
        let _ = unsafe { discard(start, self.secs.size - start) };
        self.statistics.exits.load(Ordering::Relaxed);
    }
}
