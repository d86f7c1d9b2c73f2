//! Changed settings: swapped in whole, acting on the next request and on open sockets.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::{Admission, CredentialState, Guard};
use crate::audit::{AuditEntry, AuditEvent, Outcome};
use crate::certificate::ClientCertificate;
use crate::digest::KeyDigest;
use crate::jwt::jwks::KeySource;
use crate::jwt::{JwtAlgorithm, JwtError, Revocations, VerifyingKey};
use crate::principal::{Principal, Proof};
use crate::refusal::Refusal;
use crate::settings::{AuthProvider, HandshakeAuth, Settings};

/// Tells of changed settings. See [`Guard::subscribe_policy_changes`].
#[derive(Debug, Clone)]
pub struct PolicyChanges(watch::Receiver<Instant>);

impl PolicyChanges {
    /// Waits for the next change. Changes that come faster than they are waited for are seen as one; `false` when the
    /// guard is gone and no change can come. Cancelling the wait loses nothing.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// When the last change came into force.
    pub fn last(&self) -> Instant {
        *self.0.borrow()
    }
}

impl Guard {
    /// Puts new settings in force, for every decision from now on, and tells the subscribers. What changed is recorded
    /// first, by field names; `by` is who asked, `None` for a changed file. It gives those names.
    ///
    /// Keys and ACLs that were made while the server ran are not in `settings`: where there are any, reload by
    /// [`Administration::reload`](crate::administration::Administration::reload).
    ///
    /// # Errors
    /// The change cannot be recorded and must be; the settings stay as they were.
    pub fn reload(&self, settings: Settings, by: Option<&Admission>) -> Result<Vec<String>, Refusal> {
        let changed = changed_fields(&self.settings(), &settings);
        let detail = match changed.as_slice() {
            [] => "nothing changed".to_owned(),
            fields => format!("changed: {}", fields.join(", ")),
        };
        self.record_change(by, "reload", None, Outcome::Success, detail)?;
        self.put_in_force(settings);
        Ok(changed)
    }

    /// Records a change of the settings. Call it before the change is made.
    pub(crate) fn record_change(
        &self,
        by: Option<&Admission>,
        action: &'static str,
        pipeline: Option<&str>,
        outcome: Outcome,
        detail: String,
    ) -> Result<(), Refusal> {
        let event = AuditEvent::SecurityConfigChange;
        let mut entry = match by {
            Some(by) => super::record::entry(event, outcome, &by.request, Some(&by.principal)),
            None => AuditEntry::new(event, outcome),
        };
        entry.action = Some(action.into());
        entry.pipeline_id = pipeline.map(Into::into);
        entry.detail = Some(detail.into());
        self.write(entry)
    }

    /// Every decision from now on is made with these settings; the subscribers are told.
    pub(crate) fn put_in_force(&self, mut settings: Settings) {
        settings.take_over_key_sources(&self.settings());
        settings.start_key_sources(&self.inner.changed);
        self.inner.settings.store(Arc::new(settings));
        self.recheck();
    }

    /// Records a change of what is configured beside the settings: `action` names it, `detail` says what changed or
    /// why it did not. Call it before the change.
    ///
    /// # Errors
    /// The change cannot be recorded and must be: make none.
    pub fn record_config_change(&self, action: &str, outcome: Outcome, detail: &str) -> Result<(), Refusal> {
        let entry = AuditEntry::new(AuditEvent::SecurityConfigChange, outcome);
        self.write(entry.action(action.to_owned()).detail(detail.to_owned()))
    }

    /// Puts other revocations in force, for every decision from now on, and tells the subscribers. Whoever changes them
    /// keeps and records them first.
    pub fn set_revocations(&self, revocations: Revocations) {
        self.inner.revocations.store(Arc::new(revocations));
        self.recheck();
    }

    /// The revocations in force.
    pub fn revocations(&self) -> Arc<Revocations> {
        self.inner.revocations.load_full()
    }

