//! The state of security administration, kept in the store.

use std::sync::Arc;

use async_trait::async_trait;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_security::administration::{SecurityState, StateChange, StateError, StateRecord};
use taskiq_flow_store::{SecurityChange, SecurityRecord, Store, StoreError};

/// Keeps keys and access lists beside runs and pipelines; as durable as the store is.
#[derive(Debug, Clone)]
pub(crate) struct StoreState(pub(crate) Arc<dyn Store>);

#[async_trait]
impl SecurityState for StoreState {
    async fn load(&self) -> Result<Vec<StateRecord>, StateError> {
        let records = self.0.security_records().await.map_err(state_error)?;
        records.into_iter().map(from_store).collect()
    }

    async fn write(&self, changes: Vec<StateChange>) -> Result<(), StateError> {
        let changes = changes.into_iter().map(to_store).collect();
        self.0.change_security(changes).await.map_err(state_error)
    }
}

fn from_store(record: SecurityRecord) -> Result<StateRecord, StateError> {
    let SecurityRecord { kind, id, body, updated_at } = record;
    let updated_at = jiff::Timestamp::from_millisecond(updated_at.as_millis());
    let updated_at = updated_at.map_err(|error| StateError(format!("the record {kind} `{id}`: {error}")))?;
    Ok(StateRecord { kind, id, body, updated_at })
}

fn to_store(change: StateChange) -> SecurityChange {
    match change {
        StateChange::Put(StateRecord { kind, id, body, updated_at }) => {
            let updated_at = Timestamp::from_millis(updated_at.as_millisecond());
            SecurityChange::Put(SecurityRecord { kind, id, body, updated_at })
        }
        StateChange::Delete { kind, id } => SecurityChange::Delete { kind, id },
    }
}

fn state_error(error: StoreError) -> StateError {
    StateError(error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskiq_flow_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back_and_a_closed_store_is_an_error() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let state = StoreState(Arc::clone(&store));
        let record = |id: &str| StateRecord {
            kind: "api_key".to_owned(),
            id: id.to_owned(),
            body: json!({ "a": [1, null] }),
            updated_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        };
        state.write(vec![StateChange::Put(record("a")), StateChange::Put(record("b"))]).await.unwrap();
        let gone = StateChange::Delete { kind: "api_key".to_owned(), id: "a".to_owned() };
        state.write(vec![gone]).await.unwrap();
        assert_eq!(state.load().await.unwrap(), [record("b")]);
        store.close().await;
        assert!(state.write(vec![StateChange::Put(record("c"))]).await.unwrap_err().0.contains("closed"));
    }
}
