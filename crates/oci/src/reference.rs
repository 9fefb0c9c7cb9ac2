// SPDX-License-Identifier: Apache-2.0
//! Where an image is: a layout directory, an archive or the docker daemon.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Digest;

/// Longest reference accepted, in bytes.
const MAX_REFERENCE: usize = 4096;
/// Longest repository name, in bytes (OCI distribution specification).
const MAX_REPOSITORY: usize = 255;
/// Longest tag, in bytes (OCI distribution specification).
const MAX_TAG: usize = 128;

/// Why a text names no image that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A digest that is not `sha256:` and 64 digits.
    #[error("'{text}' does not end in a usable digest")]
    Digest {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: crate::digest::DigestError,
    },
    /// The transport needs a path and none was given.
    #[error("'{text}' names no path, expected {expected}")]
    EmptyPath {
        /// What was given.
        text: String,
        /// The form of a complete reference.
        expected: &'static str,
    },
    /// Not a docker image name.
    #[error("'{text}' is not an image name such as 'name', 'name:tag' or 'registry/path/name:tag'")]
    Name {
        /// What was given.
        text: String,
    },
    /// A registry was named.
    #[error(
        "'{text}' names a registry, and registries are not supported yet; copy the image into \
         an OCI layout (oci:DIR:TAG) or load it into the docker daemon first"
    )]
    RegistryUnsupported {
        /// What was given.
        text: String,
    },
    /// A layout tag with characters that no tag may have.
    #[error("'{tag}' is not a tag for an OCI layout")]
    Tag {
        /// What was given.
        tag: String,
    },
    /// More than 4096 bytes.
    #[error("Reference of {length} bytes is too long")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// A transport that other tools know and this one does not.
    #[error(
        "Transport '{transport}:' is not supported; use oci:DIR[:TAG], docker-archive:FILE[:NAME] \
         or a name in the docker daemon"
    )]
    UnsupportedTransport {
        /// The text before the colon.
        transport: String,
    },
}

/// A place that holds, or will hold, an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// Which of its images; optional if it holds one.
        name: Option<ImageName>,
    },
    /// `docker-daemon:NAME`, or a bare name.
    DockerDaemon(ImageName),
    /// `oci:DIR[:TAG]` or `oci:DIR@sha256:…`.
    OciLayout {
        /// The layout directory.
        dir: PathBuf,
        /// Which of its images; optional if it holds one.
        selector: Option<Selector>,
    },
}

/// Names one image of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The manifest's or index's digest.
    Digest(Digest),
    /// The annotation `org.opencontainers.image.ref.name`.
    Tag(String),
}

