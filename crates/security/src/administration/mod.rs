//! Keys, access lists and revocations of tokens that change while the server runs.
//!
//! [`Administration`] holds what the configuration says and what was decided since, puts both together into the
//! [`Settings`] that its [`Guard`] decides by, and keeps the decisions in a [`SecurityState`].
//!
//! ```
//! use std::sync::Arc;
//! use taskiq_flow_security::administration::{Administration, MemoryState};
//! use taskiq_flow_security::audit::{AuditLogger, AuditOptions};
//! use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
//! use taskiq_flow_security::settings::SecurityOptions;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let settings = SecurityOptions::default().build()?;
//! let limiter = RateLimiter::new(RateLimiterOptions::default());
//! let audit = AuditLogger::open(AuditOptions { sinks: vec![], ..AuditOptions::default() })?;
//! let administration =
//!     Administration::start(settings, limiter, audit, Arc::new(MemoryState::default())).await?;
//! assert!(administration.guard().settings().keys().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Rules, in the order in which they act on a change:
//!
//! 1. Changes come one after the other. Each is checked whole against all that holds, whether who asks may still do so
//!    included.
//! 2. It is recorded in the audit log (`security.config_change`, with what was before and what is after, never a
//!    secret). With `audit_mode = "required"` what cannot be recorded is not done.
//! 3. It is kept in the state, wholly or not at all. What cannot be kept is not done, and that is recorded too.
//! 4. It is put in force, for the next request and for whatever is open.
//!
//! A caller that goes away does not stop a change half-way. At the start a state that cannot be read, or that
//! contradicts the configuration, is an error: a server without its revocations would let in whom it should not.

mod acls;
mod error;
mod escalation;
mod keys;
mod revocations;
mod state;
mod stored;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use self::stored::Stored;
use self::usage::Usages;
use crate::audit::{AuditLogger, Outcome};
use crate::guard::{Admission, Guard};
use crate::jwt::Revocations;
use crate::permission::Permission;
use crate::policy::{Permit, Resource};
use crate::rate_limit::RateLimiter;
use crate::refusal::{Refusal, RefusalKind};
use crate::settings::Settings;

pub use self::acls::AclView;
pub use self::error::AdministrationError;
pub use self::keys::{DEFAULT_OVERLAP_SECONDS, IssuedKey, KeyView, MAX_OVERLAP_SECONDS, NewKey};
pub use self::revocations::RevocationView;
pub use self::state::{MemoryState, SecurityState, StateChange, StateError, StateRecord};

/// Longest description of a change in the audit log, in characters; of a longer one the hashes are recorded.
const MAX_DETAIL: usize = 16_000;

/// Changes keys, access lists and revocations; a clone is the same.
#[derive(Clone)]
pub struct Administration {
    inner: Arc<Inner>,
}

struct Inner {
    guard: Guard,
    state: Arc<dyn SecurityState>,
    view: ArcSwap<View>,
    /// Held while something is changed.
    turn: Arc<Mutex<()>>,
    usages: Usages,
    keeper: OnceLock<AbortHandle>,
}

/// What holds.
struct View {
    /// What the configuration says.
    configured: Settings,
    stored: Stored,
}

/// Where something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In the configuration: it is changed there.
    Configuration,
    /// In the state: it was said over the API.
    Stored,
}

/// A caller who may administer security.
#[derive(Debug, Clone)]
pub struct Administrator(Admission);

/// A change that has been checked.
struct Plan<T> {
    stored: Stored,
    writes: Vec<StateChange>,
    action: &'static str,
    pipeline: Option<String>,
    /// What the audit log says of it.
    detail: Value,
    /// A key whose use is of no interest any more.
    gone: Option<String>,
    touches: Touches,
    answer: T,
}

/// What a change changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touches {
    Settings,
    Revocations,
}

/// What a change puts in force.
enum News {
    Settings(Box<Settings>),
    Revocations(Revocations),
}

