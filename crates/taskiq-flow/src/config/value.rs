//! Types a field can have: how a value is read, described and shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::SecretString;
use serde_json::{Map, Value};
use taskiq_flow_security::jwt::JwtAlgorithm;
use taskiq_flow_security::permission::{Permission, PermissionSet};

use super::kind::{Kind, alternatives};
use super::mistake::{Mistake, Segment};
use super::raw::{Raw, RawValue};

/// What is shown in place of a secret.
pub(super) const REDACTED: &str = "[REDACTED]";

/// A type that a field can have.
pub(super) trait FieldValue: Sized {
    const KIND: Kind;

    /// Whether a value is never echoed.
    const SECRET: bool = false;

    fn decode(raw: &Raw) -> Result<Self, Mistake>;

    /// The value as configuration would write it, without its secrets.
    fn show(&self) -> Value;
}

const TEXT: Kind = Kind::Text { what: "text", sample: "text" };

fn text<'a>(raw: &'a Raw, kind: &Kind, secret: bool) -> Result<&'a str, Mistake> {
    match &raw.value {
        RawValue::Text(text) => Ok(text),
        _ => Err(Mistake::kind(kind, raw, secret)),
    }
}

impl FieldValue for bool {
    const KIND: Kind = Kind::Flag;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match raw.value {
            RawValue::Flag(flag) => Ok(flag),
            _ => Err(Mistake::kind(&Self::KIND, raw, false)),
        }
    }

    fn show(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! numbers {
    ($($type:ty = $min:expr, $max:expr;)+) => {$(
        impl FieldValue for $type {
            const KIND: Kind = Kind::Number { min: $min, max: $max };

            fn decode(raw: &Raw) -> Result<Self, Mistake> {
                let number = match &raw.value {
                    RawValue::Number(number) => number.as_u64().and_then(|number| Self::try_from(number).ok()),
                    _ => None,
                };
                number.ok_or_else(|| Mistake::kind(&Self::KIND, raw, false))
            }

            fn show(&self) -> Value {
                Value::from(*self)
            }
        }
    )+};
}

numbers! {
    u16 = 0, u16::MAX as u64;
    u32 = 0, u32::MAX as u64;
    usize = 0, u64::MAX;
}

impl FieldValue for String {
    const KIND: Kind = TEXT;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        text(raw, &Self::KIND, false).map(str::to_owned)
    }

    fn show(&self) -> Value {
        Value::String(self.clone())
    }
}

impl FieldValue for PathBuf {
    const KIND: Kind = Kind::Text { what: "a path", sample: "/etc/taskiq-flow/tls.crt" };

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match text(raw, &Self::KIND, false)? {
            "" => Err(Mistake::must("not be empty")),
            path => Ok(path.into()),
        }
    }

    fn show(&self) -> Value {
        Value::String(self.display().to_string())
    }
}

impl FieldValue for SecretString {
    const KIND: Kind = TEXT;
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        text(raw, &Self::KIND, true).map(Self::from)
    }

    fn show(&self) -> Value {
        Value::String(REDACTED.to_owned())
    }
}

impl FieldValue for IpNet {
    const KIND: Kind =
        Kind::Text { what: "a network such as 10.0.0.0/8 or 2001:db8::/32", sample: "10.0.0.0/8" };

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let text = text(raw, &Self::KIND, false)?;
        let single = || text.parse::<IpAddr>().ok().map(Self::from);
        text.parse().ok().or_else(single).ok_or_else(|| Mistake::kind(&Self::KIND, raw, false))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl FieldValue for Permission {
    const KIND: Kind = Kind::Choice(&["read", "execute", "admin"]);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        text(raw, &Self::KIND, false)?.parse().map_err(|_| Mistake::kind(&Self::KIND, raw, false))
    }

    fn show(&self) -> Value {
        Value::String(self.as_str().to_owned())
    }
}

impl FieldValue for PermissionSet {
    const KIND: Kind = Kind::List(&Permission::KIND);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        Vec::<Permission>::decode(raw).map(Self::from)
    }

    fn show(&self) -> Value {
        self.iter().map(|permission| permission.show()).collect()
    }
}

