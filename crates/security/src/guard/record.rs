//! Authorization, and what is written about what callers do.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Admission, Guard, Request};
use crate::audit::{AuditEntry, AuditEvent, AuditRequest, Outcome, RequestNames};
use crate::permission::Permission;
use crate::policy::{Permit, Resource};
use crate::principal::Principal;
use crate::refusal::{Refusal, RefusalKind};

/// What a handler says about what it does, for the audit record. Never a credential or a parameter's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note<'a> {
    /// What is done, such as `get_dag` or `cancel`; absent: the endpoint's name.
    pub action: Option<&'static str>,
    /// The pipeline it is done to.
    pub pipeline_id: Option<&'a str>,
    /// The run it is done to.
    pub run_id: Option<&'a str>,
    /// The answer's status, when it is known.
    pub status: Option<u16>,
    /// Anything more.
    pub detail: Option<&'a str>,
    /// How it went; absent: success.
    pub outcome: Option<Outcome>,
}

impl Guard {
    /// Asks the policy in force; a no is recorded.
    ///
    /// # Errors
    /// [`RefusalKind::Forbidden`], the same whichever rule said no and whether or not the pipeline exists.
    pub fn authorize(
        &self,
        caller: &Admission,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<Permit, Refusal> {
        match self.inner.settings.load().policy.authorize(&caller.principal, permission, resource) {
            Ok(permit) => Ok(permit),
            Err(denied) => Err(self.forbid(
                caller,
                resource,
                denied.to_string(),
                format!("needs {permission}; {denied}"),
            )),
        }
    }

    /// Whether a caller who was let in with a permit would be now: its credential is still good and the policy still says
    /// yes. Ask it before an act that the caller could put off: whose body is long on its way, or who waits for a turn,
    /// may have lost its rights meanwhile. A no is recorded.
    ///
    /// # Errors
    /// [`RefusalKind::Forbidden`].
    pub fn still_permits(
        &self,
        caller: &Admission,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        match self.revalidate(caller) {
            Some(caller) => self.authorize(&caller, permission, resource).map(drop),
            None => {
                let reason = "the credential was withdrawn while the request was under way".to_owned();
                Err(self.forbid(caller, resource, reason.clone(), reason))
            }
        }
    }

    /// Records a no.
    fn forbid(&self, caller: &Admission, resource: Resource<'_>, reason: String, detail: String) -> Refusal {
        let refusal = Refusal::new(RefusalKind::Forbidden, reason);
        let mut entry =
            entry(AuditEvent::AuthorizationDenied, Outcome::Denied, &caller.request, Some(&caller.principal));
        if let Resource::Pipeline(pipeline) = resource {
            entry.pipeline_id = Some(pipeline.to_owned());
        }
        entry.status = Some(refusal.status().as_u16());
        entry.detail = Some(detail.into());
        let refusal = self.write(entry).err().unwrap_or(refusal);
        metrics::counter!("taskiq_flow_refusals_total", "kind" => refusal.kind().code()).increment(1);
        refusal.with_headers(&caller.rate_headers)
    }

    /// Records what the caller is about to do. Call it before doing it: with `audit_mode = "required"` what cannot be
    /// recorded must not be done.
    ///
    /// # Errors
    /// [`RefusalKind::AuditUnavailable`]: answer with it, and do nothing.
    pub fn note(&self, caller: &Admission, event: AuditEvent, note: Note<'_>) -> Result<(), Refusal> {
        let outcome = note.outcome.unwrap_or(Outcome::Success);
        let mut entry = entry(event, outcome, &caller.request, Some(&caller.principal));
        if let Some(action) = note.action {
            entry.action = Some(action.into());
        }
        entry.pipeline_id = note.pipeline_id.map(str::to_owned);
        entry.run_id = note.run_id.map(str::to_owned);
        entry.status = note.status;
        entry.detail = note.detail.map(|detail| detail.to_owned().into());
        self.write(entry).map_err(|refusal| refusal.with_headers(&caller.rate_headers))
    }

    /// Refuses a socket because as many as may be are open, and records it.
    pub fn too_many_connections(&self, caller: &Admission) -> Refusal {
        let refusal = Refusal::new(RefusalKind::TooManyConnections, "websocket_max_connections reached");
        let reason = refusal.reason().to_owned().into();
        let recorded = self.record_refusal(
            &caller.request,
            Some(&caller.principal),
            AuditEvent::WebsocketDenied,
            Outcome::Denied,
            &refusal,
            reason,
        );
        match recorded {
            Ok(()) => refusal.with_headers(&caller.rate_headers),
            Err(unavailable) => unavailable,
        }
    }

    pub(super) fn record_authentication(
        &self,
        request: &Arc<Request>,
        principal: &Arc<Principal>,
        method: &'static str,
    ) -> Result<(), Refusal> {
        let mut entry = entry(AuditEvent::AuthenticationSuccess, Outcome::Success, request, Some(principal));
        entry.detail = Some(method.into());
        self.write(entry)
    }

    pub(super) fn record_refusal(
        &self,
        request: &Arc<Request>,
        principal: Option<&Arc<Principal>>,
        event: AuditEvent,
        outcome: Outcome,
        refusal: &Refusal,
        reason: Cow<'static, str>,
    ) -> Result<(), Refusal> {
        let mut entry = entry(event, outcome, request, principal);
        entry.status = Some(refusal.status().as_u16());
        entry.detail = Some(reason);
        self.write(entry)
    }

    pub(super) fn write(&self, entry: AuditEntry) -> Result<(), Refusal> {
        match self.inner.audit.record(entry) {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "an audit record that must be written cannot be: the request is refused");
                Err(Refusal::new(RefusalKind::AuditUnavailable, error.to_string()))
            }
        }
    }
}

pub(super) fn entry(
    event: AuditEvent,
    outcome: Outcome,
    request: &Arc<Request>,
    principal: Option<&Arc<Principal>>,
) -> AuditEntry {
    let mut entry = AuditEntry::new(event, outcome);
    entry.principal = principal.map(|principal| Arc::clone(principal) as _);
    entry.request = Some(Arc::clone(request) as _);
    entry
}

impl AuditRequest for Request {
    fn facts(&self) -> RequestNames<'_> {
        let Self { endpoint, method, path, id, ip, certificate: _ } = self;
        RequestNames { id, method: method.as_str(), path, ip: Some(*ip), endpoint: Some(endpoint) }
    }
}
