//! Asking the policy about somebody who is not there: a key or a certificate by its id, or a caller that might come.

use std::sync::Arc;

use jiff::Timestamp;

use super::Settings;
use crate::permission::{Permission, PermissionSet};
use crate::policy::{Explanation, Resource};
use crate::principal::{Principal, PrincipalKind, Proof};
use crate::whitelist::{PatternError, Whitelist};

/// Whose decision is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The holder of the key of this id.
    Key(String),
    /// The holder of the certificate whose entry of `client_certificates` has this id, or else this name. When the
    /// certificate itself ends, only a request shows.
    Certificate(String),
    /// The holder of the key or, where no key has it, of the certificate of this id.
    Id(String),
    /// The holder of a key that might be made.
    NewKey {
        /// Its roles.
        roles: Vec<String>,
        /// Its pipelines, as configuration writes them.
        pipelines: Vec<String>,
        /// What it permits.
        permissions: PermissionSet,
    },
    /// The bearer of a token with these roles.
    Token {
        /// Its roles.
        roles: Vec<String>,
    },
    /// A caller without credential.
    Anonymous,
}

/// Why nothing can be said about a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// No key has the id.
    #[error("there is no key `{}`; GET /security/config lists the ids", .0.escape_debug())]
    UnknownKey(String),
    /// No entry has the id or the name.
    #[error("client_certificates has no entry `{}`; GET /security/config lists their names and ids", .0.escape_debug())]
    UnknownCertificate(String),
    /// A key and a certificate have the id.
    #[error("a key and a certificate are called `{}`; ask by `key_id` or by `certificate`", .0.escape_debug())]
    Ambiguous(String),
    /// The list of pipelines cannot be.
    #[error("{0}")]
    Pipelines(#[from] PatternError),
}

