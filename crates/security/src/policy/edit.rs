//! One change to a configuration or a credential, as a suggestion that can be tried out.

use jiff::Timestamp;
use serde::Serialize;

use super::{Acl, Policy};
use crate::permission::{Permission, PermissionSet};
use crate::principal::{Principal, PrincipalKind};
use crate::whitelist::Whitelist;

/// One change that would turn a decision, or help to. It says nothing about whether it should be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// Security is switched on.
    SwitchSecurityOn,
    /// The credential gets a later end.
    Extend,
    /// The credential is taken away.
    Revoke,
    /// The pipeline is put on the credential's list.
    ListPipeline(String),
    /// The credential's list of pipelines is lifted.
    LiftList,
    /// The credential's list of pipelines is made one that has other pipelines only.
    LimitList,
    /// The credential itself permits more.
    Grant(Permission),
    /// The credential itself permits less.
    Withdraw(Permission),
    /// The credential gets a role.
    GiveRole(String),
    /// A role of tokens permits more.
    GrantToRole(String, Permission),
    /// A role of tokens permits less.
    WithdrawFromRole(String, Permission),
    /// The pipeline's ACL lists a role.
    AddToAcl(String, Permission, String),
    /// The pipeline's ACL no longer lists a role.
    RemoveFromAcl(String, Permission, String),
    /// The pipeline gets an ACL, which lists nobody.
    MakeAcl(String),
    /// The pipeline's ACL goes.
    DropAcl(String),
    /// Callers without credential may read pipelines without ACL, or may not.
    AnonymousRead(bool),
}

/// An edit in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EditText {
    /// The field to change, such as `pipeline_acls.etl.read`; for what a token's issuer decides, `token.roles`.
    pub field: String,
    /// `add`, `remove` or `set`.
    pub action: &'static str,
    /// What to add, to remove or to set.
    pub value: String,
    /// All of it as a sentence.
    pub text: String,
}

impl Edit {
    /// Makes the change.
    pub(super) fn apply(&self, policy: &mut Policy, principal: &mut Principal, now: Timestamp) {
        match self {
            Edit::SwitchSecurityOn => policy.danger_open = false,
            Edit::Extend => principal.expires_at = None,
            Edit::Revoke => principal.expires_at = Some(now),
            Edit::ListPipeline(pipeline) => principal.whitelist = with_entry(&principal.whitelist, pipeline),
            Edit::LiftList => principal.whitelist = Whitelist::Unrestricted,
            Edit::LimitList => principal.whitelist = Whitelist::Only(Vec::new()),
            Edit::Grant(permission) => {
                principal.permissions = principal.permissions.union(PermissionSet::from_iter([*permission]));
            }
            Edit::Withdraw(permission) => {
                principal.permissions = without(principal.permissions, *permission);
            }
            Edit::GiveRole(role) => principal.roles.push(role.clone()),
            Edit::GrantToRole(role, permission) => {
                let granted = policy.role_permissions.entry(role.clone()).or_default();
                *granted = granted.union(PermissionSet::from_iter([*permission]));
            }
            Edit::WithdrawFromRole(role, permission) => {
                if let Some(granted) = policy.role_permissions.get_mut(role) {
                    *granted = without(*granted, *permission);
                }
            }
            Edit::AddToAcl(pipeline, permission, role) => {
                policy.acls.entry(pipeline.clone()).or_default().add(*permission, role);
            }
            Edit::RemoveFromAcl(pipeline, permission, role) => {
                if let Some(acl) = policy.acls.get_mut(pipeline) {
                    acl.remove(*permission, role);
                }
            }
            Edit::MakeAcl(pipeline) => {
                policy.acls.insert(pipeline.clone(), Acl::default());
            }
            Edit::DropAcl(pipeline) => {
                policy.acls.remove(pipeline);
            }
            Edit::AnonymousRead(allowed) => policy.anonymous_read = *allowed,
        }
    }

