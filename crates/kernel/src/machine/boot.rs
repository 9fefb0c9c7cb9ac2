// SPDX-License-Identifier: Apache-2.0
//! First entries: of the enclave, and of each further thread.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, Ordering};

use enclave_abi::boot::{BootPage, Extent};
use enclave_abi::call::{DATA_LEN, Op};
use enclave_abi::entry::AbortReason;
use enclave_abi::layout::{Layout, THREADS_MAX, USER_START, thread as place};
use enclave_abi::manifest::Manifest;
use enclave_abi::start::{BLOCK_MAX, StartBlock};
use enclave_abi::startup::StartupList;
use sgx::PAGE_SIZE;
use sgx::attributes::{Flags, XFRM_ALLOWED, XFRM_REQUIRED};
use sgx::report::{Report, TargetInfo};

use super::enclave::ENCLAVE;
use super::entry::{machine_end_thread, syscall_entry};
use super::lock::Lock;
use super::once::Once;
use super::pages::EnclavePages;
use super::thread::{DataPage, slot, state};
use super::{area, gate, heap};
use crate::errno::Errno;
use crate::host::{Machine as _, Word};
use crate::memory::{self, Memory};
use crate::process::Task;
use crate::process::frame::Frame;

static PAGES: EnclavePages = EnclavePages;

/// What every part of the machine may know.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) layout: Layout,
    /// Whether this is a DEBUG enclave.
    pub(crate) debug: bool,
}

static FACTS: Once<Facts> = Once::new();
/// Which threads' pages have been accepted.
static ACCEPTED: Lock<[bool; THREADS_MAX as usize]> = Lock::new([false; THREADS_MAX as usize]);
static COMPLAINED: AtomicBool = AtomicBool::new(false);

pub(crate) fn facts() -> &'static Facts {
    match FACTS.get() {
        Some(facts) => facts,
        None => super::abort(AbortReason::BadImage),
    }
}

fn measured(extent: Extent) -> &'static [u8] {
    // SAFETY: the boot page is measured and was checked to name bytes inside the
    // kernel's measured pages, which nobody writes.
    unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(extent.offset as usize),
            extent.len as usize,
        )
    }
}

/// First entry of the enclave. `image`: where the kernel image starts.
#[unsafe(no_mangle)]
extern "C" fn kernel_boot(host_area: u64, len: u64, start_len: u64, image: u64) {
    let page = measured(Extent {
        offset: image - PAGE_SIZE as u64,
        len: PAGE_SIZE as u64,
    });
    let Ok(boot) = BootPage::decode(page) else {
        super::abort(AbortReason::BadImage);
    };
    let layout = boot.layout;
    if boot.kernel_image.offset != image
        || layout.thread(0) + place::DATA != DataPage::current().addr()
    {
        super::abort(AbortReason::BadImage);
    }
    if !area::acceptable(host_area, len, layout.elrange)
        || start_len > BLOCK_MAX.min(DATA_LEN) as u64
    {
        super::abort(AbortReason::BadEntry);
    }
    let current = DataPage::current();
    current.set(slot::AREA, host_area);
    heap::init(layout.kernel_heap, layout.elrange);

    let report = self_report();
    let attributes = report.body.attributes();
    let xfrm = attributes.xfrm;
    if xfrm & XFRM_REQUIRED != XFRM_REQUIRED || xfrm & !XFRM_ALLOWED != 0 {
        super::abort(AbortReason::BadImage);
    }
    current.set(slot::XFRM, xfrm);
    let debug = attributes.flags.contains(Flags::DEBUG);
    let _ = FACTS.set(Facts { layout, debug });
    ACCEPTED.lock()[0] = true;

    let (Ok(manifest), Ok(list)) = (
        Manifest::decode(measured(boot.manifest)),
        StartupList::decode(measured(boot.startup)),
    ) else {
        super::abort(AbortReason::BadImage);
    };
    let entry = syscall_entry as *const () as u64;
    let user = Memory::new(&PAGES, USER_START, layout.kernel, manifest.heap, entry);
    if !memory::install(user) {
        super::abort(AbortReason::BadEntry);
    }
    let block = area::read_start(start_len as usize);
    let Ok(block) = StartBlock::decode(&block) else {
        complain("the start block does not decode");
        super::abort(AbortReason::BadEntry);
    };

    let mut frame = Frame::default();
    match crate::process::start::boot(&ENCLAVE, manifest, list, block, debug, xfrm, &mut frame) {
        Ok(task) => {
            install(DataPage::current(), task, &frame);
        }
        Err(error) => {
            let mut text = Text::new();
            let _ = write!(text, "{error}");
            complain(text.as_str());
            super::abort(AbortReason::BadImage);
        }
    }
}

