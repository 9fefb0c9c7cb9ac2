// SPDX-License-Identifier: Apache-2.0
//! The processor against a tiny enclave, in both modes.

#![allow(
    clippy::unwrap_used,
    clippy::multiple_unsafe_ops_per_block,
    reason = "tests stop at the first surprise"
)]

#[path = "support/tiny_enclave.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sgx::attributes::Flags;
use sgx::key::{KeyPolicy, KeyRequest, name};
use sgx::leaf::{enclu, error};
use sgx::report::{Report, TargetInfo};
use sgx::secinfo::{PageFlags, PageType, SecInfo};
use sgx::ssa::{ExitInfo, vector};
use sgx_emu::Mode;
use sgx_emu::enclave::{Builder, EnclaveError};
use sgx_emu::processor::{AttachError, Outcome, Processor};
use support::{DATA, DYNAMIC, SECOND_THREAD, TCS, Tiny, action, turn, word};

const MODES: [Mode; 2] = [Mode::Fast, Mode::Strict];
const RW: PageFlags = PageFlags::R.union(PageFlags::W);

fn fresh() -> SecInfo {
    SecInfo::reg(RW | PageFlags::PENDING)
}

#[test]
fn enters_and_leaves_in_both_modes_with_one_measurement() {
    let _turn = turn();
    let mut values = Vec::new();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        for n in 0..1000 {
            assert_eq!(tiny.run(action::ECHO, n), (0x55, n + 1));
        }
        values.push(tiny.enclave.secs().mrenclave);
        let trapped = &tiny.enclave.statistics().trapped_leaves;
        let expected = if mode == Mode::Fast { 0 } else { 1000 };
        assert_eq!(trapped.load(Ordering::Relaxed), expected);
    }
    assert_eq!(values[0], values[1]);
}

#[test]
fn pages_are_accepted_once_and_read_as_zero() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        assert_eq!(tiny.accept(fresh(), DYNAMIC), 0);
        assert_eq!(tiny.run(action::READ, DYNAMIC), (0x57, 0));
        tiny.run(action::WRITE, DYNAMIC);
        assert_eq!(tiny.run(action::READ, DYNAMIC), (0x57, 77));
        // A second acceptance, as a replaying host would like it.
        assert_eq!(
            tiny.accept(fresh(), DYNAMIC),
            error::PAGE_ATTRIBUTES_MISMATCH
        );
        assert_eq!(
            tiny.accept(SecInfo::reg(RW), DYNAMIC),
            error::PAGE_ATTRIBUTES_MISMATCH
        );
        assert_eq!(tiny.run(action::READ, DYNAMIC), (0x57, 77));
        assert!(
            tiny.enclave.statistics().exits.load(Ordering::Relaxed) == 0,
            "nothing above faults"
        );
    }
}

#[test]
fn a_touched_page_that_was_never_accepted_is_a_page_fault() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        tiny.set(word::SKIP, 7);
        tiny.run(action::WRITE, DYNAMIC + 0x123);
        let info = ExitInfo::from_bits(u32::try_from(tiny.word(word::EXITINFO)).unwrap());
        assert!(info.valid && info.vector == vector::PF, "{info:?}");
        assert_eq!(tiny.word(word::MADDR), DYNAMIC + 0x123);
        assert_eq!(tiny.word(word::ERRCD) & 2, 2, "it was a write");
        assert_ne!(tiny.word(word::ERRCD) & 1 << 15, 0, "SGX refused");
    }
}

#[test]
fn the_exception_handler_can_accept_the_page_that_faulted() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        tiny.set(word::ACCEPT_ON_FAULT, 1);
        for page in 0..100 {
            tiny.run(action::WRITE, DYNAMIC + page * 0x1000);
            assert_eq!(tiny.run(action::READ, DYNAMIC + page * 0x1000), (0x57, 77));
        }
        assert_eq!(tiny.word(word::EXITS), 100);
    }
}

