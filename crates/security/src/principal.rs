//! Who is asking.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use crate::audit::{AuditSubject, SubjectNames};
use crate::certificate::ClientCertificate;
use crate::digest::KeyDigest;
use crate::permission::PermissionSet;
use crate::whitelist::Whitelist;

/// How a principal proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// By an API key.
    ApiKey,
    /// By a JSON Web Token.
    Jwt,
    /// By a client certificate.
    Certificate,
    /// Not at all.
    Anonymous,
    /// Nobody asked: security is switched off.
    Open,
}

impl PrincipalKind {
    /// The name in audit records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            PrincipalKind::ApiKey => "api_key",
            PrincipalKind::Jwt => "jwt",
            PrincipalKind::Certificate => "certificate",
            PrincipalKind::Anonymous => "anonymous",
            PrincipalKind::Open => "open",
        }
    }
}

/// Who is asking, and what the credential itself says about what it may do. What roles and ACLs add is decided by
/// [`crate::policy::Policy`], so that a changed policy acts on principals admitted before the change.
#[derive(Debug, Clone)]
pub struct Principal {
    pub(crate) id: String,
    pub(crate) kind: PrincipalKind,
    pub(crate) issuer: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) whitelist: Whitelist,
    pub(crate) permissions: PermissionSet,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) proof: Proof,
}

/// Which configured key the credential was checked with, so that a principal admitted earlier can be checked again
/// after the configuration changed, without keeping the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    None,
    Key(KeyDigest),
    Token(Arc<TokenProof>),
    Certificate(ClientCertificate),
}

/// What is kept of a token, so that its bearer can be checked again later without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenProof {
    /// What it had to say: issuer, audience, type.
    pub(crate) trust: KeyDigest,
    /// The key that verified it.
    pub(crate) key: KeyDigest,
    pub(crate) issuer: Option<String>,
    pub(crate) jti: Option<String>,
    pub(crate) issued_at: Option<Timestamp>,
    /// The SHA-256 of the client certificate it is bound to (RFC 8705): nobody else may use it.
    pub(crate) bound_to: Option<[u8; 32]>,
}

impl Principal {
    /// A caller that presented no credential.
    pub fn anonymous() -> Arc<Self> {
        Arc::new(Self::without_credential("anonymous", PrincipalKind::Anonymous))
    }

    /// Any caller while security is switched off.
    pub fn open() -> Arc<Self> {
        Arc::new(Self::without_credential("open", PrincipalKind::Open))
    }

    fn without_credential(id: &str, kind: PrincipalKind) -> Self {
        Principal {
            id: id.to_owned(),
            kind,
            issuer: None,
            roles: Vec::new(),
            whitelist: Whitelist::Unrestricted,
            permissions: PermissionSet::EMPTY,
            expires_at: None,
            proof: Proof::None,
        }
    }

    /// The id of the key or of the certificate's entry, or the token's `sub`. Never a credential.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The issuer of the token (`iss`), where tokens of several are accepted: their subjects may have the same names.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// How it proved who it is.
    pub fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// The roles of the key or the token.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The pipelines the credential is limited to.
    pub fn whitelist(&self) -> &Whitelist {
        &self.whitelist
    }

    /// What the key itself grants; empty for a token, whose roles are looked up in the policy
    /// ([`crate::policy::Policy::permissions_of`] answers for both).
    pub fn permissions(&self) -> PermissionSet {
        self.permissions
    }

    /// From when on the credential is refused (the clock leeway of tokens included).
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the credential is past its end at `now`.
    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether a credential was presented and found good.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.kind, PrincipalKind::ApiKey | PrincipalKind::Jwt | PrincipalKind::Certificate)
    }

    /// Whether the credential itself says what it permits, as a key does; a token's roles are looked up.
    pub fn has_own_permissions(&self) -> bool {
        self.is_authenticated() && self.kind != PrincipalKind::Jwt
    }

    /// A name that no other principal has, for counting requests and remembering what was asked before. Kinds are
    /// apart, so that a token cannot spend the quota of a key by choosing its id as `sub`; issuers are, so that the
    /// subject of one is not taken for that of another.
    pub fn unique_name(&self) -> String {
        let kind = self.kind.as_str();
        match &self.issuer {
            // The length keeps the two texts apart, the `@` those that have an issuer from those that have none.
            Some(issuer) => format!("{kind}@{}:{issuer}:{}", issuer.len(), self.id),
            None => [kind, ":", &self.id].concat(),
        }
    }
}

/// How audit records name the principal.
impl AuditSubject for Principal {
    fn names(&self) -> SubjectNames<'_> {
        SubjectNames {
            id: Cow::Borrowed(&self.id),
            kind: self.kind.as_str(),
            issuer: self.issuer.as_deref(),
            roles: &self.roles,
        }
    }
}
