//! Why a decision is what it is, and what would turn it.
//!
//! There is no second policy here: the chain is what [`Policy::decide`] looked at, and what would turn the decision is
//! found by making changes and deciding again. What is suggested has been tried.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Acl, Edit, Finding, Look, Policy, Resource, Rule, Verdict};
use crate::permission::Permission;
use crate::principal::{Principal, PrincipalKind};

/// The most edits that one change is made of: a later end, the list, the permission, a role, the ACL, and one over.
const MAX_EDITS: usize = 6;
/// The most changes suggested, and the most ways tried to meet one rule.
const MAX_CHANGES: usize = 8;
/// The most decisions made in looking for changes: with many roles and ACLs there are more than anybody would read.
const MAX_TRIES: usize = 2_000;
/// A role to suggest where none is known that would do.
const PLAIN_ROLE: &str = "viewer";

/// A decision with its reasons.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Whose decision it is.
    pub principal: Arc<Principal>,
    /// The answer, that of [`Policy::decide`].
    pub allowed: bool,
    /// The rule that gave it.
    pub rule: Rule,
    /// The rules looked at, in order; the last one decided.
    pub chain: Vec<Look>,
    /// What would turn the answer: any one of these. Empty where no change of the configuration would.
    pub changes: Vec<Change>,
}

/// Edits that together turn the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// To be made together.
    pub edits: Vec<Edit>,
}

/// What is asked.
#[derive(Clone, Copy)]
struct Question<'a> {
    permission: Permission,
    resource: Resource<'a>,
    now: Timestamp,
}

/// What has been tried, and found.
#[derive(Default)]
struct Search {
    made: Vec<Edit>,
    found: Vec<Change>,
    tries: usize,
}

impl Policy {
    /// The decision of [`Policy::decide`], the rules it looked at, and what would turn it.
    pub fn explain(
        &self,
        principal: &Arc<Principal>,
        permission: Permission,
        resource: Resource<'_>,
        now: Timestamp,
    ) -> Explanation {
        let mut chain = Vec::new();
        let Verdict { allowed, rule } = self.decide_telling(principal, permission, resource, now, &mut chain);
        let mut search = Search::default();
        search.run(self, principal, Question { permission, resource, now }, !allowed);
        let changes = needed_alone(search.found);
        Explanation { principal: principal.clone(), allowed, rule, chain, changes }
    }
}

/// The shortest first, and none that has all edits of a shorter one: the rest of it would be done for nothing.
fn needed_alone(mut found: Vec<Change>) -> Vec<Change> {
    found.sort_by_key(|change| change.edits.len());
    let mut changes: Vec<Change> = Vec::new();
    for change in found {
        let within = |less: &Change| less.edits.iter().all(|edit| change.edits.contains(edit));
        if !changes.iter().any(within) {
            changes.push(change);
        }
    }
    changes.truncate(MAX_CHANGES);
    changes
}

impl Look {
    /// What the rule said of this principal, for people. Names no secret.
    pub fn describe(&self, policy: &Policy, principal: &Principal, resource: Resource<'_>) -> String {
        let pipeline = match resource {
            Resource::Pipeline(pipeline) => format!("`{pipeline}`"),
            _ => "every pipeline".to_owned(),
        };
        let list = principal.whitelist().to_list().join(", ");
        let granted: Vec<&str> = policy.permissions_of(principal).iter().map(Permission::as_str).collect();
        let granted = if granted.is_empty() { "nothing".to_owned() } else { granted.join(", ") };
        let roles = match principal.roles() {
            [] => "no role".to_owned(),
            roles => format!("the roles {}", roles.join(", ")),
        };
        let no = self.finding == Finding::Denies;
        match self.rule {
            Rule::SecurityOff => "security is off: everything is allowed".to_owned(),
            Rule::Expired if no => match principal.expires_at() {
                Some(end) => format!("the credential ended at {end}"),
                None => "the credential has ended".to_owned(),
            },
            Rule::Expired => "the credential has not expired".to_owned(),
            Rule::Whitelist if no => format!("the credential is limited to {list}, which is not {pipeline}"),
            Rule::Whitelist => format!("the credential's pipelines are {list}: {pipeline} is among them"),
            Rule::Admin if self.finding == Finding::Allows => "`admin` passes everything else".to_owned(),
            Rule::Admin => "the caller has no `admin`".to_owned(),
            Rule::Permission if principal.has_own_permissions() => {
                format!("the credential permits {granted}")
            }
            Rule::Permission => format!("{roles}: role_permissions gives {granted}"),
            Rule::Acl if no => format!("no ACL that counts lists one of {roles}"),
            Rule::Acl => format!("an ACL lists one of {roles}"),
            Rule::Anonymous if no => "without a credential this is not allowed".to_owned(),
            Rule::Anonymous => "anybody may read a pipeline that has no ACL".to_owned(),
            Rule::Authenticated => "every good credential may".to_owned(),
        }
    }
}

