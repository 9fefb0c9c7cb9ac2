// SPDX-License-Identifier: Apache-2.0
//! Paths as bytes: absolute and normalised inside the kernel, anything outside.

use alloc::vec::Vec;

use crate::errno::Errno;

/// Longest path in bytes, without the NUL (Linux PATH_MAX minus one).
pub const MAX_PATH: usize = 4095;
/// Longest name in bytes (Linux NAME_MAX).
pub const MAX_NAME: usize = 255;

/// Checks the length of a path that a program gave, and that it is not empty.
///
/// # Errors
/// `ENOENT` if empty, `ENAMETOOLONG` if too long.
pub fn check(path: &[u8]) -> Result<(), Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.len() > MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(())
}

/// The components of a path: no empty ones and no `.`; `..` stays.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// Whether a path demands a directory: it ends in `/`, `/.` or `/..`, or is one of these.
#[must_use]
pub fn demands_directory(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    matches!(last, b"" | b"." | b"..")
}

/// Splits a normalised absolute path into parent and name; the root is (`/`, empty).
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", path.get(1..).unwrap_or_default()),
        Some(slash) => {
            let (parent, name) = path.split_at(slash);
            (parent, name.get(1..).unwrap_or_default())
        }
        None => (b"/", path),
    }
}

/// The last name of a path.
#[must_use]
pub fn name(path: &[u8]) -> &[u8] {
    split(path).1
}

/// Joins a normalised absolute directory and a name.
#[must_use]
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    if parent != b"/" {
        path.extend_from_slice(parent);
    }
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// Appends a name to a normalised absolute path in place.
pub fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.as_slice() != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Removes the last name in place; the root stays the root.
pub fn pop(path: &mut Vec<u8>) {
    let keep = split(path).0.len();
    path.truncate(keep);
}

/// What is left of `path` below `prefix`, by whole components: empty for the
/// prefix itself, else starting without a slash. `None` if it is elsewhere.
#[must_use]
pub fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if prefix == b"/" {
        return path.strip_prefix(b"/");
    }
    match path.strip_prefix(prefix)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Makes a path absolute and removes `.`, `..` and double slashes by text alone.
/// Only for paths that have no symbolic links, such as configured ones.
#[must_use]
pub fn normalise(path: &[u8]) -> Vec<u8> {
    let mut out = b"/".to_vec();
    for name in components(path) {
        if name == b".." {
            pop(&mut out);
        } else {
            push(&mut out, name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn split_and_join_are_inverse() {
        for path in [&b"/a"[..], b"/a/b", b"/a/b/c"] {
            let (parent, name) = split(path);
            assert_eq!(join(parent, name), path);
        }
        assert_eq!(split(b"/"), (&b"/"[..], &b""[..]));
    }

    #[test]
    fn pop_stops_at_the_root() {
        let mut path = b"/a/b".to_vec();
        pop(&mut path);
        assert_eq!(path, b"/a");
        pop(&mut path);
        assert_eq!(path, b"/");
        pop(&mut path);
        assert_eq!(path, b"/");
    }

    #[test]
    fn prefixes_count_by_component() {
        assert_eq!(below(b"/a/b/c", b"/a"), Some(&b"b/c"[..]));
        assert_eq!(below(b"/a", b"/a"), Some(&b""[..]));
        assert_eq!(below(b"/ab", b"/a"), None);
        assert_eq!(below(b"/ab", b"/"), Some(&b"ab"[..]));
        assert_eq!(below(b"/", b"/"), Some(&b""[..]));
    }

    #[test]
    fn directories_are_demanded_by_the_last_component() {
        for path in [&b"/"[..], b"a/", b"a/.", "a/..".as_bytes(), b".", b".."] {
            assert!(demands_directory(path), "{path:?}");
        }
        for path in [&b"a"[..], b"/a", b"a/.b", b"..c"] {
            assert!(!demands_directory(path), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn normalised_paths_are_absolute_and_stay_so(path in "[a./]{0,24}") {
            let once = normalise(path.as_bytes());
            prop_assert_eq!(once.first(), Some(&b'/'));
            prop_assert!(!once.windows(2).any(|pair| pair == b"//"));
            prop_assert!(components(&once).all(|name| name != b".."));
            prop_assert_eq!(normalise(&once), once.clone());
        }
    }
}
