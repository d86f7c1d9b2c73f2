//! Tokens revoked before their end.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::stored::{StoredRevocation, delete_revocation, put_revocation};
use super::{Administration, AdministrationError, Administrator, Plan, before_after};
use crate::jwt::{Revocation, RevocationError};

/// A rule that refuses tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct RevocationView {
    /// Made of what the rule is about: the same tokens, the same id.
    pub id: String,
    /// Which tokens.
    pub rule: Revocation,
    /// The id of who made it.
    pub created_by: String,
    /// When it was made or last changed.
    pub created_at: Timestamp,
}

impl Administration {
    /// All rules, by id; those included whose tokens have come to their end by themselves, until the next change.
    pub fn revocations(&self, _by: &Administrator) -> Vec<RevocationView> {
        self.inner.view.load().stored.revocations.iter().map(|(id, stored)| stored.view(id)).collect()
    }

    /// Refuses tokens from now on. A rule about the same tokens is replaced, and the stricter of both holds: the later
    /// `not_before`, and the later end of the rule itself.
    ///
    /// # Errors
    /// No token could fall under the rule, or there are too many.
    pub async fn revoke_tokens(
        &self,
        by: &Administrator,
        rule: Revocation,
    ) -> Result<RevocationView, AdministrationError> {
        rule.check().map_err(|error| match error {
            RevocationError::Name(field) => AdministrationError::invalid(field, error),
            RevocationError::TooMany => AdministrationError::Conflict(error.to_string()),
        })?;
        let (now, caller) = (Timestamp::now(), by.0.principal().id().to_owned());
        if rule.is_over_at(now) {
            let message = "that time has passed, and with it the tokens; write when the last of them ends";
            return Err(AdministrationError::invalid("expires_at", message));
        }
        let id = id_of(&rule);
        self.change(by, move |held| {
            let mut next = held.stored.clone();
            let mut writes = next.drop_ended_revocations(now);
            let before = next.revocations.get(&id).map(|stored| stored.rule.clone());
            let rule = before.iter().fold(rule, stricter);
            let shown = before.map_or(Value::Null, |rule| json!(rule));
            let detail = before_after("revocation", &id, shown, json!(rule));
            let stored = StoredRevocation { rule, created_by: caller, created_at: now };
            writes.push(put_revocation(&id, &stored, now)?);
            let answer = stored.view(&id);
            next.revocations.insert(id, stored);
            Ok(Plan::new("token.revoke", next, writes, detail, answer).of_revocations())
        })
        .await
    }

    /// Takes a rule back: tokens that it alone refused are accepted again.
    ///
    /// # Errors
    /// There is no such rule.
    pub async fn remove_revocation(&self, by: &Administrator, id: &str) -> Result<(), AdministrationError> {
        let id = id.to_owned();
        self.change(by, move |held| {
            let mut next = held.stored.clone();
            let gone = next.revocations.remove(&id).ok_or(AdministrationError::Unknown("revocation"))?;
            let mut writes = next.drop_ended_revocations(Timestamp::now());
            writes.push(delete_revocation(&id));
            let detail = before_after("revocation", &id, json!(gone.rule), Value::Null);
            Ok(Plan::new("token.restore", next, writes, detail, ()).of_revocations())
        })
        .await
    }
}

impl StoredRevocation {
    fn view(&self, id: &str) -> RevocationView {
        RevocationView {
            id: id.to_owned(),
            rule: self.rule.clone(),
            created_by: self.created_by.clone(),
            created_at: self.created_at,
        }
    }
}

/// A name for the tokens that a rule is about. Ids of tokens and names of subjects may have any characters, a path not.
fn id_of(rule: &Revocation) -> String {
    let (kind, text, issuer) = match rule {
        Revocation::Token { jti, issuer, .. } => ("jti", jti, issuer),
        Revocation::Subject { sub, issuer, .. } => ("sub", sub, issuer),
    };
    let hash = Sha256::digest(json!([kind, text, issuer]).to_string());
    format!("{kind}-{}", hex::encode(&hash[..12]))
}

/// Refuses what either of two rules about the same tokens refuses.
fn stricter(rule: Revocation, earlier: &Revocation) -> Revocation {
    // Without an end a rule is kept for ever.
    let end = |a: Option<Timestamp>, b: Option<Timestamp>| a.zip(b).map(|(a, b)| a.max(b));
    match (rule, earlier) {
        (Revocation::Token { jti, issuer, expires_at }, Revocation::Token { expires_at: other, .. }) => {
            Revocation::Token { jti, issuer, expires_at: end(expires_at, *other) }
        }
        (
            Revocation::Subject { sub, issuer, not_before, expires_at },
            Revocation::Subject { not_before: earlier, expires_at: other, .. },
        ) => Revocation::Subject {
            sub,
            issuer,
            not_before: not_before.max(*earlier),
            expires_at: end(expires_at, *other),
        },
        (rule, _) => rule,
    }
}
