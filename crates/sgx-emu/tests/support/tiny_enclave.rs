// SPDX-License-Identifier: Apache-2.0
//! A tiny enclave for tests: code assembled here, built, signed and entered
//! like any other.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::multiple_unsafe_ops_per_block,
    reason = "each test binary uses a part; tests stop at the first surprise"
)]

mod tiny_code;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use enclave_abi::entry::{GATE_BYTES, GATE_LEN};
use sgx::PAGE_SIZE;
use sgx::attributes::{Attributes, Flags, MiscSelect};
use sgx::secinfo::{PageFlags, SecInfo};
use sgx::sigstruct::{Body, KEY_SIZE, Sigstruct};
use sgx::tcs::Tcs;
use sgx_emu::Mode;
use sgx_emu::enclave::{Builder, Content, Creation, EmulatedEnclave, EnclaveError};
use sgx_emu::keys::ThrowAway;
use sgx_emu::processor::{Cpuid, Outcome, Processor};

pub(crate) const ELRANGE: u64 = 1 << 30;
pub(crate) const CODE: u64 = 0x10_0000;
pub(crate) const TCS: u64 = 0x20_0000;
pub(crate) const SSA: u64 = 0x20_1000;
pub(crate) const DATA: u64 = 0x20_4000;
pub(crate) const STACK: u64 = 0x20_5000;
pub(crate) const SECOND_THREAD: u64 = 0x10_0000;
/// A dynamic page: never added.
pub(crate) const DYNAMIC: u64 = 0x1000_0000;

/// Words of the data page that test and enclave share.
pub(crate) mod word {
    pub(crate) const FLAG: u64 = 32;
    pub(crate) const OSSA: u64 = 40;
    pub(crate) const SKIP: u64 = 48;
    pub(crate) const EXITINFO: u64 = 128;
    pub(crate) const RIP: u64 = 136;
    pub(crate) const MADDR: u64 = 144;
    pub(crate) const ERRCD: u64 = 152;
    pub(crate) const EXITS: u64 = 160;
    pub(crate) const ACCEPT_ON_FAULT: u64 = 168;
    pub(crate) const SECINFO: u64 = 512;
    pub(crate) const SECINFO_RW: u64 = 576;
}

/// What the enclave is asked to do: RDI of an entry.
pub(crate) mod action {
    pub(crate) const ECHO: u64 = 0;
    pub(crate) const LEAF: u64 = 1;
    pub(crate) const READ: u64 = 2;
    pub(crate) const WRITE: u64 = 3;
    pub(crate) const SPIN: u64 = 4;
    pub(crate) const CALL: u64 = 5;
    pub(crate) const VECTORS: u64 = 6;
    pub(crate) const FOREIGN_LEAF: u64 = 7;
    pub(crate) const LEAF_STORM: u64 = 8;
}
/// The exit that asks for ERESUME.
pub(crate) const RESUME: u64 = 1;

pub(crate) use tiny_code::snippet;
use tiny_code::{code, entry};

/// ELRANGE is one per process: tests of one binary take turns.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn creation() -> Creation {
    Creation {
        size: ELRANGE,
        ssa_frame_size: 1,
        miscselect: MiscSelect::EXINFO,
        attributes: Attributes {
            flags: Flags::MODE64BIT | Flags::KSS | Flags::DEBUG,
            xfrm: sgx_emu::platform::xcr0() & 0xe7,
        },
        config_id: [9; 64],
        config_svn: 3,
    }
}

fn thread_page(at: u64) -> [u8; PAGE_SIZE] {
    Tcs {
        ossa: at - TCS + SSA,
        nssa: 3,
        oentry: entry(),
        ofsbase: 0,
        ogsbase: at - TCS + DATA,
    }
    .to_page()
}

