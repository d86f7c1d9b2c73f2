//! When keys were used last, written down now and then.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::stored::put_usage;
use super::{Inner, StateError};
use crate::api_key::{Bell, KeyUsage};

/// How long uses gather before they are written: a crash loses at most so much.
const GATHERED: Duration = Duration::from_secs(60);

/// The last uses of all keys, by id, and what of them is written down.
#[derive(Debug, Default)]
pub(super) struct Usages {
    bell: Bell,
    by_id: Mutex<HashMap<String, (KeyUsage, Option<Timestamp>)>>,
}

impl Usages {
    pub(super) fn known(used: impl IntoIterator<Item = (String, Timestamp)>) -> Self {
        let bell = Bell::default();
        let entry = |(id, at): (String, Timestamp)| (id, (KeyUsage::known(Some(at), bell.clone()), Some(at)));
        let by_id = Mutex::new(used.into_iter().map(entry).collect());
        Usages { bell, by_id }
    }

    /// What keeps the last use of that key.
    pub(super) fn of(&self, id: &str) -> KeyUsage {
        let mut by_id = self.by_id.lock();
        let new = || (KeyUsage::known(None, self.bell.clone()), None);
        by_id.entry(id.to_owned()).or_insert_with(new).0.clone()
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// A key is gone; a later one of its id has not been used yet.
    pub(super) fn forget(&self, id: &str) {
        self.by_id.lock().remove(id);
    }

    /// What is not written down yet.
    fn news(&self) -> Vec<(String, Timestamp)> {
        let by_id = self.by_id.lock();
        let new = by_id.iter().filter_map(|(id, (usage, written))| {
            usage.last().filter(|last| Some(*last) != *written).map(|last| (id.clone(), last))
        });
        new.collect()
    }

    fn written(&self, news: &[(String, Timestamp)]) {
        let mut by_id = self.by_id.lock();
        for (id, at) in news {
            if let Some((_, written)) = by_id.get_mut(id) {
                *written = Some(*at);
            }
        }
    }
}

impl Inner {
    /// Writes down what is known of uses and was not written yet.
    pub(super) async fn flush_usage(&self) -> Result<(), StateError> {
        let _turn = self.turn.lock().await;
        self.usages.bell.answer();
        let news = self.usages.news();
        if news.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let changes = news.iter().filter_map(|(id, at)| put_usage(id, *at, now).ok()).collect();
        self.state.write(changes).await?;
        self.usages.written(&news);
        Ok(())
    }
}

/// Writes uses down some time after they happened; sleeps while no key is used. Ends with the administration.
pub(super) async fn keep(inner: Weak<Inner>, bell: Bell) {
    loop {
        bell.rung().await;
        tokio::time::sleep(GATHERED).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.flush_usage().await {
            tracing::warn!(%error, "when keys were used last could not be written down; it is tried again after their next use");
        }
    }
}
