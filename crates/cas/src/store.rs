// SPDX-License-Identifier: Apache-2.0
//! The store: sealed records below an authenticated head.
//!
//! Every record is sealed ([`crate::seal`]) and its sealed bytes are hashed into the head's root, which
//! is itself a sealed record. A record that is swapped for an older self, moved, added or removed from
//! outside is noticed when it is read and when the store is opened. That the whole store is an older
//! copy of itself cannot be noticed here; it takes a witness (security rule S6).

mod embedded;
mod index;

use std::fmt;

use zeroize::Zeroizing;

pub use embedded::EmbeddedStore;

use crate::seal::SealError;

/// What a record holds; the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The head of the store.
    Head,
    /// The active state of a session, by name.
    Session,
    /// One version of a session, by name and hash.
    Version,
    /// What was seen of time and collateral.
    Floor,
}

/// Key of a record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// The record `name` of a kind.
    pub fn new(kind: Kind, name: &str) -> Self {
        let mut bytes = vec![kind.byte()];
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// The key as stored, also the associated data of the sealed record.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Head => 0,
            Self::Session => 1,
            Self::Version => 2,
            Self::Floor => 3,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.0.split_first().unwrap_or((&0, &[]));
        write!(f, "{kind}:{}", String::from_utf8_lossy(name).escape_debug())
    }
}

/// The authenticated state of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Raised by recovery and handover.
    pub epoch: u64,
    /// Raised by each commit.
    pub seq: u64,
    /// SHA-256 over all keys and the hashes of their sealed records.
    pub root: [u8; 32],
}

/// The store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database file cannot be opened.
    #[error("The database '{path}' cannot be opened")]
    Open {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// Another process has the database open.
    #[error("The database '{path}' is in use; only one CAS may serve it")]
    InUse {
        /// The file.
        path: String,
    },
    /// The database failed while in use.
    #[error("The database failed")]
    Database(#[source] Box<redb::Error>),
    /// A record is not the one that the head vouches for.
    #[error("The stored record {key:?} was altered outside the CAS")]
    Altered {
        /// Key of the record.
        key: Key,
    },
    /// The records do not add up to the head.
    #[error(
        "The stored records do not match the sealed head: the database was altered outside the CAS"
    )]
    HeadMismatch,
    /// Records without a head, or a head that does not open.
    #[error("The database is not of this CAS: its head does not open with the sealing key")]
    ForeignHead,
    /// Sealing failed.
    #[error("A record cannot be sealed")]
    Seal(#[from] SealError),
    /// The writer has stopped.
    #[error("The store is shutting down")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Reads and staged writes of one change; nothing is visible to others before the commit.
pub trait Transaction {
    /// The record as this change sees it.
    ///
    /// # Errors
    /// The database failed or the record was altered.
    fn get(&self, key: &Key) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// Stages a record.
    ///
    /// # Errors
    /// Sealing failed.
    fn put(&mut self, key: Key, plain: &[u8]) -> Result<(), StoreError>;
}

/// Whether a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The staged records are committed.
    Keep,
    /// Nothing of the change happens.
    Discard,
}

/// A change of the store; it runs alone, so what it reads is what it replaces.
pub type Change = Box<dyn FnOnce(&mut dyn Transaction) -> Verdict + Send>;

/// Called after the change is durable or has failed.
pub type Done = Box<dyn FnOnce(Result<Head, StoreError>) + Send>;

/// Where a CAS keeps its records.
pub trait Store: Send + Sync {
    /// A committed record.
    ///
    /// # Errors
    /// The database failed or the record was altered.
    fn get(&self, key: &Key) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// The names of a kind that start with `prefix`, in ascending order, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    fn names(&self, kind: Kind, prefix: &str, limit: usize) -> Result<Vec<String>, StoreError>;

    /// Queues a change; `done` hears of its end.
    fn change(&self, change: Change, done: Done);

    /// The head of the last commit.
    fn head(&self) -> Head;
}

/// Runs a change that returns a value, and waits until it is durable.
///
/// # Errors
/// The store failed, or `change` returned its own error: then nothing happened.
pub async fn transact<T, E>(
    store: &dyn Store,
    change: impl FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (value_tx, value_rx) = std::sync::mpsc::channel();
    let (done_tx, done_rx) = tokio::sync::oneshot::channel();
    store.change(
        Box::new(move |transaction| {
            let result = change(transaction);
            let verdict = match result {
                Ok(_) => Verdict::Keep,
                Err(_) => Verdict::Discard,
            };
            // The receiver lives until the commit is answered.
            let _ = value_tx.send(result);
            verdict
        }),
        Box::new(move |result| {
            let _ = done_tx.send(result);
        }),
    );
    done_rx.await.map_err(|_| StoreError::Closed)??;
    match value_rx.try_recv() {
        Ok(result) => result,
        Err(_) => Err(StoreError::Closed.into()),
    }
}
