//! Settings with what was decided while the server ran: keys and access lists beside those of the configuration.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::redact::redacted_keys;
use super::{Settings, SettingsError};
use crate::api_key::{KeyRecord, KeyRing, KeyUsage};
use crate::policy::Acl;

impl Settings {
    /// These settings with further keys, and with other access lists for some pipelines: `None` takes away what the
    /// configuration says of one. Where a key was used last is kept by what `usage` gives for its id. `spent` says why an
    /// id is free for no key any more.
    ///
    /// What checks tokens stays the same, with all that it has learned.
    ///
    /// # Errors
    /// A key of the configuration has the id or the text of one of the further keys, or an id that is spent.
    pub(crate) fn with_stored(
        &self,
        keys: Vec<KeyRecord>,
        acls: BTreeMap<String, Option<Acl>>,
        spent: impl Fn(&str) -> Option<String>,
        mut usage: impl FnMut(&str) -> KeyUsage,
    ) -> Result<Settings, SettingsError> {
        let place = |id: &str| format!("api_keys.{}", id.escape_debug());
        if let Some(twin) = keys.iter().find(|key| self.keys.records().any(|other| other.id == key.id)) {
            let message =
                "a key of that id was made over the API; give this one another `id`, or revoke that one";
            return Err(SettingsError::new(place(&twin.id), message));
        }
        if let Some((id, why)) = self.keys.records().find_map(|key| Some((&key.id, spent(&key.id)?))) {
            return Err(SettingsError::new(place(id), why));
        }
        let mut composed = self.clone();
        let several = !keys.is_empty();
        let records = self.keys.records().cloned().chain(keys);
        let records = records.map(|record| KeyRecord { usage: usage(&record.id), ..record });
        composed.keys = KeyRing::new(records).map_err(|error| SettingsError::new("api_keys", error))?;
        composed.policy = self.policy.with_other_acls(acls);
        let lists: serde_json::Map<String, Value> =
            composed.policy.acls().map(|(pipeline, acl)| (pipeline.to_owned(), json!(acl))).collect();
        if let Value::Object(shown) = &mut composed.redacted {
            shown.insert("api_keys".to_owned(), redacted_keys(&composed.keys));
            shown.insert("pipeline_acls".to_owned(), Value::Object(lists));
        }
        if several {
            composed.warnings.retain(|warning| warning.id != "nobody-can-authenticate");
        }
        Ok(composed)
    }
}
