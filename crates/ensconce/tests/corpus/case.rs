// SPDX-License-Identifier: Apache-2.0
//! One program of the corpus: how it is made, run and compared.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A program that runs longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// How the CPU is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Fast,
    Strict,
}

/// Where the program comes from.
#[derive(Clone, Debug)]
enum Source {
    C {
        name: &'static str,
        compiler: &'static str,
        link: &'static str,
    },
    Installed(&'static str),
    Python(&'static str),
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    source: Source,
    arguments: Vec<String>,
    file: Option<&'static str>,
    input: usize,
}

impl Case {
    fn new(source: Source) -> Self {
        Self {
            source,
            arguments: Vec::new(),
            file: None,
            input: 0,
        }
    }

    /// `programs/NAME.c`, compiled.
    pub(crate) fn c(name: &'static str, compiler: &'static str, link: &'static str) -> Self {
        Self::new(Source::C {
            name,
            compiler,
            link,
        })
    }

    /// A program of this machine.
    pub(crate) fn installed(path: &'static str) -> Self {
        Self::new(Source::Installed(path))
    }

    /// `scripts/NAME.py` with the distribution's Python.
    pub(crate) fn python(name: &'static str) -> Self {
        Self::new(Source::Python(name))
    }

    /// Arguments.
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        self
    }

    /// A last argument: this name in a fresh directory.
    pub(crate) fn file(mut self, name: &'static str) -> Self {
        self.file = Some(name);
        self
    }

    /// Bytes of standard input.
    pub(crate) fn input(mut self, len: usize) -> Self {
        self.input = len;
        self
    }

    /// Program and arguments, the file in `scratch`.
    fn command_line(&self, scratch: &Path) -> (PathBuf, Vec<String>) {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut arguments = self.arguments.clone();
        let program = match &self.source {
            Source::C {
                name,
                compiler,
                link,
            } => compile(&tests.join("programs"), name, compiler, link),
            Source::Installed(path) => PathBuf::from(path),
            Source::Python(name) => {
                let script = tests.join("scripts").join(format!("{name}.py"));
                arguments.insert(0, script.display().to_string());
                PathBuf::from("/usr/bin/python3")
            }
        };
        if let Some(file) = self.file {
            arguments.push(scratch.join(file).display().to_string());
        }
        (program, arguments)
    }

    fn standard_input(&self) -> Vec<u8> {
        // Lines of varying length, so that sorting them means something.
        (0..self.input)
            .map(|at| match at * 31 % 101 {
                0 => b'\n',
                rest => b'a' + u8::try_from((rest + at / 977) % 26).unwrap(),
            })
            .collect()
    }
}

/// How long the torture test runs, in seconds.
pub(crate) fn torture_seconds() -> String {
    std::env::var("ENSCONCE_TORTURE_SECONDS").unwrap_or_else(|_| "2".to_owned())
}

/// Compiles below the target directory, unless that was done before.
fn compile(programs: &Path, name: &str, compiler: &str, link: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus");
    std::fs::create_dir_all(&directory).unwrap();
    let out = directory.join(format!("{name}-{compiler}{link}"));
    let source = programs.join(format!("{name}.c"));
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let newest = changed(&source)
        .unwrap()
        .max(changed(&programs.join("check.h")).unwrap());
    if changed(&out).is_ok_and(|made| made > newest) {
        return out;
    }
    let status = Command::new(compiler)
        .args(["-O1", "-Wall", "-Wextra", "-pthread", link, "-o"])
        .args([&out, &source])
        .arg("-lm")
        .status()
        .unwrap_or_else(|error| panic!("{compiler} is installed: {error}"));
    assert!(status.success(), "{compiler} {name}");
    out
}

/// The built `ensconce`; `None`, said aloud, where nothing has been built.
fn ensconce() -> Option<PathBuf> {
    let Some(dist) = std::env::var_os("ENSCONCE_DIST") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENSCONCE_DIST must be set in CI"
        );
        eprintln!("skipped: ENSCONCE_DIST is not set");
        return None;
    };
    Some(Path::new(&dist).join("bin/ensconce"))
}

/// Runs to the end, or fails after [`TIME_LIMIT`] with what was said so far.
fn run(command: &mut Command, input: &[u8], scratch: &Path) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut child = command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", scratch)
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CORPUS", "yes")
        .env("XDG_CACHE_HOME", &cache)
        .current_dir(scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that reads nothing closes the pipe early; that is its right.
    std::thread::spawn(move || stdin.write_all(&input));
    let collect = |mut stream: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).map(|_| bytes).unwrap()
        })
    };
    let stdout = collect(Box::new(child.stdout.take().unwrap()));
    let stderr = collect(Box::new(child.stderr.take().unwrap()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > TIME_LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let Some(status) = status else {
        panic!(
            "{command:?} hangs; it said\n{}\n{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    };
    Output {
        status,
        stdout,
        stderr,
    }
}

/// The exit code, as shells count signals.
fn code(output: &Output) -> i32 {
    let status = output.status;
    status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap()
}

fn in_enclave(ensconce: &Path, mode: Mode, program: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(ensconce);
    command.args(["enclave", "run", "--mode", "sim"]);
    if mode == Mode::Strict {
        command.arg("--strict");
    }
    command.arg(program).args(arguments);
    command
}

/// Runs natively and in an enclave; output and end must be equal.
pub(crate) fn compare(case: &Case, mode: Mode) {
    let Some(ensconce) = ensconce() else { return };
    let input = case.standard_input();
    let scratch = tempfile::tempdir().unwrap();
    let (program, arguments) = case.command_line(scratch.path());
    let native = run(
        Command::new(&program).args(&arguments),
        &input,
        scratch.path(),
    );
    let mut command = in_enclave(&ensconce, mode, &program, &arguments);
    let enclave = run(&mut command, &input, scratch.path());
    let said = String::from_utf8_lossy(&enclave.stderr);
    assert_eq!(
        code(&enclave),
        code(&native),
        "exit code; it said\n{}{said}",
        String::from_utf8_lossy(&enclave.stdout),
    );
    assert!(
        enclave.stdout == native.stdout,
        "output differs; native:\n{}\nenclave:\n{}\n{said}",
        String::from_utf8_lossy(&native.stdout),
        String::from_utf8_lossy(&enclave.stdout),
    );
}

/// Runs a script that tries to make processes in every way.
pub(crate) fn refuses_children(case: &Case, mode: Mode) {
    let Some(ensconce) = ensconce() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (program, arguments) = case.command_line(scratch.path());
    let mut command = in_enclave(&ensconce, mode, &program, &arguments);
    let output = run(&mut command, b"", scratch.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 0, "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let refused = lines.lines().filter(|line| line.starts_with("refused"));
    assert_eq!(refused.count(), 3, "{lines}{said}");
    assert!(lines.ends_with("still here\n"), "{lines}{said}");
}
