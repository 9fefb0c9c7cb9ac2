// SPDX-License-Identifier: Apache-2.0
//! Reading typed fields out of the tree while collecting every problem.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::name::{self, Name};
use crate::problem::Problem;
use crate::source::{Severity, Span};
use crate::template::{self, Variables};
use crate::yaml::{Key, Node, Value};

/// Most findings of one document; more would only be noise.
const MAX_FINDINGS: usize = 100;

/// What reading collects.
pub(crate) struct Reader<'v> {
    pub(crate) found: Vec<(Severity, Problem, Span)>,
    variables: Option<&'v dyn Variables>,
}

impl<'v> Reader<'v> {
    pub(crate) fn new(variables: Option<&'v dyn Variables>) -> Self {
        Self {
            found: Vec::new(),
            variables,
        }
    }

    /// Records an error.
    pub(crate) fn error(&mut self, span: Span, problem: Problem) {
        if self.found.len() < MAX_FINDINGS {
            self.found.push((Severity::Error, problem, span));
        }
    }

    /// Records an error and gives nothing, for use as a tail expression.
    pub(crate) fn refuse<T>(&mut self, span: Span, problem: Problem) -> Option<T> {
        self.error(span, problem);
        None
    }

    /// Records a warning.
    pub(crate) fn warn(&mut self, span: Span, advice: impl Into<String>) {
        let advice = advice.into();
        if self.found.len() < MAX_FINDINGS {
            let problem = Problem::Advice { advice };
            self.found.push((Severity::Warning, problem, span));
        }
    }

    /// Whether an error was recorded.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|(s, ..)| *s == Severity::Error)
    }

    /// Records an error for each key of `node` that is there although this version cannot do it.
    pub(crate) fn wrong_type<T>(&mut self, node: &Node, expected: &'static str) -> Option<T> {
        let found = node.type_name();
        self.refuse(node.span, Problem::WrongType { expected, found })
    }

    /// The text of a scalar after template variables are replaced.
    pub(crate) fn text(&mut self, node: &Node) -> Option<Zeroizing<String>> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => match self.variables {
                None => Some(text.clone()),
                Some(variables) => match template::substitute(text, variables) {
                    Ok(text) => Some(text),
                    Err(template::Undefined(name)) => {
                        self.refuse(node.span, Problem::UndefinedVariable { name })
                    }
                },
            },
            _ => self.wrong_type(node, "a text"),
        }
    }

    /// The elements of a list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Value::Sequence(items) => Some(items),
            _ => self.wrong_type(node, "a list"),
        }
    }

    /// The elements of a list, or the one scalar that stands for it.
    pub(crate) fn list_or_one<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Value::Sequence(items) => Some(items),
            Value::Scalar { .. } if !node.is_null() => Some(std::slice::from_ref(node)),
            _ => self.wrong_type(node, "a text or a list of texts"),
        }
    }

    /// The fields of a mapping.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, place: &'static str) -> Option<Fields<'n>> {
        let Value::Mapping(entries) = &node.value else {
            return self.wrong_type(node, "a mapping");
        };
        let mut seen = BTreeSet::new();
        for (key, _) in entries {
            if !seen.insert(key.text.as_str()) {
                let problem = Problem::DuplicateKey {
                    key: shortened(&key.text),
                };
                self.error(key.span, problem);
            }
        }
        Some(Fields {
            entries: entries.iter().map(|(k, v)| (k, v, false)).collect(),
            asked: Vec::new(),
            place,
            span: node.span,
        })
    }

    /// A name of one segment.
    pub(crate) fn name(&mut self, node: &Node, what: &'static str) -> Option<Name> {
        let text = self.text(node)?;
        match Name::parse(&text) {
            Ok(name) => Some(name),
            Err(_) => self.bad_name(node, what, &text),
        }
    }

    /// Records that a text is not a name.
    pub(crate) fn bad_name<T>(&mut self, node: &Node, what: &'static str, text: &str) -> Option<T> {
        let problem = Problem::BadName {
            what,
            name: shortened(text),
            rule: name::RULE,
        };
        self.refuse(node.span, problem)
    }

    /// `N` bytes written as hexadecimal digits.
    pub(crate) fn hex<const N: usize>(
        &mut self,
        node: &Node,
        what: &'static str,
    ) -> Option<[u8; N]> {
        let text = self.text(node)?;
        let mut bytes = [0; N];
        match hex::decode_to_slice(text.as_bytes(), &mut bytes) {
            Ok(()) => Some(bytes),
            Err(_) => {
                let digits = 2 * N;
                self.refuse(node.span, Problem::BadHex { what, digits })
            }
        }
    }

    /// A whole number in decimal.
    pub(crate) fn number(
        &mut self,
        node: &Node,
        what: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let text = self.text(node)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Some(number),
            _ => {
                let (min, max) = (*range.start(), *range.end());
                self.refuse(node.span, Problem::BadNumber { what, min, max })
            }
        }
    }

    /// An absolute path without `.` and `..`.
    pub(crate) fn path(&mut self, node: &Node, what: &'static str) -> Option<String> {
        let text = self.text(node)?;
        let plain = |step: &str| step != "." && step != "..";
        if text.starts_with('/') && !text.contains('\0') && text.split('/').all(plain) {
            Some(text.to_string())
        } else {
            self.refuse(node.span, Problem::BadPath { what })
        }
    }
}

