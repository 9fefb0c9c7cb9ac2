// SPDX-License-Identifier: Apache-2.0
//! Memory management against a model: every page's rights and content after
//! any sequence of calls, on pages that complain about misuse as the CPU would.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use enclave_abi::call::Op;
use enclave_abi::startup::Site;
use proptest::prelude::*;
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};

use super::fault::Outcome;
use super::pages::{PAGE, Pages, Prot};
use super::{Memory, Request};
use crate::errno::Errno;
use crate::host::{Machine, Word};
use crate::vfs::{MapSource, ReadAt};

const START: u64 = 0x1_0000;
const COUNT: u64 = 64;
const END: u64 = START + COUNT * PAGE;
const ME: u32 = 1;

/// Enclave pages that enforce what EACCEPT, EMODPE and EMODPR enforce.
#[derive(Default)]
struct FakePages(Mutex<BTreeMap<u64, (Prot, Vec<u8>)>>);

impl FakePages {
    fn each(&self, start: u64, pages: u64, mut work: impl FnMut(&mut Prot, &mut Vec<u8>)) {
        let mut map = self.0.lock().unwrap();
        for index in 0..pages {
            let page = map
                .get_mut(&(start + index * PAGE))
                .expect("an absent page was changed");
            work(&mut page.0, &mut page.1);
        }
    }

    fn read(&self, addr: u64) -> Option<u8> {
        let map = self.0.lock().unwrap();
        map.get(&(addr & !(PAGE - 1)))
            .map(|page| page.1[(addr % PAGE) as usize])
    }

    fn write(&self, addr: u64, byte: u8) {
        let mut map = self.0.lock().unwrap();
        let page = map.get_mut(&(addr & !(PAGE - 1))).expect("present");
        assert!(page.0.contains(Prot::W), "the CPU would fault");
        page.1[(addr % PAGE) as usize] = byte;
    }
}

impl Pages for FakePages {
    fn accept(&self, start: u64, pages: u64) {
        let mut map = self.0.lock().unwrap();
        for index in 0..pages {
            let old = map.insert(
                start + index * PAGE,
                (Prot::R | Prot::W, std::vec![0; PAGE as usize]),
            );
            assert!(old.is_none(), "a page was accepted twice");
        }
    }

    fn extend(&self, start: u64, pages: u64, prot: Prot) {
        self.each(start, pages, |have, _| *have |= prot);
    }

    fn restrict(&self, start: u64, pages: u64, prot: Prot) {
        self.each(start, pages, |have, _| *have &= prot);
    }

    fn trim(&self, start: u64, pages: u64) {
        let mut map = self.0.lock().unwrap();
        for index in 0..pages {
            assert!(
                map.remove(&(start + index * PAGE)).is_some(),
                "an absent page was trimmed"
            );
        }
    }

    fn zero(&self, start: u64, pages: u64) {
        self.each(start, pages, |have, bytes| {
            assert!(have.contains(Prot::W));
            bytes.fill(0);
        });
    }

    fn fill(&self, at: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.write(at + index as u64, *byte);
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        let map = self.0.lock().unwrap();
        for (index, byte) in out.iter_mut().enumerate() {
            let addr = at + index as u64;
            let page = map.get(&(addr & !(PAGE - 1))).expect("present");
            assert!(page.0.contains(Prot::R));
            *byte = page.1[(addr % PAGE) as usize];
        }
    }

    fn copy(&self, to: u64, from: u64, pages: u64) {
        for index in 0..pages {
            let bytes = {
                let map = self.0.lock().unwrap();
                let page = map.get(&(from + index * PAGE)).expect("present");
                assert!(page.0.contains(Prot::R));
                page.1.clone()
            };
            self.fill(to + index * PAGE, &bytes);
        }
    }
}

/// No host: memory needs none but for files, and these are in the test.
struct NoMachine;