#[test]
fn trimmed_pages_return_to_the_host_and_come_back_empty() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        tiny.accept(fresh(), DYNAMIC);
        tiny.run(action::WRITE, DYNAMIC);
        let enclave = Arc::clone(&tiny.enclave);
        assert!(
            enclave.remove(DYNAMIC, 4096).is_err(),
            "a page in use stays"
        );
        enclave.trim(DYNAMIC, 4096).unwrap();
        assert!(
            enclave.remove(DYNAMIC, 4096).is_err(),
            "a page that the enclave did not give up stays"
        );
        let trimmed = SecInfo {
            flags: PageFlags::MODIFIED,
            page_type: PageType::Trim,
        };
        assert_eq!(tiny.accept(trimmed, DYNAMIC), 0);
        enclave.remove(DYNAMIC, 4096).unwrap();
        assert_eq!(tiny.accept(fresh(), DYNAMIC), 0);
        assert_eq!(tiny.run(action::READ, DYNAMIC), (0x57, 0));
    }
}

#[test]
fn restricted_pages_fault_until_the_enclave_extends_them() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        tiny.accept(fresh(), DYNAMIC);
        tiny.run(action::WRITE, DYNAMIC);
        let read_only = PageFlags::R;
        tiny.enclave
            .restrict(DYNAMIC, 4096, read_only.bits())
            .unwrap();
        let confirmed = SecInfo::reg(read_only | PageFlags::PR);
        assert_eq!(tiny.accept(confirmed, DYNAMIC), 0);
        tiny.set(word::SKIP, 7);
        tiny.run(action::WRITE, DYNAMIC);
        assert_eq!(tiny.word(word::EXITS), 1, "the write faulted");
        tiny.set(word::SECINFO_RW, SecInfo::reg(RW).bits());
        let secinfo = tiny.data + word::SECINFO_RW;
        tiny.leaf(enclu::EMODPE, secinfo, DYNAMIC, 0);
        tiny.run(action::WRITE, DYNAMIC);
        assert_eq!(tiny.word(word::EXITS), 1, "the write passed");
    }
}

#[test]
fn strict_mode_enforces_execute_permission_until_emodpe() {
    let _turn = turn();
    let mut tiny = Tiny::start(Mode::Strict);
    tiny.accept(fresh(), DYNAMIC);
    // `ret`
    // SAFETY: an accepted page of the enclave in this process.
    unsafe { std::ptr::write_volatile(DYNAMIC as *mut u8, 0xc3) };
    // The fault's RIP is the page itself: skipping one byte would run on, so
    // the handler adds the permission's absence to the record and we stop there.
    tiny.set(64, 0);
    tiny.set(
        word::SKIP,
        (support::snippet("syscall").0 + 7).wrapping_sub(DYNAMIC),
    );
    tiny.run(action::CALL, DYNAMIC);
    let info = ExitInfo::from_bits(u32::try_from(tiny.word(word::EXITINFO)).unwrap());
    assert_eq!((info.vector, info.valid), (vector::PF, true));
    assert_eq!(tiny.word(word::MADDR), DYNAMIC);
    assert_eq!(tiny.word(word::ERRCD) & 16, 16, "an instruction fetch");
    tiny.set(word::SECINFO_RW, SecInfo::reg(PageFlags::X | RW).bits());
    let secinfo = tiny.data + word::SECINFO_RW;
    tiny.leaf(enclu::EMODPE, secinfo, DYNAMIC, 0);
    assert_eq!(tiny.run(action::CALL, DYNAMIC).0, 0x5a);
    assert_eq!(tiny.word(word::EXITS), 1);
}