fn data_page(at: u64) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    let mut put = |offset: u64, value: u64| {
        let at = usize::try_from(offset).unwrap();
        page[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    put(24, at - TCS + STACK + 0x1000 - 64);
    put(word::OSSA, at - TCS + SSA);
    put(176, at - TCS + DATA + word::SECINFO);
    put(184, at - TCS + STACK + 0x800);
    let fresh = SecInfo::reg(PageFlags::R | PageFlags::W | PageFlags::PENDING);
    put(word::SECINFO, fresh.bits());
    page
}

pub(crate) fn build(creation: &Creation, mode: Mode) -> Builder {
    assert_eq!(code()[..GATE_LEN], GATE_BYTES);
    let mut builder = Builder::create(creation, mode).unwrap();
    let rw = PageFlags::R | PageFlags::W;
    let code_pages = SecInfo::reg(PageFlags::R | PageFlags::X);
    builder
        .add(CODE, &code_pages, Content::Bytes(code()), true)
        .unwrap();
    for thread in [TCS, TCS + SECOND_THREAD] {
        let page = thread_page(thread);
        builder
            .add(thread, &SecInfo::tcs(), Content::Bytes(&page), true)
            .unwrap();
        let ssa = thread - TCS + SSA;
        builder
            .add(ssa, &SecInfo::reg(rw), Content::Zero(3), true)
            .unwrap();
        let page = data_page(thread);
        let data = thread - TCS + DATA;
        builder
            .add(data, &SecInfo::reg(rw), Content::Bytes(&page), true)
            .unwrap();
        let stack = thread - TCS + STACK;
        builder
            .add(stack, &SecInfo::reg(rw), Content::Zero(1), true)
            .unwrap();
    }
    builder
}

pub(crate) fn body(mrenclave: [u8; 32], attributes: Attributes) -> Body {
    Body {
        vendor: 0,
        date: 0x2026_0101,
        sw_defined: 0,
        miscselect: MiscSelect::EXINFO,
        misc_mask: MiscSelect::from_bits_retain(u32::MAX),
        isv_family_id: [1; 16],
        attributes,
        attribute_mask: Attributes {
            flags: Flags::from_bits_retain(!Flags::INIT.bits()),
            xfrm: u64::MAX,
        },
        mrenclave,
        isv_ext_prod_id: [2; 16],
        isv_prod_id: 7,
        isv_svn: 4,
    }
}

/// Signs with the key beside this file, which protects nothing.
pub(crate) fn sign(body: Body) -> [u8; Sigstruct::SIZE] {
    let pem = include_str!("signing-key.insecure.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let pair = KeyPair::from_pkcs8(&der).unwrap();
    let mut signature = vec![0; KEY_SIZE];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(
        &RSA_PKCS1_SHA256,
        &random,
        &body.signed_bytes(),
        &mut signature,
    )
    .unwrap();
    signature.reverse();
    // RSAPublicKey: two four-byte headers and a zero before the 384 bytes (RFC 8017 A.1.1).
    let mut modulus = pair.public_key().as_ref()[9..9 + KEY_SIZE].to_vec();
    modulus.reverse();
    Sigstruct::new(
        body,
        modulus.try_into().unwrap(),
        signature.try_into().unwrap(),
    )
    .unwrap()
    .to_bytes()
}

pub(crate) fn init(
    builder: Builder,
    attributes: Attributes,
) -> Result<Arc<EmulatedEnclave>, EnclaveError> {
    let signed = sign(body(builder.mrenclave(), attributes));
    builder.init(&signed, CODE, Arc::new(ThrowAway::new().unwrap()))
}

/// A running tiny enclave on the calling thread.
pub(crate) struct Tiny {
    pub(crate) enclave: Arc<EmulatedEnclave>,
    pub(crate) processor: Processor,
    pub(crate) pending: Arc<AtomicU64>,
    pub(crate) data: u64,
}

static PENDING_OF_THREAD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static PENDING: std::cell::Cell<*const AtomicU64> = const { std::cell::Cell::new(std::ptr::null()) };
}

extern "C" fn note(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::ucontext_t) {
    PENDING.with(|pending| {
        // SAFETY: set in `start_on` to a word that lives as long as the thread's enclave.
        if let Some(word) = unsafe { pending.get().as_ref() } {
            word.fetch_or(1 << (signal - 1), Ordering::SeqCst);
        }
    });
    PENDING_OF_THREAD.fetch_add(1, Ordering::Relaxed);
}

impl Tiny {
    pub(crate) fn start(mode: Mode) -> Self {
        let creation = creation();
        let enclave = init(build(&creation, mode), creation.attributes).unwrap();
        Self::start_on(enclave, TCS)
    }

    pub(crate) fn start_on(enclave: Arc<EmulatedEnclave>, tcs: u64) -> Self {
        sgx_emu::signal::install(&[libc::SIGALRM, libc::SIGUSR1], note).unwrap();
        let pending = Arc::new(AtomicU64::new(0));
        PENDING.with(|cell| cell.set(Arc::as_ptr(&pending)));
        let processor = Processor::attach(&enclave, tcs, &pending, cpuid()).unwrap();
        Self {
            enclave,
            processor,
            pending,
            data: tcs - TCS + DATA,
        }
    }

    /// Enters and serves exits until the action ends; returns RDI and RSI.
    pub(crate) fn run(&mut self, action: u64, argument: u64) -> (u64, u64) {
        let mut outcome = self.enter(action, argument);
        loop {
            outcome = match outcome {
                Outcome::Exit { number: RESUME, .. } => match self.processor.resume() {
                    // Not resumed: the state still lies in the SSA.
                    Outcome::NotEntered => Outcome::Asynchronous { exception: false },
                    other => other,
                },
                Outcome::Exit { number, argument } => return (number, argument),
                // A signal while the handler runs: go on with the handler, its
                // frames are few.
                Outcome::Asynchronous { exception: false } if self.processor.cssa() > 1 => {
                    self.pending.store(0, Ordering::SeqCst);
                    match self.processor.resume() {
                        Outcome::NotEntered => Outcome::Asynchronous { exception: false },
                        other => other,
                    }
                }
                Outcome::Asynchronous { .. } => self.enter(0, 0),
                Outcome::NotEntered | Outcome::Refused => panic!("unexpected {outcome:?}"),
            };
        }
    }

    fn enter(&mut self, rdi: u64, rsi: u64) -> Outcome {
        loop {
            self.pending.store(0, Ordering::SeqCst);
            match self.processor.enter(rdi, rsi, 0) {
                Outcome::NotEntered => {}
                other => return other,
            }
        }
    }

    /// Reads a word of the data page.
    pub(crate) fn word(&self, at: u64) -> u64 {
        // SAFETY: the data page is readable memory of this process.
        unsafe { std::ptr::read_volatile((self.data + at) as *const u64) }
    }

    /// Writes a word of the data page.
    pub(crate) fn set(&self, at: u64, value: u64) {
        // SAFETY: the data page is writable memory of this process.
        unsafe { std::ptr::write_volatile((self.data + at) as *mut u64, value) }
    }

    /// Runs a leaf through the gate; returns RAX and ZF.
    pub(crate) fn leaf(&mut self, leaf: u32, rbx: u64, rcx: u64, rdx: u64) -> (u64, bool) {
        self.set(64, rbx);
        self.set(72, rcx);
        self.set(80, rdx);
        let (number, sum) = self.run(action::LEAF, leaf.into());
        assert_eq!(number, 0x56);
        assert_eq!(sum, 0x1111 * 2 + 0x2222, "a leaf changed registers");
        (self.word(88), self.word(96) & 0xff == 1)
    }

    /// EACCEPT of a page with these SECINFO bits.
    pub(crate) fn accept(&mut self, secinfo: SecInfo, page: u64) -> u64 {
        self.set(word::SECINFO_RW, secinfo.bits());
        self.leaf(
            sgx::leaf::enclu::EACCEPT,
            self.data + word::SECINFO_RW,
            page,
            0,
        )
        .0
    }
}

/// Faulting where the machine can; a visible note where it cannot.
pub(crate) fn cpuid() -> Cpuid {
    if sgx_emu::platform::probe().cpuid_faulting.is_ok() {
        Cpuid::Fault
    } else {
        eprintln!("note: this machine cannot make CPUID fault; it runs natively in this test");
        Cpuid::Native
    }
}
