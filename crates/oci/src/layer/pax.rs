// SPDX-License-Identifier: Apache-2.0
//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header").

use super::entry::{Timestamp, Xattrs};
use crate::limits::Limits;

/// Prefix under which archivers store Linux extended attributes.
pub(super) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Why an extended header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaxError {
    /// A record that is not `LENGTH KEY=VALUE\n`.
    #[error("Extended header holds a malformed record")]
    Malformed,
    /// A number or time that is none.
    #[error("Extended header has the unusable value of '{key}'")]
    Number {
        /// The key.
        key: &'static str,
    },
    /// A sparse file, whose content is not stored as it is read.
    #[error("Sparse files are not supported")]
    Sparse,
    /// More extended attributes than allowed.
    #[error("Entry has more than {limit} extended attributes")]
    TooManyXattrs {
        /// The limit.
        limit: usize,
    },
}

/// What extended headers say about the entry that follows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Xattrs,
}

impl Overrides {
    /// Adds the records of one extended header; later ones win.
    pub(super) fn add(&mut self, mut bytes: &[u8], limits: &Limits) -> Result<(), PaxError> {
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes).ok_or(PaxError::Malformed)?;
            bytes = rest;
            // An empty value takes the override back.
            let given = (!value.is_empty()).then_some(value);
            match key {
                b"path" => self.path = given.map(<[u8]>::to_vec),
                b"linkpath" => self.link = given.map(<[u8]>::to_vec),
                b"size" => self.size = number(given, "size")?,
                b"uid" => self.uid = number(given, "uid")?,
                b"gid" => self.gid = number(given, "gid")?,
                b"mtime" => self.mtime = time(given)?,
                _ if key.starts_with(b"GNU.sparse.") => return Err(PaxError::Sparse),
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                        self.xattrs.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
            if self.xattrs.len() > limits.xattrs {
                return Err(PaxError::TooManyXattrs {
                    limit: limits.xattrs,
                });
            }
        }
        Ok(())
    }
}

/// Takes `LENGTH KEY=VALUE\n` off the front; the length counts everything.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    const MAX_DIGITS: usize = 9;
    let head = bytes.get(..bytes.len().min(MAX_DIGITS + 1))?;
    let space = head.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..space)?)?).ok()?;
    let record = bytes.get(..length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let key = body.get(..equals)?;
    if key.is_empty() {
        return None;
    }
    Some((key, body.get(equals + 1..)?, bytes.get(length..)?))
}

/// Digits only: no sign, no space, so that no two readers disagree.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn number(value: Option<&[u8]>, key: &'static str) -> Result<Option<u64>, PaxError> {
    match value {
        None => Ok(None),
        Some(digits) => match decimal(digits) {
            Some(number) => Ok(Some(number)),
            None => Err(PaxError::Number { key }),
        },
    }
}

fn time(value: Option<&[u8]>) -> Result<Option<Timestamp>, PaxError> {
    let Some(text) = value else {
        return Ok(None);
    };
    match parse_time(text) {
        Some(time) => Ok(Some(time)),
        None => Err(PaxError::Number { key: "mtime" }),
    }
}

/// `[-]seconds[.fraction]`; digits after the ninth are dropped.
fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanoseconds = 0;
    if let Some(fraction) = parts.next().filter(|fraction| !fraction.is_empty()) {
        let digits: Vec<u8> = fraction
            .iter()
            .copied()
            .chain(std::iter::repeat(b'0'))
            .take(9)
            .collect();
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        nanoseconds = u32::try_from(decimal(&digits)?).ok()?;
    }
    if !is_negative {
        return Some(Timestamp {
            seconds,
            nanoseconds,
        });
    }
    // -1.25 is 2 s before 1970 plus 0.75 s.
    if nanoseconds == 0 {
        return Some(Timestamp {
            seconds: seconds.checked_neg()?,
            nanoseconds: 0,
        });
    }
    Some(Timestamp {
        seconds: seconds.checked_neg()?.checked_sub(1)?,
        nanoseconds: 1_000_000_000 - nanoseconds,
    })
}

/// Appends `LENGTH KEY=VALUE\n`.
pub(super) fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, equals sign and newline; the length's own digits come on top and
    // may make the number one digit longer, hence the loop.
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Overrides, PaxError> {
        let mut overrides = Overrides::default();
        overrides.add(bytes, &Limits::default())?;
        Ok(overrides)
    }

    fn at(seconds: i64, nanoseconds: u32) -> Option<Timestamp> {
        Some(Timestamp {
            seconds,
            nanoseconds,
        })
    }

    #[test]
    fn records_override_fields() {
        let parsed = parse(b"12 path=a/b\n10 size=7\n9 path=c\n").expect("valid");
        assert_eq!(parsed.path.as_deref(), Some(&b"c"[..]));
        assert_eq!(parsed.size, Some(7));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"12 path=a/b"[..],
            b"11 path=a/b\n",
            b"13 path=a/b\n",
            b"999999999999 a=b\n",
            b" a=b\n",
            b"+6 a=b\n",
            b"5 =b\n",
            b"7 path\n\n",
            b"0 ",
            b"x",
        ] {
            assert_eq!(parse(bytes), Err(PaxError::Malformed), "{bytes:?}");
        }
        assert!(parse(b"11 size=-7\n").is_err());
        assert!(parse(b"12 size=0x7\n").is_err());
        assert_eq!(parse(b"22 GNU.sparse.major=1\n"), Err(PaxError::Sparse));
    }

    #[test]
    fn times_before_1970_and_fractions_are_exact() {
        assert_eq!(parse_time(b"12.5"), at(12, 500_000_000));
        assert_eq!(parse_time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(parse_time(b"-3"), at(-3, 0));
        assert_eq!(parse_time(b"1.0000000019"), at(1, 1));
        assert_eq!(parse_time(b"1.5x"), None);
        assert_eq!(parse_time(b"99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn written_records_read_back(value in proptest::collection::vec(any::<u8>(), 1..1200)) {
            let mut records = Vec::new();
            push_record(&mut records, b"path", &value);
            push_record(&mut records, b"SCHILY.xattr.user.x", &value);
            let parsed = parse(&records).expect("own output");
            prop_assert_eq!(parsed.path.as_ref(), Some(&value));
            prop_assert_eq!(parsed.xattrs.get(&b"user.x"[..]), Some(&value));
        }
    }
}
