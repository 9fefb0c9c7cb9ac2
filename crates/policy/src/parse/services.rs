// SPDX-License-Identifier: Apache-2.0
//! The `services` section.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::references::{self, Target};
use super::{Secrets, attestation, named};
use crate::fields::{Fields, Reader, shortened};
use crate::model::{
    Argument, Fspf, FspfKey, Image, MAX_HOST_ARGUMENT, SecretKind, Service, UpdatePolicy, Variable,
};
use crate::name::Name;
use crate::problem::Problem;
use crate::source::Span;
use crate::yaml::{Node, Value};

/// What services may refer to.
pub(super) struct Context<'a> {
    pub(super) secrets: &'a Secrets,
    pub(super) images: &'a BTreeMap<Name, Image>,
    /// Whether services need attestation.
    pub(super) attested: bool,
}

/// Prefix of an environment name whose value comes from the host.
const HOST_VARIABLE: &str = r"\@\@";

pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    context: &Context<'_>,
) -> BTreeMap<Name, Service> {
    let later = ["platforms", "one_time_password_shared_secret"];
    let each = |reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: Option<&Name>| {
        Some(service(reader, fields, name, context))
    };
    named(reader, node, "service", each, &later)
}

fn service(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: Option<&Name>,
    context: &Context<'_>,
) -> Service {
    let command = fields
        .take("command")
        .and_then(|node| command(reader, node, context.secrets));
    let environment = fields
        .take("environment")
        .map(|node| environment(reader, node, context.secrets))
        .unwrap_or_default();
    let pwd = fields.take("pwd").and_then(|node| reader.path(node, "pwd"));
    let fspf = fspf(reader, fields, context.secrets);
    let image = fields
        .take("image_name")
        .and_then(|node| image_name(reader, node, context.images));
    let attestation = evidence(reader, fields, name, context);
    if let Some(node) = fields.take("persistency") {
        // Written by older tools in normalised sessions, always with this value.
        let text = reader.text(node);
        if text.is_some_and(|text| text.as_str() != "None") {
            let what = "'persistency' in a service".to_owned();
            reader.error(node.span, Problem::NotSupported { what });
        }
    }
    Service {
        command,
        environment,
        pwd,
        fspf,
        image,
        attestation,
    }
}

fn evidence(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: Option<&Name>,
    context: &Context<'_>,
) -> Vec<crate::attestation::Variant> {
    let current = fields.take("attestation");
    let older = fields.take("mrenclaves");
    let variants = match (current, older) {
        (Some(_), Some(older)) => {
            let (first, second) = ("attestation", "mrenclaves");
            reader.error(older.span, Problem::Exclusive { first, second });
            return Vec::new();
        }
        (Some(node), None) => attestation::variants(reader, node),
        (None, Some(node)) => {
            reader.warn(
                node.span,
                "'mrenclaves' is the older form of 'attestation: {mrenclave: [...]}'",
            );
            attestation::mrenclaves(reader, node)
        }
        (None, None) => {
            // A service without a name has its own error.
            if let (true, Some(name)) = (context.attested, name) {
                let service = name.to_string();
                reader.error(fields.span, Problem::NoAttestation { service });
            }
            Vec::new()
        }
    };
    if let Some(node) = current.or(older)
        && context.attested
        && variants.iter().any(|variant| variant.signer.is_none())
    {
        reader.warn(
            node.span,
            "A variant without signer lets somebody else sign the same code: \
                 its signer-derived sealing keys and version numbers are then theirs",
        );
    }
    variants
}

fn command(reader: &mut Reader<'_>, node: &Node, secrets: &Secrets) -> Option<Vec<Argument>> {
    let words: Vec<(Zeroizing<String>, Span)> = match &node.value {
        Value::Sequence(items) => {
            let texts = items
                .iter()
                .map(|item| reader.text(item).map(|text| (text, item.span)));
            texts.collect::<Option<_>>()?
        }
        _ => {
            let text = reader.text(node)?;
            let Some(words) = split_words(&text) else {
                return reader.refuse(node.span, Problem::OpenQuote);
            };
            words.into_iter().map(|word| (word, node.span)).collect()
        }
    };
    if words.first().is_none_or(|(program, _)| program.is_empty()) {
        return reader.refuse(node.span, Problem::EmptyCommand);
    }
    let mut used = BTreeSet::new();
    let mut arguments = Vec::with_capacity(words.len());
    let mut complete = true;
    for (word, span) in words {
        match argument(reader, span, word, secrets, &mut used) {
            Some(argument) => arguments.push(argument),
            None => complete = false,
        }
    }
    complete.then_some(arguments)
}

