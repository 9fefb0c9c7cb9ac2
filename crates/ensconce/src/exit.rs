// SPDX-License-Identifier: Apache-2.0
//! Exit codes and the errors that lead to them.

use std::fmt::Display;
use std::process::ExitCode;

/// What kind of thing went wrong; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A defect or an unexpected condition of the machine.
    Internal = 1,
    /// The command line.
    Usage = 2,
    /// The native image: absent, damaged, of another platform.
    NativeImage = 3,
    /// The program in the image.
    Binary = 4,
    /// Paths named by options, or no space.
    Files = 5,
    /// The signing key.
    Signing = 6,
    /// The CAS: unreachable or not acceptable.
    Cas = 7,
    /// The session: refused or malformed.
    Session = 8,
    /// Putting the result where it belongs.
    Output = 9,
}

/// An error with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    error: anyhow::Error,
    help: Option<&'static str>,
}

impl Failure {
    /// A failure with a message of its own.
    pub(crate) fn new(class: Class, message: impl Display) -> Self {
        Self {
            class,
            error: anyhow::Error::msg(message.to_string()),
            help: None,
        }
    }

    /// A failure with a cause and a sentence about what was being done.
    pub(crate) fn of(class: Class, error: impl Into<anyhow::Error>, doing: impl Display) -> Self {
        let error = error.into();
        // Where space ran out depends on the machine, not on what was done.
        let (class, doing) = match is_no_space(&error) {
            true => (
                Class::Files,
                format!("{doing}: no space is left; free some, or point TMPDIR to another disk"),
            ),
            false => (class, doing.to_string()),
        };
        let error = error.context(doing);
        Self {
            class,
            error,
            help: None,
        }
    }

    /// Adds the next step where the cause does not name it.
    pub(crate) fn with_help(self, help: &'static str) -> Self {
        Self {
            help: Some(help),
            ..self
        }
    }

    /// The chain of causes in one line.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    /// Prints the chain of causes and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {:#}", self.error);
        if let Some(help) = self.help {
            eprintln!("help: {help}");
        }
        ExitCode::from(self.class as u8)
    }
}

fn is_no_space(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| matches!(cause.kind(), StorageFull | QuotaExceeded))
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            class: Class::Internal,
            error,
            help: None,
        }
    }
}

/// Gives an error its exit code.
pub(crate) trait Classify<T> {
    /// With a sentence about what was being done.
    fn class(self, class: Class, doing: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Classify<T> for Result<T, E> {
    fn class(self, class: Class, doing: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(class, error, doing))
    }
}
