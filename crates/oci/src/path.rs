// SPDX-License-Identifier: Apache-2.0
//! Paths inside an image's root, normalised once and trusted afterwards.

use std::fmt;

/// Longest path accepted, in bytes (Linux `PATH_MAX` less the final NUL).
pub const MAX_PATH: usize = 4095;
/// Longest single component accepted, in bytes (Linux `NAME_MAX`).
pub const MAX_COMPONENT: usize = 255;

/// Why bytes are no path inside an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A component is longer than [`MAX_COMPONENT`].
    #[error("Path component of {length} bytes is longer than {MAX_COMPONENT}")]
    LongComponent {
        /// Its length in bytes.
        length: usize,
    },
    /// A NUL byte, which no file system path can hold.
    #[error("Path holds a NUL byte")]
    Nul,
    /// A `..` component: images have no reason to climb.
    #[error("Path climbs with '..'")]
    Parent,
    /// A name with a slash, empty, `.` or `..` where one component is wanted.
    #[error("Not a single path component")]
    NotAComponent,
    /// Longer than [`MAX_PATH`].
    #[error("Path of {length} bytes is longer than {MAX_PATH}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// An absolute, normalised path below an image's root.
///
/// It starts with `/`, has no empty, `.` or `..` component, no NUL and no
/// trailing slash (except for the root itself). It need not be UTF-8. The
/// order is that of the bytes, so a directory sorts before what it holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPath(Vec<u8>);

impl RootPath {
    /// The root directory, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(vec![b'/'])
    }

    /// Normalises a name as archives and users write them.
    ///
    /// Leading slashes, empty components, `.` and trailing slashes vanish.
    ///
    /// # Errors
    /// [`PathError`] for `..`, NUL, and lengths beyond the limits.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        // A hostile name of many slashes shrinks; only what is left counts.
        let mut path = Vec::with_capacity(bytes.len().min(MAX_PATH) + 1);
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(PathError::Parent),
                _ => push_component(&mut path, component)?,
            }
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(Self(path))
    }

    /// The path with one more component.
    ///
    /// # Errors
    /// [`PathError::NotAComponent`] unless `name` is exactly one component,
    /// and the limits of [`Self::parse`].
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(PathError::NotAComponent);
        }
        let mut path = if self.is_root() {
            Vec::new()
        } else {
            self.0.clone()
        };
        push_component(&mut path, name)?;
        Ok(Self(path))
    }

    /// The absolute path's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path without its leading slash; empty for the root.
    #[must_use]
    pub fn relative(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// The directory that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        if slash == 0 {
            return Some(Self::root());
        }
        self.0.get(..slash).map(|head| Self(head.to_vec()))
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|byte| *byte == b'/');
        start
            .and_then(|slash| self.0.get(slash + 1..))
            .unwrap_or_default()
    }

    /// The components from the root downwards; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// Whether this path is `prefix` or lies below it, by whole components.
    #[must_use]
    pub fn is_within(&self, prefix: &Self) -> bool {
        if prefix.is_root() {
            return true;
        }
        match self.0.strip_prefix(prefix.0.as_slice()) {
            Some(rest) => matches!(rest.first(), None | Some(b'/')),
            None => false,
        }
    }

    /// The byte string that every path strictly below this one starts with.
    pub(crate) fn children_prefix(&self) -> Vec<u8> {
        let mut prefix = self.0.clone();
        if !self.is_root() {
            prefix.push(b'/');
        }
        prefix
    }

    /// The first position after everything below this path.
    pub(crate) fn after_subtree(&self) -> Self {
        let mut end = self.children_prefix();
        if let Some(last) = end.last_mut() {
            *last = b'/' + 1;
        }
        Self(end)
    }

    /// The position right after this path and before everything that follows.
    pub(crate) fn successor(&self) -> Self {
        let mut next = self.0.clone();
        next.push(0);
        Self(next)
    }

    /// The first position at which something below this path can stand.
    pub(crate) fn before_children(&self) -> Self {
        Self(self.children_prefix())
    }
}

