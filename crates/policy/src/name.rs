// SPDX-License-Identifier: Apache-2.0
//! Names of sessions, services, secrets and images.

use std::fmt;

/// Longest segment of a name, in characters (all ASCII).
pub const MAX_SEGMENT: usize = 128;
/// Most namespace segments of a session name.
pub const MAX_SEGMENTS: usize = 16;

/// The rule, as error messages state it.
pub(crate) const RULE: &str = "use 1 to 128 of A-Z a-z 0-9 _ - . ~, and not '.' or '..'";

/// A text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("A name has 1 to 16 segments, each of 1 to 128 of A-Z a-z 0-9 _ - . ~")]
pub struct NameError;

/// Whether `text` is one valid segment: RFC 3986 unreserved characters, and no relative step.
pub fn is_segment(text: &str) -> bool {
    (1..=MAX_SEGMENT).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.~".contains(&b))
}

/// One segment: the name of a service, secret or image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// The text is not one valid segment.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_segment(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Name of a session: segments joined by `/`; all but the last name its namespaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// Checks and takes a session name.
    ///
    /// # Errors
    /// A segment is not valid, or there are too many.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut segments = 0_usize;
        for segment in text.split('/') {
            segments += 1;
            if segments > MAX_SEGMENTS || !is_segment(segment) {
                return Err(NameError);
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The session that acts as this session's namespace, if any.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(Self(parent.to_owned()))
    }
}

macro_rules! text_like {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

text_like!(Name);
text_like!(SessionName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_name_knows_its_namespace() {
        let name = SessionName::parse("acme/billing/ledger").unwrap();
        assert_eq!(name.parent().unwrap().as_str(), "acme/billing");
        assert_eq!(SessionName::parse("ledger").unwrap().parent(), None);
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        let long = "a".repeat(129);
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/../b", ".", "a b", "a\0", "é", &long,
        ] {
            assert!(SessionName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(SessionName::parse(&"a".repeat(128)).is_ok());
        assert!(SessionName::parse(&vec!["a"; 17].join("/")).is_err());
        assert!(SessionName::parse("~a.b-c_d/..e").is_ok());
    }
}
