// SPDX-License-Identifier: Apache-2.0
//! Every binary form against its golden file, in hex. `UPDATE_GOLDEN=1` rewrites
//! the files; a change needs a new version number of the form.

use std::fmt::Write as _;
use std::path::Path;

use enclave_abi::boot::{BootPage, Extent};
use enclave_abi::call::{self, Op};
use enclave_abi::image::{Header, Run};
use enclave_abi::layout::Layout;
use enclave_abi::manifest::{Dlopen, Manifest, ProgramConfig, Region, RegionClass, StartMode};
use enclave_abi::start::{Inject, LogLevel, Mount, StartBlock};
use enclave_abi::startup::{Role, Site, StartupFile, StartupList};
use proptest::prelude::*;
use sgx::attributes::{Attributes, Flags, MiscSelect};
use sgx::secinfo::{PageFlags, SecInfo};

fn golden(name: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, content).expect("golden file is writable");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        content, expected,
        "{name} changed: raise the form's version first"
    );
}

fn golden_bytes(name: &str, bytes: &[u8]) {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        writeln!(text, "{}", hex::encode(line)).expect("strings take everything");
    }
    golden(name, &text);
}

fn manifest() -> Manifest {
    Manifest {
        start_mode: StartMode::Session,
        heap: 1 << 30,
        stack: 4 << 20,
        threads: 64,
        dlopen: Dlopen::Protected,
        fork: false,
        program: b"/usr/bin/python3.11".to_vec(),
        agent: b"/ensconce/agent".to_vec(),
        regions: vec![
            Region {
                path: b"/etc/hosts".to_vec(),
                class: RegionClass::HostPath,
            },
            Region {
                path: b"/tmp".to_vec(),
                class: RegionClass::Ephemeral,
            },
            Region {
                path: b"/proc".to_vec(),
                class: RegionClass::Synthetic,
            },
        ],
        cas_pin: Some([0xca; 32]),
        standalone: None,
    }
}

fn startup() -> StartupList {
    StartupList {
        files: vec![
            StartupFile {
                role: Role::Program,
                path: b"/usr/bin/python3.11".to_vec(),
                size: 65_537,
                chunk_size: 65_536,
                chunks: vec![[1; 32], [2; 32]],
                sites: vec![
                    Site {
                        at: 0x1005,
                        before: 5,
                        after: 0,
                    },
                    Site {
                        at: 0x2000,
                        before: 0,
                        after: 6,
                    },
                ],
            },
            StartupFile {
                role: Role::Agent,
                path: b"/ensconce/agent".to_vec(),
                size: 0,
                chunk_size: 65_536,
                chunks: vec![],
                sites: vec![],
            },
        ],
    }
}

fn start_block() -> StartBlock {
    StartBlock {
        config_id: "demo/service".into(),
        one_time_password: String::new(),
        cas_addr: "localhost:18765".into(),
        las_addr: "unix:/run/ensconce/las.sock".into(),
        access_token: "token".into(),
        log: LogLevel::Info,
        argv: vec![b"python3".to_vec(), b"-c".to_vec()],
        env: vec![b"A=B".to_vec()],
        cwd: b"/app".to_vec(),
    }
}

fn image() -> Header {
    Header {
        ssa_frame_size: 1,
        elrange: 1 << 31,
        attributes: Attributes {
            flags: Flags::MODE64BIT | Flags::KSS,
            xfrm: 0xe7,
        },
        miscselect: MiscSelect::EXINFO,
        gate: 0x4000_1000,
        runs: vec![
            Run {
                offset: 0x4000_0000,
                pages: 2,
                secinfo: SecInfo::reg(PageFlags::R | PageFlags::X),
                measured: true,
                source: Some(4096),
            },
            Run {
                offset: 0x4010_0000,
                pages: 1,
                secinfo: SecInfo::tcs(),
                measured: true,
                source: Some(12288),
            },
            Run {
                offset: 0x4010_1000,
                pages: 3,
                secinfo: SecInfo::reg(PageFlags::R | PageFlags::W),
                measured: true,
                source: None,
            },
        ],
    }
}

#[test]
fn manifest_is_golden() {
    let bytes = manifest().encode();
    golden_bytes("manifest.hex", &bytes);
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest());
}

#[test]
fn standalone_manifest_is_golden() {
    let standalone = Manifest {
        start_mode: StartMode::Standalone,
        agent: vec![],
        cas_pin: None,
        standalone: Some(ProgramConfig {
            argv: vec![b"cas".to_vec()],
            env: vec![b"PATH=/usr/bin".to_vec()],
            cwd: b"/".to_vec(),
        }),
        ..manifest()
    };
    let bytes = standalone.encode();
    golden_bytes("manifest-standalone.hex", &bytes);
    assert_eq!(Manifest::decode(&bytes).unwrap(), standalone);
}

#[test]
fn a_start_mode_without_its_parts_is_refused() {
    let broken = Manifest {
        agent: vec![],
        ..manifest()
    };
    assert!(Manifest::decode(&broken.encode()).is_err());
    let broken = Manifest {
        start_mode: StartMode::Test,
        ..manifest()
    };
    assert!(Manifest::decode(&broken.encode()).is_err());
}

#[test]
fn startup_list_is_golden() {
    let bytes = startup().encode();
    golden_bytes("startup.hex", &bytes);
    assert_eq!(StartupList::decode(&bytes).unwrap(), startup());
}