impl Search {
    /// Tries edits that meet the deciding rule, one after the other, until the answer is `wanted`.
    fn run(&mut self, policy: &Policy, principal: &Principal, question: Question<'_>, wanted: bool) {
        self.tries += 1;
        let verdict = policy.decide(principal, question.permission, question.resource, question.now);
        if verdict.allowed == wanted {
            let change = Change { edits: self.made.clone() };
            if !self.found.contains(&change) {
                self.found.push(change);
            }
            return;
        }
        if self.made.len() == MAX_EDITS || self.found.len() >= MAX_CHANGES * 2 || self.tries >= MAX_TRIES {
            return;
        }
        let candidates = match wanted {
            true => openers(policy, principal, question, verdict.rule),
            false => closers(policy, principal, question, verdict.rule),
        };
        for edit in candidates.into_iter().take(MAX_CHANGES) {
            if self.made.contains(&edit) {
                continue;
            }
            let (mut policy, mut principal) = (policy.clone(), principal.clone());
            edit.apply(&mut policy, &mut principal, question.now);
            self.made.push(edit);
            self.run(&policy, &principal, question, wanted);
            self.made.pop();
        }
    }
}

/// What could meet the rule that says no.
fn openers(policy: &Policy, principal: &Principal, question: Question<'_>, rule: Rule) -> Vec<Edit> {
    let needed = needed(question);
    let roles = principal.roles();
    match (rule, question.resource) {
        (Rule::Expired, _) => vec![Edit::Extend],
        (Rule::Whitelist, Resource::Pipeline(pipeline)) => vec![Edit::ListPipeline(pipeline.to_owned())],
        (Rule::Whitelist, _) => vec![Edit::LiftList],
        (Rule::Permission, _) if principal.has_own_permissions() => vec![Edit::Grant(needed)],
        (Rule::Permission, _) => roles_that_would_do(policy, principal, needed),
        (Rule::Acl, Resource::Pipeline(pipeline)) => {
            let mut edits: Vec<Edit> =
                roles.iter().map(|role| Edit::AddToAcl(pipeline.to_owned(), needed, role.clone())).collect();
            edits.extend(listed(policy, pipeline, needed).map(|role| Edit::GiveRole(role.clone())));
            if edits.is_empty() {
                edits.push(Edit::GiveRole(PLAIN_ROLE.to_owned()));
            }
            edits
        }
        // A list: what role_permissions gives counts everywhere.
        (Rule::Acl, _) => roles_that_would_do(policy, principal, needed),
        (Rule::Anonymous, resource) if principal.kind() == PrincipalKind::Anonymous => {
            let acl = match resource {
                Resource::Pipeline(pipeline) if policy.acls.contains_key(pipeline) => {
                    Some(Edit::DropAcl(pipeline.to_owned()))
                }
                _ => None,
            };
            let readable = needed == Permission::Read
                && matches!(resource, Resource::Pipeline(_) | Resource::AnyPipeline);
            let open = (readable && !policy.anonymous_read).then_some(Edit::AnonymousRead(true));
            open.into_iter().chain(acl.filter(|_| readable)).collect()
        }
        _ => Vec::new(),
    }
}

