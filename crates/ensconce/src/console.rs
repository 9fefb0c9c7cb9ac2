// SPDX-License-Identifier: Apache-2.0
//! What is said on standard error. Standard output carries results only.

use std::fmt::Display;
use std::io::IsTerminal as _;

/// How much is said, and whether in colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    shows_steps: bool,
    shows_texts: bool,
    has_color: bool,
}

impl Console {
    /// `-x` shows steps, `-v` shows texts.
    pub(crate) fn new(shows_steps: bool, shows_texts: bool, no_color: bool) -> Self {
        Self {
            shows_steps,
            shows_texts,
            has_color: !no_color
                && std::env::var_os("NO_COLOR").is_none()
                && std::io::stderr().is_terminal(),
        }
    }

    fn line(self, color: &str, word: &str, text: impl Display) {
        if self.has_color {
            eprintln!("\x1b[{color}m{word}\x1b[0m {text}");
        } else {
            eprintln!("{word} {text}");
        }
    }

    /// Something that weakens protection or will surprise.
    pub(crate) fn warning(self, text: impl Display) {
        self.line("33", "warning:", text);
    }

    /// Something worth knowing.
    pub(crate) fn notice(self, text: impl Display) {
        self.line("36", "notice:", text);
    }

    /// A step that is being taken, with `-x`.
    pub(crate) fn step(self, text: impl Display) {
        if self.shows_steps {
            self.line("2", "+", text);
        }
    }

    /// A text that was made, with `-v`. Never one that holds a secret.
    pub(crate) fn text(self, title: &str, text: &str) {
        if self.shows_texts {
            self.line("2", "---", title);
            eprintln!("{}", text.trim_end());
        }
    }
}
