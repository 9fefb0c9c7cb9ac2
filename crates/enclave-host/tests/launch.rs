// SPDX-License-Identifier: Apache-2.0
//! The launcher as a process, with an enclave that performs scripted host calls.

#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "support/script_enclave.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use enclave_abi::call::{DATA_LEN, Op};
use enclave_abi::start::StartBlock;
use support::{
    ANY, SUCCESS, Script, build, call, exit, jump, jump_if_hinted, jump_if_success, launch, raw,
    result_of, spin_until_interrupted,
};

const NONE: u64 = u64::MAX;

fn no(errno: i32) -> i64 {
    -i64::from(errno)
}

/// Runs the steps as thread 0 by way of thread 1: only threads other than the
/// first start with their script's data.
fn run_with(data: &[u8], steps: Vec<support::Step>, strict: bool) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let image = build(dir.path(), in_second_thread(data, steps));
    launch(&image, strict, &[]).output().unwrap()
}

fn in_second_thread(data: &[u8], steps: Vec<support::Step>) -> [Script; 4] {
    let first = Script {
        steps: vec![call(Op::Spawn, &[1], 0), call(Op::ThreadExit, &[], ANY)],
        data: Vec::new(),
    };
    let second = Script {
        steps,
        data: data.to_vec(),
    };
    [first, second, Script::default(), Script::default()]
}

#[track_caller]
fn assert_success(output: &Output) {
    assert_eq!(
        output.status.code(),
        Some(0),
        "failed step + 1, or a message: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_enclave_writes_and_its_status_is_the_processs() {
    for strict in [false, true] {
        let steps = vec![call(Op::Write, &[1, 0, 6], 6), exit(42)];
        let output = run_with(b"hello\n", steps, strict);
        assert_eq!(output.stdout, b"hello\n");
        assert_eq!(output.status.code(), Some(42));
    }
}

#[test]
fn the_start_block_carries_arguments_environment_and_claims() {
    let dir = tempfile::tempdir().unwrap();
    let first = Script {
        // The block lies at the data part's start; its length is not known to
        // the script, trailing zeroes are cut below.
        steps: vec![call(Op::Write, &[1, 0, 65536], 65536), exit(0)],
        data: Vec::new(),
    };
    let rest = [Script::default(), Script::default(), Script::default()];
    let [a, b, c] = rest;
    let image = build(dir.path(), [first, a, b, c]);
    let output = launch(&image, false, &["one", "--two"])
        .env_clear()
        .env("SCONE_MODE", "sim")
        .env("SCONE_CONFIG_ID", "ns/session/service@123456")
        .env("SCONE_CAS_ADDR", "cas:8081:9")
        .env("PLAIN", "value")
        .current_dir("/usr")
        .output()
        .unwrap();
    assert_success(&output);
    let mut bytes = output.stdout;
    let block = loop {
        if let Ok(block) = StartBlock::decode(&bytes) {
            break block;
        }
        assert_eq!(bytes.pop(), Some(0));
    };
    assert_eq!(block.config_id, "ns/session/service");
    assert_eq!(block.one_time_password, "123456");
    assert_eq!(block.cas_addr, "cas:9");
    assert_eq!(block.argv[1..], [b"one".to_vec(), b"--two".to_vec()]);
    assert_eq!(block.env, [b"PLAIN=value".to_vec()]);
    assert_eq!(block.cwd, b"/usr");
}

#[test]
fn files_are_opened_read_written_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let name = path.to_str().unwrap();
    let mut data = format!("{name}\0").into_bytes();
    data.resize(1024, b'x');
    let len = name.len() as u64;
    let create = (libc::O_CREAT | libc::O_RDWR | libc::O_EXCL) as u64;
    let steps = vec![
        call(Op::Open, &[0, len, create, 0o600], SUCCESS),
        call(Op::Write, &[result_of(0), 512, 100], 100),
        call(Op::Pwrite, &[result_of(0), 512, 8, 200], 8),
        call(Op::Pread, &[result_of(0), 2048, 4096, 0], 208),
        call(Op::Lseek, &[result_of(0), 0, libc::SEEK_CUR as u64], 100),
        call(Op::Fstat, &[result_of(0), 2048, 144], 0),
        call(Op::Ftruncate, &[result_of(0), 7], 0),
        call(Op::Fsync, &[result_of(0), 1], 0),
        call(Op::Stat, &[0, len, 1, 2048, 144], 0),
        call(Op::Chmod, &[0, len, 0o640], 0),
        call(Op::Access, &[0, len, 4], 0),
        call(Op::Open, &[0, len, create, 0o600], no(libc::EEXIST)),
        call(Op::Close, &[result_of(0)], 0),
        call(Op::Close, &[result_of(0)], no(libc::EBADF)),
        call(Op::Unlink, &[0, len, 0], 0),
        call(Op::Stat, &[0, len, 1, 2048, 144], no(libc::ENOENT)),
        exit(0),
    ];
    assert_success(&run_with(&data, steps, false));
    assert!(!path.exists());
}

