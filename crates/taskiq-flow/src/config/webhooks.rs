//! Webhooks: who is told of events over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use taskiq_flow_core::time::{format_duration, parse_duration};
use taskiq_flow_engine::{Webhook, WebhookSpec};

use super::fields::TaskiqFlowConfig;
use super::kind::Kind;
use super::mistake::{Mistake, Segment};
use super::raw::{Raw, RawKey, RawValue};
use super::value::{FieldValue, Members, REDACTED};

/// More of them would be a mistake: each has a task and connections of its own.
const MOST: usize = 100;

const NAMES: &[&str] =
    &["name", "url", "secret", "events", "pipelines", "headers", "allow_internal", "timeout"];

impl FieldValue for WebhookSpec {
    const KIND: Kind = Kind::Struct(NAMES);
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let members = Members::of(raw, NAMES, true)?;
        let headers: Option<Headers> = members.optional("headers")?;
        Ok(Self {
            name: members.required("name")?,
            url: members.required("url")?,
            secret: members.required("secret")?,
            events: members.required("events")?,
            pipelines: members.required("pipelines")?,
            headers: headers.unwrap_or_default().0,
            allow_internal: members.optional("allow_internal")?.unwrap_or_default(),
            timeout: members.optional("timeout")?,
        })
    }

    fn show(&self) -> Value {
        self.redacted(REDACTED)
    }
}

/// Headers by name. A mistyped one may have its value in the name: it is told by its place.
#[derive(Default)]
struct Headers(BTreeMap<String, SecretString>);

impl FieldValue for Headers {
    const KIND: Kind = Kind::Map(&SecretString::KIND);
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let RawValue::Map(entries) = &raw.value else { return Err(Mistake::kind(&Self::KIND, raw, true)) };
        let decode = |(index, (key, value)): (usize, &(RawKey, Raw))| {
            let value =
                SecretString::decode(value).map_err(|mistake| mistake.under(Segment::Entry(index)))?;
            Ok((key.text.clone(), value))
        };
        entries.iter().enumerate().map(decode).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Value {
        self.0.keys().map(|name| (name.clone(), Value::from(REDACTED))).collect()
    }
}

impl FieldValue for Duration {
    const KIND: Kind = Kind::Text { what: "a duration such as 10s", sample: "10s" };

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match &raw.value {
            RawValue::Text(text) => parse_duration(text).map_err(|_| Mistake::kind(&Self::KIND, raw, false)),
            _ => Err(Mistake::kind(&Self::KIND, raw, false)),
        }
    }

    fn show(&self) -> Value {
        Value::from(format_duration(*self))
    }
}

/// The webhooks, checked.
pub(super) fn webhooks(config: &TaskiqFlowConfig) -> Result<Vec<Webhook>, Mistake> {
    if config.webhooks.len() > MOST {
        return Err(Mistake::must(format!("have at most {MOST} entries, found {}", config.webhooks.len())));
    }
    let mut webhooks: Vec<Webhook> = Vec::with_capacity(config.webhooks.len());
    for (index, spec) in config.webhooks.iter().enumerate() {
        let within = |field: &str| vec![Segment::Item(index), Segment::Name(field.to_owned())];
        let webhook = Webhook::new(spec.clone()).map_err(|error| {
            let mut mistake = Mistake::says(error.message).help(error.help);
            mistake.path = within(error.field);
            mistake
        })?;
        if webhooks.iter().any(|known| known.name() == webhook.name()) {
            let mut mistake = Mistake::is(format!("is {:?}, as that of another entry", webhook.name()))
                .help("choose another name");
            mistake.path = within("name");
            return Err(mistake);
        }
        webhooks.push(webhook);
    }
    Ok(webhooks)
}
