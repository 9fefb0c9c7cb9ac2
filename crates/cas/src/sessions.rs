// SPDX-License-Identifier: Apache-2.0
//! Sessions: creating, updating, reading and listing them under their access policies.

mod record;
mod values;

use std::sync::Arc;

use policy::model::{Creator, Session};
use policy::{Decision, KeyHash, Operation, SessionHash, SessionName};
use zeroize::Zeroizing;

pub use record::{Record, RecordError};

use crate::store::{Key, Kind, Store, StoreError, Transaction, transact};

/// Most names of one listing.
pub const MAX_LISTED: usize = 10_000;

/// Who sent a request: the certificate that the TLS client proved to own.
#[derive(Clone, Debug)]
pub struct Requester {
    /// Hash of the certificate's public key.
    pub key: KeyHash,
    /// The certificate as PEM.
    pub certificate_pem: String,
}

/// A session operation is refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The document breaks the rules of the language.
    #[error("The session document is not valid")]
    Invalid(#[source] policy::Refusal),
    /// The document is valid, but this CAS cannot do what it asks for.
    #[error("{what} is not supported by this CAS yet")]
    NotSupported {
        /// The feature.
        what: String,
    },
    /// A change needs a client certificate.
    #[error("Sessions are changed only with a client certificate")]
    Anonymous,
    /// The access policy says no.
    #[error("Session '{session}': {operation} is {decision}")]
    Denied {
        /// The session whose policy decided.
        session: SessionName,
        /// What was asked for.
        operation: Operation,
        /// The decision, naming the rule.
        decision: Decision,
    },
    /// No such session, or no such version of it.
    #[error("There is no session '{session}' (or no such version of it)")]
    NotFound {
        /// The name.
        session: SessionName,
    },
    /// The session to create a session below does not exist.
    #[error("The namespace '{namespace}' does not exist; create a session of that name first")]
    NoNamespace {
        /// The name of the missing session.
        namespace: SessionName,
    },
    /// The name is taken and the document names no predecessor.
    #[error("Session '{session}' exists; to update it set 'predecessor' to its active hash")]
    Exists {
        /// The name.
        session: SessionName,
    },
    /// The predecessor is not the active version.
    #[error("Session '{session}' has changed since: the predecessor is not its active version")]
    Predecessor {
        /// The name.
        session: SessionName,
    },
    /// A predecessor for a session that does not exist.
    #[error("Session '{session}' does not exist, so it has no predecessor; remove 'predecessor'")]
    NoPredecessor {
        /// The name.
        session: SessionName,
    },
    /// The document names another creator than the one recorded or uploading.
    #[error("'creator' of session '{session}' is not the key that created it")]
    ForeignCreator {
        /// The name.
        session: SessionName,
    },
    /// A secret could not be generated.
    #[error("The random generator failed")]
    Random,
    /// A stored record does not hold what it should.
    #[error("A stored session cannot be read")]
    Record(#[from] RecordError),
    /// The store failed.
    #[error("The store failed")]
    Store(#[from] StoreError),
}

/// What an upload did.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// Name of the session.
    pub name: SessionName,
    /// Hash of the new active version.
    pub hash: SessionHash,
    /// Whether the session is new.
    pub created: bool,
    /// What the author should know, rendered.
    pub warnings: Vec<String>,
}

/// A version of a session as its readers see it.
#[derive(Clone, Debug)]
pub struct Description {
    /// Normalised YAML with explicit, without generated secrets.
    pub yaml: Zeroizing<String>,
    /// Hash of this version.
    pub hash: SessionHash,
}

/// An active session with the values of all its secrets: for services only.
#[derive(Debug)]
pub struct Active {
    /// The session.
    pub session: Session,
    /// Hash of the active version.
    pub hash: SessionHash,
    /// The record that holds the generated values.
    pub record: Record,
}

/// All sessions of a CAS.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

fn session_key(name: &SessionName) -> Key {
    Key::new(Kind::Session, name.as_str())
}

fn version_key(name: &SessionName, hash: &SessionHash) -> Key {
    // Names hold no '@', so no two pairs share a key.
    Key::new(Kind::Version, &format!("{name}@{}", hex::encode(hash)))
}

fn load(
    get: impl Fn(&Key) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>,
    name: &SessionName,
) -> Result<Option<(Record, Session)>, SessionError> {
    let Some(bytes) = get(&session_key(name))? else {
        return Ok(None);
    };
    let record = Record::decode(&bytes)?;
    let version = get(&version_key(name, record.active()))?.ok_or(RecordError::NoVersion)?;
    let session = record::decode_version(&version)?;
    Ok(Some((record, session)))
}

fn admit(
    session: &Session,
    operation: Operation,
    requester: Option<&Requester>,
) -> Result<(), SessionError> {
    let key = requester.map(|requester| &requester.key);
    let decision = session
        .access
        .evaluate(operation, key, session.creator_key());
    if decision.is_allowed() {
        return Ok(());
    }
    Err(SessionError::Denied {
        session: session.name.clone(),
        operation,
        decision,
    })
}

impl Sessions {
    /// All sessions of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Creates or updates the session that a document describes.
    ///
    /// # Errors
    /// The document is refused, the requester is not admitted, or somebody else was faster; then
    /// nothing has changed.
    pub async fn upload(
        &self,
        text: &str,
        requester: Option<&Requester>,
    ) -> Result<Uploaded, SessionError> {
        let parsed = policy::parse(text).map_err(SessionError::Invalid)?;
        deliverable(&parsed.session)?;
        let requester = requester.ok_or(SessionError::Anonymous)?.clone();
        let warnings = parsed.warnings.iter().map(ToString::to_string).collect();
        let session = parsed.session;
        let name = session.name.clone();
        let (hash, created) = transact(&*self.store, move |transaction| {
            replace(transaction, session, &requester)
        })
        .await?;
        Ok(Uploaded {
            name,
            hash,
            created,
            warnings,
        })
    }

    /// Reads a version of a session; the active one without `hash`.
    ///
    /// # Errors
    /// There is none, or the active version's `read` rule does not admit the requester.
    pub fn read(
        &self,
        name: &SessionName,
        hash: Option<&SessionHash>,
        requester: Option<&Requester>,
    ) -> Result<Description, SessionError> {
        let not_found = || SessionError::NotFound {
            session: name.clone(),
        };
        let (record, active) = self.load(name)?.ok_or_else(not_found)?;
        admit(&active, Operation::Read, requester)?;
        let (hash, session) = match hash {
            None => (*record.active(), active),
            Some(hash) => {
                let version = self.store.get(&version_key(name, hash))?;
                let version = version.ok_or_else(not_found)?;
                (*hash, record::decode_version(&version)?)
            }
        };
        Ok(Description {
            yaml: session.to_yaml(),
            hash,
        })
    }

    /// Names of the sessions below `under`; without it, the sessions that the requester may read.
    ///
    /// # Errors
    /// `under` does not exist, or its `list_sessions` rule does not admit the requester.
    pub fn list(
        &self,
        under: Option<&SessionName>,
        requester: Option<&Requester>,
    ) -> Result<Vec<String>, SessionError> {
        if let Some(under) = under {
            let found = self.load(under)?;
            let (_, session) = found.ok_or_else(|| SessionError::NotFound {
                session: under.clone(),
            })?;
            admit(&session, Operation::ListSessions, requester)?;
            let prefix = format!("{under}/");
            return Ok(self.store.names(Kind::Session, &prefix, MAX_LISTED)?);
        }
        let mut readable = Vec::new();
        for name in self.store.names(Kind::Session, "", MAX_LISTED)? {
            let Ok(parsed) = SessionName::parse(&name) else {
                continue;
            };
            if let Some((_, session)) = self.load(&parsed)?
                && admit(&session, Operation::Read, requester).is_ok()
            {
                readable.push(name);
            }
        }
        Ok(readable)
    }

    /// The active version of a session with its secrets, for attested services.
    ///
    /// # Errors
    /// The store failed or holds a broken record.
    pub fn active(&self, name: &SessionName) -> Result<Option<Active>, SessionError> {
        Ok(self.load(name)?.map(|(record, session)| Active {
            hash: *record.active(),
            session,
            record,
        }))
    }

    fn load(&self, name: &SessionName) -> Result<Option<(Record, Session)>, SessionError> {
        load(|key| self.store.get(key), name)
    }
}

/// Creates or updates inside a change of the store.
fn replace(
    transaction: &mut dyn Transaction,
    mut session: Session,
    requester: &Requester,
) -> Result<(SessionHash, bool), SessionError> {
    let name = session.name.clone();
    let existing = load(|key| transaction.get(key), &name)?;
    let created = existing.is_none();
    let creator = match &existing {
        None => {
            if let Some(namespace) = name.parent() {
                let found = load(|key| transaction.get(key), &namespace)?;
                let (_, parent) = found.ok_or(SessionError::NoNamespace { namespace })?;
                admit(&parent, Operation::CreateSessions, Some(requester))?;
            }
            if session.predecessor.is_some() {
                return Err(SessionError::NoPredecessor { session: name });
            }
            Creator::from_certificate_pem(&requester.certificate_pem).map_err(|_| {
                SessionError::ForeignCreator {
                    session: name.clone(),
                }
            })?
        }
        Some((record, active)) => {
            admit(active, Operation::Update, Some(requester))?;
            match &session.predecessor {
                None => return Err(SessionError::Exists { session: name }),
                Some(hash) if hash != record.active() => {
                    return Err(SessionError::Predecessor { session: name });
                }
                Some(_) => {}
            }
            // Every stored session has a creator.
            active.creator.clone().ok_or(RecordError::NoCreator)?
        }
    };
    if let Some(written) = &session.creator
        && written.key_hash() != creator.key_hash()
    {
        return Err(SessionError::ForeignCreator { session: name });
    }
    session.creator = Some(creator);
    let old = existing.as_ref().map(|(record, session)| (record, session));
    let values = values::for_session(&session, old).map_err(|_| SessionError::Random)?;
    let hash = session.hash();
    let version = record::encode_version(&session);
    transaction.put(version_key(&name, &hash), &version)?;
    let record = Record::new(hash, values);
    transaction.put(session_key(&name), &record.encode()?)?;
    Ok((hash, created))
}

/// Refuses what the language knows but this CAS cannot hand to a service.
fn deliverable(session: &Session) -> Result<(), SessionError> {
    let refuse = |what: String| Err(SessionError::NotSupported { what });
    if session.security.mode == policy::attestation::Mode::None && !session.services.is_empty() {
        return refuse("security.attestation.mode 'none'".to_owned());
    }
    for (name, service) in &session.services {
        if service.command.is_none() {
            return refuse(format!("Service '{name}' without 'command'"));
        }
        if service.fspf.as_ref().is_some_and(|fspf| fspf.tag.is_none()) {
            return refuse(format!(
                "Service '{name}' with fspf_path but without fspf_tag"
            ));
        }
        let image = service.image.as_ref().and_then(|i| session.images.get(i));
        let files = image.map(|image| &image.injection_files);
        for (path, file) in files.into_iter().flatten() {
            if file.content.is_none() {
                return refuse(format!("Injection file '{path}' without 'content'"));
            }
        }
    }
    Ok(())
}