#[test]
fn start_block_is_golden() {
    let bytes = start_block().encode();
    golden_bytes("start-block.hex", &bytes);
    assert_eq!(StartBlock::decode(&bytes).unwrap(), start_block());
}

#[test]
fn agent_messages_are_golden() {
    let mount = Mount {
        path: b"/fspf/fs.fspf".to_vec(),
        key: [7; 32],
        tag: [8; 16],
    };
    golden_bytes("mount.hex", &mount.encode());
    assert!(Mount::decode(&mount.encode()).unwrap() == mount);
    let inject = Inject {
        path: b"/etc/app.conf".to_vec(),
        mode: 0o400,
        content: b"x=1".to_vec(),
    };
    golden_bytes("inject.hex", &inject.encode());
    assert!(Inject::decode(&inject.encode()).unwrap() == inject);
}

#[test]
fn secrets_are_not_shown() {
    let mount = Mount {
        path: b"/marker".to_vec(),
        key: [7; 32],
        tag: [8; 16],
    };
    assert_eq!(format!("{mount:?}"), "Mount([redacted])");
    let block = StartBlock {
        one_time_password: "marker".into(),
        access_token: "marker".into(),
        argv: vec![b"marker".to_vec()],
        env: vec![b"A=marker".to_vec()],
        ..start_block()
    };
    let shown = format!("{block:#?}");
    assert!(!shown.contains("marker"), "{shown}");
    // Neither as text nor as numbers.
    assert!(!format!("{block:?}").contains("109, 97"), "{shown}");
    assert!(shown.contains("demo/service") && shown.contains("[redacted]"));
    assert!(format!("{:?}", StartBlock::default()).contains("[none]"));
}

#[test]
fn what_a_program_is_given_is_not_shown() {
    let config = ProgramConfig {
        argv: vec![b"--password=marker".to_vec()],
        env: vec![b"TOKEN=marker".to_vec()],
        cwd: b"/".to_vec(),
    };
    assert_eq!(format!("{config:?}"), "ProgramConfig([redacted])");
}

#[test]
fn image_header_is_golden() {
    let bytes = image().encode();
    assert_eq!(bytes.len(), Header::encoded_len(image().runs.len()));
    golden_bytes("image-header.hex", &bytes);
    assert_eq!(Header::decode(&bytes, 16384).unwrap(), image());
    assert!(
        Header::decode(&bytes, 16383).is_err(),
        "a source ends beyond the file"
    );
}

#[test]
fn overlapping_runs_are_refused() {
    let mut header = image();
    header.runs[1].offset = 0x4000_1000;
    assert!(Header::decode(&header.encode(), 1 << 20).is_err());
}

#[test]
fn boot_page_is_golden() {
    let page = BootPage {
        layout: Layout::new(64 << 20, 8, 0x8000).unwrap(),
        kernel_image: Extent {
            offset: 0x4000_1000,
            len: 0x5000,
        },
        manifest: Extent {
            offset: 0x4000_6000,
            len: 100,
        },
        startup: Extent {
            offset: 0x4000_7000,
            len: 200,
        },
    };
    golden_bytes("boot-page.hex", &page.encode());
    assert_eq!(BootPage::decode(&page.encode()).unwrap(), page);
}

#[test]
fn host_calls_are_golden() {
    let mut text = format!(
        "area {} data at {} args at {} result at {}\n",
        call::AREA_LEN,
        call::DATA_OFFSET,
        call::ARGS_OFFSET,
        call::RESULT_OFFSET
    );
    for &op in Op::ALL {
        writeln!(text, "{} {op:?} {:?}", op as u64, op.args()).unwrap();
    }
    golden("calls.txt", &text);
}

proptest! {
    #[test]
    fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Manifest::decode(&bytes);
        let _ = StartupList::decode(&bytes);
        let _ = StartBlock::decode(&bytes);
        let _ = Mount::decode(&bytes);
        let _ = Inject::decode(&bytes);
        let _ = Header::decode(&bytes, 1 << 20);
        let _ = BootPage::decode(&bytes);
    }

    #[test]
    fn damaged_forms_decode_canonically_or_not_at_all(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let flip = |mut bytes: Vec<u8>| { let i = at.index(bytes.len()); bytes[i] ^= 1 << bit; bytes };
        let bytes = flip(manifest().encode());
        if let Ok(form) = Manifest::decode(&bytes) { prop_assert_eq!(form.encode(), bytes); }
        let bytes = flip(startup().encode());
        if let Ok(form) = StartupList::decode(&bytes) { prop_assert_eq!(form.encode(), bytes); }
        let bytes = flip(start_block().encode());
        if let Ok(form) = StartBlock::decode(&bytes) { prop_assert_eq!(form.encode(), bytes); }
    }

    #[test]
    fn truncated_forms_are_refused(at in any::<prop::sample::Index>()) {
        for bytes in [manifest().encode(), startup().encode(), start_block().encode()] {
            let cut = at.index(bytes.len());
            prop_assert!(Manifest::decode(&bytes[..cut]).is_err());
            prop_assert!(StartupList::decode(&bytes[..cut]).is_err());
            prop_assert!(StartBlock::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn sites_travel_as_words(at in any::<u32>(), before in 0u8..16, after in 0u8..16) {
        let site = Site { at, before, after };
        let expected = (before + after >= 3).then_some(site);
        prop_assert_eq!(Site::from_words(site.to_words()), expected);
    }
}