impl Machine for NoMachine {
    fn host_call(&self, op: Op, _: &mut [Word<'_>]) -> Result<u64, Errno> {
        panic!("unexpected host call {op:?}")
    }
    fn read_user(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
    fn write_user(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
    fn random(&self, _: &mut [u8]) {}
    fn report(&self, _: &TargetInfo, _: &[u8; 64]) -> Report {
        unreachable!("memory makes no reports")
    }
    fn key(&self, _: &KeyRequest) -> Result<[u8; 16], Errno> {
        Err(Errno::EINVAL)
    }
}

struct Bench {
    pages: &'static FakePages,
    memory: Memory,
}

impl Bench {
    fn new(heap_pages: u64) -> Self {
        let pages: &'static FakePages = Box::leak(Box::default());
        Self {
            pages,
            memory: Memory::new(pages, START, END, heap_pages * PAGE, 0x7777),
        }
    }

    fn map(&self, addr: u64, len: u64, prot: Prot) -> Result<u64, Errno> {
        self.memory.map(
            ME,
            &Request {
                addr,
                fixed: addr != 0,
                ..Request::anonymous(len, prot)
            },
        )
    }

    fn touch(&self, addr: u64, access: Prot) -> Outcome {
        self.memory.fault(&NoMachine, addr, access)
    }
}

struct Bytes(Mutex<Vec<u8>>);

impl ReadAt for Bytes {
    fn read_at(&self, _: &dyn Machine, offset: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.0.lock().unwrap();
        let from = &bytes[(offset as usize).min(bytes.len())..];
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn can_write(&self) -> bool {
        true
    }

    fn write_at(&self, _: &dyn Machine, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.0.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

fn file(bytes: Vec<u8>, sites: Vec<Site>) -> MapSource {
    MapSource {
        size: bytes.len() as u64,
        bytes: Arc::new(Bytes(Mutex::new(bytes))),
        path: Arc::from(&b"/lib/x"[..]),
        protected: false,
        startup: true,
        sites: Arc::new(sites),
        chunk: 65536,
    }
}

#[derive(Clone, Debug)]
enum Action {
    Map { at: u64, pages: u64, prot: u8 },
    MapAnywhere { pages: u64 },
    Unmap { at: u64, pages: u64 },
    Protect { at: u64, pages: u64, prot: u8 },
    Forget { at: u64, pages: u64 },
    Write { at: u64, byte: u8 },
    Read { at: u64 },
    Remap { at: u64, pages: u64, new: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let range = || (0..COUNT - 8, 1..8_u64);
    let prot = || prop_oneof![Just(0_u8), Just(1), Just(3), Just(5), Just(7)];
    prop_oneof![
        (range(), prot()).prop_map(|((at, pages), prot)| Action::Map { at, pages, prot }),
        (1..6_u64).prop_map(|pages| Action::MapAnywhere { pages }),
        range().prop_map(|(at, pages)| Action::Unmap { at, pages }),
        (range(), prot()).prop_map(|((at, pages), prot)| Action::Protect { at, pages, prot }),
        range().prop_map(|(at, pages)| Action::Forget { at, pages }),
        (0..COUNT, any::<u8>()).prop_map(|(at, byte)| Action::Write { at, byte }),
        (0..COUNT).prop_map(|at| Action::Read { at }),
        (range(), 1..8_u64).prop_map(|((at, pages), new)| Action::Remap { at, pages, new }),
    ]
}

/// What a page should be: rights and first byte.
type Model = [Option<(Prot, u8)>; COUNT as usize];

fn addr(page: u64) -> u64 {
    START + page * PAGE
}

fn slots(model: &mut Model, at: u64, pages: u64) -> &mut [Option<(Prot, u8)>] {
    &mut model[at as usize..(at + pages) as usize]
}

fn step(bench: &Bench, model: &mut Model, action: &Action) {
    match *action {
        Action::Map { at, pages, prot } => {
            let prot = Prot::from_bits_truncate(prot);
            assert_eq!(bench.map(addr(at), pages * PAGE, prot), Ok(addr(at)));
            slots(model, at, pages).fill(Some((prot, 0)));
        }
        Action::MapAnywhere { pages } => match bench.map(0, pages * PAGE, Prot::R | Prot::W) {
            Ok(found) => {
                let at = (found - START) / PAGE;
                assert!(slots(model, at, pages).iter().all(Option::is_none));
                slots(model, at, pages).fill(Some((Prot::R | Prot::W, 0)));
            }
            Err(errno) => {
                assert_eq!(errno, Errno::ENOMEM);
                assert!(
                    model
                        .windows(pages as usize)
                        .all(|w| w.iter().any(Option::is_some))
                );
            }
        },
        Action::Unmap { at, pages } => {
            bench.memory.unmap(ME, addr(at), pages * PAGE).unwrap();
            slots(model, at, pages).fill(None);
        }
        Action::Protect { at, pages, prot } => {
            let prot = Prot::from_bits_truncate(prot);
            let whole = slots(model, at, pages).iter().all(Option::is_some);
            let result = bench
                .memory
                .protect(ME, addr(at), pages * PAGE, prot, |_| true);
            assert_eq!(result.is_ok(), whole);
            if whole {
                for (have, _) in slots(model, at, pages).iter_mut().flatten() {
                    *have = prot;
                }
            }
        }
        Action::Forget { at, pages } => {
            let whole = slots(model, at, pages).iter().all(Option::is_some);
            let result = bench.memory.advise(
                &NoMachine,
                ME,
                addr(at),
                pages * PAGE,
                super::change::DONTNEED,
            );
            assert_eq!(result.is_ok(), whole);
            if whole {
                for (_, byte) in slots(model, at, pages).iter_mut().flatten() {
                    *byte = 0;
                }
            }
        }
        Action::Write { at, byte } => {
            let outcome = bench.touch(addr(at), Prot::W);
            match &mut model[at as usize] {
                Some((prot, old)) if prot.contains(Prot::W) => {
                    assert!(matches!(outcome, Outcome::Resolved | Outcome::Spurious));
                    bench.pages.write(addr(at), byte);
                    *old = byte;
                }
                Some(_) => assert_eq!(outcome, Outcome::Forbidden),
                None => assert_eq!(outcome, Outcome::Unmapped),
            }
        }
        Action::Read { at } => {
            let outcome = bench.touch(addr(at), Prot::R);
            match model[at as usize] {
                Some((prot, byte)) if prot.contains(Prot::R) => {
                    assert!(matches!(outcome, Outcome::Resolved | Outcome::Spurious));
                    assert_eq!(bench.pages.read(addr(at)), Some(byte));
                }
                Some(_) => assert_eq!(outcome, Outcome::Forbidden),
                None => assert_eq!(outcome, Outcome::Unmapped),
            }
        }
        Action::Remap { at, pages, new } => {
            let old: Vec<_> = slots(model, at, pages).to_vec();
            if let Ok(found) = bench
                .memory
                .remap(ME, addr(at), pages * PAGE, new * PAGE, 1, 0)
            {
                let prot = old[0].expect("only mapped memory moves").0;
                slots(model, at, pages).fill(None);
                let to = (found - START) / PAGE;
                for (index, slot) in slots(model, to, new).iter_mut().enumerate() {
                    assert_eq!(*slot, None);
                    *slot = Some(old.get(index).copied().flatten().unwrap_or((prot, 0)));
                }
            }
        }
    }
}

fn check(bench: &Bench, model: &Model) {
    let pages = bench.pages.0.lock().unwrap();
    for (index, slot) in model.iter().enumerate() {
        let page = pages.get(&addr(index as u64));
        match (slot, page) {
            (None, page) => assert!(page.is_none(), "page {index} is left behind"),
            (Some((_, byte)), None) => assert_eq!(*byte, 0, "page {index} lost its content"),
            (Some((prot, byte)), Some((have, bytes))) => {
                assert_eq!(have, prot, "page {index}");
                assert_eq!(bytes[0], *byte, "page {index}");
            }
        }
    }
    assert_eq!(bench.memory.committed(), pages.len() as u64 * PAGE);
}

proptest! {
    #[test]
    fn every_sequence_of_calls_leaves_the_pages_that_the_model_says(actions in proptest::collection::vec(action(), 1..60)) {
        let bench = Bench::new(COUNT);
        let mut model: Model = [None; COUNT as usize];
        for action in &actions {
            step(&bench, &mut model, action);
            check(&bench, &model);
        }
        bench.memory.release(ME);
        check(&bench, &[None; COUNT as usize]);
    }
}

#[test]
fn more_than_the_heap_is_refused_and_given_back_memory_counts_again() {
    let bench = Bench::new(8);
    let big = bench.map(0, 16 * PAGE, Prot::R).unwrap();
    assert_eq!(
        bench.map(0, 9 * PAGE, Prot::R | Prot::W),
        Err(Errno::ENOMEM),
        "never satisfiable"
    );
    let mut at = big;
    while bench.touch(at, Prot::R) == Outcome::Resolved || bench.memory.is_present(at) {
        at += PAGE;
    }
    assert_eq!(bench.touch(at, Prot::R), Outcome::NoMemory);
    assert_eq!(bench.memory.committed(), 8 * PAGE);
    bench.memory.unmap(ME, big, PAGE).unwrap();
    assert_eq!(bench.touch(at, Prot::R), Outcome::Resolved);
}

#[test]
fn nobody_touches_another_process() {
    let bench = Bench::new(COUNT);
    let at = bench.map(0, 4 * PAGE, Prot::R | Prot::W).unwrap();
    let other = Request {
        addr: at,
        fixed: true,
        ..Request::anonymous(PAGE, Prot::R)
    };
    assert_eq!(bench.memory.map(2, &other), Err(Errno::ENOMEM));
    assert_eq!(bench.memory.unmap(2, at, PAGE), Err(Errno::EINVAL));
    assert_eq!(
        bench.memory.protect(2, at, PAGE, Prot::R, |_| true),
        Err(Errno::ENOMEM)
    );
    assert_eq!(
        bench.memory.remap(2, at, PAGE, 2 * PAGE, 1, 0),
        Err(Errno::EFAULT)
    );
    assert!(!bench.memory.is_mapped(2, at, PAGE));
}

#[test]
fn a_file_is_read_at_the_first_touch_and_zero_behind_its_end() {
    let bench = Bench::new(COUNT);
    let source = file((0..5000_u32).map(|n| n as u8).collect(), Vec::new());
    let request = Request {
        file: Some((source, 0)),
        ..Request::anonymous(3 * PAGE, Prot::R)
    };
    let at = bench.memory.map(ME, &request).unwrap();
    assert!(!bench.memory.is_present(at));
    assert_eq!(bench.touch(at + 4999, Prot::R), Outcome::Resolved);
    assert_eq!(bench.pages.read(at + 4999), Some(4999_u32 as u8));
    assert_eq!(bench.pages.read(at + 5000), Some(0));
    assert_eq!(bench.touch(at + 2 * PAGE, Prot::R), Outcome::Bus);
    assert_eq!(bench.touch(at, Prot::W), Outcome::Forbidden);
}

#[test]
fn writable_shared_files_are_refused() {
    let bench = Bench::new(COUNT);
    let source = file(std::vec![1; 100], Vec::new());
    let request = Request {
        file: Some((source, 0)),
        shared: true,
        ..Request::anonymous(PAGE, Prot::R | Prot::W)
    };
    assert_eq!(bench.memory.map(ME, &request), Err(Errno::ENODEV));
}

#[test]
fn listed_sites_jump_to_stubs_and_unlisted_ones_stay() {
    let bench = Bench::new(COUNT);
    let mut code = std::vec![0x90; 200];
    code[10..17].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
    code[50..57].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
    let sites = std::vec![
        Site {
            at: 15,
            before: 5,
            after: 0
        },
        Site {
            at: 90,
            before: 5,
            after: 0
        }
    ];
    let request = Request {
        file: Some((file(code, sites), 0)),
        ..Request::anonymous(PAGE, Prot::R | Prot::X)
    };
    let at = bench.memory.map(ME, &request).unwrap();
    assert_eq!(bench.touch(at, Prot::X), Outcome::Resolved);
    let byte = |offset: u64| bench.pages.read(at + offset).unwrap();
    assert_eq!(byte(10), 0xe9, "the site is a jump");
    assert_eq!(
        [byte(15), byte(16)],
        [0x0f, 0x05],
        "others may still jump to the syscall"
    );
    assert_eq!(byte(50), 0xb8, "not listed");
    assert_eq!(byte(85), 0x90, "listed, but no syscall is there");
    let to = i32::from_le_bytes([byte(11), byte(12), byte(13), byte(14)]);
    let stub = at.wrapping_add(15).wrapping_add_signed(to.into());
    assert_eq!(bench.pages.read(stub), Some(0xb8));
    let pages = bench.pages.0.lock().unwrap();
    let have = pages[&(stub & !(PAGE - 1))].0;
    assert_eq!(have, Prot::R | Prot::X, "stubs are never left writable");
    assert_eq!(pages[&at].0, Prot::R | Prot::X);
}

#[test]
fn the_break_grows_and_shrinks_and_stops_at_mappings() {
    let bench = Bench::new(COUNT);
    let mut at = super::brk::Break {
        start: addr(4),
        now: addr(4),
    };
    assert_eq!(bench.memory.brk(ME, &mut at, 0), addr(4));
    assert_eq!(bench.memory.brk(ME, &mut at, addr(6) + 5), addr(6) + 5);
    assert_eq!(bench.touch(addr(6), Prot::W), Outcome::Resolved);
    assert_eq!(bench.memory.brk(ME, &mut at, addr(5)), addr(5));
    assert_eq!(bench.touch(addr(6), Prot::W), Outcome::Unmapped);
    bench.map(addr(8), PAGE, Prot::R).unwrap();
    assert_eq!(bench.memory.brk(ME, &mut at, addr(20)), addr(5), "taken");
}

#[test]
fn advice_that_nobody_knows_is_refused() {
    let bench = Bench::new(COUNT);
    let at = bench.map(0, PAGE, Prot::R | Prot::W).unwrap();
    assert_eq!(
        bench.memory.advise(&NoMachine, ME, at, PAGE, 4242),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        bench
            .memory
            .advise(&NoMachine, ME, at, PAGE, super::change::WIPEONFORK),
        Ok(())
    );
}

#[test]
fn a_shared_mapping_is_written_back_up_to_the_end_of_the_file() {
    let bench = Bench::new(COUNT);
    let bytes = Arc::new(Bytes(Mutex::new(std::vec![1; 5000])));
    let source = MapSource {
        bytes: Arc::clone(&bytes) as Arc<dyn ReadAt>,
        ..file(std::vec![1; 5000], Vec::new())
    };
    let request = Request {
        file: Some((source, 0)),
        shared: true,
        write_back: true,
        ..Request::anonymous(2 * PAGE, Prot::R | Prot::W)
    };
    let at = bench.memory.map(ME, &request).unwrap();
    assert_eq!(bench.touch(at + 4999, Prot::W), Outcome::Resolved);
    bench.pages.write(at + 4999, 9);
    bench.pages.write(at + 5001, 9);
    assert_eq!(
        bytes.0.lock().unwrap()[4999],
        1,
        "not before it is asked for"
    );
    bench.memory.sync(&NoMachine, ME, at, 2 * PAGE).unwrap();
    assert_eq!(bytes.0.lock().unwrap().len(), 5000);
    assert_eq!(bytes.0.lock().unwrap()[4999], 9);
    assert_eq!(
        bench.memory.map(ME, &request),
        Err(Errno::ENODEV),
        "a second view would differ"
    );
    bench.memory.unmap(ME, at, 2 * PAGE).unwrap();
    assert!(bench.memory.map(ME, &request).is_ok());
}
