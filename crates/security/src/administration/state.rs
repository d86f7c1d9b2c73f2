//! Where keys and access lists are kept that were made while the server ran.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

/// Keeps what security administration decided. What a record says is written and read by
/// [`Administration`](super::Administration) alone.
#[async_trait]
pub trait SecurityState: Send + Sync + fmt::Debug + 'static {
    /// All records.
    ///
    /// # Errors
    /// The state cannot be read, wholly: with a part of it something could be allowed that the rest forbids.
    async fn load(&self) -> Result<Vec<StateRecord>, StateError>;

    /// Carries out all of the changes, or none. A put replaces the record of the same kind and id; a delete of what
    /// is not there is no error.
    ///
    /// After return they survive a crash of the process (and of the machine, where the store is durable to that
    /// degree). After a crash before return, all are there or none.
    ///
    /// # Errors
    /// Nothing is changed.
    async fn write(&self, changes: Vec<StateChange>) -> Result<(), StateError>;
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub struct StateRecord {
    /// What sort of fact.
    pub kind: String,
    /// Unique among those of its kind.
    pub id: String,
    /// What it says. Of keys it holds digests only.
    pub body: Value,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// One change of the facts.
#[derive(Debug, Clone, PartialEq)]
pub enum StateChange {
    /// Keeps a record.
    Put(StateRecord),
    /// Removes a record.
    Delete {
        /// Of which sort.
        kind: String,
        /// Which.
        id: String,
    },
}

/// The state cannot be read or written; the text says which and why, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);

/// A state that is forgotten with the process.
#[derive(Debug, Default)]
pub struct MemoryState(Mutex<BTreeMap<(String, String), StateRecord>>);

#[async_trait]
impl SecurityState for MemoryState {
    async fn load(&self) -> Result<Vec<StateRecord>, StateError> {
        Ok(self.0.lock().values().cloned().collect())
    }

    async fn write(&self, changes: Vec<StateChange>) -> Result<(), StateError> {
        let mut records = self.0.lock();
        for change in changes {
            match change {
                StateChange::Put(record) => {
                    records.insert((record.kind.clone(), record.id.clone()), record);
                }
                StateChange::Delete { kind, id } => _ = records.remove(&(kind, id)),
            }
        }
        Ok(())
    }
}