#[test]
fn reports_and_keys_come_from_the_processor() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        let target = TargetInfo {
            mrenclave: tiny.enclave.secs().mrenclave,
            attributes: tiny.enclave.secs().attributes,
            config_svn: 3,
            miscselect: tiny.enclave.secs().miscselect,
            config_id: [9; 64],
        };
        for page in 0..3 {
            tiny.accept(fresh(), DYNAMIC + page * 0x1000);
        }
        // SAFETY: accepted pages of the enclave in this process.
        unsafe { std::ptr::write(DYNAMIC as *mut [u8; 512], target.to_bytes()) };
        // SAFETY: as above.
        unsafe { std::ptr::write((DYNAMIC + 0x1000) as *mut [u8; 64], [0xab; 64]) };
        let output = DYNAMIC + 0x2000;
        tiny.leaf(enclu::EREPORT, DYNAMIC, DYNAMIC + 0x1000, output);
        // SAFETY: as above.
        let bytes = unsafe { std::ptr::read(output as *const [u8; Report::SIZE]) };
        let report = Report::from_bytes(&bytes);
        assert_eq!(report.body.mrenclave(), target.mrenclave);
        assert_eq!(report.body.config_id(), [9; 64]);
        assert_eq!(report.body.report_data(), [0xab; 64]);
        assert!(report.body.attributes().flags.contains(Flags::INIT));

        // The report is for ourselves: our report key verifies it.
        let request = KeyRequest {
            key_name: name::REPORT,
            key_policy: KeyPolicy::empty(),
            isv_svn: 0,
            cpu_svn: report.body.cpu_svn(),
            attribute_mask: sgx::attributes::Attributes::default(),
            key_id: report.key_id,
            misc_mask: sgx::attributes::MiscSelect::empty(),
            config_svn: 0,
        };
        // SAFETY: as above.
        unsafe { std::ptr::write(DYNAMIC as *mut [u8; 512], request.to_bytes()) };
        assert_eq!(tiny.leaf(enclu::EGETKEY, DYNAMIC, output, 0), (0, false));
        // SAFETY: as above.
        let key = unsafe { std::ptr::read(output as *const [u8; 16]) };
        assert_eq!(sgx::derive::report_mac(&key, &report.body), report.mac);

        let unknown = KeyRequest {
            key_name: 99,
            ..request
        };
        // SAFETY: as above.
        unsafe { std::ptr::write(DYNAMIC as *mut [u8; 512], unknown.to_bytes()) };
        assert_eq!(
            tiny.leaf(enclu::EGETKEY, DYNAMIC, output, 0),
            (error::INVALID_KEYNAME, true)
        );
    }
}

#[test]
fn a_leaf_with_bad_operands_faults_at_the_gate() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        // Skip the gate's ENCLU and padding: the handler continues at its RET.
        tiny.set(word::SKIP, 14);
        for (leaf, rbx, rcx, expected) in [
            (enclu::EACCEPT, DATA + 8, DYNAMIC, vector::GP),
            (enclu::EACCEPT, DYNAMIC, DYNAMIC, vector::PF),
            (enclu::EREPORT, support::ELRANGE, DYNAMIC, vector::GP),
            (enclu::EENTER, TCS, 0, vector::GP),
            (77, 0, 0, vector::GP),
        ] {
            tiny.leaf(leaf, rbx, rcx, 0);
            let info = ExitInfo::from_bits(u32::try_from(tiny.word(word::EXITINFO)).unwrap());
            assert!(info.valid);
            assert_eq!(info.vector, expected, "{mode:?} leaf {leaf}");
            assert_eq!(tiny.word(word::RIP), support::CODE, "{mode:?} leaf {leaf}");
        }
        assert_eq!(tiny.word(word::EXITS), 5);
    }
}

#[test]
fn enclu_outside_the_gate_works_too() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        tiny.set(word::SECINFO_RW, fresh().bits());
        tiny.set(64, DATA + word::SECINFO_RW);
        tiny.set(72, DYNAMIC);
        assert_eq!(
            tiny.run(action::FOREIGN_LEAF, enclu::EACCEPT.into()).0,
            0x5c
        );
        assert_eq!(tiny.word(88), 0);
        assert_eq!(tiny.run(action::READ, DYNAMIC), (0x57, 0));
    }
}

