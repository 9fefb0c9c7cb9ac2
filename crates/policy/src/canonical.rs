// SPDX-License-Identifier: Apache-2.0
//! The canonical encoding of a session and its hash.
//!
//! The encoding is a sequence of items: one byte of field number, eight bytes of little-endian
//! length, content. Lists and records are items whose content is a sequence of items; list elements
//! have field number 0. Absent optional fields are left out; defaults are spelled out. Maps are in
//! ascending byte order of their keys. The creator enters as the hash of its key, a certificate in an
//! access rule likewise, so renewed certificates change nothing. Generated secrets enter by kind and
//! size only.
//!
//! Hash = SHA-256("ensconce-session-v1" ‖ 0 ‖ patch level of the language ‖ encoding).

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::access::{Entry, Operation, Rule};
use crate::attestation::{Advisories, Svn, Variant};
use crate::model::{Argument, FspfKey, Image, Secret, Service, Session, SessionHash, Variable};
use crate::placeholder::{Piece, Template};

const DOMAIN: &[u8] = b"ensconce-session-v1\0";

/// Field numbers; a number never changes its meaning.
mod field {
    pub(super) const ELEMENT: u8 = 0;
    pub(super) const KEY: u8 = 1;
    pub(super) const NAME: u8 = 2;
    pub(super) const PREDECESSOR: u8 = 3;
    pub(super) const SALT: u8 = 4;
    pub(super) const CREATOR: u8 = 5;
    pub(super) const SERVICES: u8 = 6;
    pub(super) const SECRETS: u8 = 7;
    pub(super) const IMAGES: u8 = 8;
    pub(super) const ACCESS: u8 = 9;
    pub(super) const SECURITY: u8 = 10;
    pub(super) const COMMAND: u8 = 11;
    pub(super) const ENVIRONMENT: u8 = 12;
    pub(super) const PWD: u8 = 13;
    pub(super) const FSPF: u8 = 14;
    pub(super) const IMAGE: u8 = 15;
    pub(super) const ATTESTATION: u8 = 16;
    pub(super) const TEXT: u8 = 17;
    pub(super) const SECRET: u8 = 18;
    pub(super) const HOST: u8 = 19;
    pub(super) const TAG: u8 = 20;
    pub(super) const UPDATE_POLICY: u8 = 21;
    pub(super) const MRENCLAVE: u8 = 22;
    pub(super) const SIGNER: u8 = 23;
    pub(super) const PRODUCT: u8 = 24;
    pub(super) const SVN_EXACT: u8 = 25;
    pub(super) const SVN_MIN: u8 = 26;
    pub(super) const SVN_MAX: u8 = 27;
    pub(super) const KIND: u8 = 28;
    pub(super) const SIZE: u8 = 29;
    pub(super) const VALUE: u8 = 30;
    pub(super) const CONTENT: u8 = 31;
    pub(super) const PERMISSION: u8 = 32;
    pub(super) const MODE: u8 = 33;
    pub(super) const TOLERATE: u8 = 34;
    pub(super) const ADVISORIES: u8 = 35;
    pub(super) const ANY: u8 = 36;
    pub(super) const FORMAT: u8 = 37;
    pub(super) const ESCAPE: u8 = 38;
    pub(super) const PATH: u8 = 39;
}

/// Items under construction; wiped, since it holds literal secrets.
#[derive(Default)]
struct Items(Zeroizing<Vec<u8>>);

impl Items {
    fn bytes(mut self, field: u8, content: &[u8]) -> Self {
        self.0.push(field);
        // A length in memory always fits into 64 bits.
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(content);
        self
    }

    fn optional(self, field: u8, content: Option<&[u8]>) -> Self {
        match content {
            Some(content) => self.bytes(field, content),
            None => self,
        }
    }

    fn nested(self, field: u8, content: &Self) -> Self {
        self.bytes(field, &content.0)
    }

    fn list(self, field: u8, elements: impl IntoIterator<Item = Self>) -> Self {
        let content = elements
            .into_iter()
            .fold(Self::default(), |all, one| all.nested(field::ELEMENT, &one));
        self.nested(field, &content)
    }
}

impl Session {
    /// The canonical encoding, as this module's documentation describes it.
    pub fn canonical(&self) -> Zeroizing<Vec<u8>> {
        let creator = self.creator_key().map(|key| &key.as_bytes()[..]);
        let items = Items::default()
            .bytes(field::NAME, self.name.as_str().as_bytes())
            .optional(
                field::PREDECESSOR,
                self.predecessor.as_ref().map(|h| &h[..]),
            )
            .optional(field::SALT, self.salt.as_ref().map(|s| &s[..]))
            .optional(field::CREATOR, creator)
            .list(
                field::SERVICES,
                self.services
                    .iter()
                    .map(|(name, s)| service(keyed(name.as_str()), s)),
            )
            .list(
                field::SECRETS,
                self.secrets
                    .iter()
                    .map(|(name, s)| secret(keyed(name.as_str()), s)),
            )
            .list(
                field::IMAGES,
                self.images
                    .iter()
                    .map(|(name, i)| image(keyed(name.as_str()), i)),
            )
            .list(
                field::ACCESS,
                Operation::ALL
                    .iter()
                    .map(|operation| rule(keyed(operation.as_str()), self.access.rule(*operation))),
            )
            .nested(field::SECURITY, &security(self));
        items.0
    }

