// SPDX-License-Identifier: Apache-2.0
//! `$$SCONE::name[:format][|escape(json)]$$`: parsing, formats, replacement.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::name::{MAX_SEGMENT, Name};

const OPEN: &str = "$$SCONE::";
const CLOSE: &str = "$$";
const ESCAPE_JSON: &str = "escape(json)";

/// How the bytes of a secret become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Raw bytes; only in files.
    Bin,
    /// Lower-case hexadecimal.
    Hex,
    /// RFC 4648 §4, padded.
    Base64,
    /// RFC 4648 §5, without padding.
    Base64Url,
    /// RFC 4648 §6, padded.
    Base32,
    /// RFC 4648 §6, without padding.
    Base32NoPad,
}

impl Format {
    /// Every format with its name in the language.
    pub const ALL: [(&'static str, Self); 6] = [
        ("bin", Self::Bin),
        ("hex", Self::Hex),
        ("base64", Self::Base64),
        ("base64url", Self::Base64Url),
        ("base32", Self::Base32),
        ("base32nopad", Self::Base32NoPad),
    ];

    /// The names, for error messages.
    pub(crate) const CHOICES: &'static str = "bin, hex, base64, base64url, base32 or base32nopad";

    /// The format of a name.
    pub fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text)?;
        Some(found.1)
    }

    /// The name of the format.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, format)| *format == self)
            .map_or("bin", |(name, _)| name)
    }

    /// Writes secret bytes in this format.
    pub fn encode(self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        let text = match self {
            Self::Bin => return Zeroizing::new(bytes.to_vec()),
            Self::Hex => hex::encode(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
            Self::Base32 => base32(bytes, true),
            Self::Base32NoPad => base32(bytes, false),
        };
        Zeroizing::new(text.into_bytes())
    }
}

/// RFC 4648 §6.
fn base32(bytes: &[u8], pad: bool) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let mut block = [0_u8; 8];
        for (to, from) in block.iter_mut().skip(3).zip(group) {
            *to = *from;
        }
        let bits = u64::from_be_bytes(block);
        let used = (group.len() * 8).div_ceil(5);
        for index in 0..8_usize {
            if index < used {
                let five = (bits >> (35 - 5 * index)) & 31;
                let digit = usize::try_from(five).ok().and_then(|at| ALPHABET.get(at));
                out.extend(digit.map(|d| char::from(*d)));
            } else if pad {
                out.push('=');
            }
        }
    }
    out
}

/// A reference to a secret of the session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// Name of the secret.
    pub name: Name,
    /// The format asked for; `None` is the kind's default.
    pub format: Option<Format>,
    /// Whether the text is escaped for a JSON string (RFC 8259 §7), without adding quotes.
    pub escape_json: bool,
}

/// A placeholder as written, before the kinds of secrets are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRef {
    pub(crate) name: Name,
    pub(crate) format: Option<String>,
    pub(crate) escape_json: bool,
}

/// A piece of text as written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RawPiece {
    Text(Zeroizing<String>),
    Secret(RawRef),
}

/// `$$SCONE::` without its end, or malformed inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPlaceholder;

/// Splits a text at its placeholders.
pub(crate) fn split(text: &str) -> Result<Vec<RawPiece>, BadPlaceholder> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        if !before.is_empty() {
            pieces.push(RawPiece::Text(Zeroizing::new(before.to_owned())));
        }
        let (inside, after) = after.split_once(CLOSE).ok_or(BadPlaceholder)?;
        pieces.push(RawPiece::Secret(parse_inside(inside)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(RawPiece::Text(Zeroizing::new(rest.to_owned())));
    }
    Ok(pieces)
}

fn parse_inside(inside: &str) -> Result<RawRef, BadPlaceholder> {
    // Name, format and encoding are short; a longer text is a missing end.
    if inside.len() > MAX_SEGMENT + 64 {
        return Err(BadPlaceholder);
    }
    let (reference, escape_json) = match inside.split_once('|') {
        Some((reference, ESCAPE_JSON)) => (reference, true),
        Some(_) => return Err(BadPlaceholder),
        None => (inside, false),
    };
    let (name, format) = match reference.split_once(':') {
        Some((name, format)) => (name, Some(format.to_owned())),
        None => (reference, None),
    };
    Ok(RawRef {
        name: Name::parse(name).map_err(|_| BadPlaceholder)?,
        format,
        escape_json,
    })
}

impl SecretRef {
    /// The placeholder as the language writes it.
    pub fn to_placeholder(&self) -> String {
        let format = self.format.map(|f| format!(":{}", f.as_str()));
        let escape = if self.escape_json {
            "|escape(json)"
        } else {
            ""
        };
        format!(
            "{OPEN}{}{}{escape}{CLOSE}",
            self.name,
            format.unwrap_or_default()
        )
    }

