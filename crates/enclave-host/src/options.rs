// SPDX-License-Identifier: Apache-2.0
//! Arguments and `SCONE_*` variables of the launcher.
//!
//! `launch [--image PATH] [--sig PATH] [--root DIR | --root-fd N] [--mode MODE] [--strict] -- ARGS…`
//!
//! In a container every argument is for the program. There are options only if
//! the launcher does not lie at the program's own path and the first argument
//! is `--image` or `--root-fd`, which this project's own commands give; they end
//! at `--`. The program's name is the launcher's own zeroth argument, so that
//! whoever starts it can choose.

use std::ffi::OsString;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use enclave_abi::start::LogLevel;

use crate::root::Root;

/// Options with which a command line for the launcher starts.
const FIRST_OPTIONS: [&str; 2] = ["--image", "--root-fd"];

/// Which processor runs the enclave: `SCONE_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An SGX device, or nothing.
    Hardware,
    /// The emulated processor.
    Emulated,
    /// A device if there is one, else the emulated processor.
    Auto,
}

impl Mode {
    /// Parses `hw`, `sim` or `auto`, in any case.
    ///
    /// # Errors
    /// Any other word.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "hw" => Self::Hardware,
            "sim" => Self::Emulated,
            "auto" => Self::Auto,
            _ => bail!("the mode (SCONE_MODE) is '{text}'; it can be hw, sim or auto"),
        })
    }

    /// The word of `SCONE_MODE`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hardware => "hw",
            Self::Emulated => "sim",
            Self::Auto => "auto",
        }
    }
}

/// Everything that was asked of the launcher.
#[derive(Debug)]
pub struct Options {
    /// `enclave.img` on the host; `None`: the one below the root.
    pub image: Option<PathBuf>,
    /// Its SIGSTRUCT; `None`: the image's path with `.sig`.
    pub sig: Option<PathBuf>,
    /// Where the enclave's paths start.
    pub root: Root,
    /// Emulate every ENCLU by a fault and enforce page permissions.
    pub is_strict: bool,
    /// Which processor.
    pub mode: Mode,
    /// Print the measurement and end.
    pub wants_hash: bool,
    /// Print the configuration at start.
    pub wants_version: bool,
    /// How much to log.
    pub log: LogLevel,
    /// The program's arguments, its name first.
    pub arguments: Vec<Vec<u8>>,
    /// The host's variables, `SCONE_*` apart.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// `SCONE_*` variables.
    pub settings: Settings,
}

/// `SCONE_*` variables, found by name.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// The variables given.
    #[must_use]
    pub fn new(variables: Vec<(String, String)>) -> Self {
        Self(variables)
    }

    /// The value of a variable that is set and not empty.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

impl Options {
    /// Reads the process's arguments and environment.
    ///
    /// # Errors
    /// An unknown option, or a value that cannot be.
    pub fn of_process() -> Result<Self> {
        // The file's name, not the zeroth argument: that one is the program's.
        let is_launcher = std::env::current_exe()
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "launch"));
        Self::parse(
            is_launcher,
            std::env::args_os().collect(),
            std::env::vars_os().collect(),
        )
    }

    /// Reads arguments and environment. `is_launcher`: whether there may be
    /// options, that is, whether the launcher does not stand in for a program.
    ///
    /// # Errors
    /// As [`Self::of_process`].
    pub fn parse(
        is_launcher: bool,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Self> {
        let mut settings = Vec::new();
        let mut others = Vec::new();
        for (name, value) in environment {
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) if name.starts_with("SCONE_") => {
                    settings.push((name.to_owned(), value.to_owned()));
                }
                _ => others.push((name.into_vec(), value.into_vec())),
            }
        }
        let settings = Settings(settings);
        let mut options = Self {
            image: None,
            sig: None,
            root: Root::own(),
            is_strict: false,
            mode: Mode::parse(settings.value("SCONE_MODE").unwrap_or("hw"))?,
            wants_hash: settings
                .value("SCONE_HASH")
                .is_some_and(|value| value != "0"),
            wants_version: settings
                .value("SCONE_VERSION")
                .is_some_and(|value| value != "0"),
            log: log_level(settings.value("SCONE_LOG").unwrap_or("error"))?,
            arguments: Vec::new(),
            environment: others,
            settings,
        };
        options.read_arguments(is_launcher, arguments)?;
        Ok(options)
    }

    fn read_arguments(&mut self, is_launcher: bool, arguments: Vec<OsString>) -> Result<()> {
        let mut arguments = arguments.into_iter();
        let own = arguments.next().unwrap_or_default();
        let rest: Vec<OsString> = arguments.collect();
        let end = rest.iter().position(|argument| argument == "--");
        // An entrypoint's arguments may hold `--` as well.
        let has_options = is_launcher
            && rest
                .first()
                .is_some_and(|first| FIRST_OPTIONS.iter().any(|option| first == option));
        let Some(end) = end.filter(|_| has_options) else {
            self.arguments = std::iter::once(own)
                .chain(rest)
                .map(OsString::into_vec)
                .collect();
            return Ok(());
        };
        let (options, program) = rest.split_at(end);
        let program = program.iter().skip(1).cloned();
        self.arguments = std::iter::once(own)
            .chain(program)
            .map(OsString::into_vec)
            .collect();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut value = || {
                options
                    .next()
                    .with_context(|| format!("{} needs a value", option.display()))
            };
            match option.to_str() {
                Some("--image") => self.image = Some(value()?.into()),
                Some("--sig") => self.sig = Some(value()?.into()),
                Some("--root") => self.root = open_root(Path::new(value()?))?,
                Some("--root-fd") => self.root = adopt_root(value()?.to_str().unwrap_or_default())?,
                Some("--mode") => self.mode = Mode::parse(value()?.to_str().unwrap_or_default())?,
                Some("--strict") => self.is_strict = true,
                _ => bail!(
                    "unknown option {}; there are --image, --sig, --root, --root-fd, --mode and --strict, \
                     and the program's arguments follow after --",
                    option.display()
                ),
            }
        }
        Ok(())
    }
}

