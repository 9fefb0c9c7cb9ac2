// SPDX-License-Identifier: Apache-2.0
//! The YAML subset of sessions as a tree whose every node knows its place.
//!
//! Scalars keep their text exactly as written: `0.3`, `0123` and `yes` stay what the author typed,
//! and the reader of each field decides what they mean. A serde deserializer would stop at its first
//! error; a tree lets every error of a document be reported at once.
//! Tags, anchors, aliases, directives and several documents in one text are refused.

use granit_parser::{Event, Parser, ScalarStyle};
use zeroize::Zeroizing;

use crate::problem::Problem;
use crate::source::Span;

/// Longest document, in bytes.
pub const MAX_DOCUMENT: usize = 1 << 20;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 32;
/// Most nodes (scalars, sequences and mappings).
pub const MAX_NODES: usize = 50_000;

/// A node of the document.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// Content of a node.
pub(crate) enum Value {
    Scalar {
        text: Zeroizing<String>,
        /// Unquoted: may mean null, a number or a boolean.
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scalar { .. } => f.write_str("Scalar([redacted])"),
            Self::Sequence(items) => f.debug_list().entries(items).finish(),
            Self::Mapping(entries) => f
                .debug_map()
                .entries(entries.iter().map(|(k, v)| (k, v)))
                .finish(),
        }
    }
}

impl Node {
    /// Whether the node is an unquoted null or empty scalar.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Name of the node's type for error messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

enum Open {
    Sequence(Span, Vec<Node>),
    Mapping(Span, Vec<(Key, Node)>, Option<Key>),
}

/// Reads one document.
///
/// # Errors
/// The first problem of structure and its place; duplicate keys are left to the reader of fields.
pub(crate) fn read(text: &str) -> Result<Node, (Problem, Span)> {
    let start = Span {
        line: 1,
        column: 1,
        ..Span::default()
    };
    if text.len() > MAX_DOCUMENT {
        let (limit, unit) = (MAX_DOCUMENT, "bytes");
        return Err((Problem::Limit { limit, unit }, start));
    }
    let options = granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        open: Vec::new(),
        root: None,
        nodes: 0,
        documents: 0,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let detail = error.kind().to_string();
            (
                Problem::Syntax { detail },
                place(error.marker(), error.marker()),
            )
        })?;
        builder.take(event, place(&span.start, &span.end))?;
    }
    builder.root.ok_or_else(|| {
        let (expected, found) = ("a session document", "an empty text");
        (Problem::WrongType { expected, found }, start)
    })
}

fn place(start: &granit_parser::Marker, end: &granit_parser::Marker) -> Span {
    Span {
        start: start.byte_offset().unwrap_or(0),
        end: end.byte_offset().unwrap_or(0),
        line: start.line(),
        column: start.col() + 1,
    }
}

struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), (Problem, Span)> {
        let refuse = |feature| Err((Problem::YamlFeature { feature }, span));
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if anchor != 0 {
            return refuse("YAML anchors");
        }
        if tag {
            return refuse("YAML tags");
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return refuse("Several documents in one text");
                }
            }
            Event::Scalar(text, style, ..) => {
                let text = Zeroizing::new(text.into_owned());
                let plain = style == ScalarStyle::Plain;
                self.add(Node {
                    span,
                    value: Value::Scalar { text, plain },
                })?;
            }
            Event::SequenceStart(..) => self.push(Open::Sequence(span, Vec::new()))?,
            Event::MappingStart(..) => self.push(Open::Mapping(span, Vec::new(), None))?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(span, items)) => self.add(Node {
                    span,
                    value: Value::Sequence(items),
                })?,
                Some(Open::Mapping(span, entries, _)) => self.add(Node {
                    span,
                    value: Value::Mapping(entries),
                })?,
                None => return refuse("Unbalanced collections"),
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => return refuse("YAML aliases"),
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, open: Open) -> Result<(), (Problem, Span)> {
        let (Open::Sequence(span, ..) | Open::Mapping(span, ..)) = open;
        if self.open.len() >= MAX_DEPTH {
            let (limit, unit) = (MAX_DEPTH, "levels of nesting");
            return Err((Problem::Limit { limit, unit }, span));
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), (Problem, Span)> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let (limit, unit) = (MAX_NODES, "values");
            return Err((Problem::Limit { limit, unit }, node.span));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping(_, entries, pending)) => match pending.take() {
                Some(key) => entries.push((key, node)),
                None => match node.value {
                    Value::Scalar { text, .. } => {
                        *pending = Some(Key {
                            text: text.to_string(),
                            span: node.span,
                        });
                    }
                    _ => {
                        let feature = "Collections as keys";
                        return Err((Problem::YamlFeature { feature }, node.span));
                    }
                },
            },
        }
        Ok(())
    }
}

/// Keys whose values no message may show.
const SENSITIVE: &[&str] = &[
    "command",
    "content",
    "environment",
    "fspf_key",
    "one_time_password_shared_secret",
    "service_access_token",
    "value",
];

/// Byte ranges of values that no message may show, sorted.
pub(crate) fn sensitive_ranges(root: &Node) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    collect(root, false, &mut ranges);
    ranges.sort_unstable();
    ranges
}

fn collect(node: &Node, secret: bool, ranges: &mut Vec<(usize, usize)>) {
    match &node.value {
        Value::Scalar { .. } if secret => ranges.push((node.span.start, node.span.end)),
        Value::Scalar { .. } => {}
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, secret, ranges)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                collect(
                    value,
                    secret || SENSITIVE.contains(&key.text.as_str()),
                    ranges,
                );
            }
        }
    }
}