    /// The session's hash.
    pub fn hash(&self) -> SessionHash {
        Sha256::new()
            .chain_update(DOMAIN)
            .chain_update([self.patch])
            .chain_update(self.canonical().as_slice())
            .finalize()
            .into()
    }
}

fn keyed(key: &str) -> Items {
    Items::default().bytes(field::KEY, key.as_bytes())
}

fn template(template: &Template) -> Items {
    template
        .0
        .iter()
        .fold(Items::default(), |items, piece| match piece {
            Piece::Text(text) => items.bytes(field::TEXT, text.as_bytes()),
            Piece::Secret(reference) => {
                let mut content = keyed(reference.name.as_str());
                if let Some(format) = reference.format {
                    content = content.bytes(field::FORMAT, format.as_str().as_bytes());
                }
                if reference.escape_json {
                    content = content.bytes(field::ESCAPE, b"json");
                }
                items.nested(field::SECRET, &content)
            }
        })
}

fn service(items: Items, service: &Service) -> Items {
    let mut items = items;
    if let Some(command) = &service.command {
        let arguments = command.iter().map(|argument| match argument {
            Argument::Text(text) => Items::default().nested(field::CONTENT, &template(text)),
            Argument::Host(n) => Items::default().bytes(field::HOST, &n.to_le_bytes()),
        });
        items = items.list(field::COMMAND, arguments);
    }
    let environment = service.environment.iter().map(|(name, value)| match value {
        Variable::Text(text) => keyed(name).nested(field::CONTENT, &template(text)),
        Variable::Host => keyed(name).bytes(field::HOST, &[]),
    });
    items = items
        .list(field::ENVIRONMENT, environment)
        .optional(field::PWD, service.pwd.as_deref().map(str::as_bytes));
    if let Some(fspf) = &service.fspf {
        let content = Items::default().bytes(field::PATH, fspf.path.as_bytes());
        let content = match &fspf.key {
            FspfKey::Literal(key) => content.bytes(field::VALUE, &key[..]),
            FspfKey::Secret(name) => content.bytes(field::SECRET, name.as_str().as_bytes()),
        };
        let content = content
            .optional(field::TAG, fspf.tag.as_ref().map(|t| &t[..]))
            .bytes(field::UPDATE_POLICY, fspf.update_policy.as_str().as_bytes());
        items = items.nested(field::FSPF, &content);
    }
    let image = service
        .image
        .as_ref()
        .map(|image| image.as_str().as_bytes());
    items
        .optional(field::IMAGE, image)
        .list(field::ATTESTATION, service.attestation.iter().map(variant))
}

fn variant(variant: &Variant) -> Items {
    let mut items = Items::default();
    for mrenclave in &variant.mrenclaves {
        items = items.bytes(field::MRENCLAVE, mrenclave);
    }
    let Some(signer) = &variant.signer else {
        return items;
    };
    let content = Items::default()
        .bytes(field::VALUE, &signer.mrsigner)
        .bytes(field::PRODUCT, &signer.isvprodid.to_le_bytes());
    let number = |n: Option<u16>| n.map(u16::to_le_bytes);
    let content = match signer.isvsvn {
        Svn::Exact(svn) => content.bytes(field::SVN_EXACT, &svn.to_le_bytes()),
        Svn::Range { min, max } => content
            .optional(field::SVN_MIN, number(min).as_ref().map(|b| &b[..]))
            .optional(field::SVN_MAX, number(max).as_ref().map(|b| &b[..])),
    };
    items.nested(field::SIGNER, &content)
}

fn secret(items: Items, secret: &Secret) -> Items {
    let items = items.bytes(field::KIND, secret.kind.as_str().as_bytes());
    match &secret.value {
        Some(value) => items.bytes(field::VALUE, value),
        None => items.bytes(field::SIZE, &secret.kind.size().to_le_bytes()),
    }
}

fn image(items: Items, image: &Image) -> Items {
    let files = image.injection_files.iter().map(|(path, file)| {
        let items = keyed(path).bytes(field::PERMISSION, &file.permission.to_le_bytes());
        match &file.content {
            Some(content) => items.nested(field::CONTENT, &template(content)),
            None => items,
        }
    });
    items.list(field::CONTENT, files)
}

fn rule(items: Items, rule: &Rule) -> Items {
    match rule {
        Rule::Any => items.bytes(field::ANY, &[]),
        // No element admits nobody.
        Rule::None => items,
        Rule::Of(entries) => entries.iter().fold(items, |items, entry| match entry {
            Entry::Creator => items.bytes(field::CREATOR, &[]),
            Entry::Key(key) => items.bytes(field::VALUE, key.as_bytes()),
        }),
    }
}

fn security(session: &Session) -> Items {
    let security = &session.security;
    let tolerate = security
        .tolerate
        .iter()
        .map(|tolerance| keyed(&tolerance.to_string()));
    let items = Items::default()
        .bytes(field::MODE, security.mode.as_str().as_bytes())
        .list(field::TOLERATE, tolerate);
    match &security.ignore_advisories {
        Advisories::All => items.bytes(field::ANY, &[]),
        Advisories::Listed(list) => items.list(
            field::ADVISORIES,
            list.iter().map(|advisory| keyed(advisory)),
        ),
    }
}