fn open_root(dir: &Path) -> Result<Root> {
    if dir == Path::new("/") {
        return Ok(Root::own());
    }
    let fd = rustix::fs::open(
        dir,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .with_context(|| format!("while opening the root directory {}", dir.display()))?;
    Ok(Root::below(fd))
}

fn adopt_root(text: &str) -> Result<Root> {
    let fd: RawFd = text
        .parse()
        .with_context(|| format!("--root-fd is '{text}', not a descriptor"))?;
    if fd < 3 {
        bail!("--root-fd is {fd}, which is standard input or output");
    }
    // SAFETY: whoever started the launcher passed this descriptor to it alone;
    // the next line finds out whether it is open.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let stat = rustix::fs::fstat(&fd).with_context(|| format!("--root-fd {text} is not open"))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
        bail!("--root-fd {text} is not a directory");
    }
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
        .context("while adopting --root-fd")?;
    Ok(Root::below(fd))
}

/// A level by name, or the old number 7 for the most verbose one.
fn log_level(text: &str) -> Result<LogLevel> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "fatal" => LogLevel::Fatal,
        "error" => LogLevel::Error,
        "warning" => LogLevel::Warning,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" | "7" => LogLevel::Trace,
        _ => bail!("SCONE_LOG is '{text}'; it can be fatal, error, warning, info, debug or trace"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Options> {
        Options::parse(
            true,
            arguments.iter().map(Into::into).collect(),
            environment
                .iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
        )
    }

    #[test]
    fn without_a_separator_everything_is_for_the_program() {
        let options = parse(&["/ensconce/launch", "--strict", "x"], &[]).unwrap();
        assert!(!options.is_strict);
        assert_eq!(
            options.arguments,
            [&b"/ensconce/launch"[..], b"--strict", b"x"]
        );
        let options = parse(&["/ensconce/launch", "a", "--", "--strict"], &[]).unwrap();
        assert!(!options.is_strict);
        assert_eq!(options.arguments.len(), 4);
    }

    #[test]
    fn under_the_programs_own_path_there_are_no_options() {
        let arguments = ["/usr/bin/python3.11", "--strict", "--", "x"]
            .map(Into::into)
            .to_vec();
        let options = Options::parse(false, arguments, Vec::new()).unwrap();
        assert!(!options.is_strict);
        assert_eq!(options.arguments.len(), 4);
    }

    #[test]
    fn options_end_at_the_separator() {
        let options = parse(
            &[
                "launch", "--image", "e.img", "--strict", "--mode", "sim", "--", "hello",
                "--strict",
            ],
            &[],
        )
        .unwrap();
        assert!(options.is_strict);
        assert_eq!(options.mode, Mode::Emulated);
        assert_eq!(options.image.as_deref(), Some(Path::new("e.img")));
        assert_eq!(options.mode, Mode::Emulated);
        assert_eq!(options.arguments, [&b"launch"[..], b"hello", b"--strict"]);
        assert!(parse(&["launch", "--image", "x", "--stritc", "--"], &[]).is_err());
        assert!(parse(&["launch", "--image", "--"], &[]).is_err());
        assert!(parse(&["launch", "--root-fd", "1", "--"], &[]).is_err());
        assert!(parse(&["launch", "--image", "x", "--mode", "fast", "--"], &[]).is_err());
    }

    #[test]
    fn scone_variables_are_kept_apart() {
        let options = parse(
            &["launch"],
            &[("SCONE_MODE", "SIM"), ("SCONE_HASH", "1"), ("HOME", "/")],
        )
        .unwrap();
        assert_eq!(options.mode, Mode::Emulated);
        assert!(options.wants_hash && !options.wants_version);
        assert_eq!(options.environment, [(b"HOME".to_vec(), b"/".to_vec())]);
        assert!(parse(&["launch"], &[("SCONE_MODE", "fast")]).is_err());
        assert!(parse(&["launch"], &[("SCONE_LOG", "loud")]).is_err());
        assert_eq!(parse(&["launch"], &[]).unwrap().mode, Mode::Hardware);
    }
}