fn push_component(path: &mut Vec<u8>, component: &[u8]) -> Result<(), PathError> {
    if component.len() > MAX_COMPONENT {
        return Err(PathError::LongComponent {
            length: component.len(),
        });
    }
    if component.contains(&0) {
        return Err(PathError::Nul);
    }
    path.push(b'/');
    path.extend_from_slice(component);
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong { length: path.len() });
    }
    Ok(())
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names are hostile: no control character reaches a terminal.
        write!(f, "{}", printable(&self.0))
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootPath({})", printable(&self.0))
    }
}

/// Renders foreign bytes so that they are safe on a terminal and in a log.
///
/// Valid UTF-8 without control characters stays; every other byte becomes
/// `\xNN`. At most the first 512 bytes are shown.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    const SHOWN: usize = 512;
    let mut text = String::new();
    for chunk in bytes.get(..SHOWN).unwrap_or(bytes).utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RootPath {
        RootPath::parse(text).expect("test path")
    }

    #[test]
    fn archive_spellings_of_one_path_are_equal() {
        for spelling in [
            "usr/bin",
            "./usr/bin",
            "/usr/bin/",
            "//usr/./bin",
            "usr//bin/.",
        ] {
            assert_eq!(path(spelling).as_bytes(), b"/usr/bin", "{spelling}");
        }
        assert!(path("./").is_root());
        assert!(path("").is_root());
    }

    #[test]
    fn climbing_nul_and_lengths_are_refused() {
        assert_eq!(RootPath::parse("a/../b"), Err(PathError::Parent));
        assert_eq!(RootPath::parse(".."), Err(PathError::Parent));
        assert_eq!(RootPath::parse(b"a\0b"), Err(PathError::Nul));
        assert!(RootPath::parse("x".repeat(256)).is_err());
        assert!(RootPath::parse("x/".repeat(2048)).is_err());
        assert!(
            RootPath::parse("/".repeat(100_000))
                .expect("slashes only")
                .is_root()
        );
    }

    #[test]
    fn prefixes_match_whole_components_only() {
        assert!(path("/app/x").is_within(&path("/app")));
        assert!(path("/app").is_within(&path("/app")));
        assert!(!path("/apple").is_within(&path("/app")));
        assert!(path("/anything").is_within(&RootPath::root()));
    }

    #[test]
    fn parents_and_names_take_paths_apart() {
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(RootPath::root()));
        assert_eq!(RootPath::root().parent(), None);
        assert_eq!(path("/a/b").file_name(), b"b");
        assert_eq!(path("/a/b").components().count(), 2);
        assert!(path("/a").join(b"..").is_err());
        assert!(path("/a").join(b"b/c").is_err());
    }

    #[test]
    fn control_bytes_are_escaped_for_people() {
        assert_eq!(printable(b"a\x1b[2J\xff"), "a\\u{1b}[2J\\xff");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_normal(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(parsed) = RootPath::parse(&bytes) {
                prop_assert!(parsed.as_bytes().starts_with(b"/"));
                prop_assert!(parsed.components().all(|c| c != b".." && c != b"." && !c.contains(&0)));
                // Normalising is idempotent and rebuilding from parts is the identity.
                prop_assert_eq!(RootPath::parse(parsed.as_bytes()).expect("normal form"), parsed.clone());
                let mut rebuilt = RootPath::root();
                for component in parsed.components() {
                    rebuilt = rebuilt.join(component).expect("own component");
                }
                prop_assert_eq!(rebuilt, parsed);
            }
        }

        #[test]
        fn subtree_ranges_hold_exactly_what_lies_below(a in "[a-c/.0]{0,8}", b in "[a-c/.0]{0,8}") {
            if let (Ok(a), Ok(b)) = (RootPath::parse(&a), RootPath::parse(&b)) {
                let inside = b >= a.before_children() && b < a.after_subtree() && b != a;
                prop_assert_eq!(inside, b.is_within(&a) && b != a);
            }
        }
    }
}