impl FieldValue for JwtAlgorithm {
    const KIND: Kind = Kind::Choice(&[
        "HS256", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ]);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        text(raw, &Self::KIND, false)?.parse().map_err(|_| Mistake::kind(&Self::KIND, raw, false))
    }

    fn show(&self) -> Value {
        Value::String(self.as_str().to_owned())
    }
}

impl FieldValue for jiff::Timestamp {
    const KIND: Kind =
        Kind::Text { what: "an RFC 3339 time such as 2030-01-31T00:00:00Z", sample: "2030-01-31T00:00:00Z" };

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        text(raw, &Self::KIND, false)?.parse().map_err(|_| Mistake::kind(&Self::KIND, raw, false))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    const KIND: Kind = T::KIND;
    const SECRET: bool = T::SECRET;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match raw.value {
            RawValue::Null => Ok(None),
            _ => T::decode(raw).map(Some),
        }
    }

    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::show)
    }
}

impl<T: FieldValue> FieldValue for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
    const SECRET: bool = T::SECRET;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let RawValue::List(items) = &raw.value else {
            return Err(Mistake::kind(&Self::KIND, raw, Self::SECRET));
        };
        let decode = |(index, item)| T::decode(item).map_err(|mistake| mistake.under(Segment::Item(index)));
        items.iter().enumerate().map(decode).collect()
    }

    fn show(&self) -> Value {
        self.iter().map(T::show).collect()
    }
}

impl<T: FieldValue> FieldValue for BTreeMap<String, T> {
    const KIND: Kind = Kind::Map(&T::KIND);
    const SECRET: bool = T::SECRET;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let RawValue::Map(entries) = &raw.value else {
            return Err(Mistake::kind(&Self::KIND, raw, Self::SECRET));
        };
        let decode = |(key, value): &(super::raw::RawKey, Raw)| match T::decode(value) {
            Ok(value) => Ok((key.text.clone(), value)),
            Err(mistake) => Err(mistake.under(Segment::Name(key.text.clone()))),
        };
        entries.iter().map(decode).collect()
    }

    fn show(&self) -> Value {
        Value::Object(self.iter().map(|(name, value)| (name.clone(), value.show())).collect::<Map<_, _>>())
    }
}

/// The named values of a mapping that stands for a struct.
pub(super) struct Members<'a>(&'a [(super::raw::RawKey, Raw)]);

impl<'a> Members<'a> {
    /// # Errors
    /// It is no mapping, or has a name that is not known.
    pub(super) fn of(raw: &'a Raw, known: &'static [&'static str], secret: bool) -> Result<Self, Mistake> {
        let RawValue::Map(entries) = &raw.value else {
            return Err(Mistake::kind(&Kind::Struct(known), raw, secret));
        };
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let mistake = Mistake::is("is not known").nearest(&key.text, known.iter().copied());
                let mistake = match mistake.help {
                    Some(_) => mistake,
                    None => mistake.help(format!(
                        "known are {}",
                        alternatives(known).replace('"', "`").replace(" or ", " and ")
                    )),
                };
                return Err(mistake.under(Segment::Name(key.text.clone())).at_key());
            }
        }
        Ok(Self(entries))
    }

    pub(super) fn required<T: FieldValue>(&self, name: &'static str) -> Result<T, Mistake> {
        match self.find(name) {
            Some(raw) => T::decode(raw).map_err(|mistake| mistake.under(Segment::Name(name.to_owned()))),
            None => {
                Err(Mistake::is(format!("has no `{name}`"))
                    .help(format!("add `{name}`: {}", T::KIND.expected())))
            }
        }
    }

    pub(super) fn optional<T: FieldValue>(&self, name: &'static str) -> Result<Option<T>, Mistake> {
        match self.find(name) {
            Some(raw) => {
                Option::<T>::decode(raw).map_err(|mistake| mistake.under(Segment::Name(name.to_owned())))
            }
            None => Ok(None),
        }
    }

    fn find(&self, name: &str) -> Option<&'a Raw> {
        self.0.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }
}