/// An image's name as the docker daemon knows it.
///
/// A name without tag and digest means the tag `latest`. Hexadecimal image
/// IDs are accepted as `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageName {
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageName {
    /// `name:tag` as the daemon lists it; `None` for an image ID or a digest.
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        match (&self.repository, &self.tag) {
            (Some(repository), Some(tag)) => Some(format!("{repository}:{tag}")),
            _ => None,
        }
    }

    /// The tag, if the name has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The repository with its registry and namespace spelled out, such as
    /// `docker.io/library/debian`; `None` for an image ID.
    #[must_use]
    pub fn canonical_repository(&self) -> Option<String> {
        let repository = self.repository.as_deref()?;
        let head = repository.split('/').next().unwrap_or_default();
        let has_domain =
            head != repository && (head.contains('.') || head.contains(':') || head == "localhost");
        Some(if has_domain {
            repository.to_owned()
        } else if repository.contains('/') {
            format!("docker.io/{repository}")
        } else {
            format!("docker.io/library/{repository}")
        })
    }
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Name {
            text: text.to_owned(),
        };
        let digest_of = |digest: &str| {
            digest
                .parse::<Digest>()
                .map_err(|source| ReferenceError::Digest {
                    text: text.to_owned(),
                    source,
                })
        };
        if text.starts_with("sha256:") {
            return Ok(Self {
                repository: None,
                tag: None,
                digest: Some(digest_of(text)?),
            });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest_of(digest)?)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before is a port.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        if !is_repository(repository) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad());
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            repository: Some(repository.to_owned()),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(repository) = &self.repository else {
            return match &self.digest {
                Some(digest) => write!(f, "{digest}"),
                None => Ok(()),
            };
        };
        f.write_str(repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// `[registry[:port]/]path…` with the distribution specification's alphabet.
fn is_repository(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_REPOSITORY {
        return false;
    }
    let mut parts = text.split('/').peekable();
    let mut position = 0;
    while let Some(part) = parts.next() {
        let is_first_of_many = position == 0 && parts.peek().is_some();
        if !(is_path_component(part) || is_first_of_many && is_domain(part)) {
            return false;
        }
        position += 1;
    }
    true
}

/// `[a-z0-9]+` groups joined by `.`, `_`, `__` or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let mut separator = String::new();
    let mut has_word = false;
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => {
                let joins = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|byte| byte == b'-');
                if !joins || (!has_word && !separator.is_empty()) {
                    return false;
                }
                separator.clear();
                has_word = true;
            }
            '.' | '_' | '-' => separator.push(character),
            _ => return false,
        }
    }
    has_word && separator.is_empty()
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port_fits = port.is_none_or(|port| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    port_fits
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    (1..=MAX_TAG).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A layout's tag may be a whole image name (OCI image layout, "index.json").
fn is_layout_tag(text: &str) -> bool {
    (1..=MAX_REPOSITORY + MAX_TAG).contains(&text.len())
        && text.split('/').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._:@+".contains(&byte))
        })
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // Known to skopeo and podman; naming them beats "no such image".
        const FOREIGN: [&str; 9] = [
            "atomic",
            "containerd",
            "containers-storage",
            "dir",
            "docker-tar",
            "oci-archive",
            "ostree",
            "sif",
            "tarball",
        ];
        if text.len() > MAX_REFERENCE {
            return Err(ReferenceError::TooLong { length: text.len() });
        }
        match text.split_once(':') {
            Some(("oci", rest)) => parse_layout(text, rest),
            Some(("docker-archive", rest)) => parse_archive(text, rest),
            Some(("docker-daemon", rest)) => rest.parse().map(Self::DockerDaemon),
            Some(("docker" | "http" | "https", rest)) if rest.starts_with("//") => {
                Err(ReferenceError::RegistryUnsupported {
                    text: text.to_owned(),
                })
            }
            Some((transport, _)) if FOREIGN.contains(&transport) => {
                Err(ReferenceError::UnsupportedTransport {
                    transport: transport.to_owned(),
                })
            }
            _ => text.parse().map(Self::DockerDaemon),
        }
    }
}

fn parse_layout(text: &str, rest: &str) -> Result<Reference, ReferenceError> {
    let (dir, selector) = if let Some((dir, digest)) = rest.split_once('@') {
        let digest = digest.parse().map_err(|source| ReferenceError::Digest {
            text: text.to_owned(),
            source,
        })?;
        (dir, Some(Selector::Digest(digest)))
    } else if let Some((dir, tag)) = rest.split_once(':') {
        if !is_layout_tag(tag) {
            return Err(ReferenceError::Tag {
                tag: tag.to_owned(),
            });
        }
        (dir, Some(Selector::Tag(tag.to_owned())))
    } else {
        (rest, None)
    };
    if dir.is_empty() {
        return Err(ReferenceError::EmptyPath {
            text: text.to_owned(),
            expected: "oci:DIR[:TAG]",
        });
    }
    Ok(Reference::OciLayout {
        dir: PathBuf::from(dir),
        selector,
    })
}

