// SPDX-License-Identifier: Apache-2.0
//! The `secrets` section.

use zeroize::Zeroizing;

use super::{Secrets, named};
use crate::fields::{Fields, Reader, shortened};
use crate::model::{Secret, SecretKind};
use crate::name::Name;
use crate::problem::Problem;
use crate::yaml::Node;

/// Largest explicit value in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Kinds of the language that this version cannot make.
const LATER_KINDS: &[&str] = &[
    "private-key",
    "public-key",
    "x509",
    "x509-ca",
    "aad-token",
    "config-fragment",
    "pgp-key",
    "jwt",
];

/// Keys of the language that this version cannot do.
const LATER: &[&str] = &[
    "alg",
    "application_secret",
    "certificate_thumbprint",
    "client_id",
    "common_name",
    "dns",
    "endpoint",
    "export",
    "export_public",
    "import",
    "import_akv",
    "issuer",
    "key_type",
    "migrate",
    "payload",
    "private_key",
    "san",
    "signer",
    "tenant_id",
    "valid_for",
    "validity",
];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Secrets {
    named(reader, node, "secret", secret, LATER)
}

fn secret(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: Option<&Name>) -> Option<Secret> {
    let name = name.map(ToString::to_string).unwrap_or_default();
    let kind_node = fields.need(reader, "kind", "; write kind: ascii or kind: binary");
    let value = fields.take("value");
    let size_node = fields.take("size");
    let max = u64::from(SecretKind::MAX_SIZE);
    let size = size_node.map(|node| reader.number(node, "size", 1..=max));
    let size = match size {
        Some(size) => Some(u32::try_from(size?).ok()?),
        None => None,
    };
    let kind_node = kind_node?;
    let kind = reader.text(kind_node)?;
    let generated = size.unwrap_or(SecretKind::DEFAULT_SIZE);
    let kind = match kind.as_str() {
        "ascii" => SecretKind::Ascii { size: generated },
        "binary" => SecretKind::Binary { size: generated },
        later if LATER_KINDS.contains(&later) => {
            let what = format!("Secret kind '{later}'");
            return reader.refuse(kind_node.span, Problem::NotSupported { what });
        }
        other => {
            let problem = Problem::BadChoice {
                what: "kind of secret",
                value: shortened(other),
                choices: "ascii or binary",
            };
            return reader.refuse(kind_node.span, problem);
        }
    };
    let Some(node) = value else {
        return Some(Secret { kind, value: None });
    };
    let text = reader.text(node)?;
    let bad = |rule| Problem::BadSecretValue {
        name: name.clone(),
        kind: kind.as_str(),
        rule,
    };
    if text.len() > 2 * MAX_VALUE {
        return reader.refuse(node.span, bad("at most 64 KiB"));
    }
    let bytes = match kind {
        SecretKind::Ascii { .. } if text.contains('\0') => {
            return reader.refuse(node.span, bad("a text without NUL"));
        }
        SecretKind::Ascii { .. } => Zeroizing::new(text.as_bytes().to_vec()),
        SecretKind::Binary { .. } => match hex::decode(text.as_bytes()) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(_) => return reader.refuse(node.span, bad("hexadecimal digits, two per byte")),
        },
    };
    if bytes.len() > MAX_VALUE {
        return reader.refuse(node.span, bad("at most 64 KiB"));
    }
    let length = u32::try_from(bytes.len()).ok()?;
    if size.is_some_and(|size| size != length) {
        return reader.refuse(node.span, bad("as long as its size says"));
    }
    let kind = match kind {
        SecretKind::Ascii { .. } => SecretKind::Ascii { size: length },
        SecretKind::Binary { .. } => SecretKind::Binary { size: length },
    };
    Some(Secret {
        kind,
        value: Some(bytes),
    })
}