impl Settings {
    /// Why `subject` may or may not have `permission` on `resource` at this moment, and what would turn that. The
    /// answer is [`Policy::decide`](crate::policy::Policy::decide)'s.
    ///
    /// ```
    /// use taskiq_flow_security::policy::{Resource, Rule};
    /// use taskiq_flow_security::settings::{SecurityOptions, Subject};
    /// use taskiq_flow_security::Permission;
    ///
    /// let mut options = SecurityOptions::default();
    /// options.api_keys = serde_json::from_str(
    ///     r#"{"some-key": {"id": "ada", "role": "viewer", "pipelines": ["a"], "permissions": ["read"]}}"#,
    /// ).unwrap();
    /// let settings = options.build().unwrap();
    /// let why = settings.explain(&Subject::Key("ada".to_owned()), Permission::Read, Resource::Pipeline("b")).unwrap();
    /// assert_eq!((why.allowed, why.rule), (false, Rule::Whitelist));
    /// assert_eq!(why.changes[0].edits[0].describe(&why.principal).text, "add `b` to the pipelines of the key `ada`");
    /// ```
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn explain(
        &self,
        subject: &Subject,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<Explanation, SubjectError> {
        let principal = self.principal_of(subject)?;
        Ok(self.policy.explain(&principal, permission, resource, Timestamp::now()))
    }

    fn principal_of(&self, subject: &Subject) -> Result<Arc<Principal>, SubjectError> {
        match subject {
            Subject::Key(id) => self.keys.principal(id).ok_or_else(|| SubjectError::UnknownKey(start_of(id))),
            Subject::Certificate(text) => {
                let found = self.certificates.principal(text);
                found.ok_or_else(|| SubjectError::UnknownCertificate(start_of(text)))
            }
            Subject::Id(id) => match (self.keys.principal(id), self.certificates.principal(id)) {
                (Some(_), Some(_)) => Err(SubjectError::Ambiguous(start_of(id))),
                (key, certificate) => {
                    key.or(certificate).ok_or_else(|| SubjectError::UnknownKey(start_of(id)))
                }
            },
            Subject::NewKey { roles, pipelines, permissions } => {
                let whitelist = Whitelist::parse(pipelines)?;
                Ok(supposed(PrincipalKind::ApiKey, roles, whitelist, *permissions))
            }
            Subject::Token { roles } => {
                Ok(supposed(PrincipalKind::Jwt, roles, Whitelist::Unrestricted, PermissionSet::EMPTY))
            }
            Subject::Anonymous => Ok(Principal::anonymous()),
        }
    }
}

/// As much of a text as an answer repeats.
fn start_of(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Somebody who has proved nothing: good for questions, never for a request.
fn supposed(
    kind: PrincipalKind,
    roles: &[String],
    whitelist: Whitelist,
    permissions: PermissionSet,
) -> Arc<Principal> {
    Arc::new(Principal {
        id: "(supposed)".to_owned(),
        kind,
        issuer: None,
        roles: roles.to_vec(),
        whitelist,
        permissions,
        expires_at: None,
        proof: Proof::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Rule;
    use crate::settings::SecurityOptions;

    fn settings() -> Settings {
        let options = serde_json::from_str(
            r#"{"secret-one": {"id": "one", "role": "viewer", "pipelines": ["a"], "permissions": ["read"]},
                "secret-old": {"id": "old", "role": "viewer", "permissions": ["read"], "expires_at": "2020-01-01T00:00:00Z"}}"#,
        );
        let certificates = serde_json::from_str(
            r#"{"CN=Robot": {"id": "robot-1", "role": "robot", "pipelines": ["a"], "permissions": ["read"]},
                "dns:Old.example.com": {"role": "robot", "permissions": ["read"], "expires_at": "2020-01-01T00:00:00Z"},
                "CN=two": {"id": "one", "role": "robot", "permissions": ["execute"]}}"#,
        );
        SecurityOptions {
            api_keys: options.unwrap(),
            client_certificates: certificates.unwrap(),
            ..SecurityOptions::default()
        }
        .build()
        .unwrap()
    }

    #[test]
    fn every_subject_gets_the_answer_it_would_get() {
        let settings = settings();
        let ask = |subject: &Subject, permission, resource| {
            let why = settings.explain(subject, permission, resource).unwrap();
            (why.allowed, why.rule)
        };
        let read = Permission::Read;
        let key = |id: &str| Subject::Key(id.to_owned());
        assert_eq!(ask(&key("one"), read, Resource::Pipeline("a")), (true, Rule::Permission));
        assert_eq!(ask(&key("one"), read, Resource::Pipeline("b")), (false, Rule::Whitelist));
        assert_eq!(ask(&key("old"), read, Resource::Pipeline("a")), (false, Rule::Expired));
        let certificate = |text: &str| Subject::Certificate(text.to_owned());
        for text in ["robot-1", "CN=Robot"] {
            assert_eq!(
                ask(&certificate(text), read, Resource::Pipeline("a")),
                (true, Rule::Permission),
                "{text}"
            );
            assert_eq!(
                ask(&certificate(text), read, Resource::Pipeline("b")),
                (false, Rule::Whitelist),
                "{text}"
            );
        }
        assert_eq!(
            ask(&certificate("dns:old.Example.com"), read, Resource::Pipeline("a")),
            (false, Rule::Expired)
        );
        // The certificate, not the key of the same id.
        assert_eq!(ask(&certificate("one"), read, Resource::Pipeline("a")), (false, Rule::Permission));
        let id = |id: &str| Subject::Id(id.to_owned());
        assert_eq!(ask(&id("robot-1"), read, Resource::Pipeline("b")), (false, Rule::Whitelist));
        assert_eq!(ask(&id("old"), read, Resource::Pipeline("a")), (false, Rule::Expired));
        let made = Subject::NewKey {
            roles: vec!["x".to_owned()],
            pipelines: vec!["b*".to_owned()],
            permissions: PermissionSet::from_iter([Permission::Execute]),
        };
        assert_eq!(ask(&made, Permission::Execute, Resource::Pipeline("b1")), (true, Rule::Permission));
        assert_eq!(ask(&made, read, Resource::Pipeline("b1")), (false, Rule::Permission));
        let token = |role: &str| Subject::Token { roles: vec![role.to_owned()] };
        assert!(ask(&token("admin"), Permission::Admin, Resource::SecurityAdmin).0);
        assert_eq!(ask(&token("other"), read, Resource::Pipeline("a")), (false, Rule::Permission));
        assert_eq!(ask(&Subject::Anonymous, read, Resource::Pipeline("a")), (false, Rule::Anonymous));
    }

    #[test]
    fn who_is_not_there_is_said_and_nothing_of_keys_is_shown() {
        let settings = settings();
        let ask = |subject: &Subject| settings.explain(subject, Permission::Read, Resource::Pipeline("a"));
        let unknown = ask(&Subject::Key("secret-one".to_owned())).unwrap_err();
        assert_eq!(unknown, SubjectError::UnknownKey("secret-one".to_owned()), "a key is no id");
        let robots = ["CN=robot", "robot-2", "secret-one", ""];
        for text in robots {
            let unknown = ask(&Subject::Certificate(text.to_owned())).unwrap_err();
            assert_eq!(unknown, SubjectError::UnknownCertificate(text.to_owned()));
        }
        assert_eq!(
            ask(&Subject::Id("one".to_owned())).unwrap_err(),
            SubjectError::Ambiguous("one".to_owned())
        );
        assert!(matches!(ask(&Subject::Id("secret-one".to_owned())), Err(SubjectError::UnknownKey(_))));
        let why = ask(&Subject::Certificate("robot-1".to_owned())).unwrap();
        assert_eq!((why.principal.id(), why.principal.kind()), ("robot-1", PrincipalKind::Certificate));
        let bad =
            Subject::NewKey { roles: vec![], pipelines: vec!["".into()], permissions: PermissionSet::EMPTY };
        assert!(matches!(ask(&bad), Err(SubjectError::Pipelines(_))));
        let why = ask(&Subject::Key("one".to_owned())).unwrap();
        let shown = format!("{why:?}");
        assert!(!shown.contains("secret-one") && !shown.contains("sha256"), "{shown}");
    }
}
