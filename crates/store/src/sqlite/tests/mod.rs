//! What only a file can get wrong.

mod callers;
mod copies;
mod crash;
mod files;
mod fitting;
mod model;
mod moving;
mod old;
mod recent;
mod redo;
mod shrinking;
mod writing;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::batch::Batch;
use super::*;
use crate::conformance::{Subject, check_all};

struct InFile {
    directory: TempDir,
    durability: Durability,
}

#[async_trait]
impl Subject for InFile {
    type Store = SqliteStore;

    async fn empty(&self) -> SqliteStore {
        let path = self.directory.path().join(format!("{}.db", Uuid::now_v7()));
        open(&path, self.durability)
    }

    async fn restart(&self, store: SqliteStore) -> SqliteStore {
        let path = store.path.clone();
        drop(store);
        open(&path, self.durability)
    }
}

fn open(path: &Path, durability: Durability) -> SqliteStore {
    SqliteStore::open(SqliteOptions { durability, readers: 2, ..SqliteOptions::new(path) }).unwrap()
}

fn relaxed(directory: &TempDir) -> SqliteStore {
    open(&directory.path().join("t.db"), Durability::Relaxed)
}

#[tokio::test]
async fn keeps_every_promise_when_relaxed() {
    check_all(&InFile { directory: TempDir::new().unwrap(), durability: Durability::Relaxed }).await;
}

#[tokio::test]
async fn keeps_every_promise_when_strict() {
    check_all(&InFile { directory: TempDir::new().unwrap(), durability: Durability::Strict }).await;
}

/// Before 3.51.3 a write-ahead log that started anew could lose committed writes.
#[test]
fn the_library_is_new_enough() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}