#[test]
fn the_launchers_own_descriptors_are_out_of_reach() {
    let root = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut steps = Vec::new();
    // Whatever number the launcher keeps things under, the enclave cannot name it.
    let first = enclave_host::private::first() as u64;
    for fd in first..first + 8 {
        steps.push(call(Op::Fstat, &[fd, 0, 144], no(libc::EBADF)));
        steps.push(call(Op::Close, &[fd], no(libc::EBADF)));
        steps.push(call(Op::Write, &[fd, 0, 1], no(libc::EBADF)));
    }
    steps.push(call(Op::Close, &[NONE], no(libc::EBADF)));
    steps.push(exit(0));
    let image = build(dir.path(), in_second_thread(b"/", steps));
    let mut command = launch(&image, false, &[]);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut again = std::process::Command::new(command.get_program());
    again
        .args(&arguments[..2])
        .arg("--root")
        .arg(root.path())
        .arg("--")
        .env("SCONE_MODE", "sim");
    assert_success(&again.output().unwrap());
    assert_success(&command.output().unwrap());
}

#[test]
fn paths_stay_below_the_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("inside"), "x").unwrap();
    std::os::unix::fs::symlink("/inside", root.path().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/passwd", root.path().join("up")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let steps = vec![
        call(Op::Open, &[0, 9, 0, 0], SUCCESS),
        call(Op::Read, &[result_of(0), 1024, 10], 1),
        call(Op::Open, &[16, 3, 0, 0], no(libc::ENOENT)),
        call(Op::Open, &[24, 11, 0, 0], no(libc::ENOENT)),
        exit(0),
    ];
    let data = b"/absolute\0\0\0\0\0\0\0/up\0\0\0\0\0/etc/passwd";
    let image = build(dir.path(), in_second_thread(data, steps));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_launch"));
    command
        .arg("--image")
        .arg(&image)
        .arg("--root")
        .arg(root.path())
        .arg("--")
        .env("SCONE_MODE", "sim");
    assert_success(&command.output().unwrap());
}

#[test]
fn offsets_and_lengths_outside_the_data_part_are_refused() {
    let end = DATA_LEN as u64;
    let fault = no(libc::EFAULT);
    let mut steps = Vec::new();
    for (offset, len) in [
        (0, end + 1),
        (end, 1),
        (end + 8, 0),
        (NONE, 8),
        (8, NONE),
        (1 << 63, 1 << 63),
    ] {
        steps.push(call(Op::Write, &[1, offset, len], fault));
        steps.push(call(Op::Read, &[0, offset, len], fault));
        steps.push(call(Op::Stat, &[offset, len, 1, 0, 144], fault));
        steps.push(call(Op::Stat, &[0, 1, 1, offset, len], fault));
        steps.push(call(Op::Poll, &[offset, len, 0, len, 0], fault));
    }
    steps.push(call(Op::Fstat, &[1, 0, 8], fault));
    steps.push(exit(0));
    assert_success(&run_with(b"/", steps, false));
}

#[test]
fn unknown_calls_and_requests_are_refused() {
    let steps = vec![
        raw(0, &[], no(libc::ENOSYS)),
        raw(10, &[], no(libc::ENOSYS)),
        raw(NONE, &[], no(libc::ENOSYS)),
        raw(0x1_0000_0001, &[], no(libc::ENOSYS)),
        call(Op::Ioctl, &[1, 0x5412, 0, 8, 8, 8], no(libc::ENOTTY)),
        call(Op::ClockGettime, &[77, 0, 16], no(libc::EINVAL)),
        call(Op::Spawn, &[4], no(libc::EINVAL)),
        call(Op::Unpark, &[4], no(libc::EINVAL)),
        call(Op::Kick, &[1, 4], no(libc::EINVAL)),
        call(Op::Kick, &[1, 3], no(libc::ESRCH)),
        call(Op::Trim, &[0, 4096], no(libc::EINVAL)),
        call(Op::Trim, &[0x2000_0000, 4096], no(libc::EFAULT)),
        call(Op::Restrict, &[0x2000_0001, 4096, 1], no(libc::EINVAL)),
        exit(0),
    ];
    assert_success(&run_with(&[], steps, false));
}

