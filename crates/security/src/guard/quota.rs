//! Quotas of pipelines: how often each may be executed, and how many of its runs may be unfinished.
//!
//! They are spent once a request is authorized, whatever starts the run: a request, the trigger of a schedule, a retry,
//! and a schedule by itself, which no principal's quota counts. Runs that steps of other runs ask for are part of these.
//! `rate_limit_enabled` does not switch quotas off: who writes one wants it.

use http::header::{HeaderName, HeaderValue};

use super::record::entry;
use super::{Admission, Guard};
use crate::audit::{AuditEntry, AuditEvent, Outcome};
use crate::rate_limit::{Decision, Limit, concurrency_headers, policy_name, rate_limit_headers};
use crate::refusal::Refusal;
use crate::settings::Settings;

/// A quota that an execution goes beyond.
struct Exceeded<'a> {
    /// Such as `etl.executions`.
    policy: String,
    limit: &'a Limit,
    decision: Decision,
}

impl Guard {
    /// Whether executions of the pipeline are bounded.
    pub fn has_quota(&self, pipeline: &str) -> bool {
        let settings = self.inner.settings.load();
        settings.enabled && settings.quotas.of(pipeline).is_some()
    }

    /// Takes one execution from the quotas of the pipeline, for a run that the caller asks for. Gives the number of
    /// unfinished runs that the pipeline may have with it; none: any.
    ///
    /// # Errors
    /// [`RefusalKind::QuotaExceeded`](crate::refusal::RefusalKind::QuotaExceeded), recorded: nothing was taken then.
    pub async fn spend_quota(&self, caller: &Admission, pipeline: &str) -> Result<Option<usize>, Refusal> {
        let settings = self.settings();
        let bucket = caller.principal.unique_name();
        match self.take_execution(&settings, pipeline, Some(&bucket)).await {
            Ok(most) => Ok(most),
            Err(Exceeded { policy, limit, decision }) => {
                let reason = format!("quota {policy} ({limit}) exceeded");
                let headers = rate_limit_headers(&policy, limit, &decision);
                let name = policy_name(&policy, limit, &decision);
                let wait = decision.retry_after_seconds().unwrap_or(1);
                let refusal = Refusal::quota_exceeded(vec![name], wait, reason);
                Err(self.refuse_quota(caller, pipeline, refusal, headers))
            }
        }
    }

    /// As [`Guard::spend_quota`], for a run that a schedule starts by itself.
    ///
    /// # Errors
    /// Why it may not, for those who may read the pipeline. See [`Guard::note_skipped_firing`].
    pub async fn spend_firing(&self, pipeline: &str) -> Result<Option<usize>, String> {
        let settings = self.settings();
        self.take_execution(&settings, pipeline, None)
            .await
            .map_err(|exceeded| format!("the pipeline's quota of {} executions is used up", exceeded.limit))
    }

    /// Refuses a run because the pipeline has as many unfinished ones as [`Guard::spend_quota`] said, and records it.
    pub fn too_many_runs(&self, caller: &Admission, pipeline: &str, most: usize) -> Refusal {
        let policy = format!("{pipeline}.concurrent_runs");
        let headers = concurrency_headers(&policy, most);
        let reason = format!("quota {policy} ({most}) exceeded");
        // Nobody knows when a run will end; a second keeps a client from asking without pause.
        let refusal = Refusal::quota_exceeded(vec![policy], 1, reason);
        self.refuse_quota(caller, pipeline, refusal, headers)
    }

    /// Records that a schedule's firing was skipped for a quota.
    pub fn note_skipped_firing(&self, pipeline: &str, schedule: &str, reason: &str) {
        let mut entry = AuditEntry::new(AuditEvent::RateLimitExceeded, Outcome::Throttled);
        entry.action = Some("schedule".into());
        entry.pipeline_id = Some(pipeline.to_owned());
        entry.detail = Some(format!("schedule {schedule}: {reason}").into());
        metrics::counter!("taskiq_flow_skipped_firings_total").increment(1);
        // What cannot be recorded is logged by the writer; the firing is skipped either way.
        let _ = self.write(entry);
    }

    async fn take_execution<'a>(
        &self,
        settings: &'a Settings,
        pipeline: &str,
        principal: Option<&str>,
    ) -> Result<Option<usize>, Exceeded<'a>> {
        let Some(quota) = settings.quotas.of(pipeline).filter(|_| settings.enabled) else { return Ok(None) };
        let limiter = &self.inner.limiter;
        let all = quota
            .executions
            .as_ref()
            .map(|limit| (limit, format!("{pipeline}.executions"), format!("quota|{pipeline}|executions")));
        let own = quota.per_principal.as_ref().zip(principal).map(|(limit, principal)| {
            (limit, format!("{pipeline}.per_principal"), format!("quota|{pipeline}|principal|{principal}"))
        });
        // Looked at before anything is taken, so that what one bucket refuses costs nothing in the other.
        for (limit, policy, bucket) in all.iter().filter(|_| own.is_some()) {
            let decision = limiter.peek(bucket, limit).await;
            if !decision.allowed {
                return Err(Exceeded { policy: policy.clone(), limit, decision });
            }
        }
        for (limit, policy, bucket) in own.into_iter().chain(all) {
            let decision = limiter.check(&bucket, limit).await;
            if !decision.allowed {
                return Err(Exceeded { policy, limit, decision });
            }
        }
        Ok(quota.concurrent_runs)
    }

    fn refuse_quota(
        &self,
        caller: &Admission,
        pipeline: &str,
        refusal: Refusal,
        headers: [(HeaderName, HeaderValue); 2],
    ) -> Refusal {
        let (event, outcome) = (AuditEvent::RateLimitExceeded, Outcome::Throttled);
        let mut entry = entry(event, outcome, &caller.request, Some(&caller.principal));
        entry.pipeline_id = Some(pipeline.to_owned());
        entry.status = Some(refusal.status().as_u16());
        entry.detail = Some(refusal.reason().to_owned().into());
        let refusal = self.write(entry).err().unwrap_or(refusal);
        metrics::counter!("taskiq_flow_refusals_total", "kind" => refusal.kind().code()).increment(1);
        refusal.with_headers(&joined(&caller.rate_headers, headers))
    }
}

/// The policies and states of both: the fields are lists.
fn joined(
    earlier: &[(HeaderName, HeaderValue)],
    later: [(HeaderName, HeaderValue); 2],
) -> Vec<(HeaderName, HeaderValue)> {
    let join = |(name, value): (HeaderName, HeaderValue)| {
        let before = earlier.iter().find(|(other, _)| *other == name);
        let both = before.and_then(|(_, before)| {
            HeaderValue::from_bytes(&[before.as_bytes(), b", ", value.as_bytes()].concat()).ok()
        });
        (name, both.unwrap_or(value))
    };
    later.into_iter().map(join).collect()
}