    /// Whether the bearer of a token may go on, on a connection with this certificate; always, when it came with something
    /// else.
    pub(super) fn check_bearer(
        &self,
        principal: &Principal,
        certificate: Option<&ClientCertificate>,
        now: Timestamp,
    ) -> Result<(), JwtError> {
        match &principal.proof {
            Proof::Token(token) => {
                let shown = |digest: &[u8; 32]| {
                    certificate
                        .is_some_and(|shown| shown.counts_at(now) && shown.facts().fingerprint() == digest)
                };
                if !token.bound_to.as_ref().is_none_or(shown) {
                    return Err(JwtError::Unbound);
                }
                self.inner.revocations.load().check(&principal.id, token, now)
            }
            Proof::Key(_) | Proof::Certificate(_) | Proof::None => Ok(()),
        }
    }

    /// Whether there is a key for the tokens of every issuer: while one's keys could not be fetched, its tokens are
    /// refused.
    pub fn tokens_ready(&self) -> bool {
        self.inner
            .settings
            .load()
            .tokens
            .as_ref()
            .is_none_or(|tokens| tokens.sources().all(KeySource::is_ready))
    }

    /// Has open sockets and streams asked again whether they may stay, as after a change of the settings.
    pub fn recheck(&self) {
        self.inner.changed.send_replace(Instant::now());
    }

    /// Tells whoever holds a decision for longer than a request (open sockets, event streams) that it must be asked
    /// again: [`Guard::revalidate`] for the principal, [`Guard::authorize`] for each permit.
    pub fn subscribe_policy_changes(&self) -> PolicyChanges {
        PolicyChanges(self.inner.changed.subscribe())
    }

    /// Whether the principal of an open connection would be admitted with the settings in force: its key is still
    /// there and unexpired, its token's key is still trusted and the token
    /// not revoked. Gives the admission to go on with, in which a key's
    /// changed roles, list and permissions act; `None` means: close the connection.
    pub fn revalidate(&self, caller: &Admission) -> Option<Admission> {
        let settings = self.settings();
        let now = Timestamp::now();
        let principal = match &caller.principal.proof {
            _ if !settings.enabled => Principal::open(),
            Proof::Key(digest) if settings.provider == AuthProvider::ApiKey => {
                settings.keys.find_digest(digest, caller.client.ip, now).ok()?
            }
            Proof::Certificate(certificate) if settings.provider == AuthProvider::ApiKey => {
                settings.certificates.find(certificate, caller.client.ip, now).ok()?
            }
            Proof::Key(_) | Proof::Certificate(_) => return None,
            Proof::Token(token) => {
                let trusted = settings.tokens.as_ref().is_some_and(|tokens| tokens.still_trusts(token));
                let welcome = trusted
                    && !caller.principal.is_expired_at(now)
                    && self.check_bearer(&caller.principal, caller.request.certificate.as_ref(), now).is_ok();
                welcome.then(|| caller.principal.clone())?
            }
            Proof::None => {
                let welcome = match caller.credential {
                    CredentialState::NotNeeded => true,
                    CredentialState::Awaited => settings.handshake_auth == HandshakeAuth::Optional,
                    CredentialState::Anonymous => !settings.websocket_require_auth,
                    // Admitted while security was off.
                    CredentialState::Accepted => false,
                };
                welcome.then(|| caller.principal.clone())?
            }
        };
        Some(Admission { principal, ..caller.clone() })
    }
}

/// The names of the fields that differ; of those shown redacted too.
fn changed_fields(old: &Settings, new: &Settings) -> Vec<String> {
    let (Value::Object(before), Value::Object(after)) = (old.redacted(), new.redacted()) else {
        return Vec::new();
    };
    let differs = |field: &str| match field {
        "api_keys" => !old.keys.same_keys(&new.keys),
        "jwt_secret" => fingerprints(old, true) != fingerprints(new, true),
        "jwt_public_keys" | "jwt_issuers" => fingerprints(old, false) != fingerprints(new, false),
        _ => false,
    };
    let changed = |(field, value): &(&String, &Value)| before.get(*field) != Some(*value) || differs(field);
    after.iter().filter(changed).map(|(field, _)| field.clone()).collect()
}

fn fingerprints(settings: &Settings, symmetric: bool) -> Vec<KeyDigest> {
    let keys = settings.tokens.iter().flat_map(|tokens| tokens.keys());
    keys.filter(|key| (key.algorithm() == JwtAlgorithm::HS256) == symmetric)
        .map(VerifyingKey::fingerprint)
        .collect()
}