#[test]
fn threads_park_wake_and_end() {
    for strict in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let first = Script {
            steps: vec![
                call(Op::Park, &[1_000_000], no(libc::ETIMEDOUT)),
                // A token given early is kept, but only one.
                call(Op::Unpark, &[0], 0),
                call(Op::Unpark, &[0], 0),
                call(Op::Park, &[NONE], 0),
                call(Op::Park, &[1_000_000], no(libc::ETIMEDOUT)),
                call(Op::Spawn, &[1], 0),
                call(Op::Park, &[NONE], 0),
                // The thread is gone: its TCS can be entered again.
                call(Op::Spawn, &[2], 0),
                call(Op::Park, &[NONE], 0),
                exit(0),
            ],
            data: Vec::new(),
        };
        let other = || Script {
            steps: vec![
                call(Op::Park, &[5_000_000], no(libc::ETIMEDOUT)),
                call(Op::Unpark, &[0], 0),
                call(Op::ThreadExit, &[], ANY),
            ],
            data: Vec::new(),
        };
        let image = build(dir.path(), [first, other(), other(), Script::default()]);
        assert_success(&launch(&image, strict, &[]).output().unwrap());
    }
}

#[test]
fn a_kick_interrupts_a_parked_thread_and_a_spinning_one() {
    for strict in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let first = Script {
            steps: vec![
                call(Op::Spawn, &[1], 0),
                call(Op::Park, &[20_000_000], no(libc::ETIMEDOUT)),
                call(Op::Kick, &[10, 1], 0),
                call(Op::Park, &[NONE], 0),
                call(Op::Spawn, &[2], 0),
                call(Op::Park, &[20_000_000], no(libc::ETIMEDOUT)),
                call(Op::Kick, &[10, 2], 0),
                call(Op::Park, &[NONE], 0),
                exit(0),
            ],
            data: Vec::new(),
        };
        let parked = Script {
            steps: vec![
                call(Op::Park, &[NONE], no(libc::EINTR)),
                call(Op::Unpark, &[0], 0),
                call(Op::ThreadExit, &[], ANY),
            ],
            data: Vec::new(),
        };
        let spinning = Script {
            steps: vec![
                spin_until_interrupted(1),
                call(Op::Unpark, &[0], 0),
                call(Op::ThreadExit, &[], ANY),
            ],
            data: Vec::new(),
        };
        let image = build(dir.path(), [first, parked, spinning, Script::default()]);
        assert_success(&launch(&image, strict, &[]).output().unwrap());
    }
}

/// A loop that acknowledges every hint with a byte on standard output and ends
/// when standard input does.
fn acknowledge_hints() -> Vec<support::Step> {
    vec![
        jump_if_hinted(4),
        call(Op::Read, &[0, 0, 8], ANY),
        jump_if_success(result_of(1), 7),
        jump(0),
        call(Op::Write, &[1, 0, 1], ANY),
        jump_if_success(result_of(4), 0),
        jump(4),
        exit(0),
    ]
}