fn argument(
    reader: &mut Reader<'_>,
    span: Span,
    word: Zeroizing<String>,
    secrets: &Secrets,
    used: &mut BTreeSet<u32>,
) -> Option<Argument> {
    let word = references::without_nul(reader, span, word, "An argument")?;
    if let Some(index) = word.strip_prefix("@@") {
        let max = MAX_HOST_ARGUMENT;
        let digits = index.bytes().all(|b| b.is_ascii_digit()) && !index.starts_with('0');
        let parsed = index
            .parse()
            .ok()
            .filter(|n| digits && (1..=max).contains(n));
        let Some(index) = parsed else {
            return reader.refuse(span, Problem::BadHostArgument { max });
        };
        if !used.insert(index) {
            return reader.refuse(span, Problem::DuplicateHostArgument { index });
        }
        return Some(Argument::Host(index));
    }
    if has_embedded_host_argument(&word) {
        let max = MAX_HOST_ARGUMENT;
        return reader.refuse(span, Problem::BadHostArgument { max });
    }
    references::template(reader, span, &word, secrets, Target::Text).map(Argument::Text)
}

/// `@@` followed by a digit anywhere in a word.
fn has_embedded_host_argument(word: &str) -> bool {
    word.split("@@")
        .skip(1)
        .any(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

/// Splits at whitespace; quotation marks group and are removed; nothing else is special.
/// `None`: a quotation mark is not closed.
fn split_words(text: &str) -> Option<Vec<Zeroizing<String>>> {
    let mut words = Vec::new();
    let mut word: Option<Zeroizing<String>> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn environment(
    reader: &mut Reader<'_>,
    node: &Node,
    secrets: &Secrets,
) -> BTreeMap<String, Variable> {
    let mut environment = BTreeMap::new();
    let Value::Mapping(entries) = &node.value else {
        reader.wrong_type::<()>(node, "a mapping of names to texts");
        return environment;
    };
    // Records duplicate keys.
    let _ = reader.fields(node, "environment");
    for (key, node) in entries {
        let host = key.text.strip_prefix(HOST_VARIABLE);
        let name = host.unwrap_or(&key.text);
        if name.is_empty() || name.contains(['=', '\0']) {
            reader.error(key.span, Problem::BadEnvironmentName);
            continue;
        }
        let value = match host {
            // Whatever the session holds is ignored by definition of the form.
            Some(_) => Some(Variable::Host),
            None => variable(reader, node, secrets),
        };
        if name.starts_with("SCONE_") {
            let name = shortened(name);
            reader.warn(
                key.span,
                format!(
                    "'{name}' is decided before the session is known; here only the program sees it"
                ),
            );
        }
        let Some(value) = value else { continue };
        if environment.insert(name.to_owned(), value).is_some() {
            let (what, name) = ("environment", shortened(name));
            // Twice with the same spelling is recorded as a duplicate key already.
            if host.is_some() || entries.iter().filter(|(k, _)| k.text == key.text).count() == 1 {
                reader.error(key.span, Problem::DuplicateName { what, name });
            }
        }
    }
    environment
}

fn variable(reader: &mut Reader<'_>, node: &Node, secrets: &Secrets) -> Option<Variable> {
    let text = reader.text(node)?;
    let text = references::without_nul(reader, node.span, text, "An environment value")?;
    references::template(reader, node.span, &text, secrets, Target::Text).map(Variable::Text)
}

fn image_name(
    reader: &mut Reader<'_>,
    node: &Node,
    images: &BTreeMap<Name, Image>,
) -> Option<Name> {
    let name = reader.name(node, "image name")?;
    if images.contains_key(&name) {
        return Some(name);
    }
    let (what, name) = ("image", name.to_string());
    reader.refuse(node.span, Problem::Undefined { what, name })
}

fn fspf(reader: &mut Reader<'_>, fields: &mut Fields<'_>, secrets: &Secrets) -> Option<Fspf> {
    let path_node = fields.take("fspf_path");
    let key_node = fields.take("fspf_key");
    let tag_node = fields.take("fspf_tag");
    let policy_node = fields.take("fspf_update_policy");
    let path = path_node.and_then(|node| reader.path(node, "fspf_path"));
    let key = key_node.and_then(|node| fspf_key(reader, node, secrets));
    let tag = tag_node.map(|node| reader.hex(node, "fspf_tag"));
    let update_policy = match policy_node {
        Some(node) => update_policy(reader, node)?,
        None => UpdatePolicy::default(),
    };
    let needs_tag = update_policy == UpdatePolicy::Reinitializable;
    for (key, node, other, there) in [
        ("fspf_path", path_node, "fspf_key", key_node.is_some()),
        ("fspf_key", key_node, "fspf_path", path_node.is_some()),
        ("fspf_tag", tag_node, "fspf_path", path_node.is_some()),
        (
            "fspf_update_policy",
            policy_node,
            "fspf_path",
            path_node.is_some(),
        ),
        (
            "fspf_path",
            path_node,
            "fspf_tag",
            !needs_tag || tag_node.is_some(),
        ),
    ] {
        if let (Some(node), false) = (node, there) {
            reader.error(node.span, Problem::Needs { key, other });
        }
    }
    let tag = match tag {
        Some(read) => Some(read?),
        None => None,
    };
    Some(Fspf {
        path: path?,
        key: key?,
        tag,
        update_policy,
    })
}

fn fspf_key(reader: &mut Reader<'_>, node: &Node, secrets: &Secrets) -> Option<FspfKey> {
    let text = reader.text(node)?;
    match references::single(&text) {
        None => {
            let key = reader.hex::<32>(node, "fspf_key")?;
            Some(FspfKey::Literal(Zeroizing::new(key)))
        }
        Some(Err(_)) => reader.refuse(node.span, Problem::BadPlaceholder),
        Some(Ok(name)) => match secrets.get(&name).map(|secret| secret.kind) {
            Some(SecretKind::Binary { size: 32 }) => Some(FspfKey::Secret(name)),
            Some(_) => {
                let name = name.to_string();
                let (what, size) = ("fspf_key", 32);
                reader.refuse(node.span, Problem::NotAKey { name, what, size })
            }
            None => {
                let (what, name) = ("secret", name.to_string());
                reader.refuse(node.span, Problem::Undefined { what, name })
            }
        },
    }
}

fn update_policy(reader: &mut Reader<'_>, node: &Node) -> Option<UpdatePolicy> {
    let text = reader.text(node)?;
    let all = [
        UpdatePolicy::Reinitializable,
        UpdatePolicy::NoRollbackProtection,
    ];
    if let Some(policy) = all.into_iter().find(|p| p.as_str() == text.as_str()) {
        return Some(policy);
    }
    let problem = Problem::BadChoice {
        what: "fspf_update_policy",
        value: shortened(&text),
        choices: "rollback_protected_reinitializable or no_rollback_protection",
    };
    reader.refuse(node.span, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        let words = split_words(text)?;
        Some(words.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn quotation_marks_group_and_whitespace_splits() {
        for (text, expected) in [
            ("a  b\tc\n", vec!["a", "b", "c"]),
            (r#"a "b c" 'd "e"'"#, vec!["a", "b c", r#"d "e""#]),
            (r#"a "" b''c"#, vec!["a", "", "bc"]),
            (r"a\ b", vec![r"a\", "b"]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        assert_eq!(words("a 'b"), None);
    }

    proptest! {
        #[test]
        fn words_without_special_characters_come_back(list in proptest::collection::vec("[a-z$:@=/.-]{1,8}", 0..6)) {
            prop_assert_eq!(words(&list.join(" ")).unwrap(), list);
        }
    }
}
