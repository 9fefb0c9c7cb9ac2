// SPDX-License-Identifier: Apache-2.0
//! The store in one file: redb, with one writer that commits waiting changes together.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use zeroize::Zeroizing;

use super::index::Index;
use super::{Change, Done, Head, Key, Kind, Store, StoreError, Transaction, Verdict};
use crate::seal::SealingKey;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// Most changes in one commit.
const MAX_GROUP: usize = 128;
/// Largest head record: three fixed numbers.
const HEAD_LEN: usize = 8 + 8 + 32;

/// The embedded store. Dropping it waits for the running commit.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    jobs: Mutex<Option<Sender<(Change, Done)>>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    database: Database,
    key: SealingKey,
    state: RwLock<Arc<State>>,
}

#[derive(Clone)]
struct State {
    index: Index,
    head: Head,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

fn head_key() -> Key {
    Key::new(Kind::Head, "")
}

impl EmbeddedStore {
    /// Opens or creates the database and checks every record against the sealed head.
    ///
    /// # Errors
    /// The file cannot be opened, is in use, is of another CAS, or was altered.
    pub fn open(path: &Path, key: SealingKey) -> Result<Self, StoreError> {
        let name = || path.display().to_string();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| StoreError::Open {
                path: name(),
                source: Box::new(redb::Error::Io(error)),
            })?;
        let database = match Database::builder().create_file(file) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StoreError::InUse { path: name() });
            }
            Err(error) => {
                return Err(StoreError::Open {
                    path: name(),
                    source: Box::new(error.into()),
                });
            }
        };
        let state = load(&database, &key)?;
        let shared = Arc::new(Shared {
            database,
            key,
            state: RwLock::new(Arc::new(state)),
        });
        let (jobs, queue) = channel();
        let writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.write(&queue))
            .map_err(|error| StoreError::Database(Box::new(redb::Error::Io(error))))?;
        Ok(Self {
            shared,
            jobs: Mutex::new(Some(jobs)),
            writer: Some(writer),
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to finish.
            let _ = writer.join();
        }
    }
}

/// Reads the head and every record, and compares them.
fn load(database: &Database, key: &SealingKey) -> Result<State, StoreError> {
    // Makes the table on first use.
    let transaction = begin(database)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let table = transaction.open_table(RECORDS)?;
    let mut index = Index::default();
    let mut head = None;
    for entry in table.iter()? {
        let (name, sealed) = entry?;
        let name = Key::from_bytes(name.value());
        if name == head_key() {
            let plain = key
                .open(name.as_bytes(), sealed.value())
                .map_err(|_| StoreError::ForeignHead)?;
            head = Some(decode_head(&plain).ok_or(StoreError::ForeignHead)?);
        } else {
            index.insert(name, sealed.value());
        }
    }
    match head {
        Some(head) if head.root == index.root() => Ok(State { index, head }),
        Some(_) => Err(StoreError::HeadMismatch),
        None if index.is_empty() => {
            let head = Head {
                epoch: 1,
                seq: 0,
                root: index.root(),
            };
            Ok(State { index, head })
        }
        None => Err(StoreError::ForeignHead),
    }
}

fn begin(database: &Database) -> Result<redb::WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    // A crash must not be able to expose a half-written tree, and a restart must not scan the file.
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn encode_head(head: &Head) -> [u8; HEAD_LEN] {
    let mut bytes = [0; HEAD_LEN];
    let (epoch, rest) = bytes.split_at_mut(8);
    let (seq, root) = rest.split_at_mut(8);
    epoch.copy_from_slice(&head.epoch.to_le_bytes());
    seq.copy_from_slice(&head.seq.to_le_bytes());
    root.copy_from_slice(&head.root);
    bytes
}

fn decode_head(bytes: &[u8]) -> Option<Head> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (seq, root) = rest.split_first_chunk::<8>()?;
    Some(Head {
        epoch: u64::from_le_bytes(*epoch),
        seq: u64::from_le_bytes(*seq),
        root: root.try_into().ok()?,
    })
}