#[test]
fn exceptions_reach_the_enclave_as_sgx_reports_them() {
    let _turn = turn();
    let cpuid_faults = sgx_emu::platform::probe().cpuid_faulting.is_ok();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        for (name, expected, length) in [
            ("syscall", vector::UD, 2),
            ("cpuid", vector::UD, 2),
            ("in", vector::UD, 1),
            ("int", vector::UD, 2),
            ("ud2", vector::UD, 2),
            ("div", vector::DE, 2),
            ("int3", vector::BP, 1),
            ("hlt", vector::GP, 1),
        ] {
            if name == "cpuid" && !cpuid_faults {
                eprintln!("skipped: CPUID does not fault on this machine");
                continue;
            }
            let (start, at) = support::snippet(name);
            tiny.set(word::SKIP, length);
            assert_eq!(tiny.run(action::CALL, start).0, 0x5a, "{name}");
            let info = ExitInfo::from_bits(u32::try_from(tiny.word(word::EXITINFO)).unwrap());
            assert!(info.valid, "{name}");
            assert_eq!(info.vector, expected, "{name}");
            let exit_type = if name == "int3" { 6 } else { 3 };
            assert_eq!(info.exit_type, exit_type, "{name}");
            assert_eq!(tiny.word(word::RIP), at, "{name}");
        }
    }
}

/// Sends SIGUSR1 to this thread every 100 µs until dropped.
struct Storm {
    stop: Arc<std::sync::atomic::AtomicBool>,
    sender: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn start(every: Duration) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let end = Arc::clone(&stop);
        // SAFETY: asks for this thread's id.
        let target = unsafe { libc::pthread_self() };
        let sender = std::thread::spawn(move || {
            block_signals();
            while !end.load(Ordering::Relaxed) {
                // SAFETY: the target outlives this thread, which `drop` joins.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                std::thread::sleep(every);
            }
        });
        Self {
            stop,
            sender: Some(sender),
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            sender.join().unwrap();
        }
    }
}

fn block_signals() {
    // SAFETY: a zeroed set is overwritten by sigfillset; blocks all signals here.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

#[test]
fn a_signal_interrupts_a_spinning_enclave_without_telling_why() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        let _storm = Storm::start(Duration::from_millis(1));
        assert_eq!(tiny.run(action::SPIN, 0), (0x59, 0x123_4567));
        assert!(tiny.word(word::EXITS) >= 1);
        assert_eq!(tiny.word(word::EXITINFO), 0, "no cause is given");
    }
}

#[test]
fn vector_and_x87_state_survive_a_signal_storm() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        let _storm = Storm::start(Duration::from_micros(50));
        assert_eq!(tiny.run(action::VECTORS, u64::MAX), (0x5b, 0));
        assert!(tiny.word(word::EXITS) >= 100);
    }
}

#[test]
fn signals_during_leaves_and_entries_lose_nothing() {
    let _turn = turn();
    for mode in MODES {
        let mut tiny = Tiny::start(mode);
        let storm = Storm::start(Duration::from_micros(20));
        // EACCEPT of an accepted page: always the same answer, through the
        // trampoline's Rust.
        tiny.accept(fresh(), DYNAMIC);
        tiny.set(64, tiny.data + word::SECINFO_RW);
        tiny.set(72, DYNAMIC);
        tiny.set(104, enclu::EACCEPT.into());
        let rounds = if mode == Mode::Fast { 200_000 } else { 10_000 };
        assert_eq!(tiny.run(action::LEAF_STORM, rounds), (0x5d, rounds));
        for n in 0..20_000 {
            assert_eq!(tiny.run(action::ECHO, n), (0x55, n + 1));
        }
        drop(storm);
        assert!(
            tiny.word(word::EXITS) > 10,
            "{mode:?}: only {} exits",
            tiny.word(word::EXITS)
        );
    }
}

