//! Access lists: set and removed, one pipeline at a time.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::stored::{StoredAcl, delete_acl, put_acl};
use super::{Administration, AdministrationError, Administrator, Plan, Source, View, before_after};
use crate::policy::Acl;
use crate::settings::check_acl;

/// Most pipelines of which something is kept.
const MAX_ACLS: usize = 10_000;
/// Most roles of one permission.
const MAX_ROLES: usize = 100;

/// The access list of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct AclView {
    /// The pipeline.
    pub pipeline_id: String,
    /// Who may do what with it.
    pub acl: Acl,
    /// Where it is said.
    pub source: Source,
    /// The id of who changed it last.
    pub changed_by: Option<String>,
    /// When it was changed last.
    pub changed_at: Option<Timestamp>,
}

impl Administration {
    /// All access lists in force, by pipeline.
    pub fn acls(&self, _by: &Administrator) -> Vec<AclView> {
        let (view, settings) = (self.inner.view.load(), self.inner.guard.settings());
        settings.policy().acls().map(|(pipeline, acl)| view.shown(pipeline, acl)).collect()
    }

    /// The access list of a pipeline.
    ///
    /// # Errors
    /// It has none.
    pub fn acl(&self, _by: &Administrator, pipeline: &str) -> Result<AclView, AdministrationError> {
        let (view, settings) = (self.inner.view.load(), self.inner.guard.settings());
        let acl = settings.policy().acl(pipeline).ok_or(UNKNOWN)?;
        Ok(view.shown(pipeline, acl))
    }

    /// Sets the access list of a pipeline, which need not exist yet. It holds from now on, whatever the configuration
    /// says of that pipeline.
    ///
    /// # Errors
    /// The pipeline's id or a role is not possible.
    pub async fn put_acl(
        &self,
        by: &Administrator,
        pipeline: &str,
        acl: Acl,
    ) -> Result<AclView, AdministrationError> {
        check_acl("acl", pipeline, &acl).map_err(|error| {
            let field = match error.field().split_once('.') {
                Some(("acl", permission)) => permission,
                _ => "pipeline_id",
            };
            AdministrationError::invalid(field, error.message())
        })?;
        if let Some((permission, roles)) = acl.lists().find(|(_, roles)| roles.len() > MAX_ROLES) {
            let message = format!("{} roles are too many; write at most {MAX_ROLES}", roles.len());
            return Err(AdministrationError::invalid(permission.as_str(), message));
        }
        let (pipeline, caller) = (pipeline.to_owned(), by.0.principal().id().to_owned());
        self.change(by, move |held| {
            if !held.stored.acls.contains_key(&pipeline) && held.stored.acls.len() >= MAX_ACLS {
                let message = format!("{MAX_ACLS} access lists are kept, which is the most; remove some");
                return Err(AdministrationError::Conflict(message));
            }
            let now = Timestamp::now();
            let stored = StoredAcl { acl: Some(acl.clone()), changed_by: caller, changed_at: now };
            let answer = AclView {
                pipeline_id: pipeline.clone(),
                acl: acl.clone(),
                source: Source::Stored,
                changed_by: Some(stored.changed_by.clone()),
                changed_at: Some(now),
            };
            let writes = vec![put_acl(&pipeline, &stored, now)?];
            let detail = before_after("pipeline_acl", &pipeline, held.acl_value(&pipeline), json!(acl));
            let mut next = held.stored.clone();
            next.acls.insert(pipeline.clone(), stored);
            Ok(Plan::new("acl.put", next, writes, detail, answer).of_pipeline(pipeline))
        })
        .await
    }

    /// Removes the access list of a pipeline: for good, also when the configuration has one for it. From then on the
    /// whitelists and permissions of keys and roles alone decide about it.
    ///
    /// # Errors
    /// It has none.
    pub async fn remove_acl(&self, by: &Administrator, pipeline: &str) -> Result<(), AdministrationError> {
        let (pipeline, caller) = (pipeline.to_owned(), by.0.principal().id().to_owned());
        self.change(by, move |held| {
            held.effective(&pipeline).ok_or(UNKNOWN)?;
            let now = Timestamp::now();
            let mut next = held.stored.clone();
            let write = match held.configured.policy().acl(&pipeline) {
                // Else the next start would bring it back.
                Some(_) => {
                    let none = StoredAcl { acl: None, changed_by: caller, changed_at: now };
                    let write = put_acl(&pipeline, &none, now)?;
                    next.acls.insert(pipeline.clone(), none);
                    write
                }
                None => {
                    next.acls.remove(&pipeline);
                    delete_acl(&pipeline)
                }
            };
            let detail = before_after("pipeline_acl", &pipeline, held.acl_value(&pipeline), Value::Null);
            Ok(Plan::new("acl.remove", next, vec![write], detail, ()).of_pipeline(pipeline))
        })
        .await
    }

    /// Lets the configuration decide again about the access list of a pipeline.
    ///
    /// # Errors
    /// It does already, or the pipeline has no access list anywhere.
    pub async fn reset_acl(&self, by: &Administrator, pipeline: &str) -> Result<(), AdministrationError> {
        let pipeline = pipeline.to_owned();
        self.change(by, move |held| {
            let configured = held.configured.policy().acl(&pipeline);
            if !held.stored.acls.contains_key(&pipeline) {
                return Err(match configured {
                    Some(_) => AdministrationError::Conflict(
                        "its access list is the configuration's already".to_owned(),
                    ),
                    None => UNKNOWN,
                });
            }
            let after = configured.map_or(Value::Null, |acl| json!(acl));
            let detail = before_after("pipeline_acl", &pipeline, held.acl_value(&pipeline), after);
            let mut next = held.stored.clone();
            next.acls.remove(&pipeline);
            Ok(Plan::new("acl.reset", next, vec![delete_acl(&pipeline)], detail, ()).of_pipeline(pipeline))
        })
        .await
    }
}

const UNKNOWN: AdministrationError = AdministrationError::Unknown("access list");

impl View {
    /// What holds for a pipeline.
    fn effective(&self, pipeline: &str) -> Option<&Acl> {
        match self.stored.acls.get(pipeline) {
            Some(stored) => stored.acl.as_ref(),
            None => self.configured.policy().acl(pipeline),
        }
    }

    fn acl_value(&self, pipeline: &str) -> Value {
        self.effective(pipeline).map_or(Value::Null, |acl| json!(acl))
    }

    fn shown(&self, pipeline: &str, acl: &Acl) -> AclView {
        let stored = self.stored.acls.get(pipeline);
        AclView {
            pipeline_id: pipeline.to_owned(),
            acl: acl.clone(),
            source: if stored.is_some() { Source::Stored } else { Source::Configuration },
            changed_by: stored.map(|stored| stored.changed_by.clone()),
            changed_at: stored.map(|stored| stored.changed_at),
        }
    }
}