impl<T> Plan<T> {
    fn new(action: &'static str, stored: Stored, writes: Vec<StateChange>, detail: Value, answer: T) -> Self {
        Plan {
            stored,
            writes,
            action,
            pipeline: None,
            detail,
            gone: None,
            touches: Touches::Settings,
            answer,
        }
    }

    fn of_pipeline(self, pipeline: String) -> Self {
        Plan { pipeline: Some(pipeline), ..self }
    }

    fn forgetting(self, key: String) -> Self {
        Plan { gone: Some(key), ..self }
    }

    fn of_revocations(self) -> Self {
        Plan { touches: Touches::Revocations, ..self }
    }
}

impl Administrator {
    /// The caller, with the permit that its route's rule gave.
    ///
    /// # Errors
    /// The permit is for something else, or for somebody else.
    pub fn new(caller: &Admission, permit: &Permit) -> Result<Self, AdministrationError> {
        let fits = permit.resource() == Resource::SecurityAdmin
            && permit.permission() == Permission::Admin
            && Arc::ptr_eq(permit.principal(), caller.principal());
        match fits {
            true => Ok(Administrator(caller.clone())),
            false => Err(Refusal::new(RefusalKind::Forbidden, "the permit is for something else").into()),
        }
    }
}

impl Administration {
    /// Reads the state and makes a guard of it and of the configuration's settings, counting in `limiter` and
    /// recording in `audit`. Within a tokio runtime, where a task writes down now and then when keys were used.
    ///
    /// # Errors
    /// The state cannot be read, or it contradicts the configuration. A server must not start then.
    pub async fn start(
        settings: Settings,
        limiter: RateLimiter,
        audit: AuditLogger,
        state: Arc<dyn SecurityState>,
    ) -> Result<Self, AdministrationError> {
        let (stored, used) = Stored::read(state.load().await?)?;
        let usages = Usages::known(used);
        let view = View { configured: settings, stored };
        let guard = Guard::new(view.compose(&usages)?, limiter, audit);
        guard.set_revocations(view.stored.revocations()?);
        let bell = usages.bell();
        let inner = Arc::new(Inner {
            guard,
            state,
            view: ArcSwap::from_pointee(view),
            turn: Arc::default(),
            usages,
            keeper: OnceLock::new(),
        });
        let keeper = tokio::spawn(usage::keep(Arc::downgrade(&inner), bell));
        // It is set here and nowhere else.
        let _ = inner.keeper.set(keeper.abort_handle());
        Ok(Administration { inner })
    }

    /// What decides about requests.
    pub fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// Puts changed settings of the configuration in force, with the keys and access lists of the state beside them;
    /// all of it or nothing. `by` is who asked, `None` for a changed file. Gives the names of the changed fields.
    ///
    /// # Errors
    /// The settings contradict the state, or the change cannot be recorded and must be.
    pub async fn reload(
        &self,
        settings: Settings,
        by: Option<&Admission>,
    ) -> Result<Vec<String>, AdministrationError> {
        let _turn = self.inner.turn.lock().await;
        if let Some(by) = by {
            self.inner.still_administers(by)?;
        }
        let mut settings = settings;
        // What was fetched stays, also for the settings that are composed of these later.
        settings.take_over_key_sources(&self.inner.guard.settings());
        let view = View { configured: settings, stored: self.inner.view.load().stored.clone() };
        let composed = view.compose(&self.inner.usages)?;
        let changed = self.inner.guard.reload(composed, by)?;
        self.inner.view.store(Arc::new(view));
        Ok(changed)
    }

    /// Writes down when keys were used last; to be called before the state is closed.
    ///
    /// # Errors
    /// The state cannot be written. What was not written is lost with the process: at most a minute of it.
    pub async fn flush(&self) -> Result<(), StateError> {
        self.inner.flush_usage().await
    }

