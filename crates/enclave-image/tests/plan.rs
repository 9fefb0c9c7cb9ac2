// SPDX-License-Identifier: Apache-2.0
//! Planning an image of a kernel that is made by hand, so that every byte is known.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "made/kernel.rs"]
mod made;

use enclave_abi::boot::BootPage;
use enclave_abi::image::Header;
use enclave_abi::layout::thread;
use enclave_abi::manifest::{Dlopen, Manifest, ProgramConfig, StartMode};
use enclave_abi::startup::{Role, StartupFile, StartupList};
use enclave_image::inspect::{InspectError, Inspection};
use enclave_image::plan::{KernelError, PlanError, measure, plan};
use made::Kernel;
use proptest::prelude::*;
use sgx::PAGE_SIZE;
use sgx::attributes::Flags;
use sgx::secinfo::{PageFlags, PageType};
use sgx::tcs::Tcs;

const PAGE: u64 = PAGE_SIZE as u64;

fn manifest() -> Manifest {
    Manifest {
        start_mode: StartMode::Standalone,
        heap: 64 << 20,
        stack: 8 << 20,
        threads: 3,
        dlopen: Dlopen::None,
        fork: false,
        program: b"/bin/program".to_vec(),
        agent: Vec::new(),
        regions: Vec::new(),
        cas_pin: None,
        standalone: Some(ProgramConfig {
            argv: vec![b"program".to_vec()],
            env: Vec::new(),
            cwd: b"/".to_vec(),
        }),
    }
}

fn startup() -> StartupList {
    StartupList {
        files: vec![StartupFile {
            role: Role::Program,
            path: b"/bin/program".to_vec(),
            size: 1,
            chunk_size: 65536,
            chunks: vec![[7; 32]],
            sites: Vec::new(),
        }],
    }
}

#[test]
fn image_and_measurement_stay_as_they_were() {
    let image = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
    let golden = include_str!("golden/mrenclave.txt").trim();
    assert_eq!(hex::encode(image.mrenclave), golden);
    assert_eq!(
        hex::encode(&image.bytes()[..Header::encoded_len(image.header.runs.len())]),
        include_str!("golden/header.hex").trim()
    );
}

#[test]
fn building_twice_gives_equal_bytes() {
    let one = plan(&Kernel::default().elf(), &manifest(), &startup(), true).unwrap();
    let two = plan(&Kernel::default().elf(), &manifest(), &startup(), true).unwrap();
    assert_eq!(one, two);
}

#[test]
fn header_reads_back_and_measures_the_same() {
    let image = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
    let file = image.bytes();
    let header = Header::decode(file, file.len() as u64).unwrap();
    assert_eq!(header, image.header);
    assert_eq!(measure(&header, file), Some(image.mrenclave));
    assert!(header.runs.iter().all(|run| run.measured));
}

#[test]
fn finished_image_tells_what_went_into_it() {
    let image = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
    let read = Inspection::read(image.bytes()).unwrap();
    assert_eq!(read.manifest, manifest());
    assert_eq!(read.startup, startup());
    assert_eq!(read.header, image.header);
    assert_eq!(read.boot.layout, image.layout);
    assert_eq!(read.mrenclave, image.mrenclave);
    let cut = &image.bytes()[..image.bytes().len() - 1];
    assert!(matches!(
        Inspection::read(cut),
        Err(InspectError::Decode { part: "header", .. })
    ));
}

/// The bytes and permissions of the page at `address`.
fn page(header: &Header, file: &[u8], address: u64) -> Option<(sgx::secinfo::SecInfo, Vec<u8>)> {
    let run = header
        .runs
        .iter()
        .find(|r| (r.offset..r.offset + u64::from(r.pages) * PAGE).contains(&address))?;
    let bytes = match run.source {
        Some(source) => {
            let at = usize::try_from(source + (address - run.offset)).unwrap();
            file[at..at + PAGE_SIZE].to_vec()
        }
        None => vec![0; PAGE_SIZE],
    };
    Some((run.secinfo, bytes))
}

