// SPDX-License-Identifier: Apache-2.0
//! Places in a document, and the findings that point at them.

use std::fmt::Write as _;

use crate::problem::Problem;

/// A half-open byte range of the document, with the position of its first character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Byte offset of the first byte.
    pub start: usize,
    /// Byte offset after the last byte.
    pub end: usize,
    /// Line of the first character, counted from 1.
    pub line: usize,
    /// Column of the first character, counted in characters from 1.
    pub column: usize,
}

/// Whether a finding stops the document from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is usable; its author should read this.
    Warning,
}

/// One finding about a document: what, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the document is refused because of it.
    pub severity: Severity,
    /// What was found. Never holds a secret value.
    pub problem: Problem,
    /// Where it was found.
    pub span: Span,
    /// The source line with a caret below the place, secret values masked.
    pub snippet: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}\n{}", self.problem, self.snippet)
    }
}

/// The findings about a document that was refused, in document order; at least one is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Errors and warnings in document order.
    pub findings: Vec<Finding>,
}

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// Widest piece of a source line that a snippet shows, in characters.
const SNIPPET_WIDTH: usize = 120;

/// The document's text with the ranges that no snippet may show.
pub(crate) struct Source<'a> {
    text: &'a str,
    sensitive: Vec<(usize, usize)>,
    parsed: bool,
}

impl<'a> Source<'a> {
    /// A document whose structure is not known yet: snippets hide everything after a key.
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            sensitive: Vec::new(),
            parsed: false,
        }
    }

    /// Declares the structure known and the given byte ranges secret.
    pub(crate) fn set_sensitive(&mut self, ranges: Vec<(usize, usize)>) {
        self.sensitive = ranges;
        self.parsed = true;
    }

    /// Renders the line of `span` with a caret line below it.
    pub(crate) fn snippet(&self, span: Span) -> String {
        let mut out = String::new();
        let gutter = span.line.to_string().len();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:gutter$}--> line {}, column {}",
            "", span.line, span.column
        );
        let start = floor_boundary(self.text, span.start);
        let head = self.text.get(..start).unwrap_or_default();
        let line_start = head.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        let masked = self.mask(line, line_start);
        let before = span.column.saturating_sub(1);
        // Long lines are shown from a little before the place.
        let skip = before.saturating_sub(SNIPPET_WIDTH / 2);
        let shown: String = masked.chars().skip(skip).take(SNIPPET_WIDTH).collect();
        let room = shown.chars().count().saturating_sub(before - skip).max(1);
        let last = span.end.min(line_start + line.len());
        let wide = self.text.get(start..last).map_or(1, |s| s.chars().count());
        let carets = "^".repeat(wide.clamp(1, room));
        let _ = writeln!(out, "{:gutter$} |", "");
        let _ = writeln!(out, "{} | {shown}", span.line);
        let _ = writeln!(
            out,
            "{:gutter$} | {:pad$}{carets}",
            "",
            "",
            pad = before - skip
        );
        out
    }

    fn mask(&self, line: &str, line_start: usize) -> String {
        let structural = if self.parsed {
            line.len()
        } else {
            line.find(':').map_or(0, |at| at + 1)
        };
        line.char_indices()
            .map(|(at, c)| {
                let absolute = line_start + at;
                let secret = if self.parsed {
                    // The ranges are sorted and do not overlap.
                    let next = self.sensitive.partition_point(|(_, end)| *end <= absolute);
                    self.sensitive
                        .get(next)
                        .is_some_and(|(start, _)| *start <= absolute)
                } else {
                    at >= structural && c.is_alphanumeric()
                };
                match c {
                    ' ' => ' ',
                    _ if secret => '*',
                    '\t' => ' ',
                    c if c.is_control() => '\u{fffd}',
                    c => c,
                }
            })
            .collect()
    }
}

/// The largest character boundary that is not above `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
