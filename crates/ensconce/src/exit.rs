// SPDX-License-Identifier: Apache-2.0
//! Exit codes and the errors that lead to them.

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Context as _;

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
}

impl Failure {
    /// A failure with a message of its own.
    pub(crate) fn new(class: Class, message: impl Display) -> Self {
        Self {
            class,
            error: anyhow::Error::msg(message.to_string()),
        }
    }

    /// A failure with a cause and a sentence about what was being done.
    pub(crate) fn of(class: Class, error: impl Into<anyhow::Error>, doing: impl Display) -> Self {
        let error = error.into().context(doing.to_string());
        Self { class, error }
    }

    /// The chain of causes in one line.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    /// Prints the chain of causes and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {:#}", self.error);
        ExitCode::from(self.class as u8)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            class: Class::Internal,
            error,
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
        self.map_err(Into::into)
            .with_context(|| doing.to_string())
            .map_err(|error| Failure { class, error })
    }
}