#[test]
fn pages_lie_where_the_boot_page_and_the_layout_say() {
    let kernel = Kernel::default();
    let image = plan(&kernel.elf(), &manifest(), &startup(), false).unwrap();
    let at = |address| page(&image.header, image.bytes(), address);
    let k = image.layout.kernel;
    let (secinfo, boot) = at(k).unwrap();
    assert_eq!(secinfo.flags, PageFlags::R);
    let boot = BootPage::decode(&boot).unwrap();
    assert_eq!(boot.layout, image.layout);
    assert_eq!(boot.kernel_image.offset, k + PAGE);

    let (secinfo, code) = at(k + PAGE + made::CODE).unwrap();
    assert_eq!(secinfo.flags, PageFlags::R | PageFlags::X);
    assert_eq!(code[..kernel.code.len()], kernel.code);
    assert_eq!(image.header.gate, k + PAGE + made::CODE + made::GATE);
    let (secinfo, data) = at(k + PAGE + made::DATA).unwrap();
    assert_eq!(secinfo.flags, PageFlags::R | PageFlags::W);
    assert_eq!(data[..8], *b"writable");
    // Two pages of .bss behind the file's bytes.
    assert_eq!(at(k + PAGE + made::DATA + PAGE).unwrap().1, [0; PAGE_SIZE]);

    let (secinfo, bytes) = at(boot.manifest.offset).unwrap();
    assert_eq!(secinfo.flags, PageFlags::R);
    let len = usize::try_from(boot.manifest.len).unwrap();
    assert_eq!(Manifest::decode(&bytes[..len]), Ok(manifest()));
    let (_, bytes) = at(boot.startup.offset).unwrap();
    let len = usize::try_from(boot.startup.len).unwrap();
    assert_eq!(StartupList::decode(&bytes[..len]), Ok(startup()));
}

#[test]
fn threads_have_a_tcs_each_and_only_the_first_has_memory() {
    let image = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
    let at = |address| page(&image.header, image.bytes(), address);
    for index in 0..3 {
        let area = image.layout.thread(index);
        let (secinfo, bytes) = at(area).unwrap();
        assert_eq!(secinfo.page_type, PageType::Tcs);
        let tcs = Tcs::from_page(bytes[..].try_into().unwrap()).unwrap();
        assert_eq!(
            tcs,
            Tcs {
                ossa: area + thread::SSA,
                nssa: 3,
                oentry: image.layout.kernel + PAGE + made::CODE + made::ENTRY,
                ofsbase: 0,
                ogsbase: area + thread::DATA,
            }
        );
        for offset in [
            thread::SSA,
            thread::SSA + 2 * PAGE,
            thread::DATA,
            thread::EXCEPTION_STACK,
            thread::KERNEL_STACK,
            thread::KERNEL_STACK + thread::KERNEL_STACK_SIZE - PAGE,
        ] {
            assert_eq!(at(area + offset).is_some(), index == 0, "{offset:#x}");
        }
        for guard in [thread::DATA + PAGE, thread::KERNEL_STACK - PAGE] {
            assert!(at(area + guard).is_none(), "a guard page exists");
        }
    }
    assert_eq!(
        page(&image.header, image.bytes(), image.layout.kernel_heap),
        None
    );
}

#[test]
fn debug_is_an_attribute_and_not_part_of_the_measurement() {
    let debug = plan(&Kernel::default().elf(), &manifest(), &startup(), true).unwrap();
    let production = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
    assert_eq!(debug.mrenclave, production.mrenclave);
    assert_eq!(
        debug.header.attributes.flags,
        Flags::MODE64BIT | Flags::KSS | Flags::DEBUG
    );
    assert_eq!(
        production.header.attributes.flags,
        Flags::MODE64BIT | Flags::KSS
    );
}

#[test]
fn every_part_of_the_input_changes_the_measurement() {
    let base = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
    let mut changed = Vec::new();
    for edit in [
        |m: &mut Manifest| m.heap += 4096,
        |m: &mut Manifest| m.stack += 4096,
        |m: &mut Manifest| m.threads += 1,
        |m: &mut Manifest| m.cas_pin = Some([1; 32]),
        |m: &mut Manifest| m.standalone.as_mut().unwrap().argv.push(b"-x".to_vec()),
    ] {
        let mut manifest = manifest();
        edit(&mut manifest);
        changed.push(plan(&Kernel::default().elf(), &manifest, &startup(), false).unwrap());
    }
    let mut other = startup();
    other.files[0].chunks[0][31] ^= 1;
    changed.push(plan(&Kernel::default().elf(), &manifest(), &other, false).unwrap());
    let mut kernel = Kernel::default();
    *kernel.code.last_mut().unwrap() ^= 1;
    changed.push(plan(&kernel.elf(), &manifest(), &startup(), false).unwrap());
    for image in changed {
        assert_ne!(image.mrenclave, base.mrenclave);
    }
}

#[test]
fn mode_test_and_free_loading_need_a_debug_enclave() {
    let kernel = Kernel::default().elf();
    let mut test = manifest();
    test.start_mode = StartMode::Test;
    test.standalone = None;
    let mut free = manifest();
    free.dlopen = Dlopen::Any;
    for manifest in [test, free] {
        let refused = plan(&kernel, &manifest, &startup(), false);
        assert!(matches!(refused, Err(PlanError::NeedsDebug { .. })));
        assert!(plan(&kernel, &manifest, &startup(), true).is_ok());
    }
}

