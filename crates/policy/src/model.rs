// SPDX-License-Identifier: Apache-2.0
//! The checked session: every value of these types obeys the rules of the language.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::access::AccessPolicy;
use crate::attestation::{Security, Variant};
use crate::key_hash::{KeyHash, KeyHashError};
use crate::name::{Name, SessionName};
use crate::placeholder::Template;

/// SHA-256 of a session's canonical encoding.
pub type SessionHash = [u8; 32];

/// Newest patch level of language version 0.3 that this crate reads.
pub const NEWEST_PATCH: u8 = 12;

/// Largest N of a host argument `@@N`.
pub const MAX_HOST_ARGUMENT: u32 = 4096;

/// Default mode of an injected file.
pub const DEFAULT_PERMISSION: u32 = 0o700;

/// A session of language version 0.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Patch level of the declared language version: 11 for `0.3.11`, 0 for `0.3`.
    pub patch: u8,
    /// Name with namespaces.
    pub name: SessionName,
    /// Hash of the version that this one replaces.
    pub predecessor: Option<SessionHash>,
    /// Makes the session hash unpredictable, and so public.
    pub salt: Option<[u8; 16]>,
    /// Who created the first version.
    pub creator: Option<Creator>,
    /// Services by name.
    pub services: BTreeMap<Name, Service>,
    /// Secrets by name.
    pub secrets: BTreeMap<Name, Secret>,
    /// Images by name.
    pub images: BTreeMap<Name, Image>,
    /// Who may do what with the session.
    pub access: AccessPolicy,
    /// What platforms are acceptable.
    pub security: Security,
}

/// The identity that uploaded the first version of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creator {
    pem: String,
    key: KeyHash,
}

impl Creator {
    /// Takes a PEM certificate; only its public key counts.
    ///
    /// # Errors
    /// The text is not a certificate.
    pub fn from_certificate_pem(pem: &str) -> Result<Self, KeyHashError> {
        let key = KeyHash::of_certificate_pem(pem)?;
        let pem = format!("{}\n", pem.trim());
        Ok(Self { pem, key })
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Hash of the certificate's public key.
    pub fn key_hash(&self) -> &KeyHash {
        &self.key
    }
}

/// One service: what starts, with which view, on whose evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Program and arguments; `None` leaves it to the image.
    pub command: Option<Vec<Argument>>,
    /// The complete environment by name.
    pub environment: BTreeMap<String, Variable>,
    /// Absolute working directory.
    pub pwd: Option<String>,
    /// Protection of the root file system.
    pub fspf: Option<Fspf>,
    /// The image of this session that holds injection files.
    pub image: Option<Name>,
    /// Acceptable enclaves; one variant suffices.
    pub attestation: Vec<Variant>,
}

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Text with placeholders.
    Text(Template),
    /// `@@N`: the host's N-th argument, chosen by an attacker if the host is hostile.
    Host(u32),
}

/// Value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Text with placeholders.
    Text(Template),
    /// `\@\@NAME`: the host's variable of the same name, empty if the host has none.
    Host,
}

/// Root file system protection of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fspf {
    /// Absolute path of the protection file.
    pub path: String,
    /// Key that opens it.
    pub key: FspfKey,
    /// Truncated hash that pins its content; `None` only without rollback protection.
    pub tag: Option<[u8; 16]>,
    /// Which older contents are acceptable.
    pub update_policy: UpdatePolicy,
}

/// A file-system key: given, or a secret of the session.
#[derive(Clone, PartialEq, Eq)]
pub enum FspfKey {
    /// Written in the session.
    Literal(Zeroizing<[u8; 32]>),
    /// Value of a binary secret of 32 bytes.
    Secret(Name),
}

impl std::fmt::Debug for FspfKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal([redacted])"),
            Self::Secret(name) => write!(f, "Secret({name})"),
        }
    }
}

/// `fspf_update_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdatePolicy {
    /// The tag history is linear; only the initial tag may come back.
    #[default]
    Reinitializable,
    /// Any state is acceptable.
    NoRollbackProtection,
}

impl UpdatePolicy {
    /// The value in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reinitializable => "rollback_protected_reinitializable",
            Self::NoRollbackProtection => "no_rollback_protection",
        }
    }
}

/// A secret of the session.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// What kind of value it is.
    pub kind: SecretKind,
    /// The explicit value; `None`: the CAS generates one.
    pub value: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = match self.value {
            Some(_) => "[redacted]",
            None => "generated",
        };
        write!(f, "Secret({:?}, {source})", self.kind)
    }
}

/// Kind of a secret with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretKind {
    /// Printable text; `size` characters if generated.
    Ascii {
        /// Characters.
        size: u32,
    },
    /// Bytes; `size` bytes if generated.
    Binary {
        /// Bytes.
        size: u32,
    },
}

impl SecretKind {
    /// Size if the session names none.
    pub const DEFAULT_SIZE: u32 = 20;
    /// Largest generated secret.
    pub const MAX_SIZE: u32 = 4096;

    /// The value of `kind` in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ascii { .. } => "ascii",
            Self::Binary { .. } => "binary",
        }
    }

    /// Characters or bytes of a generated value.
    pub fn size(self) -> u32 {
        match self {
            Self::Ascii { size } | Self::Binary { size } => size,
        }
    }
}

impl Secret {
    /// Whether a generated value survives an update from `old` to this secret: same kind and size.
    pub fn keeps_value_of(&self, old: &Self) -> bool {
        self.value.is_none() && old.value.is_none() && self.kind == old.kind
    }
}

/// An image of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Files that exist in enclave memory only, by absolute path.
    pub injection_files: BTreeMap<String, InjectionFile>,
}

/// A file whose content holds secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionFile {
    /// The content; `None`: the template is the image's own file at the same path.
    pub content: Option<Template>,
    /// Permission bits.
    pub permission: u32,
}

impl Session {
    /// The hash of the key that created the session.
    pub fn creator_key(&self) -> Option<&KeyHash> {
        self.creator.as_ref().map(Creator::key_hash)
    }
}
