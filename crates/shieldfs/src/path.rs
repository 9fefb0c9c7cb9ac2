// SPDX-License-Identifier: Apache-2.0
//! Normalised absolute paths as bytes; nothing here resolves symlinks.

use alloc::vec::Vec;
use core::fmt;

/// Longest path in bytes, without a terminating NUL (Linux PATH_MAX minus one).
pub const MAX_PATH: usize = 4095;
/// Longest single name in bytes (Linux NAME_MAX).
pub const MAX_NAME: usize = 255;

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path does not start with `/`.
    #[error("{path} is not absolute")]
    NotAbsolute {
        /// The refused path.
        path: PathText,
    },
    /// The path holds an empty, `.` or `..` component, a trailing slash or a NUL byte.
    #[error("{path} is not normalised")]
    NotNormalised {
        /// The refused path.
        path: PathText,
    },
    /// The path or one of its names is longer than [`MAX_PATH`] or [`MAX_NAME`].
    #[error("{path} is too long")]
    TooLong {
        /// The refused path, cut at [`MAX_PATH`] bytes.
        path: PathText,
    },
}

/// A path kept for messages: printed with escapes, so that hostile names cannot forge log lines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathText(Vec<u8>);

impl PathText {
    /// Keeps at most [`MAX_PATH`] bytes of the path.
    pub fn new(path: &[u8]) -> Self {
        Self(path.get(..MAX_PATH).unwrap_or(path).to_vec())
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for character in part.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Checks that a path is absolute and normalised, and within the limits.
///
/// # Errors
/// [`PathError`] with the path.
pub fn check(path: &[u8]) -> Result<(), PathError> {
    let text = || PathText::new(path);
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong { path: text() });
    }
    let Some(rest) = path.strip_prefix(b"/") else {
        return Err(PathError::NotAbsolute { path: text() });
    };
    if rest.is_empty() {
        return Ok(());
    }
    for name in rest.split(|byte| *byte == b'/') {
        if name.len() > MAX_NAME {
            return Err(PathError::TooLong { path: text() });
        }
        if !is_name(name) {
            return Err(PathError::NotNormalised { path: text() });
        }
    }
    Ok(())
}

/// Whether the bytes can be one component of a path.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.contains(&0)
        && !name.contains(&b'/')
}

/// Splits a checked path into parent path and name; the root is (empty, empty).
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    if path == b"/" {
        return (b"", b"");
    }
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let (parent, name) = path.split_at(slash);
    let parent = if parent.is_empty() { b"/" } else { parent };
    (parent, name.strip_prefix(b"/").unwrap_or(name))
}

/// Joins a parent path and a name, the inverse of [`split`].
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len().saturating_add(name.len()).saturating_add(1));
    if parent != b"/" {
        path.extend_from_slice(parent);
    }
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// Whether `path` is `prefix` or lies below it, by whole components.
pub fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    if prefix == b"/" {
        return path.first() == Some(&b'/');
    }
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.first() == Some(&b'/'),
        None => false,
    }
}

/// The path itself and all its ancestors up to the root, longest first.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = Some(path);
    core::iter::from_fn(move || {
        let now = next?;
        next = match split(now).0 {
            b"" => None,
            parent => Some(parent),
        };
        Some(now)
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec;

    use super::*;

    #[test]
    fn accepts_normalised_absolute_paths() {
        for path in [
            &b"/"[..],
            b"/a",
            b"/a/b.c/..d",
            b"/\xff\xfe",
            b"/...",
            b"/a b",
        ] {
            assert_eq!(check(path), Ok(()));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for path in [
            &b""[..],
            b"a",
            b"//",
            b"/a/",
            b"/a//b",
            b"/.",
            b"/a/..",
            b"/a\0b",
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
        let long_name = [b"/".to_vec(), vec![b'x'; 256]].concat();
        assert!(matches!(check(&long_name), Err(PathError::TooLong { .. })));
        let long_path = b"/x".repeat(2048);
        assert!(matches!(check(&long_path), Err(PathError::TooLong { .. })));
        assert_eq!(check(&b"/x".repeat(2047)), Ok(()));
    }

    #[test]
    fn split_and_join_are_inverse() {
        for path in [&b"/a"[..], b"/a/b", b"/a/b/c"] {
            let (parent, name) = split(path);
            assert_eq!(join(parent, name), path);
        }
        assert_eq!(split(b"/"), (&b""[..], &b""[..]));
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
    }

    #[test]
    fn prefixes_count_by_component() {
        assert!(is_under(b"/a/b", b"/a"));
        assert!(is_under(b"/a", b"/a"));
        assert!(!is_under(b"/ab", b"/a"));
        assert!(is_under(b"/ab", b"/"));
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let all: Vec<&[u8]> = ancestors(b"/a/b").collect();
        assert_eq!(all, [&b"/a/b"[..], b"/a", b"/"]);
    }

    #[test]
    fn messages_cannot_be_forged_by_names() {
        let text = PathText::new(b"/a\nfake\xff\xc3\xa9").to_string();
        assert_eq!(text, "/a\\nfake\\xff\u{e9}");
    }
}
