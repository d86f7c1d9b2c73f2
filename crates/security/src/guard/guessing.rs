//! Invalid credentials from all addresses together: a sign of guessing that no address's own bucket shows. It locks
//! nobody out, for that would hand every stranger the means to; it is told to those who watch.

use super::Guard;
use crate::audit::{AuditEntry, AuditEvent, Outcome};
use crate::rate_limit::Limit;

/// Ten addresses' worth of the default `auth_failure_limit`.
const MANY_A_MINUTE: u64 = 200;

impl Guard {
    /// Counts an invalid credential. More than [`MANY_A_MINUTE`] in this process are recorded and logged, once a minute.
    pub(super) fn note_invalid_credential(&self, method: &'static str) {
        metrics::counter!("taskiq_flow_invalid_credentials_total", "method" => method).increment(1);
        let limiter = &self.inner.limiter;
        if limiter.check_here("auth_failure|all", &Limit::per_minute(MANY_A_MINUTE)).allowed
            || !limiter.check_here("auth_failure|told", &Limit::per_minute(1)).allowed
        {
            return;
        }
        metrics::counter!("taskiq_flow_credential_guessing_total").increment(1);
        tracing::warn!(
            "more than {MANY_A_MINUTE} invalid credentials a minute come from all addresses together"
        );
        let mut entry = AuditEntry::new(AuditEvent::RateLimitExceeded, Outcome::Throttled);
        entry.action = Some("credential_guessing".into());
        entry.detail = Some(
            format!("more than {MANY_A_MINUTE} invalid credentials a minute, from all addresses").into(),
        );
        // The request itself is recorded too, and refused when that cannot be.
        let _ = self.write(entry);
    }
}