    /// The secret's bytes as this placeholder wants them.
    pub fn render(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let encoded = self.format.unwrap_or(Format::Bin).encode(secret);
        if self.escape_json {
            escape_json(&encoded)
        } else {
            encoded
        }
    }
}

/// Escapes for the inside of a JSON string; bytes above 127 pass, so UTF-8 stays UTF-8.
fn escape_json(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 6));
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out
}

/// A text with placeholders, checked against the secrets of its session.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Template(pub(crate) Vec<Piece>);

/// A piece of a template.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece {
    /// Literal text; may be secret, so it is wiped and never shown.
    Text(Zeroizing<String>),
    /// Replaced by a secret.
    Secret(SecretRef),
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template([redacted])")
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text([redacted])"),
            Self::Secret(reference) => write!(f, "Secret({reference:?})"),
        }
    }
}

/// A template names a secret that the caller does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The secret '{name}' has no value")]
pub struct MissingSecret {
    /// Name of the secret.
    pub name: Name,
}

impl Template {
    /// The pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The text as the language writes it.
    pub fn to_source(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::new());
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Secret(reference) => out.push_str(&reference.to_placeholder()),
            }
        }
        out
    }

    /// Replaces every placeholder in one pass; placeholders inside secret values stay text.
    ///
    /// # Errors
    /// `secret` has no value for a name.
    pub fn resolve<'s>(
        &self,
        secret: impl Fn(&Name) -> Option<&'s [u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, MissingSecret> {
        let mut out = Zeroizing::new(Vec::new());
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Secret(reference) => {
                    let value = secret(&reference.name).ok_or_else(|| MissingSecret {
                        name: reference.name.clone(),
                    })?;
                    out.extend_from_slice(&reference.render(value));
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_agree_with_rfc_4648() {
        // RFC 4648 §10.
        for (input, padded) in [
            ("", ""),
            ("f", "MY======"),
            ("fo", "MZXQ===="),
            ("foo", "MZXW6==="),
            ("foob", "MZXW6YQ="),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI======"),
        ] {
            let encoded =
                |f: Format| String::from_utf8(f.encode(input.as_bytes()).to_vec()).unwrap();
            assert_eq!(encoded(Format::Base32), padded);
            assert_eq!(encoded(Format::Base32NoPad), padded.trim_end_matches('='));
        }
        assert_eq!(Format::Base64.encode(&[0xfb, 0xff]).as_slice(), b"+/8=");
        assert_eq!(Format::Base64Url.encode(&[0xfb, 0xff]).as_slice(), b"-_8");
        assert_eq!(Format::Hex.encode(&[0xfb, 0xff]).as_slice(), b"fbff");
    }

    #[test]
    fn json_escaping_adds_no_quotes() {
        let reference = SecretRef {
            name: Name::parse("x").unwrap(),
            format: None,
            escape_json: true,
        };
        assert_eq!(
            reference.render(b"a\"b\\c\nd\x01").as_slice(),
            b"a\\\"b\\\\c\\nd\\u0001"
        );
    }

    #[test]
    fn secrets_are_not_expanded_again() {
        let template = Template(vec![Piece::Secret(SecretRef {
            name: Name::parse("a").unwrap(),
            format: None,
            escape_json: false,
        })]);
        let value = template.resolve(|_| Some(b"$$SCONE::b$$")).unwrap();
        assert_eq!(value.as_slice(), b"$$SCONE::b$$");
    }

    #[test]
    fn malformed_placeholders_are_refused() {
        for bad in [
            "$$SCONE::",
            "$$SCONE::a",
            "$$SCONE::a$",
            "$$SCONE::$$",
            "$$SCONE::a|escape(xml)$$",
            "$$SCONE::a b$$",
        ] {
            assert!(split(bad).is_err(), "{bad}");
        }
        assert!(split("costs $$5, not $$SCONE").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_splits_into_pieces_that_join_to_itself(text in "(\\$\\$SCONE::[a-z]{0,3}(:hex)?(\\|escape\\(json\\))?\\$\\$|[$:a-zS|]{0,6}){0,6}") {
            if let Ok(pieces) = split(&text) {
                let joined: String = pieces.iter().map(|piece| match piece {
                    RawPiece::Text(text) => text.to_string(),
                    RawPiece::Secret(r) => format!(
                        "$$SCONE::{}{}{}$$",
                        r.name,
                        r.format.as_ref().map(|f| format!(":{f}")).unwrap_or_default(),
                        if r.escape_json { "|escape(json)" } else { "" },
                    ),
                }).collect();
                prop_assert_eq!(joined, text);
            }
        }
    }
}
