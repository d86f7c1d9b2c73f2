//! What a principal may do: [`Policy`] decides, and its yes is a [`Permit`].
//!
//! A request needs one [`Permission`] on one [`Resource`]. A principal has it when **all** of these hold:
//!
//! 1. whitelist: its list of pipelines is unrestricted, or names the pipeline;
//! 2. permission: a key's own permissions grant it; a token's roles grant it by `role_permissions`, or by the
//!    pipeline's ACL;
//! 3. ACL: when the pipeline has one, one of the caller's roles is listed for the permission.
//!
//! `admin` implies every permission, in a list of permissions, in `role_permissions` and in an ACL alike; whoever has
//! it passes ACLs, never the whitelist. Nothing said means no.
//!
//! ```
//! use taskiq_flow_security::permission::Permission;
//! use taskiq_flow_security::policy::{Policy, Resource};
//! use taskiq_flow_security::principal::Principal;
//!
//! let nobody = Principal::anonymous();
//! assert!(Policy::default().authorize(&nobody, Permission::Read, Resource::Pipeline("etl")).is_err());
//!
//! let policy = Policy::default().with_anonymous_read(true);
//! assert!(policy.authorize(&nobody, Permission::Execute, Resource::Pipeline("etl")).is_err());
//! let permit = policy.authorize(&nobody, Permission::Read, Resource::Pipeline("etl")).unwrap();
//! assert_eq!(permit.pipeline(), Some("etl"));
//! ```

mod edit;
mod explain;
mod permit;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::permission::{Permission, PermissionSet};
use crate::principal::{Principal, PrincipalKind};

use self::trace::Trace;

pub use self::edit::{Edit, EditText};
pub use self::explain::{Change, Explanation};
pub use self::permit::Permit;
pub use self::trace::{Finding, Look};

/// What a request wants to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// One pipeline, its runs and schedules, by the pipeline's id.
    Pipeline(&'a str),
    /// A list over pipelines (pipelines, runs, schedules, a subscription to `*`): the permission on any pipeline will
    /// do, and what is listed must be filtered with [`Policy::may_read`].
    AnyPipeline,
    /// Security administration: needs `admin` on everything.
    SecurityAdmin,
    /// What shows all pipelines at once and cannot be filtered (metrics): the permission on everything.
    WholeServer,
    /// What every authenticated caller may have (`/me`, the OpenAPI document).
    Myself,
}

/// Who may do what with one pipeline: for each permission the roles that have it. A permission that is not named is
/// nobody's but an admin's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acl(BTreeMap<Permission, Vec<String>>);

impl Acl {
    /// An ACL of these lists.
    pub fn new(lists: impl IntoIterator<Item = (Permission, Vec<String>)>) -> Self {
        Acl(lists.into_iter().collect())
    }

    /// The roles listed, by permission.
    pub fn lists(&self) -> impl Iterator<Item = (Permission, &[String])> {
        self.0.iter().map(|(permission, roles)| (*permission, roles.as_slice()))
    }

    /// Lists a role for a permission too.
    fn add(&mut self, permission: Permission, role: &str) {
        let listed = self.0.entry(permission).or_default();
        if !listed.iter().any(|known| known == role) {
            listed.push(role.to_owned());
        }
    }

    /// Lists a role for a permission no more.
    fn remove(&mut self, permission: Permission, role: &str) {
        if let Some(listed) = self.0.get_mut(&permission) {
            listed.retain(|known| known != role);
        }
    }

    /// Whether one of `roles` is listed for `permission`, or for `admin`.
    fn lists_any(&self, permission: Permission, roles: &[String]) -> bool {
        [permission, Permission::Admin]
            .iter()
            .filter_map(|listed| self.0.get(listed))
            .any(|listed| roles.iter().any(|role| listed.contains(role)))
    }
}

/// The ACLs and what roles may do; see the module's rules.
#[derive(Debug, Clone)]
pub struct Policy {
    acls: BTreeMap<String, Acl>,
    role_permissions: BTreeMap<String, PermissionSet>,
    anonymous_read: bool,
    danger_open: bool,
}

impl Default for Policy {
    /// No ACL; the role `admin` of a token may do everything, other roles nothing.
    fn default() -> Self {
        Policy::new(BTreeMap::new(), BTreeMap::from([("admin".to_owned(), PermissionSet::ALL)]))
    }
}

