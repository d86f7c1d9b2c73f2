//! Keys, access lists and revocations of tokens.

use secrecy::ExposeSecret;
use serde::Serialize;
use taskiq_flow_security::Permission;
use taskiq_flow_security::administration::{AclView, IssuedKey, KeyView, RevocationView, Source};
use taskiq_flow_security::jwt::Revocation;
use taskiq_flow_security::policy::Acl;
use utoipa::ToSchema;

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    /// By id.
    pub(crate) keys: Vec<KeyDocument>,
    /// What to ask the next page with; null: there is none.
    pub(crate) next_cursor: Option<String>,
}

/// A key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct KeyDocument {
    /// What logs and audit records call it.
    pub(crate) id: String,
    /// Its first role.
    pub(crate) role: Option<String>,
    /// All its roles.
    pub(crate) roles: Vec<String>,
    /// The pipelines it is limited to; `["*"]`: all.
    pub(crate) pipelines: Vec<String>,
    /// What it may do.
    pub(crate) permissions: Vec<&'static str>,
    /// From when on it is refused; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) expires_at: Option<jiff::Timestamp>,
    /// The networks it may be used from; null: anywhere.
    pub(crate) allowed_ips: Option<Vec<String>>,
    /// `configuration`: it is changed there. `stored`: it was made over the API.
    #[schema(value_type = String)]
    pub(crate) source: Source,
    /// The id of who made it, of a stored one.
    pub(crate) created_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) created_at: Option<jiff::Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) rotated_at: Option<jiff::Timestamp>,
    /// Until when the key before it is accepted beside it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) previous_valid_until: Option<jiff::Timestamp>,
    /// To the second. A crash of the server forgets at most the last minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_used_at: Option<jiff::Timestamp>,
}

/// A key just made, with the key, which is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = IssuedApiKey)]
pub(crate) struct IssuedKeyDocument {
    /// The key. Keep it now: only its digest stays here.
    key: String,
    #[serde(flatten)]
    known: KeyDocument,
}

/// All access lists in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AclList {
    /// By pipeline.
    pub(crate) acls: Vec<AclRow>,
}

/// The access list of one pipeline.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PipelineAcl)]
pub(crate) struct AclRow {
    pub(crate) pipeline_id: String,
    #[schema(value_type = AclDocument)]
    pub(crate) acl: AclDocument,
    /// `configuration`, or `stored`: it was set over the API.
    #[schema(value_type = String)]
    pub(crate) source: Source,
    /// The id of who set a stored one.
    pub(crate) changed_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) changed_at: Option<jiff::Timestamp>,
}

/// Roles by permission. A permission that is not listed is an admin's alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Acl)]
pub(crate) struct AclDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execute: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<Vec<String>>,
    /// What its author should know, after it was set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// All rules that refuse tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevocationList {
    /// By id.
    pub(crate) revocations: Vec<RevocationDocument>,
}

/// A rule that refuses tokens: one by its `jti`, or all of a `sub` that were issued before `not_before`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Revocation)]
pub(crate) struct RevocationDocument {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Only of this issuer; null: of any.
    issuer: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<jiff::Timestamp>,
    /// When the last of these tokens ends by itself; null: the rule is kept for ever.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<jiff::Timestamp>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
}

impl From<KeyView> for KeyDocument {
    fn from(view: KeyView) -> Self {
        Self {
            id: view.id,
            role: view.roles.first().cloned(),
            roles: view.roles,
            pipelines: view.pipelines,
            permissions: view.permissions.iter().map(Permission::as_str).collect(),
            expires_at: view.expires_at,
            allowed_ips: view.allowed_ips,
            source: view.source,
            created_by: view.created_by,
            created_at: view.created_at,
            rotated_at: view.rotated_at,
            previous_valid_until: view.previous_valid_until,
            last_used_at: view.last_used_at,
        }
    }
}

impl From<IssuedKey> for IssuedKeyDocument {
    fn from(issued: IssuedKey) -> Self {
        Self { key: issued.key.expose_secret().to_owned(), known: issued.view.into() }
    }
}

impl From<Acl> for AclDocument {
    fn from(acl: Acl) -> Self {
        let mut document = Self { read: None, execute: None, admin: None, warnings: Vec::new() };
        for (permission, roles) in acl.lists() {
            let list = match permission {
                Permission::Read => &mut document.read,
                Permission::Execute => &mut document.execute,
                Permission::Admin => &mut document.admin,
            };
            *list = Some(roles.to_vec());
        }
        document
    }
}

impl From<AclView> for AclRow {
    fn from(view: AclView) -> Self {
        Self {
            pipeline_id: view.pipeline_id,
            acl: view.acl.into(),
            source: view.source,
            changed_by: view.changed_by,
            changed_at: view.changed_at,
        }
    }
}

impl From<RevocationView> for RevocationDocument {
    fn from(view: RevocationView) -> Self {
        let (jti, sub, issuer, not_before, expires_at) = match view.rule {
            Revocation::Token { jti, issuer, expires_at } => (Some(jti), None, issuer, None, expires_at),
            Revocation::Subject { sub, issuer, not_before, expires_at } => {
                (None, Some(sub), issuer, Some(not_before), expires_at)
            }
        };
        Self {
            id: view.id,
            jti,
            sub,
            issuer,
            not_before,
            expires_at,
            created_by: view.created_by,
            created_at: view.created_at,
        }
    }
}
