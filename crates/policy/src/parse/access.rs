// SPDX-License-Identifier: Apache-2.0
//! The `access_policy` section.

use std::collections::BTreeSet;

use crate::access::{AccessPolicy, Entry, Rule};
use crate::fields::Reader;
use crate::key_hash::{KeyHash, KeyHashError};
use crate::problem::Problem;
use crate::yaml::{Node, Value};

/// One element of a rule as written.
enum Written {
    Any,
    None,
    Entry(Entry),
}

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> AccessPolicy {
    let mut policy = AccessPolicy::default();
    if is_placeholder(node) {
        return not_supported(reader, node, "An access policy from a secret").unwrap_or(policy);
    }
    let Some(mut fields) = reader.fields(node, "access_policy") else {
        return policy;
    };
    let mut take = |reader: &mut Reader<'_>, key| {
        let node = fields.take(key)?;
        rule(reader, node)
    };
    let read = take(reader, "read");
    let update = take(reader, "update");
    let create = take(reader, "create_sessions");
    let list = take(reader, "list_sessions");
    fields.finish(reader, &[]);
    policy.read = read.unwrap_or_else(Rule::creator);
    policy.update = update.unwrap_or_else(Rule::creator);
    policy.create_sessions = create.unwrap_or_else(|| policy.update.clone());
    policy.list_sessions = list.unwrap_or_else(|| policy.read.clone());
    policy
}

fn rule(reader: &mut Reader<'_>, node: &Node) -> Option<Rule> {
    if is_placeholder(node) {
        return not_supported(reader, node, "An access rule from a secret");
    }
    let items = reader.list_or_one(node)?;
    let mut entries = BTreeSet::new();
    let mut keyword = None;
    for item in items {
        match written(reader, item) {
            Some(Written::Any) => keyword = keyword.or(Some((Rule::Any, "ANY", item.span))),
            Some(Written::None) => keyword = keyword.or(Some((Rule::None, "NONE", item.span))),
            Some(Written::Entry(entry)) => {
                entries.insert(entry);
            }
            None => {}
        }
    }
    match keyword {
        Some((rule, _, _)) if items.len() == 1 => Some(rule),
        Some((_, keyword, span)) => reader.refuse(span, Problem::NotAlone { keyword }),
        // An empty list admits nobody; say NONE so that it is meant.
        None if items.is_empty() => reader.refuse(node.span, Problem::BadAccessEntry),
        None => Some(Rule::Of(entries)),
    }
}

fn written(reader: &mut Reader<'_>, node: &Node) -> Option<Written> {
    if let Value::Mapping(entries) = &node.value {
        for (key, _) in entries {
            if key.text == "signer" || key.text.starts_with("require-") {
                let what = format!(
                    "'{}' in an access rule",
                    crate::fields::shortened(&key.text)
                );
                return reader.refuse(key.span, Problem::NotSupported { what });
            }
        }
        return reader.refuse(node.span, Problem::BadAccessEntry);
    }
    if is_placeholder(node) {
        return not_supported(reader, node, "An access entry from a secret");
    }
    let text = reader.text(node)?;
    match text.trim() {
        "CREATOR" => Some(Written::Entry(Entry::Creator)),
        "ANY" => Some(Written::Any),
        "NONE" => Some(Written::None),
        pem if pem.starts_with("-----BEGIN ") => match KeyHash::of_certificate_pem(pem) {
            Ok(key) => Some(Written::Entry(Entry::Key(key))),
            Err(_) => reader.refuse(node.span, Problem::BadCertificate),
        },
        other => match KeyHash::parse(other) {
            Ok(key) => Some(Written::Entry(Entry::Key(key))),
            Err(KeyHashError::Version { found: 10 }) => {
                not_supported(reader, node, "A session-signing key in an access rule")
            }
            Err(_) => reader.refuse(node.span, Problem::BadAccessEntry),
        },
    }
}

fn is_placeholder(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, .. } if text.trim_start().starts_with("$$SCONE::"))
}

fn not_supported<T>(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<T> {
    let what = what.to_owned();
    reader.refuse(node.span, Problem::NotSupported { what })
}