/// At most 40 characters of a public text, for messages.
pub(crate) fn shortened(text: &str) -> String {
    let mut out: String = text.chars().take(40).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// The fields of one mapping; each is taken once, and what is left over is an error.
pub(crate) struct Fields<'n> {
    entries: Vec<(&'n Key, &'n Node, bool)>,
    asked: Vec<&'static str>,
    place: &'static str,
    pub(crate) span: Span,
}

impl<'n> Fields<'n> {
    /// The value of a key, `None` if absent or null.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        let entry = self.entries.iter_mut().find(|(k, ..)| k.text == key)?;
        entry.2 = true;
        (!entry.1.is_null()).then_some(entry.1)
    }

    /// The value of a mandatory key.
    pub(crate) fn need(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        hint: &'static str,
    ) -> Option<&'n Node> {
        let found = self.take(key);
        if found.is_none() {
            let place = self.place;
            reader.error(self.span, Problem::Missing { place, key, hint });
        }
        found
    }

    /// Refuses what was not taken; `later` lists keys of the language that this version cannot do.
    pub(crate) fn finish(self, reader: &mut Reader<'_>, later: &[&'static str]) {
        for (key, _, taken) in &self.entries {
            if *taken {
                continue;
            }
            // A second value of a taken key is a duplicate, and recorded as one.
            if self.asked.contains(&key.text.as_str()) {
                continue;
            }
            let problem = if later.contains(&key.text.as_str()) {
                let what = format!("'{}' in {}", key.text, self.place);
                Problem::NotSupported { what }
            } else {
                Problem::UnknownKey {
                    key: shortened(&key.text),
                    place: self.place,
                    suggestion: similar(&key.text, self.asked.iter().chain(later)),
                }
            };
            reader.error(key.span, problem);
        }
    }
}

/// The known key at most two edits away, if any.
fn similar<'k>(key: &str, known: impl Iterator<Item = &'k &'static str>) -> Option<&'static str> {
    if key.len() > 40 {
        return None;
    }
    let scored = known.map(|k| (edits(key, k), *k));
    let (distance, best) = scored.min()?;
    (distance <= 2 && distance < best.len()).then_some(best)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (above, to) in row.windows(2).zip(&b) {
            let &[diagonal, up] = above else { continue };
            let left = next.last().copied().unwrap_or(0);
            let change = diagonal + usize::from(from != *to);
            next.push(change.min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