/// A report about ourselves, for nobody.
fn self_report() -> Report {
    let nobody = TargetInfo {
        mrenclave: [0; 32],
        attributes: sgx::attributes::Attributes::default(),
        config_svn: 0,
        miscselect: sgx::attributes::MiscSelect::empty(),
        config_id: [0; 64],
    };
    gate::report(&nobody, &[0; 64])
}

/// Gives a thread its task and its program's registers.
fn install(page: DataPage, task: Arc<Task>, frame: &Frame) {
    // SAFETY: the thread is not running a program, so its frame is unused.
    unsafe { page.frame().write(frame.clone()) };
    page.set(slot::FRAME, page.frame() as u64);
    page.set(slot::TASK, Box::into_raw(Box::new(task)) as u64);
}

/// Takes a free thread and asks the host to enter it.
pub(crate) fn start_thread(task: &Arc<Task>, frame: &Frame, fs: u64) -> Result<(), Errno> {
    let layout = &facts().layout;
    let index = (0..layout.thread_count)
        .find(|&index| {
            let mut accepted = ACCEPTED.lock();
            let Some(accepted) = accepted.get_mut(index as usize) else {
                return false;
            };
            if !*accepted {
                let base = layout.thread(index);
                for (offset, len) in [
                    (place::SSA, place::DATA + PAGE_SIZE as u64 - place::SSA),
                    (place::EXCEPTION_STACK, place::EXCEPTION_STACK_SIZE),
                    (place::KERNEL_STACK, place::KERNEL_STACK_SIZE),
                ] {
                    gate::accept_new(base + offset, len / PAGE_SIZE as u64);
                }
                *accepted = true;
            }
            DataPage::of(layout, index).claim()
        })
        .ok_or(Errno::EAGAIN)?;
    let page = DataPage::of(layout, index);
    let mut frame = frame.clone();
    frame.spare = fs;
    page.set(slot::XFRM, DataPage::current().get(slot::XFRM));
    page.attention().store(0, Ordering::Release);
    task.set_thread(index);
    install(page, Arc::clone(task), &frame);
    page.set(slot::STATE, state::STARTABLE);
    let spawned = ENCLAVE.host_call(Op::Spawn, &mut [Word::Value(index.into())]);
    if spawned.is_err() {
        // If the host lied and entered nevertheless, the thread is running: then
        // this is an attack, not a shortage.
        if !page.unstart() {
            super::abort(AbortReason::HostLied);
        }
        // SAFETY: made by `install`; the thread can no longer start.
        unsafe { drop(Box::from_raw(page.get(slot::TASK) as *mut Arc<Task>)) };
        page.set(slot::STATE, state::FREE);
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// First entry of a thread that somebody inside has started.
#[unsafe(no_mangle)]
extern "C" fn kernel_thread_start(host_area: u64, len: u64) {
    let page = DataPage::current();
    if !area::acceptable(host_area, len, facts().layout.elrange) {
        super::abort(AbortReason::BadEntry);
    }
    page.set(slot::AREA, host_area);
    // SAFETY: this thread's own frame, prepared by its creator.
    let fs = unsafe { (*page.frame()).spare };
    if let Some(cpu) = ENCLAVE.cpu() {
        cpu.set_fs_base(fs);
    }
}

/// Ends the calling thread.
pub(crate) fn end_thread() -> ! {
    let page = DataPage::current();
    let task = page.get(slot::TASK) as *mut Arc<Task>;
    page.set(slot::TASK, 0);
    // SAFETY: made by `install`; nobody uses it after this point of the thread's life.
    unsafe { drop(Box::from_raw(task)) };
    area::stage_thread_exit();
    // SAFETY: a complete call is staged; nothing of this stack is needed any more.
    unsafe { machine_end_thread() }
}

/// A short text without the heap.
struct Text {
    bytes: [u8; 400],
    len: usize,
}

impl Text {
    fn new() -> Self {
        Self {
            bytes: [0; 400],
            len: 0,
        }
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for &byte in text.as_bytes() {
            if self.len < self.bytes.len() {
                self.bytes[self.len] = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// Tells the host's log why the enclave is about to end. Texts may carry
/// program paths, so DEBUG enclaves alone say more than the reason's number.
pub(crate) fn complain(text: &str) {
    if FACTS.get().is_some_and(|facts| facts.debug) && !COMPLAINED.swap(true, Ordering::AcqRel) {
        let mut words = [
            Word::Value(AbortReason::BadImage as u64),
            Word::In(text.as_bytes()),
        ];
        let _ = area::call(Op::Complain, &mut words);
    }
}

/// Says where the kernel panicked.
pub(crate) fn complain_panic(info: &core::panic::PanicInfo<'_>) {
    let mut text = Text::new();
    let _ = write!(text, "kernel panic: {info}");
    complain(text.as_str());
}
