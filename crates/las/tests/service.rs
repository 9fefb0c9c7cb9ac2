// SPDX-License-Identifier: Apache-2.0
//! The real binary over its real sockets.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use attest::las::{Address, Client, LasError};
use attest::time::UnixTime;
use enclave_abi::las::{Answer, Base64, Kind, Request};
use las::platform::Platform;

struct Running {
    child: Child,
    socket: PathBuf,
    tcp: Option<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ensconce-las"))
}

fn platform(dir: &Path) -> PathBuf {
    let path = dir.join("platform");
    Platform::init(&path, UnixTime::from_system()).expect("a new platform");
    path
}

fn start(dir: &Path, extra: &[&str]) -> Running {
    let socket = dir.join("run/las.sock");
    let ready = dir.join("ready");
    let child = binary()
        .arg("--emulated")
        .arg("--platform")
        .arg(platform(dir))
        .arg("--socket")
        .arg(&socket)
        .arg("--ready-file")
        .arg(&ready)
        .args(extra)
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready.exists() {
        assert!(Instant::now() < deadline, "the service does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let tcp = fs::read_to_string(&ready)
        .expect("ready file")
        .lines()
        .nth(1)
        .map(str::to_owned);
    Running { child, socket, tcp }
}

fn refused(extra: &[&str], dir: &Path) -> String {
    let output = binary()
        .args(extra)
        .current_dir(dir)
        .output()
        .expect("runs");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn it_answers_on_unix_and_tcp_and_keeps_the_cpu_to_unix() {
    let dir = tempfile::tempdir().expect("directory");
    let las = start(dir.path(), &["--tcp", "127.0.0.1:0"]);
    let mode = fs::metadata(&las.socket)
        .expect("socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o660);

    let unix = Address::Unix(las.socket.clone());
    let tcp = Address::parse(las.tcp.as_deref().expect("TCP address")).expect("an address");
    let cpu = Request::Ereport {
        targetinfo: Base64(vec![0; 512]),
        reportdata: Base64(vec![0; 64]),
        secs: enclave_abi::las::SecsIdentity {
            attributes: Base64(vec![0; 16]),
            miscselect: 0,
            mrenclave: Base64(vec![0; 32]),
            mrsigner: Base64(vec![0; 32]),
            config_id: Base64(vec![0; 64]),
            isv_prod_id: 0,
            isv_svn: 0,
            config_svn: 0,
            isv_ext_prod_id: Base64(vec![0; 16]),
            isv_family_id: Base64(vec![0; 16]),
        },
    };
    for address in [&unix, &tcp] {
        let mut client = Client::connect(address).expect("connects");
        let info = client.ask(&Request::Info {}).expect("info");
        assert!(matches!(
            info,
            Answer::Info {
                kind: Kind::Emulated,
                ..
            }
        ));
        let health = client.ask(&Request::Health {}).expect("health");
        assert_eq!(health, Answer::Health { ready: true });
        let answer = client.ask(&cpu);
        match address {
            Address::Unix(_) => assert!(matches!(answer, Ok(Answer::Ereport { .. }))),
            Address::Tcp(_) => assert!(matches!(answer, Err(LasError::Refused { .. }))),
        }
    }
}

#[test]
fn malformed_and_oversized_frames_end_the_connection_and_nothing_else() {
    let dir = tempfile::tempdir().expect("directory");
    let las = start(dir.path(), &[]);
    for frame in [
        &[0xff; 8][..],
        &[0, 0, 0, 0],
        &[2, 0, 0, 0, b'{', b'}'],
        &[1, 0, 1, 0, b'{'],
    ] {
        let mut stream = UnixStream::connect(&las.socket).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(8)))
            .expect("timeout");
        stream.write_all(frame).expect("sent");
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .expect("an answer and the end");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(r#""answer":"error""#), "{text}");
    }
    let mut client = Client::connect(&Address::Unix(las.socket.clone())).expect("connects");
    assert!(client.ask(&Request::Health {}).is_ok());
}

#[test]
fn a_dripping_request_is_cut_off() {
    let dir = tempfile::tempdir().expect("directory");
    let las = start(dir.path(), &[]);
    let mut stream = UnixStream::connect(&las.socket).expect("connects");
    let begin = Instant::now();
    // One byte a second never completes the prefix and payload in time.
    let mut sent = 0;
    for byte in [200, 0, 0, 0].into_iter().chain([b'x'; 20]) {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(700));
    }
    assert!(sent < 24, "the service waited {:?}", begin.elapsed());
}

#[test]
fn the_log_names_the_peer_and_says_that_it_is_emulated() {
    let dir = tempfile::tempdir().expect("directory");
    let mut las = start(dir.path(), &[]);
    let mut client = Client::connect(&Address::Unix(las.socket.clone())).expect("connects");
    client.ask(&Request::Health {}).expect("health");
    drop(client);
    las.child.kill().expect("killed");
    let stderr = las.child.stderr.take().expect("piped");
    let log: Vec<String> = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .collect();
    let log = log.join("\n");
    assert!(log.contains("EMULATED platform"), "{log}");
    assert!(log.contains(&std::process::id().to_string()), "{log}");
    let fuses = fs::read(dir.path().join("platform/fuse.key")).expect("fuses");
    assert!(!log.contains(&hex::encode(fuses)), "{log}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().expect("directory");
    let las = start(dir.path(), &[]);
    let socket = las.socket.to_str().expect("UTF-8").to_owned();
    let platform = dir.path().join("platform");
    let platform = platform.to_str().expect("UTF-8");
    let arguments = ["--emulated", "--platform", platform, "--socket", &socket];
    let message = refused(&arguments, dir.path());
    assert!(message.contains("another service answers"), "{message}");
    drop(las);
    assert!(
        Path::new(&socket).exists(),
        "a killed service leaves its socket"
    );
    let other = tempfile::tempdir().expect("directory");
    let _second = start(other.path(), &[]);
    let mut third = binary()
        .args(arguments)
        .args([
            "--ready-file",
            other.path().join("third").to_str().expect("UTF-8"),
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !other.path().join("third").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let answer =
        Client::connect(&Address::Unix(socket.into())).map(|mut c| c.ask(&Request::Health {}));
    third.kill().expect("killed");
    third.wait().expect("waited");
    assert!(matches!(answer, Ok(Ok(Answer::Health { ready: true }))));
}

#[test]
fn refusals_say_what_to_do() {
    let dir = tempfile::tempdir().expect("directory");
    let message = refused(&[], dir.path());
    assert!(
        message.contains("not supported yet") && message.contains("--emulated"),
        "{message}"
    );
    let message = refused(&["--emulated", "--platform", "absent"], dir.path());
    assert!(message.contains("ensconce platform init"), "{message}");
    platform(dir.path());
    let base = [
        "--emulated",
        "--platform",
        "platform",
        "--socket",
        "las.sock",
    ];
    let with = |extra: &[&'static str]| [base.as_slice(), extra].concat();
    let message = refused(&with(&["--tcp", "0.0.0.0:0"]), dir.path());
    assert!(message.contains("--insecure-public"), "{message}");
    let message = refused(&with(&["--mode", "0777"]), dir.path());
    assert!(message.contains("socket mode 777"), "{message}");
    fs::write(dir.path().join("las.sock"), "").expect("file");
    let message = refused(&with(&[]), dir.path());
    assert!(message.contains("is no socket"), "{message}");
}