/// What could take away what the rule gives.
fn closers(policy: &Policy, principal: &Principal, question: Question<'_>, rule: Rule) -> Vec<Edit> {
    let needed = needed(question);
    let mut edits = Vec::new();
    match rule {
        Rule::SecurityOff => return vec![Edit::SwitchSecurityOn],
        Rule::Admin | Rule::Permission | Rule::Whitelist => {
            if rule == Rule::Whitelist && principal.has_own_permissions() {
                edits.push(Edit::LimitList);
            }
            edits.extend(withdrawal(policy, principal, needed));
            if let (Rule::Permission, Resource::Pipeline(pipeline)) = (rule, question.resource) {
                edits.push(Edit::MakeAcl(pipeline.to_owned()));
            }
        }
        Rule::Acl => edits.extend(delisting(policy, principal, question.resource, needed)),
        Rule::Anonymous => {
            edits.push(Edit::AnonymousRead(false));
            if let Resource::Pipeline(pipeline) = question.resource {
                edits.push(Edit::MakeAcl(pipeline.to_owned()));
            }
        }
        Rule::Authenticated | Rule::Expired => {}
    }
    if principal.is_authenticated() {
        edits.push(Edit::Revoke);
    }
    edits
}

/// The permission that is looked for: security administration needs `admin` whatever was asked.
fn needed(question: Question<'_>) -> Permission {
    match question.resource {
        Resource::SecurityAdmin => Permission::Admin,
        _ => question.permission,
    }
}

/// A token's roles that could be given the permission, and roles with it that could be given to the token.
fn roles_that_would_do(policy: &Policy, principal: &Principal, needed: Permission) -> Vec<Edit> {
    let own = principal.roles().iter().map(|role| Edit::GrantToRole(role.clone(), needed));
    let others = policy.role_permissions.iter().filter(|(_, granted)| granted.grants(needed));
    let others = others.map(|(role, _)| Edit::GiveRole(role.clone()));
    let edits: Vec<Edit> = own.chain(others).collect();
    if edits.is_empty() { vec![Edit::GiveRole(PLAIN_ROLE.to_owned())] } else { edits }
}

/// The first permission to take away so that `needed` is no longer had.
fn withdrawal(policy: &Policy, principal: &Principal, needed: Permission) -> Option<Edit> {
    let implying = [Permission::Admin, needed];
    if principal.has_own_permissions() {
        let held = |permission: &Permission| principal.permissions().iter().any(|own| own == *permission);
        return implying.into_iter().find(held).map(Edit::Withdraw);
    }
    principal.roles().iter().find_map(|role| {
        let granted = policy.role_permissions.get(role)?;
        let held = |permission: &Permission| granted.iter().any(|own| own == *permission);
        implying.into_iter().find(held).map(|permission| Edit::WithdrawFromRole(role.clone(), permission))
    })
}

/// The first entry of an ACL to remove so that a role of the caller is listed no more.
fn delisting(
    policy: &Policy,
    principal: &Principal,
    resource: Resource<'_>,
    needed: Permission,
) -> Option<Edit> {
    let concerned = |pipeline: &str| match resource {
        Resource::Pipeline(named) => named == pipeline,
        _ => true,
    };
    policy.acls().filter(|(pipeline, _)| concerned(pipeline)).find_map(|(pipeline, acl)| {
        acl.lists().filter(|(permission, _)| [needed, Permission::Admin].contains(permission)).find_map(
            |(permission, listed)| {
                let role = listed.iter().find(|role| principal.roles().contains(role))?;
                Some(Edit::RemoveFromAcl(pipeline.to_owned(), permission, role.clone()))
            },
        )
    })
}

/// The roles that the pipeline's ACL lists for the permission.
fn listed<'a>(
    policy: &'a Policy,
    pipeline: &str,
    needed: Permission,
) -> impl Iterator<Item = &'a String> + use<'a> {
    let lists = policy.acls.get(pipeline).into_iter().flat_map(Acl::lists);
    lists.filter(move |(permission, _)| *permission == needed).flat_map(|(_, roles)| roles)
}
