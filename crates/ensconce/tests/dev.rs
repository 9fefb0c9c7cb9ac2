// SPDX-License-Identifier: Apache-2.0
//! `ensconce dev` with real services in private directories.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The directory with all three programs: what `make build` left, or what a
/// plain cargo build of the three packages left.
fn programs() -> Option<PathBuf> {
    let bin = match std::env::var_os("ENSCONCE_DIST") {
        Some(dist) => Path::new(&dist).join("bin"),
        None => Path::new(env!("CARGO_BIN_EXE_ensconce")).parent()?.into(),
    };
    if bin.join("ensconce-las").exists() && bin.join("ensconce-cas").exists() {
        return Some(bin);
    }
    let problem = "no ensconce-las and ensconce-cas, run `make build` and set ENSCONCE_DIST";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{problem}");
    eprintln!("skipped: {problem}");
    None
}

/// A place of one's own; whatever runs in it is stopped at the end.
struct Desk {
    program: PathBuf,
    dir: TempDir,
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.dir.path().join("state").exists() {
            let _ = self.dev(&["down"]);
        }
    }
}

impl Desk {
    fn new() -> Option<Self> {
        Some(Self {
            program: programs()?.join("ensconce"),
            dir: tempfile::tempdir().expect("directory"),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("state").join(name)
    }

    /// `ensconce dev …` on this desk.
    fn dev(&self, arguments: &[&str]) -> Said {
        let (verb, options) = arguments.split_first().expect("a verb");
        let output = Command::new(&self.program)
            .args(["dev", verb, "--dir"])
            .arg(self.path(""))
            .args(options)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("ENSCONCE_LOG", "trace")
            .stdin(Stdio::null())
            .output()
            .expect("ensconce starts");
        Said::of(output)
    }

    fn up(&self, options: &[&str]) -> Said {
        let free = ["up", "--api-port=0", "--attested-port=0"];
        self.dev(&[&free[..], options].concat())
    }

    fn record(&self, service: &str) -> Value {
        let bytes = fs::read(self.path(&format!("{service}.pid"))).expect("record");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn pid(&self, service: &str) -> u64 {
        self.record(service)["pid"].as_u64().expect("number")
    }

    /// What differs from run to run, by names.
    fn normalised(&self, text: &str) -> String {
        let dir = self.path("").display().to_string();
        let dir = dir.trim_end_matches('/');
        let mut text = text.replace(dir, "[DIR]");
        // Users other than root are told to run containers as themselves.
        let (notice, user) = (
            "only root reaches the socket; for a container that runs as user 1000: ensconce dev up \
             --dir=[DIR] --allow-user 1000",
            rustix::process::geteuid().as_raw(),
        );
        text = text.replace(
            &format!(
                "only this user reaches the socket; let containers run as the same one: docker run \
                 --user={user}"
            ),
            notice,
        );
        for (variable, value) in self.variables() {
            text = text.replace(&value, variable);
        }
        // The widths of columns follow the values.
        let lines = text.lines().map(|line| {
            let is_table = ["SERVICE", "las ", "cas ", "platform  p", "platform  a"]
                .iter()
                .any(|start| line.starts_with(start));
            if is_table {
                line.split_whitespace().collect::<Vec<_>>().join(" ")
            } else {
                line.to_owned()
            }
        });
        lines.map(|line| line + "\n").collect()
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Ok(bytes) = fs::read(self.path("platform/platform.json")) {
            let info: Value = serde_json::from_slice(&bytes).expect("JSON");
            found.push(("[ANCHOR]", text(&info["anchor"])));
        }
        if let Ok(bytes) = fs::read(self.path("cas.ready")) {
            let ready: Value = serde_json::from_slice(&bytes).expect("JSON");
            found.push(("[KEY]", text(&ready["cas_key"])));
            let ports = ["api", "attested"].map(|name| {
                let address = text(&ready[name]);
                address.rsplit(':').next().expect("port").to_owned()
            });
            found.push(("[PORTS]", ports.join(":")));
        }
        for (variable, service) in [("[LAS]", "las"), ("[CAS]", "cas")] {
            if self.path(&format!("{service}.pid")).exists() {
                found.push((variable, self.pid(service).to_string()));
            }
        }
        found
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// What a command left behind.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }
}

/// Compares with a file of `tests/golden`; `UPDATE_GOLDEN=1` rewrites it.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("golden file");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "differs from {}", path.display());
}

/// Whether a process does anything; nobody may have collected it yet.
fn runs(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn up_status_and_down_say_what_is_and_what_to_do_next() {
    let Some(desk) = Desk::new() else { return };
    let none = desk.dev(&["status"]);
    assert_eq!(none.code, Some(3), "{}", none.err);
    assert_golden("dev-status-none.txt", &desk.normalised(&none.out));

    let up = desk.up(&[]).succeeded();
    assert_golden(
        "dev-up.txt",
        &desk.normalised(&format!("{}{}", up.out, up.err)),
    );
    let status = desk.dev(&["status"]).succeeded();
    assert_golden("dev-status.txt", &desk.normalised(&status.out));

    let (las, cas) = (desk.pid("las"), desk.pid("cas"));
    let again = desk.dev(&["up"]).succeeded();
    assert_eq!((desk.pid("las"), desk.pid("cas")), (las, cas));
    assert_eq!(again.out, up.out);

    let variables = desk.variables();
    let down = desk.dev(&["down"]).succeeded();
    assert_golden("dev-down.txt", &desk.normalised(&down.out));
    assert!(!runs(las) && !runs(cas));
    for gone in ["las.pid", "cas.pid", "cas.ready", "run/las.sock"] {
        assert!(!desk.path(gone).exists(), "{gone} is left behind");
    }

    // Keys and sessions are still there.
    desk.up(&[]).succeeded();
    let kept = |name| {
        let find = |all: &[(&str, String)]| {
            let found = all.iter().find(|(variable, _)| *variable == name);
            found.expect("variable").1.clone()
        };
        (find(&variables), find(&desk.variables()))
    };
    for name in ["[ANCHOR]", "[KEY]"] {
        let (before, after) = kept(name);
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn services_have_sessions_of_their_own_and_private_files() {
    let Some(desk) = Desk::new() else { return };
    desk.up(&[]).succeeded();
    for service in ["las", "cas"] {
        let pid = desk.pid(service);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, behind) = stat.rsplit_once(')').expect("name");
        let session = behind.split_whitespace().nth(3).expect("session");
        assert_eq!(session, pid.to_string(), "{service}");
        for file in ["log", "pid"] {
            let path = desk.path(&format!("{service}.{file}"));
            let mode = fs::metadata(&path).expect("file").mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }
    let mode = |name| fs::metadata(desk.path(name)).expect("it exists").mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("run"), 0o755);
    assert_eq!(mode("run/las.sock"), 0o660);
}

#[test]
fn what_died_is_noticed_and_started_again() {
    let Some(desk) = Desk::new() else { return };
    desk.up(&[]).succeeded();
    let (las, cas) = (desk.pid("las"), desk.pid("cas"));
    let killed = Command::new("kill")
        .args(["-9", &las.to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    while runs(las) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let status = desk.dev(&["status"]);
    assert_eq!(status.code, Some(1), "{}", status.out);
    assert!(status.out.contains("died"), "{}", status.out);

    desk.dev(&["up"]).succeeded();
    assert_ne!(desk.pid("las"), las);
    assert_eq!(desk.pid("cas"), cas);
    desk.dev(&["status"]).succeeded();
}

#[test]
fn a_process_that_got_the_number_of_a_service_is_left_alone() {
    let Some(desk) = Desk::new() else { return };
    desk.up(&[]).succeeded();
    let mut record = desk.record("las");
    desk.dev(&["down"]).succeeded();
    let mut innocent = Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep starts");
    record["pid"] = innocent.id().into();
    fs::write(desk.path("las.pid"), record.to_string()).expect("record");

    let status = desk.dev(&["status"]);
    assert!(status.out.contains("died"), "{}", status.out);
    let down = desk.dev(&["down"]).succeeded();
    assert!(down.out.contains("had ended already"), "{}", down.out);
    assert_eq!(innocent.try_wait().expect("child"), None, "it was killed");
    innocent.kill().expect("kill");
    innocent.wait().expect("wait");
}

#[test]
fn a_port_in_use_is_named_with_the_log() {
    let Some(desk) = Desk::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = listener.local_addr().expect("address").port().to_string();
    let up = desk.dev(&["up", "--attested-port=0", "--api-port", &port]);
    assert_eq!(up.code, Some(1), "{}", up.err);
    assert!(
        up.err
            .contains(&format!("Cannot listen on 127.0.0.1:{port}")),
        "{}",
        up.err
    );
    assert!(!desk.path("cas.pid").exists());
    assert_eq!(desk.dev(&["status"]).code, Some(1));
    drop(listener);
    desk.dev(&["up", "--attested-port=0", "--api-port", &port])
        .succeeded();
}

#[test]
fn moving_a_running_service_is_refused() {
    let Some(desk) = Desk::new() else { return };
    desk.up(&[]).succeeded();
    let other = desk.path("other.sock").display().to_string();
    for moved in [
        ["--las-socket", other.as_str()],
        ["--api-port", "1"],
        ["--attested-port", "1"],
        ["--listen", "0.0.0.0"],
    ] {
        let refused = desk.dev(&[&["up"][..], &moved].concat());
        assert_eq!(refused.code, Some(2), "{moved:?}: {}", refused.err);
        assert!(refused.err.contains("dev down"), "{}", refused.err);
    }
}

#[test]
fn letting_others_in_is_loud_each_time() {
    let Some(desk) = Desk::new() else { return };
    let refused = desk.up(&["--socket-mode=0777"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);

    let up = desk.up(&["--socket-mode=0666"]).succeeded();
    assert!(up.err.contains("INSECURE: the socket has mode 0666"));
    let again = desk.dev(&["up"]).succeeded();
    assert!(again.err.contains("INSECURE: the socket has mode 0666"));
    let closed = desk.dev(&["up", "--socket-mode=0660"]).succeeded();
    assert!(!closed.err.contains("INSECURE"), "{}", closed.err);

    let given = desk.dev(&["up", "--allow-user=12345"]);
    let socket = desk.path("run/las.sock");
    if rustix::process::geteuid().is_root() {
        let given = given.succeeded();
        assert!(given.err.contains("INSECURE: user 12345"), "{}", given.err);
        assert_eq!(fs::metadata(&socket).expect("socket").uid(), 12345);
        let again = desk.dev(&["up"]).succeeded();
        assert!(again.err.contains("INSECURE: user 12345"), "{}", again.err);
    } else {
        assert_eq!(given.code, Some(2), "{}", given.err);
        assert!(given.err.contains("Only root"), "{}", given.err);
    }
    let mode = fs::metadata(&socket).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn purging_removes_what_up_made_and_nothing_else() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("")).expect("directory");
    fs::set_permissions(desk.path(""), fs::Permissions::from_mode(0o700)).expect("mode");
    fs::write(desk.path("mine"), "precious").expect("file");
    desk.up(&[]).succeeded();
    desk.dev(&["down", "--purge"]).succeeded();
    let left: Vec<_> = fs::read_dir(desk.path(""))
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(left, ["mine"]);

    fs::remove_file(desk.path("mine")).expect("remove");
    desk.up(&[]).succeeded();
    desk.dev(&["down", "--purge"]).succeeded();
    assert!(!desk.path("").exists());
}

#[test]
fn nothing_secret_is_in_logs_at_the_highest_level() {
    let Some(desk) = Desk::new() else { return };
    let up = desk.up(&[]).succeeded();
    let fuse = fs::read(desk.path("platform/fuse.key")).expect("key");
    let sealing = fs::read(desk.path("cas/dev-sealing.key")).expect("key");
    let mut said = up.out + &up.err;
    for log in ["las.log", "cas.log"] {
        let mut file = fs::File::open(desk.path(log)).expect("log");
        file.read_to_string(&mut said).expect("UTF-8");
    }
    for key in [fuse, sealing] {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!said.to_lowercase().contains(&hex));
    }
    assert!(!said.contains("PRIVATE KEY"));
}