#[test]
fn no_signal_is_lost_before_a_blocking_call() {
    for (strict, rounds) in [(false, 3000), (true, 300)] {
        let dir = tempfile::tempdir().unwrap();
        let first = Script {
            steps: acknowledge_hints(),
            data: Vec::new(),
        };
        let [a, b, c] = [Script::default(), Script::default(), Script::default()];
        let image = build(dir.path(), [first, a, b, c]);
        let mut child = launch(&image, strict, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut answers = child.stdout.take().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut byte = [0];
            while answers.read_exact(&mut byte).is_ok() {
                let _ = sender.send(());
            }
        });
        // Until the enclave runs, the signal would end the launcher.
        wait_for_handler(pid);
        for round in 0..rounds {
            // SAFETY: a signal to our own child.
            unsafe { libc::kill(pid, libc::SIGUSR1) };
            receiver
                .recv_timeout(Duration::from_secs(20))
                .unwrap_or_else(|_| panic!("signal {round} was lost (strict: {strict})"));
        }
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// Waits until a process catches SIGUSR1.
fn wait_for_handler(pid: i32) {
    let start = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:\t"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0);
        if caught & 1 << (libc::SIGUSR1 - 1) != 0 {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "no handler: {status}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn signals_that_interrupt_the_handler_itself_do_not_use_up_its_frames() {
    for (strict, times, every_ns) in [(false, 20_000, 10_000), (true, 3_000, 60_000)] {
        let steps = vec![
            call(Op::SetTimer, &[every_ns, every_ns], 0),
            spin_until_interrupted(times),
            call(Op::SetTimer, &[0, 0], 0),
            exit(0),
        ];
        assert_success(&run_with(&[], steps, strict));
    }
}

#[test]
fn timers_arrive_as_hints() {
    let steps = vec![
        call(Op::SetTimer, &[0, 2_000_000], 0),
        call(Op::Park, &[NONE], no(libc::EINTR)),
        jump_if_hinted(4),
        exit(9),
        exit(0),
    ];
    assert_success(&run_with(&[], steps, false));
}

#[test]
fn a_program_that_died_by_a_signal_dies_by_it() {
    for signal in [libc::SIGTERM, libc::SIGSEGV, libc::SIGKILL] {
        let steps = vec![call(Op::DieBySignal, &[signal as u64], ANY)];
        let output = run_with(&[], steps, false);
        assert_eq!(output.status.signal(), Some(signal));
        assert!(!output.status.core_dumped());
    }
}

#[test]
fn sockets_connect_and_carry_bytes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut address = vec![2, 0];
    address.extend_from_slice(&port.to_be_bytes());
    address.extend_from_slice(&[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    address.extend_from_slice(b"ping");
    let steps = vec![
        call(Op::Socket, &[2, 1, 0], SUCCESS),
        call(Op::Connect, &[result_of(0), 0, 16], 0),
        call(Op::Send, &[result_of(0), 16, 4, 0, 0, 0], 4),
        call(Op::Recv, &[result_of(0), 1024, 4, 2048, 136, 0], 4),
        call(Op::Getpeername, &[result_of(0), 2048, 132], 0),
        call(Op::Getsockopt, &[result_of(0), 1, 4, 2048, 4], 4),
        call(Op::Shutdown, &[result_of(0), 2], 0),
        call(Op::Write, &[1, 1024, 4], 4),
        exit(0),
    ];
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        stream.write_all(b"pong").unwrap();
    });
    let output = run_with(&address, steps, false);
    assert_success(&output);
    assert_eq!(output.stdout, b"pong");
    server.join().unwrap();
}

#[test]
fn waiting_for_readiness_sees_what_is_ready() {
    // pollfd { fd, events: POLLIN, revents }
    let poll = |fd: u64| (fd | 1 << 32).to_le_bytes();
    let data = [poll(0), poll(0)].concat();
    let steps = vec![
        call(Op::Eventfd, &[0, 0], SUCCESS),
        call(Op::EpollCreate, &[0], SUCCESS),
        call(Op::EpollCtl, &[result_of(1), 1, result_of(0), 1, 77], 0),
        call(Op::EpollWait, &[result_of(1), 1024, 120, 1_000_000], 0),
        call(Op::Write, &[result_of(0), 8, 8], 8),
        call(Op::EpollWait, &[result_of(1), 1024, 120, NONE], 1),
        call(Op::Write, &[1, 1024, 12], 12),
        // Standard input is /dev/null: always readable.
        call(Op::Poll, &[0, 8, 0, 8, NONE], 1),
        call(Op::Poll, &[0, 8, 0, 16, NONE], no(libc::EINVAL)),
        exit(0),
    ];
    let dir = tempfile::tempdir().unwrap();
    let image = build(dir.path(), in_second_thread(&data, steps));
    let output = launch(&image, false, &[])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_success(&output);
    assert_eq!(output.stdout[4..], 77u64.to_le_bytes());
}

#[test]
fn the_hash_is_printed_without_running_anything() {
    let dir = tempfile::tempdir().unwrap();
    let image = build(dir.path(), in_second_thread(&[], vec![exit(9)]));
    let output = launch(&image, false, &[])
        .env("SCONE_HASH", "1")
        .env("SCONE_MODE", "hw")
        .output()
        .unwrap();
    assert_success(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim_end().len(), 64);
    assert!(text.ends_with('\n') && output.stderr.is_empty());
    let version = launch(&image, false, &[])
        .env("SCONE_VERSION", "1")
        .output()
        .unwrap();
    assert_eq!(version.status.code(), Some(9));
    let shown = String::from_utf8(version.stderr).unwrap();
    assert!(shown.contains("SCONE_MODE=sim\n"), "{shown}");
    assert!(shown.contains(&format!("Enclave hash: {text}")), "{shown}");
}

#[test]
fn hardware_mode_without_a_device_refuses_and_names_what_it_tried() {
    if Path::new("/dev/sgx_enclave").exists() {
        eprintln!("skipped: this machine has an SGX device");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = build(dir.path(), in_second_thread(&[], vec![exit(9)]));
    let output = launch(&image, false, &[])
        .env("SCONE_MODE", "hw")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(
        shown.contains("no SGX device found: tried /dev/sgx_enclave, "),
        "{shown}"
    );
}

#[test]
fn another_image_than_the_signed_one_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let image = build(dir.path(), in_second_thread(&[], vec![exit(9)]));
    let mut bytes = std::fs::read(&image).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let output = launch(&image, false, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(shown.contains("INVALID_MEASUREMENT"), "{shown}");
}

#[test]
fn variables_that_contradict_measured_values_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let image = build(dir.path(), in_second_thread(&[], vec![exit(9)]));
    let output = launch(&image, false, &[])
        .env("SCONE_HEAP", "1G")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(
        shown.contains("1073741824") && shown.contains("67108864"),
        "{shown}"
    );
}