#[test]
fn bounds_of_the_manifest_hold() {
    let kernel = Kernel::default().elf();
    for edit in [
        |m: &mut Manifest| m.heap = 0,
        |m: &mut Manifest| m.heap = u64::MAX,
        |m: &mut Manifest| m.stack = 0,
        |m: &mut Manifest| m.stack = m.heap + 4096,
        |m: &mut Manifest| m.threads = 0,
        |m: &mut Manifest| m.threads = 1025,
    ] {
        let mut manifest = manifest();
        edit(&mut manifest);
        let refused = plan(&kernel, &manifest, &startup(), false);
        assert!(matches!(refused, Err(PlanError::OutOfBounds { .. })));
    }
    let mut contradiction = manifest();
    contradiction.standalone = None;
    let refused = plan(&kernel, &contradiction, &startup(), false);
    assert!(matches!(refused, Err(PlanError::Manifest(_))));
    let refused = plan(&kernel, &manifest(), &StartupList::default(), false);
    assert!(matches!(refused, Err(PlanError::NotListed { .. })));
}

fn refusal(kernel: &Kernel) -> KernelError {
    match plan(&kernel.elf(), &manifest(), &startup(), false) {
        Err(PlanError::Kernel(error)) => error,
        other => panic!("expected a refusal of the kernel, got {other:?}"),
    }
}

#[test]
fn kernels_that_cannot_work_are_refused() {
    let gate = usize::try_from(made::GATE).unwrap();
    let mut without = Kernel::default();
    without.code[gate] = 0x90;
    assert_eq!(refusal(&without), KernelError::Gate { count: 0 });
    let mut twice = Kernel::default();
    let copy = twice.code[gate..gate + 15].to_vec();
    twice.code.extend_from_slice(&copy);
    assert_eq!(refusal(&twice), KernelError::Gate { count: 2 });
    let entry = Kernel {
        entry: made::DATA,
        ..Kernel::default()
    };
    assert_eq!(
        refusal(&entry),
        KernelError::Entry {
            address: made::DATA
        }
    );
    let relocation = Kernel {
        relocation: (made::DATA, 6),
        ..Kernel::default()
    };
    assert!(matches!(
        refusal(&relocation),
        KernelError::Relocation { kind: 6, .. }
    ));
    let read_only = Kernel {
        relocation: (made::CODE, 8),
        ..Kernel::default()
    };
    assert!(matches!(
        refusal(&read_only),
        KernelError::Relocation { kind: 8, .. }
    ));
    let both = Kernel {
        code_flags: 7,
        ..Kernel::default()
    };
    assert!(matches!(refusal(&both), KernelError::WritableCode { .. }));
    let fixed = Kernel {
        elf_type: 2,
        ..Kernel::default()
    };
    assert_eq!(refusal(&fixed), KernelError::NotStaticPie);
    let shared = Kernel {
        data_address: made::CODE + 0x800,
        ..Kernel::default()
    };
    assert!(matches!(refusal(&shared), KernelError::SharedPage { .. }));
}

proptest! {
    #[test]
    fn damaged_images_never_panic_nor_measure_the_same(at in 0usize..0x9000, bit in 0u8..8) {
        let image = plan(&Kernel::default().elf(), &manifest(), &startup(), false).unwrap();
        let mut file = image.bytes().to_vec();
        let at = at % file.len();
        file[at] ^= 1 << bit;
        let used = Header::decode(image.bytes(), file.len() as u64).unwrap();
        match Inspection::read(&file) {
            // What is not measured: attributes, MISCSELECT, the gate's address, padding.
            Ok(read) if at < Header::encoded_len(used.runs.len()) => {
                prop_assert!(read.header != used || read.mrenclave == image.mrenclave);
            }
            Ok(read) => prop_assert_ne!(read.mrenclave, image.mrenclave),
            Err(_) => {}
        }
    }

    #[test]
    fn damaged_kernels_never_panic(at in 0usize..0x4000, byte in any::<u8>(), cut in 0usize..0x4000) {
        let mut elf = Kernel::default().elf();
        if let Some(target) = elf.get_mut(at) {
            *target = byte;
        }
        let _ = plan(&elf, &manifest(), &startup(), false);
        elf.truncate(cut);
        let _ = plan(&elf, &manifest(), &startup(), false);
    }

    #[test]
    fn damaged_headers_never_panic(at in 0usize..0x160, byte in any::<u8>()) {
        let mut elf = Kernel::default().elf();
        elf[at] = byte;
        let _ = plan(&elf, &manifest(), &startup(), false);
    }
}