/// Which rule decided. For the audit record and `POST /security/explain`; a refused client is never told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Security is switched off: yes.
    SecurityOff,
    /// The credential is past its end: no.
    Expired,
    /// The pipeline is not on the caller's list: no.
    Whitelist,
    /// Neither the key nor a role grants the permission (no), or one does and no ACL speaks (yes).
    Permission,
    /// The pipeline's ACL does not list a role of the caller (no), or does (yes).
    Acl,
    /// The caller has `admin`: yes.
    Admin,
    /// The caller is anonymous: yes for reading a pipeline without ACL, where that is allowed at all; else no.
    Anonymous,
    /// Any authenticated caller: yes.
    Authenticated,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::SecurityOff => "security is off",
            Rule::Expired => "credential expired",
            Rule::Whitelist => "whitelist",
            Rule::Permission => "permission",
            Rule::Acl => "acl",
            Rule::Admin => "admin",
            Rule::Anonymous => "anonymous",
            Rule::Authenticated => "authenticated",
        })
    }
}

/// The answer to "may it?", and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The answer.
    pub allowed: bool,
    /// The rule that gave it.
    pub rule: Rule,
}

/// The policy's no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("denied by rule: {rule}")]
pub struct Denied {
    /// The rule that said it. Not for the client.
    pub rule: Rule,
}

impl Policy {
    /// A policy of these ACLs, by pipeline id, and role permissions.
    pub fn new(acls: BTreeMap<String, Acl>, role_permissions: BTreeMap<String, PermissionSet>) -> Self {
        Policy { acls, role_permissions, anonymous_read: false, danger_open: false }
    }

    /// Whether callers without credential may read the pipelines that have no ACL. They may do nothing unless this
    /// is said: a socket whose credential is still awaited is such a caller too.
    #[must_use]
    pub fn with_anonymous_read(mut self, allowed: bool) -> Self {
        self.anonymous_read = allowed;
        self
    }

    /// Says yes to everybody and everything: security is switched off.
    #[must_use]
    pub fn danger_open(mut self, open: bool) -> Self {
        self.danger_open = open;
        self
    }

    /// The same policy with other ACLs for these pipelines; `None` takes a pipeline's ACL away.
    #[must_use]
    pub fn with_other_acls(&self, others: BTreeMap<String, Option<Acl>>) -> Self {
        let mut policy = self.clone();
        for (pipeline, acl) in others {
            match acl {
                Some(acl) => _ = policy.acls.insert(pipeline, acl),
                None => _ = policy.acls.remove(&pipeline),
            }
        }
        policy
    }

    /// The ACL of a pipeline, if it has one.
    pub fn acl(&self, pipeline: &str) -> Option<&Acl> {
        self.acls.get(pipeline)
    }

    /// Asks for `permission` on `resource`.
    ///
    /// # Errors
    /// [`Denied`]; the same for a pipeline that exists and one that does not, which the policy cannot know.
    pub fn authorize(
        &self,
        principal: &Arc<Principal>,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<Permit, Denied> {
        let Verdict { allowed, rule } = self.decide(principal, permission, resource, Timestamp::now());
        if !allowed {
            return Err(Denied { rule });
        }
        Ok(Permit::grant(principal.clone(), permission, resource))
    }

    /// The decision alone, without a permit: for filters and explanations.
    pub fn decide(
        &self,
        principal: &Principal,
        permission: Permission,
        resource: Resource<'_>,
        now: Timestamp,
    ) -> Verdict {
        self.decide_telling(principal, permission, resource, now, &mut ())
    }

    /// The decision, with each rule told to `trace` as it is looked at. There is no other way to a decision.
    fn decide_telling(
        &self,
        principal: &Principal,
        permission: Permission,
        resource: Resource<'_>,
        now: Timestamp,
        trace: &mut impl Trace,
    ) -> Verdict {
        let verdict = 'rules: {
            if self.danger_open {
                break 'rules yes(Rule::SecurityOff);
            }
            if principal.is_expired_at(now) {
                break 'rules no(Rule::Expired);
            }
            trace.goes_on(Rule::Expired);
            match resource {
                Resource::Pipeline(pipeline) => self.decide_pipeline(principal, permission, pipeline, trace),
                Resource::AnyPipeline => self.decide_any(principal, permission, trace),
                Resource::WholeServer => self.decide_whole(principal, permission, trace),
                Resource::SecurityAdmin => self.decide_whole(principal, Permission::Admin, trace),
                Resource::Myself if principal.is_authenticated() => yes(Rule::Authenticated),
                Resource::Myself => no(Rule::Anonymous),
            }
        };
        trace.decided(verdict);
        verdict
    }