    /// Carries out what `plan` makes of what holds, once it is its turn.
    async fn change<T: Send + 'static>(
        &self,
        by: &Administrator,
        plan: impl FnOnce(&View) -> Result<Plan<T>, AdministrationError>,
    ) -> Result<T, AdministrationError> {
        let turn = Arc::clone(&self.inner.turn).lock_owned().await;
        let (inner, caller) = (Arc::clone(&self.inner), by.0.clone());
        inner.still_administers(&caller)?;
        let now = inner.view.load_full();
        let plan = plan(&now)?;
        let view = View { configured: now.configured.clone(), stored: plan.stored };
        let news = match plan.touches {
            Touches::Settings => News::Settings(Box::new(view.compose(&inner.usages)?)),
            Touches::Revocations => News::Revocations(view.stored.revocations()?),
        };
        let record =
            Record { action: plan.action, pipeline: plan.pipeline, detail: detail_text(&plan.detail) };
        // By itself: who asked may go away, and a change that was begun is made wholly.
        let carried_out = tokio::spawn(async move {
            let outcome = inner.commit(&caller, record, plan.writes, view, news).await;
            if let (Ok(()), Some(id)) = (&outcome, &plan.gone) {
                inner.usages.forget(id);
            }
            drop(turn);
            outcome
        });
        match carried_out.await {
            Ok(outcome) => outcome.map(|()| plan.answer),
            Err(error) => Err(AdministrationError::Failed(format!("the change was interrupted: {error}"))),
        }
    }
}

/// What the audit log says of a change.
struct Record {
    action: &'static str,
    pipeline: Option<String>,
    detail: String,
}

impl Inner {
    /// Whether who asked may still administer, now that it is its turn: the change before may have ended its key, and it
    /// must not make itself another.
    fn still_administers(&self, caller: &Admission) -> Result<(), Refusal> {
        self.guard.still_permits(caller, Permission::Admin, Resource::SecurityAdmin)
    }

    async fn commit(
        &self,
        caller: &Admission,
        record: Record,
        writes: Vec<StateChange>,
        view: View,
        news: News,
    ) -> Result<(), AdministrationError> {
        let Record { action, pipeline, detail } = record;
        let pipeline = pipeline.as_deref();
        self.guard.record_change(Some(caller), action, pipeline, Outcome::Success, detail)?;
        if let Err(error) = self.state.write(writes).await {
            let detail = "not done: it could not be kept".to_owned();
            // The change was announced and is not made; where not even that can be recorded, the refusal says so.
            self.guard.record_change(Some(caller), action, pipeline, Outcome::Failure, detail)?;
            return Err(error.into());
        }
        self.view.store(Arc::new(view));
        match news {
            News::Settings(settings) => self.guard.put_in_force(*settings),
            News::Revocations(revocations) => self.guard.set_revocations(revocations),
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl View {
    fn compose(&self, usages: &Usages) -> Result<Settings, AdministrationError> {
        let keys = self.stored.key_records()?;
        Ok(self.configured.with_stored(
            keys,
            self.stored.acl_lists(),
            |id| self.revoked_key(id),
            |id| usages.of(id),
        )?)
    }
}

/// What was before and what is after, of one thing.
fn before_after(what: &str, id: &str, before: Value, after: Value) -> Value {
    json!({ what: id, "before": before, "after": after })
}

fn detail_text(detail: &Value) -> String {
    let text = detail.to_string();
    if text.chars().count() <= MAX_DETAIL {
        return text;
    }
    // Too long for a record. The hashes still prove what it was to whoever has the text.
    let hash = |part: &str| hex::encode(Sha256::digest(detail[part].to_string()));
    json!({ "too_long": text.len(), "before_sha256": hash("before"), "after_sha256": hash("after") })
        .to_string()
}

impl fmt::Debug for Administration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administration").field("guard", &self.inner.guard).finish_non_exhaustive()
    }
}
