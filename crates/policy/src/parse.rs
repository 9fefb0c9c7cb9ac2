// SPDX-License-Identifier: Apache-2.0
//! From text to checked session.

mod access;
mod attestation;
mod images;
mod references;
mod secrets;
mod services;

use std::collections::BTreeMap;

use crate::attestation::Mode;
use crate::fields::{Fields, Reader, shortened};
use crate::model::{Creator, NEWEST_PATCH, Secret, Session};
use crate::name::{Name, SessionName};
use crate::problem::Problem;
use crate::source::{Finding, Refusal, Severity, Source, Span};
use crate::template::Variables;
use crate::yaml::{self, Node};

/// A session that obeys every rule, and what its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The session.
    pub session: Session,
    /// Warnings in document order.
    pub warnings: Vec<Finding>,
}

/// Reads a session document as it stands: `$NAME` is ordinary text.
///
/// # Errors
/// Every error of the document, with places.
pub fn parse(text: &str) -> Result<Parsed, Refusal> {
    read(text, None)
}

/// Reads a session template: `$NAME` and `${NAME}` in values are replaced first.
///
/// # Errors
/// Every error of the document, with places; a variable without a value is one.
pub fn parse_template(text: &str, variables: &dyn Variables) -> Result<Parsed, Refusal> {
    read(text, Some(variables))
}

fn read(text: &str, variables: Option<&dyn Variables>) -> Result<Parsed, Refusal> {
    let mut source = Source::new(text);
    let mut reader = Reader::new(variables);
    let session = match yaml::read(text) {
        Ok(root) => {
            source.set_sensitive(yaml::sensitive_ranges(&root));
            session(&mut reader, &root)
        }
        Err((problem, span)) => reader.refuse(span, problem),
    };
    let refused = reader.has_errors();
    let mut findings: Vec<Finding> = reader
        .found
        .into_iter()
        .map(|(severity, problem, span)| Finding {
            severity,
            problem,
            span,
            snippet: source.snippet(span),
        })
        .collect();
    findings.sort_by_key(|finding| finding.span.start);
    match session {
        Some(session) if !refused => Ok(Parsed {
            session,
            warnings: findings,
        }),
        _ => {
            debug_assert!(findings.iter().any(|f| f.severity == Severity::Error));
            Err(Refusal { findings })
        }
    }
}

/// Kinds and values of the document's secrets, for checking references.
type Secrets = BTreeMap<Name, Secret>;

fn session(reader: &mut Reader<'_>, root: &Node) -> Option<Session> {
    let mut fields = reader.fields(root, "the session")?;
    let patch = version(reader, &mut fields);
    let name = fields
        .need(reader, "name", "")
        .and_then(|node| session_name(reader, node));
    let predecessor = fields
        .take("predecessor")
        .and_then(|node| reader.hex(node, "predecessor"));
    let salt = fields
        .take("salt")
        .and_then(|node| reader.hex(node, "salt"));
    let creator = fields
        .take("creator")
        .and_then(|node| creator(reader, node));
    let secrets = fields
        .take("secrets")
        .map(|node| secrets::read(reader, node))
        .unwrap_or_default();
    let images = fields
        .take("images")
        .map(|node| images::read(reader, node, &secrets))
        .unwrap_or_default();
    let security = fields
        .take("security")
        .map(|node| attestation::security(reader, node))
        .unwrap_or_default();
    let access = fields
        .take("access_policy")
        .map(|node| access::read(reader, node))
        .unwrap_or_default();
    let services = fields
        .take("services")
        .map(|node| {
            let context = services::Context {
                secrets: &secrets,
                images: &images,
                attested: security.mode != Mode::None,
            };
            services::read(reader, node, &context)
        })
        .unwrap_or_default();
    fields.finish(reader, &["namespace_hash", "secret_config", "volumes"]);
    Some(Session {
        patch: patch?,
        name: name?,
        predecessor,
        salt,
        creator,
        services,
        secrets,
        images,
        access,
        security,
    })
}

fn version(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<u8> {
    let hint = "; write version: \"0.3.12\"";
    let node = fields.need(reader, "version", hint)?;
    let text = reader.text(node)?;
    let patch = match text.strip_prefix("0.3") {
        Some("") => Some(0),
        Some(rest) => rest
            .strip_prefix('.')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok()),
        None => None,
    };
    match patch {
        Some(patch) if patch <= NEWEST_PATCH => Some(patch),
        _ => {
            let version = shortened(&text);
            reader.refuse(node.span, Problem::UnknownVersion { version })
        }
    }
}

fn session_name(reader: &mut Reader<'_>, node: &Node) -> Option<SessionName> {
    let text = reader.text(node)?;
    if text.as_str() == "/" {
        let what = "The root namespace '/'".to_owned();
        return reader.refuse(node.span, Problem::NotSupported { what });
    }
    match SessionName::parse(&text) {
        Ok(name) => Some(name),
        Err(_) => reader.bad_name(node, "session name", &text),
    }
}

fn creator(reader: &mut Reader<'_>, node: &Node) -> Option<Creator> {
    if matches!(node.value, yaml::Value::Mapping(_)) {
        let what = "A signer as creator".to_owned();
        return reader.refuse(node.span, Problem::NotSupported { what });
    }
    let text = reader.text(node)?;
    match Creator::from_certificate_pem(&text) {
        Ok(creator) => Some(creator),
        Err(_) => reader.refuse(node.span, Problem::BadCertificate),
    }
}

/// Reads a list of named things into a map; a name used twice is an error.
fn named<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &'static str,
    mut each: impl FnMut(&mut Reader<'_>, &mut Fields<'_>, Option<&Name>) -> Option<T>,
    later: &[&'static str],
) -> BTreeMap<Name, T> {
    let mut all = BTreeMap::new();
    let mut spans: BTreeMap<Name, Span> = BTreeMap::new();
    for item in reader.list(node).unwrap_or_default() {
        let Some(mut fields) = reader.fields(item, place(what)) else {
            continue;
        };
        let name_node = fields.need(reader, "name", "");
        let name = name_node.and_then(|node| reader.name(node, "name"));
        let value = each(reader, &mut fields, name.as_ref());
        fields.finish(reader, later);
        let (Some(name), Some(name_node)) = (name, name_node) else {
            continue;
        };
        if spans.insert(name.clone(), name_node.span).is_some() {
            let name = name.to_string();
            reader.error(name_node.span, Problem::DuplicateName { what, name });
        } else if let Some(value) = value {
            all.insert(name, value);
        }
    }
    all
}

/// How messages name the mapping of one named thing.
fn place(what: &'static str) -> &'static str {
    match what {
        "service" => "a service",
        "secret" => "a secret",
        _ => "an image",
    }
}
