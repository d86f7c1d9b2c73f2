//! Tokens that are refused before their end.
//!
//! ```
//! use taskiq_flow_security::jwt::{Revocation, Revocations};
//!
//! let stolen = Revocation::Token { jti: "7f3a".to_owned(), issuer: None, expires_at: None };
//! let left = Revocation::Subject {
//!     sub: "ada".to_owned(),
//!     issuer: Some("https://idp.example.com".to_owned()),
//!     not_before: "2030-01-01T00:00:00Z".parse().unwrap(),
//!     expires_at: None,
//! };
//! let revocations = Revocations::new([stolen, left]).unwrap();
//! assert_eq!(revocations.len(), 2);
//! ```

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::JwtError;
use super::members::is_name;
use super::verifier::MAX_LEEWAY;
use crate::principal::TokenProof;

/// The most rules held at once; one takes about 200 bytes and its texts, which are at most 256 characters each.
pub const MAX_REVOCATIONS: usize = 100_000;

/// One rule that refuses tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Revocation {
    /// The one token with this id.
    Token {
        /// The token's `jti`.
        jti: String,
        /// Only of this issuer (`iss`); absent: of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// When the token itself comes to its end (`exp`), so that the rule may be forgotten [`MAX_LEEWAY`] later;
        /// absent: it is kept for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// All tokens of a subject that were issued before a time. A token of that subject that does not say when it was
    /// issued is refused too.
    Subject {
        /// The tokens' `sub`.
        sub: String,
        /// Only of this issuer (`iss`); absent: of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// Tokens with an `iat` before it are refused. `iat` counts whole seconds of the issuer's clock: a token
        /// issued in the second of a `not_before` with a fraction is refused.
        not_before: Timestamp,
        /// When the last of these tokens comes to its end, so that the rule may be forgotten [`MAX_LEEWAY`] later;
        /// absent: it is kept for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
}

/// Why rules are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// No token could have it.
    #[error("`{0}` must have 1 to 256 characters and no control characters")]
    Name(&'static str),
    /// More than [`MAX_REVOCATIONS`].
    #[error(
        "there are more than 100000 revocations; remove those that have expired, or let tokens live shorter"
    )]
    TooMany,
}