fn parse_archive(text: &str, rest: &str) -> Result<Reference, ReferenceError> {
    let (file, name) = match rest.split_once(':') {
        Some((file, name)) => (file, Some(name.parse()?)),
        None => (rest, None),
    };
    if file.is_empty() {
        return Err(ReferenceError::EmptyPath {
            text: text.to_owned(),
            expected: "docker-archive:FILE[:NAME]",
        });
    }
    Ok(Reference::DockerArchive {
        file: PathBuf::from(file),
        name,
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerArchive { file, name } => {
                write!(f, "docker-archive:{}", file.display())?;
                match name {
                    Some(name) => write!(f, ":{name}"),
                    None => Ok(()),
                }
            }
            Self::DockerDaemon(name) => write!(f, "docker-daemon:{name}"),
            Self::OciLayout { dir, selector } => {
                write!(f, "oci:{}", dir.display())?;
                match selector {
                    Some(Selector::Digest(digest)) => write!(f, "@{digest}"),
                    Some(Selector::Tag(tag)) => write!(f, ":{tag}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Reference {
        text.parse().expect("valid reference")
    }

    fn refusal(text: &str) -> ReferenceError {
        text.parse::<Reference>().expect_err("invalid reference")
    }

    #[test]
    fn layouts_are_recognised() {
        assert_eq!(
            parse("oci:/var/img:v1"),
            Reference::OciLayout {
                dir: "/var/img".into(),
                selector: Some(Selector::Tag("v1".into()))
            }
        );
        assert_eq!(
            parse("oci:img"),
            Reference::OciLayout {
                dir: "img".into(),
                selector: None
            }
        );
        let pinned = format!("oci:img@{}", Digest::of(b"x"));
        assert_eq!(parse(&pinned).to_string(), pinned);
    }

    #[test]
    fn bare_names_mean_the_docker_daemon() {
        let Reference::DockerDaemon(name) = parse("flask") else {
            panic!("not the daemon");
        };
        assert_eq!(name.tagged().as_deref(), Some("flask:latest"));
        assert_eq!(
            name.canonical_repository().as_deref(),
            Some("docker.io/library/flask")
        );
        let Reference::DockerDaemon(name) = parse("localhost:5000/a/b:1.2") else {
            panic!("not the daemon");
        };
        assert_eq!(name.tagged().as_deref(), Some("localhost:5000/a/b:1.2"));
        assert_eq!(
            name.canonical_repository().as_deref(),
            Some("localhost:5000/a/b")
        );
        assert_eq!(parse("docker-daemon:flask"), parse("flask:latest"));
    }

    #[test]
    fn registries_and_foreign_transports_are_refused_by_name() {
        assert!(matches!(
            refusal("docker://debian:12"),
            ReferenceError::RegistryUnsupported { .. }
        ));
        assert!(matches!(
            refusal("containers-storage:x"),
            ReferenceError::UnsupportedTransport { .. }
        ));
    }

    #[test]
    fn malformed_references_are_refused() {
        for text in [
            "",
            "oci:",
            "oci::tag",
            "oci:dir:",
            "oci:dir:a b",
            "docker-archive:",
            "Upper",
            "a//b",
            "-a",
            "a..b",
            "a:",
            "a:-x",
            "a@sha256:00",
            "../x",
            "a/../b",
            "sha256:zz",
            "a b",
            "a\n",
            "a___b",
            "oci:dir@sha512:00",
            "docker-archive:f:UPPER",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
        }
        assert!(matches!(
            refusal(&"a".repeat(5000)),
            ReferenceError::TooLong { .. }
        ));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_display_parses_back(text in "\\PC{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let again: Reference = reference.to_string().parse().expect("own rendering");
                prop_assert_eq!(again, reference);
            }
        }

        #[test]
        fn well_formed_names_are_accepted(
            text in "([a-z0-9]{1,8}(\\.[a-z]{2,3})?(:[0-9]{2,5})?/)?[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,9})?"
        ) {
            // "oci:x" and friends are transports before they are names.
            prop_assume!(!text.contains(':') || !["oci", "dir", "sif"].contains(&text.split(':').next().unwrap_or("")));
            let reference: Reference = text.parse().expect("well-formed");
            let again: Reference = reference.to_string().parse().expect("own rendering");
            prop_assert_eq!(again, reference);
        }
    }
}