impl Shared {
    fn state(&self) -> Arc<State> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads and opens a record that the index vouches for.
    fn read(&self, index: &Index, key: &Key) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let sealed = table.get(key.as_bytes())?;
        let sealed = sealed.as_ref().map(redb::AccessGuard::value);
        let altered = || StoreError::Altered { key: key.clone() };
        if !index.vouches(key, sealed) {
            return Err(altered());
        }
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let plain = self.key.open(key.as_bytes(), sealed);
        plain.map(Some).map_err(|_| altered())
    }

    /// The writer: takes all waiting changes, runs them one after the other, commits once.
    fn write(&self, queue: &Receiver<(Change, Done)>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            while group.len() < MAX_GROUP {
                let Ok(next) = queue.try_recv() else { break };
                group.push(next);
            }
            let mut staged = Staged {
                shared: self,
                state: self.state(),
                records: BTreeMap::new(),
                own: BTreeMap::new(),
            };
            let mut done = Vec::with_capacity(group.len());
            for (change, notify) in group {
                let verdict = change(&mut staged);
                let own = std::mem::take(&mut staged.own);
                if verdict == Verdict::Keep {
                    staged.records.extend(own);
                }
                done.push(notify);
            }
            let result = self.commit(staged);
            for notify in done {
                notify(match &result {
                    Ok(head) => Ok(*head),
                    Err(_) => Err(StoreError::Closed),
                });
            }
            if let Err(error) = result {
                tracing::error!(error = %Chain(&error), "a commit failed; the store stops taking changes");
                return;
            }
        }
    }

    fn commit(&self, staged: Staged<'_>) -> Result<Head, StoreError> {
        let Staged { state, records, .. } = staged;
        if records.is_empty() {
            return Ok(state.head);
        }
        let mut state = State::clone(&state);
        let transaction = begin(&self.database)?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for (key, (sealed, _)) in &records {
                table.insert(key.as_bytes(), sealed.as_slice())?;
                state.index.insert(key.clone(), sealed);
            }
            state.head.seq = state.head.seq.saturating_add(1);
            state.head.root = state.index.root();
            let key = head_key();
            let sealed = self.key.seal(key.as_bytes(), &encode_head(&state.head))?;
            table.insert(key.as_bytes(), sealed.as_slice())?;
        }
        transaction.commit()?;
        let head = state.head;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        Ok(head)
    }
}

/// An error with its causes on one line.
struct Chain<'e>(&'e dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

type Sealed = (Vec<u8>, Zeroizing<Vec<u8>>);

/// Changes of one group: those accepted, and those of the change that runs.
struct Staged<'s> {
    shared: &'s Shared,
    state: Arc<State>,
    records: BTreeMap<Key, Sealed>,
    own: BTreeMap<Key, Sealed>,
}

impl Transaction for Staged<'_> {
    fn get(&self, key: &Key) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match self.own.get(key).or_else(|| self.records.get(key)) {
            Some((_, plain)) => Ok(Some(plain.clone())),
            None => self.shared.read(&self.state.index, key),
        }
    }

    fn put(&mut self, key: Key, plain: &[u8]) -> Result<(), StoreError> {
        let sealed = self.shared.key.seal(key.as_bytes(), plain)?;
        let plain = Zeroizing::new(plain.to_vec());
        self.own.insert(key, (sealed, plain));
        Ok(())
    }
}

impl Store for EmbeddedStore {
    fn get(&self, key: &Key) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        // A commit between reading the index and the record looks like an alteration: look again.
        let mut attempts = 0;
        loop {
            let state = self.shared.state();
            match self.shared.read(&state.index, key) {
                Err(StoreError::Altered { .. })
                    if attempts < 3 && self.shared.state().head.seq != state.head.seq =>
                {
                    attempts += 1;
                }
                result => return result,
            }
        }
    }

    fn names(&self, kind: Kind, prefix: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let start = Key::new(kind, prefix);
        let state = self.shared.state();
        let names = state
            .index
            .from(&start)
            .take_while(|key| key.as_bytes().starts_with(start.as_bytes()))
            .take(limit)
            .filter_map(|key| {
                let name = key.as_bytes().get(1..)?;
                String::from_utf8(name.to_vec()).ok()
            });
        Ok(names.collect())
    }

    fn change(&self, change: Change, done: Done) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = jobs.as_ref() else {
            return done(Err(StoreError::Closed));
        };
        if let Err(refused) = jobs.send((change, done)) {
            let (_, done) = refused.0;
            done(Err(StoreError::Closed));
        }
    }

    fn head(&self) -> Head {
        self.shared.state().head
    }
}

#[cfg(test)]
mod tests;