/// All rules in force. It never changes; a new rule makes a new set, which
/// [`crate::guard::Guard::set_revocations`] swaps in whole.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    tokens: HashMap<String, Vec<TokenRule>>,
    subjects: HashMap<String, Vec<SubjectRule>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct TokenRule {
    issuer: Option<String>,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct SubjectRule {
    issuer: Option<String>,
    not_before: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Revocation {
    /// Checks the texts of one rule.
    ///
    /// # Errors
    /// [`RevocationError::Name`].
    pub fn check(&self) -> Result<(), RevocationError> {
        let (name, text, issuer) = match self {
            Revocation::Token { jti, issuer, .. } => ("jti", jti, issuer),
            Revocation::Subject { sub, issuer, .. } => ("sub", sub, issuer),
        };
        if !is_name(text) {
            return Err(RevocationError::Name(name));
        }
        match issuer {
            Some(issuer) if !is_name(issuer) => Err(RevocationError::Name("issuer")),
            _ => Ok(()),
        }
    }

    /// Whether every token it could refuse has come to its end by itself, so that the rule may be removed.
    pub fn is_over_at(&self, now: Timestamp) -> bool {
        let (Revocation::Token { expires_at, .. } | Revocation::Subject { expires_at, .. }) = self;
        is_over(*expires_at, now)
    }
}

impl Revocations {
    /// A set of these rules. Equal rules count once each.
    ///
    /// # Errors
    /// A rule that no token could fall under, or too many of them.
    pub fn new(rules: impl IntoIterator<Item = Revocation>) -> Result<Self, RevocationError> {
        let mut set = Revocations::default();
        for rule in rules {
            rule.check()?;
            set.len += 1;
            if set.len > MAX_REVOCATIONS {
                return Err(RevocationError::TooMany);
            }
            match rule {
                Revocation::Token { jti, issuer, expires_at } => {
                    set.tokens.entry(jti).or_default().push(TokenRule { issuer, expires_at });
                }
                Revocation::Subject { sub, issuer, not_before, expires_at } => {
                    let rule = SubjectRule { issuer, not_before, expires_at };
                    set.subjects.entry(sub).or_default().push(rule);
                }
            }
        }
        Ok(set)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is revoked.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the token of `subject` is refused by a rule.
    pub(crate) fn check(&self, subject: &str, token: &TokenProof, now: Timestamp) -> Result<(), JwtError> {
        if self.is_empty() {
            return Ok(());
        }
        let concerns = |issuer: &Option<String>| issuer.is_none() || *issuer == token.issuer;
        let by_id = token.jti.as_ref().and_then(|jti| self.tokens.get(jti)).into_iter().flatten();
        if by_id.filter(|rule| concerns(&rule.issuer)).any(|rule| !is_over(rule.expires_at, now)) {
            return Err(JwtError::Revoked);
        }
        let of_subject = self.subjects.get(subject).into_iter().flatten();
        let mut in_force =
            of_subject.filter(|rule| concerns(&rule.issuer) && !is_over(rule.expires_at, now)).peekable();
        match token.issued_at {
            _ if in_force.peek().is_none() => Ok(()),
            None => Err(JwtError::Missing("iat")),
            Some(issued) if in_force.any(|rule| issued < rule.not_before) => Err(JwtError::Revoked),
            Some(_) => Ok(()),
        }
    }
}

/// A token is accepted until its end and the leeway more; the rule must outlive it.
fn is_over(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_some_and(|end| end.checked_add(MAX_LEEWAY).is_ok_and(|end| end <= now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::KeyDigest;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn proof(jti: Option<&str>, issuer: Option<&str>, issued_at: Option<&str>) -> TokenProof {
        TokenProof {
            trust: KeyDigest::of("trust"),
            key: KeyDigest::of("key"),
            issuer: issuer.map(str::to_owned),
            jti: jti.map(str::to_owned),
            issued_at: issued_at.map(at),
            bound_to: None,
        }
    }

    fn set(rules: serde_json::Value) -> Revocations {
        Revocations::new(serde_json::from_value::<Vec<Revocation>>(rules).unwrap()).unwrap()
    }

    const NOW: &str = "2030-01-01T12:00:00Z";

    #[test]
    fn a_token_is_refused_by_its_id_and_issuer() {
        let rules = set(serde_json::json!([{ "jti": "a" }, { "jti": "b", "issuer": "one" }]));
        for (jti, issuer, refused) in [
            (Some("a"), None, true),
            (Some("a"), Some("one"), true),
            (Some("b"), Some("one"), true),
            (Some("b"), Some("two"), false),
            (Some("b"), None, false),
            (Some("A"), None, false),
            (None, Some("one"), false),
        ] {
            let checked = rules.check("ada", &proof(jti, issuer, None), at(NOW));
            assert_eq!(checked.is_err(), refused, "{jti:?} of {issuer:?}: {checked:?}");
        }
    }

    #[test]
    fn a_subject_is_refused_what_was_issued_before() {
        let rules = set(serde_json::json!([
            { "sub": "ada", "not_before": "2030-01-01T11:00:00.5Z" },
            { "sub": "bob", "issuer": "one", "not_before": "2030-01-01T11:00:00Z" },
        ]));
        for (subject, issuer, issued, result) in [
            ("ada", None, Some("2030-01-01T10:59:59Z"), Err(JwtError::Revoked)),
            // The second it fell into: which came first is not known.
            ("ada", None, Some("2030-01-01T11:00:00Z"), Err(JwtError::Revoked)),
            ("ada", None, Some("2030-01-01T11:00:01Z"), Ok(())),
            ("ada", None, None, Err(JwtError::Missing("iat"))),
            ("bob", Some("one"), Some("2030-01-01T10:59:59Z"), Err(JwtError::Revoked)),
            ("bob", Some("one"), Some("2030-01-01T11:00:00Z"), Ok(())),
            ("bob", Some("two"), Some("2030-01-01T10:59:59Z"), Ok(())),
            ("bob", Some("two"), None, Ok(())),
            ("eve", None, None, Ok(())),
        ] {
            let checked = rules.check(subject, &proof(None, issuer, issued), at(NOW));
            assert_eq!(checked, result, "{subject} of {issuer:?} at {issued:?}");
        }
    }

    #[test]
    fn a_rule_outlives_its_token_by_the_longest_leeway() {
        let rules = set(serde_json::json!([{ "jti": "a", "expires_at": NOW }]));
        let token = proof(Some("a"), None, None);
        assert!(rules.check("ada", &token, at("2030-01-01T12:09:59Z")).is_err());
        assert!(rules.check("ada", &token, at("2030-01-01T12:10:00Z")).is_ok());
    }

    #[test]
    fn rules_that_could_never_act_and_too_many_are_refused() {
        let token = |jti: &str| Revocation::Token { jti: jti.to_owned(), issuer: None, expires_at: None };
        assert_eq!(Revocations::new([token("")]).unwrap_err(), RevocationError::Name("jti"));
        assert_eq!(Revocations::new([token("a\n")]).unwrap_err(), RevocationError::Name("jti"));
        let issuer = Some(String::new());
        let foreign = Revocation::Token { jti: "a".to_owned(), issuer, expires_at: None };
        assert_eq!(Revocations::new([foreign]).unwrap_err(), RevocationError::Name("issuer"));
        let many = (0..=MAX_REVOCATIONS).map(|number| token(&number.to_string()));
        assert_eq!(Revocations::new(many).unwrap_err(), RevocationError::TooMany);
        for text in [r#"{"jti":"a","sub":"b"}"#, r#"{"sub":"b"}"#, "{}", r#"{"jti":"a","x":1}"#] {
            assert!(serde_json::from_str::<Revocation>(text).is_err(), "{text}");
        }
    }
}
