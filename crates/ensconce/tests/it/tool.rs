// SPDX-License-Identifier: Apache-2.0
//! Runs `ensconce` with parts for images beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

#[path = "../../../enclave-image/tests/made/kernel.rs"]
mod made_kernel;

/// A private directory with home, parts and images.
pub(crate) struct Desk {
    dir: TempDir,
}

impl Desk {
    /// Kernel made by hand, because conversion measures it and never runs it;
    /// agent and launcher are small static programs.
    pub(crate) fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().expect("temporary directory"),
        };
        let libexec = desk.path("libexec");
        fs::create_dir(&libexec).expect("mkdir");
        fs::write(
            libexec.join("kernel.elf"),
            made_kernel::Kernel::default().elf(),
        )
        .expect("kernel");
        let main = "int main(void) { return 0; }";
        compile(&["-static-pie"], main, &libexec.join("agent"));
        compile(&["-static"], main, &libexec.join("launch"));
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("file")
    }

    /// `ensconce` in this directory and without the caller's environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ensconce"));
        command.env_clear();
        self.surround(&mut command);
        command
    }

    /// Runs a command in this directory with its home and parts.
    pub(crate) fn surround<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .current_dir(self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("ENSCONCE_LIBEXEC", self.path("libexec"))
    }

    /// Converts `oci:native:app` to `oci:result:app` with these options.
    pub(crate) fn convert(&self, options: &[&str]) -> Finished {
        let mut command = self.command();
        command
            .args(["convert", "--from=oci:native:app", "--to=oci:result:app"])
            .args(options);
        Finished::of(&mut command)
    }

    /// As [`Self::convert`], for a small native program and without CAS.
    pub(crate) fn convert_hello(&self, options: &[&str]) -> Finished {
        let mut all = vec!["--binary=/usr/bin/hello", "--disable-session-upload"];
        all.extend_from_slice(options);
        self.convert(&all)
    }
}

/// What a program did.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("program runs");
        Self {
            code: status.code(),
            stdout: String::from_utf8(stdout).expect("text"),
            stderr: String::from_utf8(stderr).expect("text"),
        }
    }

    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Failed with this code and a message that holds all these words.
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(
            self.stdout, "",
            "nothing but results goes to standard output"
        );
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no {word:?} in: {}",
                self.stderr
            );
        }
        self
    }
}

/// Compiles C into a program.
pub(crate) fn compile(flags: &[&str], source: &str, to: &Path) {
    let from = to.with_extension("c");
    fs::write(&from, source).expect("source");
    let status = Command::new("gcc")
        .args(flags)
        .arg("-o")
        .arg(to)
        .arg(&from)
        .status()
        .expect("gcc is installed");
    assert!(status.success(), "gcc {flags:?}");
    fs::remove_file(from).expect("remove");
}
