// SPDX-License-Identifier: Apache-2.0

use alloc::boxed::Box;

use enclave_abi::manifest::{Dlopen, Manifest, StartMode};
use enclave_abi::start::StartBlock;
use enclave_abi::startup::StartupList;

use super::*;
use crate::vfs::testing::Bench;

fn files() -> (Bench, Arc<AgentFs>) {
    let boot = Box::leak(Box::new(Boot {
        manifest: Manifest {
            start_mode: StartMode::Session,
            heap: 1 << 20,
            stack: 1 << 16,
            threads: 2,
            dlopen: Dlopen::Protected,
            fork: false,
            program: b"/bin/x".to_vec(),
            agent: b"/ensconce/agent".to_vec(),
            regions: Vec::new(),
            cas_pin: None,
            standalone: None,
        },
        block: StartBlock::default(),
        debug: false,
        xfrm: 7,
    }));
    let cache = ChunkCache::new(1 << 16);
    let startup = StartupFiles::new(StartupList::default(), &cache, |_, _| true).unwrap();
    (Bench::new(), AgentFs::new(boot, &startup, &cache))
}

fn open(bench: &Bench, fs: &AgentFs, name: &str) -> Result<Arc<dyn File>, Errno> {
    let path = alloc::format!("{DIRECTORY}/{name}");
    match fs.open(&bench.cx(), path.as_bytes(), OpenFlags::READ_WRITE, 0)? {
        Opened::File(file) => Ok(file),
        other => panic!("{other:?}"),
    }
}

fn write(bench: &Bench, file: &Arc<dyn File>, bytes: &[u8]) -> Result<usize, Errno> {
    file.write(&bench.cx(), Source::Kernel(bytes), false)
}

#[test]
fn measured_and_claimed_facts_can_be_read() {
    let (bench, fs) = files();
    let mut bytes = vec![0; 4096];
    let file = open(&bench, &fs, "manifest").unwrap();
    let count = file
        .read(&bench.cx(), &mut Sink::Kernel(&mut bytes), false)
        .unwrap();
    assert_eq!(Manifest::decode(&bytes[..count]).unwrap(), fs.boot.manifest);
    assert_eq!(write(&bench, &file, b"x"), Err(Errno::EINVAL));
}

#[test]
fn the_agents_reports_are_never_of_the_programs_form() {
    let (bench, fs) = files();
    let file = open(&bench, &fs, "report").unwrap();
    let mut message = vec![0; 64 + TargetInfo::SIZE];
    message[0] = 1;
    assert_eq!(write(&bench, &file, &message), Err(Errno::EINVAL));
    message[63] = 1;
    assert_eq!(write(&bench, &file, &message), Ok(message.len()));
    let mut bytes = vec![0; 1000];
    let count = file
        .read(&bench.cx(), &mut Sink::Kernel(&mut bytes), false)
        .unwrap();
    assert_eq!(count, Report::SIZE);
    assert_eq!(bytes[320..384], message[..64]);
    assert_eq!(write(&bench, &file, &message[1..]), Err(Errno::EINVAL));
}

#[test]
fn a_program_without_files_does_not_start() {
    let (bench, fs) = files();
    let file = open(&bench, &fs, "start").unwrap();
    assert_eq!(
        write(&bench, &file, &[1]),
        Err(Errno::EINVAL),
        "no configuration"
    );
    assert_eq!(fs.take().err(), Some(Errno::EINVAL), "no FSPF");
    for bad in ["mount", "inject", "config"] {
        let file = open(&bench, &fs, bad).unwrap();
        assert_eq!(
            write(&bench, &file, b"nonsense"),
            Err(Errno::EINVAL),
            "{bad}"
        );
    }
}

#[test]
fn control_files_are_gone_once_the_program_runs() {
    let (bench, fs) = files();
    let held = open(&bench, &fs, "inject").unwrap();
    fs.handed.lock().started = true;
    for (name, text) in Name::ALL {
        let found = open(&bench, &fs, core::str::from_utf8(text).unwrap()).map(|_| ());
        let expected = if name == Name::Report {
            Ok(())
        } else {
            Err(Errno::ENOENT)
        };
        assert_eq!(found, expected, "{name:?}");
    }
    let inject = Inject {
        path: b"/x".to_vec(),
        mode: 0o400,
        content: Vec::new(),
    };
    assert_eq!(write(&bench, &held, &inject.encode()), Err(Errno::ENXIO));
}

#[test]
fn a_program_cannot_write_the_agents_form() {
    use crate::vfs::attestationfs::AttestationFs;
    let bench = Bench::new();
    let fs = AttestationFs::new();
    let path = b"/dev/attestation/user_report_data";
    let Opened::File(file) = fs
        .open(&bench.cx(), path, OpenFlags::READ_WRITE, 0)
        .unwrap()
    else {
        panic!("a file");
    };
    let mut data = [0; 64];
    data[31] = 9;
    assert_eq!(file.write_at(&bench.cx(), 0, Source::Kernel(&data)), Ok(64));
    data[32] = 1;
    assert_eq!(
        file.write_at(&bench.cx(), 0, Source::Kernel(&data)),
        Err(Errno::EINVAL)
    );
}
