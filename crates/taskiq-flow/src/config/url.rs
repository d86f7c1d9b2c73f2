//! Addresses of services, which may hold passwords.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::kind::Kind;
use super::mistake::Mistake;
use super::raw::{Raw, RawValue};
use super::value::{FieldValue, REDACTED};

/// The address of a store, a broker or a counter, such as `sqlite:PATH` or `redis://host:6379/0`. It may hold a
/// password; shown is never more than what is not one.
#[derive(Clone)]
pub struct ServiceUrl(SecretString);

impl ServiceUrl {
    /// The whole address, password included.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The whole address as a secret.
    pub fn to_secret(&self) -> SecretString {
        self.0.clone()
    }

    /// What is before the first `:`, in lower case.
    pub fn scheme(&self) -> String {
        self.expose().split(':').next().unwrap_or_default().to_ascii_lowercase()
    }

    /// The address without user name, password and query.
    pub fn redacted(&self) -> String {
        shown(self.expose())
    }
}

impl From<&str> for ServiceUrl {
    fn from(url: &str) -> Self {
        Self(url.into())
    }
}

impl From<String> for ServiceUrl {
    fn from(url: String) -> Self {
        Self(url.into())
    }
}

impl std::fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.redacted())
    }
}

impl FieldValue for ServiceUrl {
    const KIND: Kind = String::KIND;
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match &raw.value {
            RawValue::Text(text) => Ok(text.as_str().into()),
            _ => Err(Mistake::kind(&Self::KIND, raw, true)),
        }
    }

    fn show(&self) -> Value {
        Value::String(self.redacted())
    }
}

/// What of an address may be shown. Everything before the last `@` goes: a password may hold a `/` or `@` that
/// somebody forgot to encode. The query goes too: that of a database may name a password.
fn shown(url: &str) -> String {
    const OPEN: [&str; 2] = ["memory", "sqlite"];
    let Some((scheme, rest)) = url.split_once("://") else {
        // Only what is surely an address without password is shown whole.
        return match url.split_once(':') {
            Some((scheme, _)) if OPEN.contains(&scheme) => url.to_owned(),
            Some((scheme, _)) => format!("{scheme}:{REDACTED}"),
            None if OPEN.contains(&url) || url == "redis" || url.is_empty() => url.to_owned(),
            None => REDACTED.to_owned(),
        };
    };
    let (userinfo, place) = match rest.rfind('@') {
        // Of a password with a `?` in it, or of a query with an `@` in it?
        Some(at) if rest[..at].contains('?') => return format!("{scheme}://{REDACTED}"),
        Some(at) => (format!("{REDACTED}@"), &rest[at + 1..]),
        None => (String::new(), rest),
    };
    match place.split_once('?') {
        Some((place, _)) => format!("{scheme}://{userinfo}{place}?{REDACTED}"),
        None => format!("{scheme}://{userinfo}{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown_wherever_they_stand() {
        for (url, shown) in [
            ("redis://redis:6379/0", "redis://redis:6379/0"),
            ("redis://:hunter2@redis:6379", "redis://[REDACTED]@redis:6379"),
            ("redis://user:hunter2@redis/1", "redis://[REDACTED]@redis/1"),
            ("redis://user:hunt/er2@redis/1", "redis://[REDACTED]@redis/1"),
            ("redis://user:hunt@er2@redis/1", "redis://[REDACTED]@redis/1"),
            ("redis://user:hunt?er2@redis/1", "redis://[REDACTED]"),
            ("postgres://db/x?password=hunt@er2", "postgres://[REDACTED]"),
            ("postgres://db/x?password=hunter2", "postgres://db/x?[REDACTED]"),
            ("postgres://u:p@db/x?password=hunter2", "postgres://[REDACTED]@db/x?[REDACTED]"),
            ("sqlite:taskiq-flow.db", "sqlite:taskiq-flow.db"),
            ("memory", "memory"),
            ("", ""),
        ] {
            assert_eq!(ServiceUrl::from(url).redacted(), shown, "{url}");
            assert_eq!(format!("{:?}", ServiceUrl::from(url)), format!("{shown:?}"));
        }
    }

    #[test]
    fn what_is_no_address_may_be_a_password() {
        for (text, shown) in [("redis:hunter2", "redis:[REDACTED]"), ("hunter2", REDACTED)] {
            assert_eq!(ServiceUrl::from(text).redacted(), shown);
        }
    }
}