#[test]
fn a_pending_signal_keeps_the_enclave_from_being_entered() {
    let _turn = turn();
    let mut tiny = Tiny::start(Mode::Fast);
    tiny.pending.store(1, Ordering::SeqCst);
    assert_eq!(tiny.processor.enter(0, 1, 0), Outcome::NotEntered);
    tiny.pending.store(0, Ordering::SeqCst);
    assert!(matches!(
        tiny.processor.enter(0, 1, 0),
        Outcome::Exit { number: 0x55, .. }
    ));
    assert_eq!(
        tiny.processor.resume(),
        Outcome::Refused,
        "nothing to resume"
    );
}

#[test]
fn a_tcs_holds_one_thread_and_two_run_side_by_side() {
    let _turn = turn();
    let tiny = Tiny::start(Mode::Fast);
    let enclave = Arc::clone(&tiny.enclave);
    std::thread::spawn(move || {
        let again = Processor::attach(&enclave, TCS, &Arc::default(), support::cpuid());
        assert!(matches!(again, Err(AttachError::Busy { .. })));
        let missing = Processor::attach(&enclave, 0x70_0000, &Arc::default(), support::cpuid());
        assert!(matches!(missing, Err(AttachError::NoTcs { .. })));
        let mut second = Tiny::start_on(enclave, TCS + SECOND_THREAD);
        for n in 0..1000 {
            assert_eq!(second.run(action::ECHO, n), (0x55, n + 1));
        }
    })
    .join()
    .unwrap();
}

#[test]
fn einit_refuses_what_was_not_signed() {
    let _turn = turn();
    let creation = support::creation();
    let build = || support::build(&creation, Mode::Fast);
    let code = |result: Result<_, EnclaveError>| result.map(drop).unwrap_err().einit_code();
    let keys = || Arc::new(sgx_emu::keys::ThrowAway::new().unwrap());
    let gate = support::CODE;

    let other = support::sign(support::body([1; 32], creation.attributes));
    assert_eq!(
        code(build().init(&other, gate, keys())),
        error::INVALID_MEASUREMENT
    );

    let builder = build();
    let mut without_debug = creation.attributes;
    without_debug.flags.remove(Flags::DEBUG);
    assert_eq!(
        code(support::init(builder, without_debug)),
        error::INVALID_ATTRIBUTE
    );

    let builder = build();
    let mut forged = support::sign(support::body(builder.mrenclave(), creation.attributes));
    forged[1026] ^= 1;
    assert_eq!(
        code(builder.init(&forged, gate, keys())),
        error::INVALID_SIGNATURE
    );

    let builder = build();
    let mut broken = support::sign(support::body(builder.mrenclave(), creation.attributes));
    broken[0] ^= 1;
    assert_eq!(
        code(builder.init(&broken, gate, keys())),
        error::INVALID_SIG_STRUCT
    );

    let builder = build();
    let signed = support::sign(support::body(builder.mrenclave(), creation.attributes));
    assert!(matches!(
        builder.init(&signed, gate + 64, keys()),
        Err(EnclaveError::Gate { .. })
    ));
}

#[test]
fn ecreate_refuses_state_components_that_the_machine_lacks() {
    let _turn = turn();
    let mut creation = support::creation();
    creation.attributes.xfrm |= 1 << 17;
    assert!(matches!(
        Builder::create(&creation, Mode::Fast),
        Err(EnclaveError::Create { field: "XFRM", .. })
    ));
}

#[test]
fn one_process_holds_one_enclave() {
    let _turn = turn();
    let creation = support::creation();
    let _first = Builder::create(&creation, Mode::Fast).unwrap();
    assert!(matches!(
        Builder::create(&creation, Mode::Fast),
        Err(EnclaveError::Reserve { .. })
    ));
}
