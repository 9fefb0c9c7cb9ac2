// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use super::*;
use crate::store::transact;

const MARKER: &[u8] = b"PLANTED-SECRET-MARKER";

fn key() -> SealingKey {
    SealingKey::new(Zeroizing::new([7; 32]))
}

fn session(name: &str) -> Key {
    Key::new(Kind::Session, name)
}

async fn put(store: &EmbeddedStore, name: &str, value: &[u8]) {
    let (key, value) = (session(name), value.to_vec());
    transact(store, move |t| t.put(key, &value)).await.unwrap();
}

/// Replaces the sealed bytes of a record, as a hostile host can.
fn alter(path: &PathBuf, change: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(RECORDS).unwrap();
        change(&mut table);
    }
    transaction.commit().unwrap();
}

fn sealed(path: &PathBuf, key: &Key) -> Vec<u8> {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(RECORDS).unwrap();
    let value = table.get(key.as_bytes()).unwrap().unwrap();
    value.value().to_vec()
}

#[tokio::test]
async fn records_survive_a_restart_and_never_lie_in_the_file_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cas.redb");
    let store = EmbeddedStore::open(&path, key()).unwrap();
    put(&store, "a", MARKER).await;
    let head = store.head();
    assert_eq!(head.seq, 1);
    drop(store);
    let file = std::fs::read(&path).unwrap();
    assert!(!file.windows(MARKER.len()).any(|w| w == MARKER));
    let store = EmbeddedStore::open(&path, key()).unwrap();
    assert_eq!(store.head(), head);
    assert_eq!(
        store.get(&session("a")).unwrap().unwrap().as_slice(),
        MARKER
    );
    assert_eq!(store.names(Kind::Session, "", 10).unwrap(), ["a"]);
}

#[tokio::test]
async fn an_older_self_of_a_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cas.redb");
    let store = EmbeddedStore::open(&path, key()).unwrap();
    put(&store, "a", b"old").await;
    drop(store);
    let old = sealed(&path, &session("a"));
    let store = EmbeddedStore::open(&path, key()).unwrap();
    put(&store, "a", b"new").await;
    drop(store);
    alter(&path, |table| {
        table
            .insert(session("a").as_bytes(), old.as_slice())
            .unwrap();
    });
    assert!(matches!(
        EmbeddedStore::open(&path, key()),
        Err(StoreError::HeadMismatch)
    ));
}

#[tokio::test]
async fn a_removed_added_or_moved_record_is_refused() {
    for how in ["remove", "add", "move"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cas.redb");
        let store = EmbeddedStore::open(&path, key()).unwrap();
        put(&store, "a", b"1").await;
        put(&store, "b", b"2").await;
        drop(store);
        let a = sealed(&path, &session("a"));
        alter(&path, |table| {
            match how {
                "remove" => drop(table.remove(session("a").as_bytes()).unwrap()),
                "add" => drop(table.insert(session("c").as_bytes(), a.as_slice()).unwrap()),
                _ => drop(table.insert(session("b").as_bytes(), a.as_slice()).unwrap()),
            };
        });
        let opened = EmbeddedStore::open(&path, key());
        assert!(matches!(opened, Err(StoreError::HeadMismatch)), "{how}");
    }
}

#[tokio::test]
async fn another_key_does_not_open_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cas.redb");
    let store = EmbeddedStore::open(&path, key()).unwrap();
    put(&store, "a", b"1").await;
    drop(store);
    let other = SealingKey::new(Zeroizing::new([8; 32]));
    assert!(matches!(
        EmbeddedStore::open(&path, other),
        Err(StoreError::ForeignHead)
    ));
}

#[tokio::test]
async fn a_second_opening_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cas.redb");
    let _first = EmbeddedStore::open(&path, key()).unwrap();
    assert!(matches!(
        EmbeddedStore::open(&path, key()),
        Err(StoreError::InUse { .. })
    ));
}

#[tokio::test]
async fn concurrent_changes_run_one_after_the_other_and_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cas.redb");
    let store = Arc::new(EmbeddedStore::open(&path, key()).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            transact(&*store, |t| {
                let before = t.get(&session("counter"))?;
                let before = before.map_or(0, |b| b.len());
                t.put(session("counter"), &vec![0; before + 1])
            })
            .await
            .unwrap();
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    let counter = store.get(&session("counter")).unwrap().unwrap();
    assert_eq!(counter.len(), 200);
    assert!(store.head().seq < 200, "no two changes shared a commit");
}

#[tokio::test]
async fn a_change_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("cas.redb"), key()).unwrap();
    let result: Result<(), StoreError> = transact(&store, |t| {
        t.put(session("a"), b"1")?;
        Err(StoreError::Closed)
    })
    .await;
    assert!(result.is_err());
    assert!(store.get(&session("a")).unwrap().is_none());
    assert_eq!(store.head().seq, 0);
}
