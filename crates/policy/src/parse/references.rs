// SPDX-License-Identifier: Apache-2.0
//! Checks placeholders against the secrets of the document.

use zeroize::Zeroizing;

use super::Secrets;
use crate::fields::Reader;
use crate::model::SecretKind;
use crate::name::Name;
use crate::placeholder::{self, Format, Piece, RawPiece, RawRef, SecretRef, Template};
use crate::problem::Problem;
use crate::source::Span;

/// Where a template's result goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Argument or environment value: text only.
    Text,
    /// File content: any bytes.
    File,
}

/// Splits and checks a text.
pub(super) fn template(
    reader: &mut Reader<'_>,
    span: Span,
    text: &str,
    secrets: &Secrets,
    target: Target,
) -> Option<Template> {
    let Ok(pieces) = placeholder::split(text) else {
        return reader.refuse(span, Problem::BadPlaceholder);
    };
    let mut checked = Vec::with_capacity(pieces.len());
    let mut complete = true;
    for piece in pieces {
        match piece {
            RawPiece::Text(text) => checked.push(Piece::Text(text)),
            RawPiece::Secret(raw) => match reference(reader, span, &raw, secrets, target) {
                Some(reference) => checked.push(Piece::Secret(reference)),
                None => complete = false,
            },
        }
    }
    complete.then_some(Template(checked))
}

fn reference(
    reader: &mut Reader<'_>,
    span: Span,
    raw: &RawRef,
    secrets: &Secrets,
    target: Target,
) -> Option<SecretRef> {
    let (name, written) = deprecated(raw, secrets);
    let Some(secret) = secrets.get(&name) else {
        let (what, name) = ("secret", name.to_string());
        return reader.refuse(span, Problem::Undefined { what, name });
    };
    let kind = secret.kind.as_str();
    let bad = |name: &Name, format: &str, choices| Problem::BadFormat {
        format: crate::fields::shortened(format),
        kind,
        name: name.to_string(),
        choices,
    };
    let format = match (&written, secret.kind) {
        (None, _) => None,
        (Some(text), SecretKind::Ascii { .. }) => {
            let problem = bad(&name, text, "no format");
            return reader.refuse(span, problem);
        }
        (Some(text), SecretKind::Binary { .. }) => match Format::parse(text) {
            // `bin` is the default; one spelling keeps equal sessions equal.
            Some(Format::Bin) => None,
            Some(format) => Some(format),
            None => {
                let problem = bad(&name, text, Format::CHOICES);
                return reader.refuse(span, problem);
            }
        },
    };
    let raw_bytes = matches!(secret.kind, SecretKind::Binary { .. }) && format.is_none();
    if raw_bytes && (target == Target::Text || raw.escape_json) {
        let name = name.to_string();
        return reader.refuse(span, Problem::BinaryInText { name });
    }
    Some(SecretRef {
        name,
        format,
        escape_json: raw.escape_json,
    })
}

/// Understands the older form `name.hex` where no secret has exactly that name.
fn deprecated(raw: &RawRef, secrets: &Secrets) -> (Name, Option<String>) {
    if raw.format.is_none()
        && !secrets.contains_key(&raw.name)
        && let Some((name, format)) = raw.name.as_str().rsplit_once('.')
        && let Some((name, _)) = secrets.get_key_value(name)
    {
        return (name.clone(), Some(format.to_owned()));
    }
    (raw.name.clone(), raw.format.clone())
}

/// A value that is exactly one placeholder without format or escape.
pub(super) fn single(text: &str) -> Option<Result<Name, placeholder::BadPlaceholder>> {
    if !text.contains("$$SCONE::") {
        return None;
    }
    let pieces = match placeholder::split(text) {
        Ok(pieces) => pieces,
        Err(bad) => return Some(Err(bad)),
    };
    match pieces.as_slice() {
        [
            RawPiece::Secret(RawRef {
                name,
                format: None,
                escape_json: false,
            }),
        ] => Some(Ok(name.clone())),
        _ => Some(Err(placeholder::BadPlaceholder)),
    }
}

/// A text without NUL, for arguments and environment values.
pub(super) fn without_nul(
    reader: &mut Reader<'_>,
    span: Span,
    text: Zeroizing<String>,
    what: &'static str,
) -> Option<Zeroizing<String>> {
    if text.contains('\0') {
        return reader.refuse(span, Problem::Nul { what });
    }
    Some(text)
}
