//! What a principal may do: [`Permission`] and sets of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a request needs, and what a key, a role or an ACL grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// See a pipeline, its runs, their status and results.
    Read,
    /// Start and control runs.
    Execute,
    /// Everything, definitions and security administration included.
    Admin,
}

impl Permission {
    /// Every permission, weakest first.
    pub const ALL: [Permission; 3] = [Permission::Read, Permission::Execute, Permission::Admin];

    /// The name used in configuration, audit records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Read => "read",
            Permission::Execute => "execute",
            Permission::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Permission::Read => 0b001,
            Permission::Execute => 0b010,
            Permission::Admin => 0b100,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no permission: write `read`, `execute` or `admin`")]
pub struct UnknownPermission(String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Permission::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| UnknownPermission(text.to_owned()))
    }
}

/// A set of permissions; written as a list of names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Permission>", into = "Vec<Permission>")]
pub struct PermissionSet(u8);

impl PermissionSet {
    /// Grants nothing.
    pub const EMPTY: PermissionSet = PermissionSet(0);
    /// Grants everything.
    pub const ALL: PermissionSet = PermissionSet(0b111);

    /// Whether the set grants `permission`: it has it, or it has `admin`, which implies every other.
    pub fn grants(self, permission: Permission) -> bool {
        self.0 & (permission.bit() | Permission::Admin.bit()) != 0
    }

    /// Whether nothing is granted.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: PermissionSet) -> PermissionSet {
        PermissionSet(self.0 | other.0)
    }

    /// The permissions written in the set (what `admin` implies is not spelled out).
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.0 & permission.bit() != 0)
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        PermissionSet(permissions.into_iter().fold(0, |bits, permission| bits | permission.bit()))
    }
}

impl From<Vec<Permission>> for PermissionSet {
    fn from(permissions: Vec<Permission>) -> Self {
        permissions.into_iter().collect()
    }
}

impl From<PermissionSet> for Vec<Permission> {
    fn from(set: PermissionSet) -> Self {
        set.iter().collect()
    }
}

impl fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_implies_every_permission_and_nothing_else_implies_another() {
        for (set, read, execute, admin) in [
            (vec![], false, false, false),
            (vec![Permission::Read], true, false, false),
            (vec![Permission::Execute], false, true, false),
            (vec![Permission::Admin], true, true, true),
            (vec![Permission::Read, Permission::Execute], true, true, false),
        ] {
            let set = PermissionSet::from(set);
            assert_eq!(
                [read, execute, admin],
                Permission::ALL.map(|permission| set.grants(permission)),
                "{set:?}"
            );
        }
    }

    #[test]
    fn a_set_is_written_as_a_list_of_names() {
        let set: PermissionSet = serde_json::from_str(r#"["execute","read","read"]"#).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["read","execute"]"#);
        assert!(serde_json::from_str::<PermissionSet>(r#"["Read"]"#).is_err());
        assert!(serde_json::from_str::<PermissionSet>(r#""read""#).is_err());
    }

    #[test]
    fn an_unknown_name_says_which_are_known() {
        let error = "write".parse::<Permission>().unwrap_err().to_string();
        assert!(error.contains("`write`") && error.contains("`execute`"), "{error}");
    }
}
