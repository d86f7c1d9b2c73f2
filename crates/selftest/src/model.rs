//! Who may do what, as the contract puts it. It shares no line with the server's own policy.
//!
//! A request needs one permission on one pipeline. Who asks has it when all of these hold:
//!
//! 1. the pipeline is on the list of the credential (empty, absent or `*`: every pipeline is);
//! 2. a key's permissions have it; a token's roles give it, or the pipeline's ACL does;
//! 3. where the pipeline has an ACL, one of the caller's roles is listed for the permission.
//!
//! `admin` implies every permission and passes ACLs, never the list. Security administration needs `admin` and a list
//! that restricts nothing.
//!
//! ```
//! use taskiq_flow_selftest::model::{Permission, Pipeline, Rights, may};
//!
//! let reader = Rights::of_key("viewer", &["a"], &[Permission::Read]);
//! assert!(may(&reader, Permission::Read, &Pipeline::open("a")));
//! assert!(!may(&reader, Permission::Read, &Pipeline::open("b")));
//! let closed = Pipeline::open("a").listing(Permission::Read, &["keeper"]);
//! assert!(!may(&reader, Permission::Read, &closed));
//! ```

use std::collections::BTreeMap;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// See.
    Read,
    /// Start and control runs.
    Execute,
    /// Everything.
    Admin,
}

/// For each permission the roles that have it.
pub type Acl = BTreeMap<Permission, Vec<String>>;

/// What proved who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An API key or a client certificate, whose entry says itself what it permits.
    Key,
    /// A token, whose roles permit what the server's configuration says.
    Token,
}

/// What a good credential comes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Key or token.
    pub kind: Kind,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its pipelines; empty: all.
    pub pipelines: Vec<String>,
    /// What a key permits itself, or what the configuration gives a token's roles.
    pub permissions: Vec<Permission>,
}

/// A pipeline, as far as rights go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Its id.
    pub id: String,
    /// Its ACL.
    pub acl: Option<Acl>,
    /// Whether it is there.
    pub exists: bool,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Permission; 3] = [Permission::Read, Permission::Execute, Permission::Admin];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Read => "read",
            Permission::Execute => "execute",
            Permission::Admin => "admin",
        }
    }

    /// The permission of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == name)
    }
}

impl Rights {
    /// Those of a key.
    pub fn of_key(role: &str, pipelines: &[&str], permissions: &[Permission]) -> Self {
        let pipelines = pipelines.iter().map(|id| (*id).to_owned()).collect();
        Self { kind: Kind::Key, roles: vec![role.to_owned()], pipelines, permissions: permissions.to_vec() }
    }

    /// Those of a token whose roles permit this.
    pub fn of_token(roles: &[&str], permissions: &[Permission]) -> Self {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Self { kind: Kind::Token, roles, pipelines: Vec::new(), permissions: permissions.to_vec() }
    }

    /// Whether every pipeline is on the list, those to come included.
    pub fn unrestricted(&self) -> bool {
        self.pipelines.is_empty() || self.pipelines.iter().any(|entry| entry == "*")
    }

    /// Whether the permission is had where no ACL speaks.
    pub fn has(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission) || self.permissions.contains(&Permission::Admin)
    }

    fn lists(&self, pipeline: &str) -> bool {
        self.unrestricted() || self.pipelines.iter().any(|entry| matches(entry, pipeline))
    }

    fn is_listed(&self, acl: &Acl, permission: Permission) -> bool {
        let listed = |of: Permission| acl.get(&of).is_some_and(|roles| shares(roles, &self.roles));
        listed(permission) || listed(Permission::Admin)
    }
}

impl Pipeline {
    /// One that is there and has no ACL.
    pub fn open(id: &str) -> Self {
        Self { id: id.to_owned(), acl: None, exists: true }
    }

    /// One that is not there.
    pub fn missing(id: &str) -> Self {
        Self { id: id.to_owned(), acl: None, exists: false }
    }

    /// With an ACL that lists these roles for the permission, beside those it lists already.
    #[must_use]
    pub fn listing(mut self, permission: Permission, roles: &[&str]) -> Self {
        let listed = self.acl.get_or_insert_default().entry(permission).or_default();
        listed.extend(roles.iter().map(|role| (*role).to_owned()));
        self
    }
}