    /// The change in words; `principal` is whose decision it is about.
    pub fn describe(&self, principal: &Principal) -> EditText {
        let owner = match principal.kind() {
            PrincipalKind::ApiKey => format!("api_keys.{}", principal.id()),
            PrincipalKind::Certificate => format!("client_certificates.{}", principal.id()),
            kind => kind.as_str().to_owned(),
        };
        let of_roles = match principal.kind() {
            PrincipalKind::Jwt => "token.roles".to_owned(),
            _ => format!("{owner}.role"),
        };
        let (field, action, value) = match self {
            Edit::SwitchSecurityOn => ("security_enabled".to_owned(), "set", "true".to_owned()),
            Edit::Extend => (format!("{owner}.expires_at"), "set", "a later time".to_owned()),
            Edit::Revoke => (owner, "remove", principal.id().to_owned()),
            Edit::ListPipeline(pipeline) => (format!("{owner}.pipelines"), "add", pipeline.clone()),
            Edit::LiftList => (format!("{owner}.pipelines"), "set", "*".to_owned()),
            Edit::LimitList => (
                format!("{owner}.pipelines"),
                "set",
                "the pipelines it is for, this one not among them".into(),
            ),
            Edit::Grant(permission) => (format!("{owner}.permissions"), "add", permission.to_string()),
            Edit::Withdraw(permission) => (format!("{owner}.permissions"), "remove", permission.to_string()),
            Edit::GiveRole(role) => (of_roles, "add", role.clone()),
            Edit::GrantToRole(role, permission) => {
                (format!("role_permissions.{role}"), "add", permission.to_string())
            }
            Edit::WithdrawFromRole(role, permission) => {
                (format!("role_permissions.{role}"), "remove", permission.to_string())
            }
            Edit::AddToAcl(pipeline, permission, role) => {
                (format!("pipeline_acls.{pipeline}.{permission}"), "add", role.clone())
            }
            Edit::RemoveFromAcl(pipeline, permission, role) => {
                (format!("pipeline_acls.{pipeline}.{permission}"), "remove", role.clone())
            }
            Edit::MakeAcl(pipeline) => (
                format!("pipeline_acls.{pipeline}"),
                "set",
                "an ACL that does not list the caller".to_owned(),
            ),
            Edit::DropAcl(pipeline) => ("pipeline_acls".to_owned(), "remove", pipeline.clone()),
            Edit::AnonymousRead(allowed) => {
                ("websocket_require_auth".to_owned(), "set", (!allowed).to_string())
            }
        };
        let text = self.sentence(principal, &field, &value);
        EditText { field, action, value, text }
    }

    fn sentence(&self, principal: &Principal, field: &str, value: &str) -> String {
        let whose = match principal.kind() {
            PrincipalKind::Jwt => format!("the token of `{}`", principal.id()),
            PrincipalKind::ApiKey => format!("the key `{}`", principal.id()),
            PrincipalKind::Certificate => format!("the certificate `{}`", principal.id()),
            _ => format!("`{}`", principal.id()),
        };
        match self {
            Edit::SwitchSecurityOn => "set security_enabled to true".to_owned(),
            Edit::Extend => format!("give {whose} a later end"),
            Edit::Revoke => format!("revoke {whose}"),
            Edit::ListPipeline(_) => format!("add `{value}` to the pipelines of {whose}"),
            Edit::LiftList => format!("lift the list of pipelines of {whose}"),
            Edit::LimitList => format!("limit {whose} to the pipelines it is for, this one not among them"),
            Edit::Grant(_) => format!("add `{value}` to the permissions of {whose}"),
            Edit::Withdraw(_) => format!("remove `{value}` from the permissions of {whose}"),
            Edit::GiveRole(_) => format!("give {whose} the role `{value}`"),
            Edit::GrantToRole(..) => format!("add `{value}` to {field}"),
            Edit::WithdrawFromRole(..) => format!("remove `{value}` from {field}"),
            Edit::AddToAcl(..) => format!("add role `{value}` to {field}"),
            Edit::RemoveFromAcl(..) => format!("remove role `{value}` from {field}"),
            Edit::MakeAcl(_) => format!("write {field} so that it does not list a role of {whose}"),
            Edit::DropAcl(_) => format!("remove pipeline_acls.{value}"),
            Edit::AnonymousRead(_) => format!("set {field} to {value}"),
        }
    }
}

/// The list with one more entry. An id that could stand in no list leaves it as it is.
fn with_entry(list: &Whitelist, pipeline: &str) -> Whitelist {
    let mut entries = list.to_list();
    entries.push(pipeline.to_owned());
    Whitelist::parse(&entries).unwrap_or_else(|_| list.clone())
}

fn without(set: PermissionSet, permission: Permission) -> PermissionSet {
    set.iter().filter(|granted| *granted != permission).collect()
}