    /// Whether `principal` may see `pipeline` and what belongs to it. Every list is filtered with this.
    pub fn may_read(&self, principal: &Principal, pipeline: &str) -> bool {
        self.may(principal, Permission::Read, pipeline)
    }

    /// Whether `principal` has that permission on `pipeline`. For what is shown; what is done needs a permit.
    pub fn may(&self, principal: &Principal, permission: Permission, pipeline: &str) -> bool {
        self.decide(principal, permission, Resource::Pipeline(pipeline), Timestamp::now()).allowed
    }

    /// What the principal may do where no ACL speaks.
    pub fn permissions_of(&self, principal: &Principal) -> PermissionSet {
        match principal.kind() {
            _ if self.danger_open => PermissionSet::ALL,
            // Left over from when security was off.
            PrincipalKind::Open => PermissionSet::EMPTY,
            PrincipalKind::Anonymous if self.anonymous_read => PermissionSet::from_iter([Permission::Read]),
            PrincipalKind::Anonymous => PermissionSet::EMPTY,
            PrincipalKind::ApiKey | PrincipalKind::Certificate => principal.permissions(),
            PrincipalKind::Jwt => principal
                .roles()
                .iter()
                .filter_map(|role| self.role_permissions.get(role))
                .fold(PermissionSet::EMPTY, |all, granted| all.union(*granted)),
        }
    }

    /// The pipelines that have an ACL.
    pub fn acls(&self) -> impl Iterator<Item = (&str, &Acl)> {
        self.acls.iter().map(|(pipeline, acl)| (pipeline.as_str(), acl))
    }

    fn decide_pipeline(
        &self,
        principal: &Principal,
        permission: Permission,
        pipeline: &str,
        trace: &mut impl Trace,
    ) -> Verdict {
        let acl = self.acls.get(pipeline);
        if !principal.is_authenticated() {
            let allowed = principal.kind() == PrincipalKind::Anonymous
                && self.anonymous_read
                && permission == Permission::Read
                && acl.is_none();
            return Verdict { allowed, rule: Rule::Anonymous };
        }
        if !principal.whitelist().allows(pipeline) {
            return no(Rule::Whitelist);
        }
        trace.goes_on(Rule::Whitelist);
        let granted = self.permissions_of(principal);
        if granted.grants(Permission::Admin) {
            return yes(Rule::Admin);
        }
        trace.goes_on(Rule::Admin);
        let Some(acl) = acl else {
            return Verdict { allowed: granted.grants(permission), rule: Rule::Permission };
        };
        // A key needs its own permission besides the ACL; a token's roles may have it from the ACL alone.
        if principal.has_own_permissions() {
            if !granted.grants(permission) {
                return no(Rule::Permission);
            }
            trace.goes_on(Rule::Permission);
        }
        Verdict { allowed: acl.lists_any(permission, principal.roles()), rule: Rule::Acl }
    }

    fn decide_any(&self, principal: &Principal, permission: Permission, trace: &mut impl Trace) -> Verdict {
        if !principal.is_authenticated() {
            let allowed = principal.kind() == PrincipalKind::Anonymous
                && self.anonymous_read
                && permission == Permission::Read;
            return Verdict { allowed, rule: Rule::Anonymous };
        }
        if self.permissions_of(principal).grants(permission) {
            return yes(Rule::Permission);
        }
        if !principal.has_own_permissions() {
            trace.goes_on(Rule::Permission);
            let listed = |acl: &Acl| acl.lists_any(permission, principal.roles());
            return Verdict { allowed: self.acls.values().any(listed), rule: Rule::Acl };
        }
        no(Rule::Permission)
    }

    fn decide_whole(&self, principal: &Principal, permission: Permission, trace: &mut impl Trace) -> Verdict {
        if !principal.is_authenticated() {
            return no(Rule::Anonymous);
        }
        if !self.permissions_of(principal).grants(permission) {
            return no(Rule::Permission);
        }
        trace.goes_on(Rule::Permission);
        Verdict { allowed: principal.whitelist().is_unrestricted(), rule: Rule::Whitelist }
    }
}

fn yes(rule: Rule) -> Verdict {
    Verdict { allowed: true, rule }
}

fn no(rule: Rule) -> Verdict {
    Verdict { allowed: false, rule }
}