/// Whether the caller has the permission on the pipeline.
pub fn may(who: &Rights, permission: Permission, pipeline: &Pipeline) -> bool {
    if !who.lists(&pipeline.id) {
        return false;
    }
    if who.permissions.contains(&Permission::Admin) {
        return true;
    }
    let Some(acl) = &pipeline.acl else { return who.has(permission) };
    let listed = who.is_listed(acl, permission);
    match who.kind {
        Kind::Key => listed && who.has(permission),
        Kind::Token => listed,
    }
}

/// Whether the caller may ask for a list, which shows what it may read: it has the permission anywhere. `acls` are all
/// ACLs of the server.
pub fn may_list(who: &Rights, permission: Permission, acls: &[Acl]) -> bool {
    let by_acl = who.kind == Kind::Token && acls.iter().any(|acl| who.is_listed(acl, permission));
    who.has(permission) || by_acl
}

/// Whether the caller has the permission on everything.
pub fn may_everywhere(who: &Rights, permission: Permission) -> bool {
    who.has(permission) && who.unrestricted()
}

fn shares(left: &[String], right: &[String]) -> bool {
    left.iter().any(|role| right.contains(role))
}

/// Whether an entry of a list names the pipeline; `*` stands for any text.
fn matches(entry: &str, pipeline: &str) -> bool {
    match entry.split_once('*') {
        None => entry == pipeline,
        Some((start, rest)) => pipeline.strip_prefix(start).is_some_and(|after| {
            (0..=after.len()).any(|at| after.is_char_boundary(at) && matches(rest, &after[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::Permission::{Admin, Execute, Read};
    use super::*;

    /// The sentences of the contract, one by one.
    #[test]
    fn the_model_says_what_the_contract_says() {
        let open = Pipeline::open("audio_in");
        let closed = Pipeline::open("audio_in").listing(Read, &["keeper"]);
        // 1: empty, absent or "*", or names it; globs allowed.
        for (list, expected) in [
            (&[][..], true),
            (&["*"], true),
            (&["audio_in"], true),
            (&["audio_*"], true),
            (&["video_*"], false),
            (&["audio"], false),
        ] {
            assert_eq!(may(&Rights::of_key("v", list, &[Read]), Read, &open), expected, "{list:?}");
        }
        // 2: a key's permissions have it; a token's roles give it, or an ACL.
        assert!(!may(&Rights::of_key("v", &[], &[Execute]), Read, &open));
        assert!(may(&Rights::of_token(&["reader"], &[Read]), Read, &open));
        assert!(!may(&Rights::of_token(&["keeper"], &[]), Read, &open));
        assert!(may(&Rights::of_token(&["keeper"], &[]), Read, &closed));
        // 3: where there is an ACL, a role must be listed.
        assert!(!may(&Rights::of_key("v", &[], &[Read]), Read, &closed));
        assert!(may(&Rights::of_key("keeper", &[], &[Read]), Read, &closed));
        assert!(!may(&Rights::of_key("keeper", &[], &[]), Read, &closed));
        assert!(!may(&Rights::of_token(&["reader"], &[Read]), Read, &closed));
        // admin implies every permission and passes ACLs, never the list.
        let admin = Rights::of_key("a", &[], &[Admin]);
        assert!(may(&admin, Execute, &closed) && may(&admin, Admin, &closed));
        assert!(!may(&Rights::of_key("a", &["b"], &[Admin]), Read, &open));
        // Security administration: admin and unrestricted.
        assert!(may_everywhere(&admin, Admin));
        assert!(!may_everywhere(&Rights::of_key("a", &["b"], &[Admin]), Admin));
        assert!(!may_everywhere(&Rights::of_key("a", &[], &[Read, Execute]), Admin));
        // Lists.
        let acls = [closed.acl.unwrap_or_default()];
        assert!(may_list(&Rights::of_token(&["keeper"], &[]), Read, &acls));
        assert!(!may_list(&Rights::of_token(&["nobody"], &[]), Read, &acls));
        assert!(!may_list(&Rights::of_key("keeper", &[], &[]), Read, &acls));
    }
}
