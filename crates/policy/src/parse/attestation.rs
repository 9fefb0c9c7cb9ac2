// SPDX-License-Identifier: Apache-2.0
//! Attestation variants of services and the `security` section.

use std::collections::BTreeSet;

use crate::attestation::{Advisories, Mode, Security, Signer, Svn, Tolerance, Variant};
use crate::fields::{Reader, shortened};
use crate::problem::Problem;
use crate::yaml::{Node, Value};

const MAX_U16: u64 = 65_535;

/// Keys of `security.attestation` that this version cannot do.
const LATER: &[&str] = &[
    "certificates",
    "min_rsa_signing_key_size",
    "must_be_sgx_local",
    "one_time_password_shared_secret",
    "trusted_scone_qe_pubkeys",
    "url",
];

/// Tolerances of the language that this version cannot do.
const LATER_TOLERANCES: &[&str] = &["maa-managed-tcb", "local-attestation-trust-cas-tcb"];

/// Reads `attestation` of a service: one variant or a list of them.
pub(super) fn variants(reader: &mut Reader<'_>, node: &Node) -> Vec<Variant> {
    let items = match &node.value {
        Value::Sequence(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.error(node.span, Problem::EmptyVariant);
    }
    let read = items.iter().filter_map(|item| variant(reader, item));
    read.collect()
}

/// Reads the older `mrenclaves` of a service.
pub(super) fn mrenclaves(reader: &mut Reader<'_>, node: &Node) -> Vec<Variant> {
    let mrenclaves = measurements(reader, node);
    vec![Variant {
        mrenclaves,
        signer: None,
    }]
}

fn variant(reader: &mut Reader<'_>, node: &Node) -> Option<Variant> {
    if matches!(&node.value, Value::Scalar { text, .. } if text.starts_with("$$SCONE::")) {
        let what = "An attestation variant from a secret".to_owned();
        return reader.refuse(node.span, Problem::NotSupported { what });
    }
    let mut fields = reader.fields(node, "an attestation variant")?;
    let mrenclave = fields.take("mrenclave");
    let signer_node = fields.take("signer");
    fields.finish(reader, &[]);
    if mrenclave.is_none() && signer_node.is_none() {
        return reader.refuse(node.span, Problem::EmptyVariant);
    }
    let mrenclaves = mrenclave.map(|node| measurements(reader, node));
    let signer = match signer_node {
        Some(node) => Some(signer(reader, node)?),
        None => None,
    };
    Some(Variant {
        mrenclaves: mrenclaves.unwrap_or_default(),
        signer,
    })
}

fn measurements(reader: &mut Reader<'_>, node: &Node) -> BTreeSet<[u8; 32]> {
    let items = reader.list_or_one(node).unwrap_or_default();
    if items.is_empty() && matches!(node.value, Value::Sequence(_)) {
        reader.error(node.span, Problem::EmptyVariant);
    }
    let read = items
        .iter()
        .filter_map(|item| reader.hex(item, "mrenclave"));
    read.collect()
}

fn signer(reader: &mut Reader<'_>, node: &Node) -> Option<Signer> {
    let mut fields = reader.fields(node, "a signer")?;
    let mrsigner = fields
        .need(reader, "mrsigner", "")
        .and_then(|node| reader.hex(node, "mrsigner"));
    let number = |reader: &mut Reader<'_>, key, node: Option<&Node>| -> Option<Option<u16>> {
        match node {
            None => Some(None),
            Some(node) => {
                let number = reader.number(node, key, 0..=MAX_U16)?;
                Some(u16::try_from(number).ok())
            }
        }
    };
    let product_node = fields.need(reader, "isvprodid", "");
    let isvprodid = number(reader, "isvprodid", product_node)?;
    let (exact_node, min_node, max_node) = (
        fields.take("isvsvn"),
        fields.take("isvsvn_min"),
        fields.take("isvsvn_max"),
    );
    let exact = number(reader, "isvsvn", exact_node);
    let min = number(reader, "isvsvn_min", min_node);
    let max = number(reader, "isvsvn_max", max_node);
    fields.finish(reader, &[]);
    let (exact, min, max) = (exact?, min?, max?);
    let isvsvn = match (exact, min, max) {
        (Some(svn), None, None) => Svn::Exact(svn),
        (Some(_), ..) => {
            let span = exact_node.map_or(node.span, |n| n.span);
            let (first, second) = ("isvsvn", "isvsvn_min/isvsvn_max");
            return reader.refuse(span, Problem::Exclusive { first, second });
        }
        (None, Some(low), Some(high)) if low > high => {
            let span = min_node.map_or(node.span, |n| n.span);
            return reader.refuse(span, Problem::EmptyRange);
        }
        (None, min, max) => Svn::Range { min, max },
    };
    Some(Signer {
        mrsigner: mrsigner?,
        isvprodid: isvprodid?,
        isvsvn,
    })
}

/// Reads the `security` section.
pub(super) fn security(reader: &mut Reader<'_>, node: &Node) -> Security {
    let mut security = Security::default();
    let Some(mut fields) = reader.fields(node, "security") else {
        return security;
    };
    let singleton = fields.take("singleton_enclaves");
    let attestation = fields.take("attestation");
    fields.finish(reader, &["service_access_token"]);
    if let Some(node) = singleton {
        match reader.text(node).as_deref().map(String::as_str) {
            // The default, spelled out.
            Some("false") | None => {}
            Some("true") => {
                let what = "'singleton_enclaves: true' in security".to_owned();
                reader.error(node.span, Problem::NotSupported { what });
            }
            Some(_) => {
                reader.wrong_type::<()>(node, "true or false");
            }
        }
    }
    let Some(node) = attestation else {
        return security;
    };
    if matches!(&node.value, Value::Scalar { text, .. } if text.starts_with("$$SCONE::")) {
        let what = "A security section from a secret".to_owned();
        reader.error(node.span, Problem::NotSupported { what });
        return security;
    }
    let Some(mut fields) = reader.fields(node, "security.attestation") else {
        return security;
    };
    let mode_node = fields.take("mode");
    let tolerate_node = fields.take("tolerate");
    let advisories_node = fields.take("ignore_advisories");
    fields.finish(reader, LATER);
    if let Some(mode) = mode_node.and_then(|node| mode(reader, node)) {
        security.mode = mode;
    }
    for item in tolerate_node
        .and_then(|node| reader.list_or_one(node))
        .unwrap_or_default()
    {
        security.tolerate.extend(tolerance(reader, item));
    }
    if let Some(node) = advisories_node {
        let tolerate = &security.tolerate;
        security.ignore_advisories = advisories(reader, node, tolerate);
    }
    security
}

fn mode(reader: &mut Reader<'_>, node: &Node) -> Option<Mode> {
    let text = reader.text(node)?;
    match text.as_str() {
        "hardware" => Some(Mode::Hardware),
        "none" => {
            reader.warn(
                node.span,
                "Mode 'none' gives the configuration and its secrets to anybody who asks",
            );
            Some(Mode::None)
        }
        "maa" => {
            let what = "Attestation mode 'maa'".to_owned();
            reader.refuse(node.span, Problem::NotSupported { what })
        }
        other => {
            let problem = Problem::BadChoice {
                what: "attestation mode",
                value: shortened(other),
                choices: "hardware or none",
            };
            reader.refuse(node.span, problem)
        }
    }
}

fn tolerance(reader: &mut Reader<'_>, node: &Node) -> Option<Tolerance> {
    let text = reader.text(node)?;
    if let Some(anchor) = text.strip_prefix(Tolerance::EMULATED_PREFIX) {
        let mut hash = [0; 32];
        if hex::decode_to_slice(anchor, &mut hash).is_err() {
            let (what, digits) = ("The anchor of 'emulated-platform:'", 64);
            return reader.refuse(node.span, Problem::BadHex { what, digits });
        }
        reader.warn(
            node.span,
            "An emulated platform protects nothing from the root user of its machine",
        );
        return Some(Tolerance::EmulatedPlatform(hash));
    }
    if text.as_str() == "debug" {
        reader.warn(node.span, "Write 'debug-mode' instead of 'debug'");
        return Some(Tolerance::DebugMode);
    }
    if LATER_TOLERANCES.contains(&text.as_str()) {
        let what = format!("Tolerance '{}'", text.as_str());
        return reader.refuse(node.span, Problem::NotSupported { what });
    }
    let known = Tolerance::NAMED
        .iter()
        .find(|(name, _)| *name == text.as_str());
    if let Some((_, tolerance)) = known {
        if *tolerance == Tolerance::DebugMode {
            reader.warn(
                node.span,
                "With 'debug-mode' the host can read and change the enclave",
            );
        }
        return Some(*tolerance);
    }
    let problem = Problem::BadChoice {
        what: "tolerance",
        value: shortened(&text),
        choices: "debug-mode, hyperthreading, insecure-igpu, aepic-leak, \
                  software-hardening-needed, insecure-configuration, outdated-tcb or \
                  emulated-platform:<anchor SPKI SHA-256>",
    };
    reader.refuse(node.span, problem)
}

fn advisories(reader: &mut Reader<'_>, node: &Node, tolerate: &BTreeSet<Tolerance>) -> Advisories {
    let items = reader.list_or_one(node).unwrap_or_default();
    let mut listed = BTreeSet::new();
    let mut all = false;
    for item in items {
        let Some(text) = reader.text(item) else {
            continue;
        };
        if text.as_str() == "*" {
            all = true;
            if !tolerate.contains(&Tolerance::DebugMode) {
                reader.error(item.span, Problem::WildcardAdvisories);
            } else if items.len() > 1 {
                let (first, second) = ("*", "single advisories");
                reader.error(item.span, Problem::Exclusive { first, second });
            }
            continue;
        }
        let digits = text.strip_prefix("INTEL-SA-");
        if !digits.is_some_and(|d| d.len() == 5 && d.bytes().all(|b| b.is_ascii_digit())) {
            let problem = Problem::BadChoice {
                what: "advisory",
                value: shortened(&text),
                choices: "INTEL-SA-NNNNN or '*'",
            };
            reader.error(item.span, problem);
            continue;
        }
        if !tolerate.iter().any(|t| t.is_category()) {
            let advisory = text.to_string();
            let problem = Problem::AdvisoryWithoutCategory { advisory };
            reader.warn(item.span, problem.to_string());
        }
        listed.insert(text.to_string());
    }
    if all {
        Advisories::All
    } else {
        Advisories::Listed(listed)
    }
}
