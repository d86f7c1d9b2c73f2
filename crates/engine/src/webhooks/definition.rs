//! What a webhook is: checked before anything starts, so that none is found to be impossible when it is needed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::run::Fact;
use taskiq_flow_core::time::format_duration;
use taskiq_flow_outbound::{Reach, Url};

use crate::filter::{EventFilter, EventFilterError};

/// The fewest bytes of a secret. Half of what HMAC-SHA256 gives is beyond guessing (NIST SP 800-107, section 5.3.4).
const MIN_SECRET: usize = 16;
/// The longest name.
const MAX_NAME: usize = 64;
/// How long a delivery may take, connection included, unless said.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Headers that say how the message is read: they are the server's to write.
const OWN_HEADERS: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What the names of the headers that webhooks are told by begin with.
pub(super) const PREFIX: &str = "x-taskiq-flow-";

/// A webhook as it is configured.
#[derive(Clone)]
pub struct WebhookSpec {
    /// The name by which pipelines and people call it.
    pub name: String,
    /// Where it is sent to. Paths of addresses are often secrets.
    pub url: SecretString,
    /// What signs it.
    pub secret: SecretString,
    /// The types of events, `*` inside standing for any text.
    pub events: Vec<String>,
    /// The pipelines whose events are told, `*` inside standing for any text; none: of those that name it in `on_event`.
    pub pipelines: Vec<String>,
    /// Headers that are sent along.
    pub headers: BTreeMap<String, SecretString>,
    /// Whether it may be on a private network or this machine, and be spoken to without TLS.
    pub allow_internal: bool,
    /// How long a delivery may take; 10 s unless said, at most 60 s.
    pub timeout: Option<Duration>,
}

/// A webhook that can be sent to.
#[derive(Clone)]
pub struct Webhook {
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) secret: SecretString,
    pub(super) filter: EventFilter,
    pub(super) events: Vec<String>,
    pub(super) pipelines: Vec<String>,
    pub(super) headers: HeaderMap,
    pub(super) reach: Reach,
    pub(super) timeout: Duration,
    redacted: Value,
}

/// Why a webhook cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}; {help}")]
pub struct WebhookError {
    /// The field that is wrong.
    pub field: &'static str,
    /// What is wrong with it. It says nothing that is secret.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Webhook {
    /// Checks a webhook.
    ///
    /// # Errors
    /// The first field that cannot be.
    pub fn new(mut spec: WebhookSpec) -> Result<Self, WebhookError> {
        spec.timeout.get_or_insert(TIMEOUT);
        let redacted = spec.redacted("[redacted]");
        let WebhookSpec { name, url, secret, events, pipelines, headers, allow_internal, timeout } = spec;
        check_name(&name)?;
        let reach = if allow_internal { Reach::Internal } else { Reach::Internet };
        let url = check_url(url.expose_secret(), reach)?;
        if secret.expose_secret().len() < MIN_SECRET {
            let message = format!("is shorter than {MIN_SECRET} bytes, so that it could be guessed");
            return Err(wrong(
                "secret",
                message,
                "write a random one, such as `openssl rand -hex 32` prints",
            ));
        }
        let timeout = timeout.unwrap_or(TIMEOUT);
        if !(Duration::from_secs(1)..=MAX_TIMEOUT).contains(&timeout) {
            return Err(wrong("timeout", "is not between 1s and 60s", "write such as `10s`"));
        }
        let filter = check_filter(&events, &pipelines)?;
        let headers = check_headers(&headers)?;
        Ok(Self { name, url, secret, filter, events, pipelines, headers, reach, timeout, redacted })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is sent to, without what may be secret of it: scheme, host and port.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// As [`WebhookSpec::redacted`], with `[redacted]` and the timeout that counts.
    pub fn redacted(&self) -> &Value {
        &self.redacted
    }

    /// Whether it is told of events of that type.
    pub(super) fn takes_type(&self, name: &str) -> bool {
        self.filter.passes_type(name)
    }

    /// Whether it is told of events of a pipeline, which names it in its `on_event` or does not.
    pub(super) fn takes_pipeline(&self, id: &PipelineId, named: bool) -> bool {
        if self.pipelines.is_empty() { named } else { self.filter.passes_pipeline(id) }
    }
}

/// Without secret, headers, and what may be secret of the address.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("url", &self.origin())
            .finish_non_exhaustive()
    }
}

impl WebhookSpec {
    /// Scheme, host and port of its address; none: it is no address.
    pub fn origin(&self) -> Option<String> {
        let url = Url::parse(self.url.expose_secret()).ok()?;
        Some(url.origin().ascii_serialization())
    }

    /// As its configuration would say it, with `mark` in place of what may be secret.
    pub fn redacted(&self, mark: &str) -> Value {
        let url = self.origin().map_or_else(|| mark.to_owned(), |origin| format!("{origin}/{mark}"));
        let headers: BTreeMap<&str, &str> = self.headers.keys().map(|name| (name.as_str(), mark)).collect();
        json!({
            "name": self.name,
            "url": url,
            "secret": mark,
            "events": self.events,
            "pipelines": self.pipelines,
            "headers": headers,
            "allow_internal": self.allow_internal,
            "timeout": self.timeout.map(format_duration),
        })
    }
}

/// Secrets included.
impl PartialEq for WebhookSpec {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, url, secret, events, pipelines, headers, allow_internal, timeout } = self;
        let same = |one: &SecretString, two: &SecretString| one.expose_secret() == two.expose_secret();
        let same_headers = headers.len() == other.headers.len()
            && headers
                .iter()
                .all(|(name, value)| other.headers.get(name).is_some_and(|other| same(value, other)));
        let shown = (name, events, pipelines, allow_internal, timeout);
        shown == (&other.name, &other.events, &other.pipelines, &other.allow_internal, &other.timeout)
            && same(url, &other.url)
            && same(secret, &other.secret)
            && same_headers
    }
}

/// As that of [`Webhook`].
impl fmt::Debug for WebhookSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

fn wrong(field: &'static str, message: impl Into<String>, help: impl Into<String>) -> WebhookError {
    WebhookError { field, message: message.into(), help: help.into() }
}

fn check_name(name: &str) -> Result<(), WebhookError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    match starts_well && name.len() <= MAX_NAME && name.bytes().all(allowed) {
        true => Ok(()),
        false => {
            let message = format!("{name:?} is no name of a webhook");
            let help =
                format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`, a letter or digit first");
            Err(wrong("name", message, help))
        }
    }
}

fn check_url(text: &str, reach: Reach) -> Result<Url, WebhookError> {
    let is_no_url = |_| wrong("url", "is no address", "write such as `https://example.com/hook`");
    let url = Url::parse(text).map_err(is_no_url)?;
    match (url.scheme(), reach) {
        ("https", _) | ("http", Reach::Internal) => {}
        ("http", _) => {
            let help = "write `https://`; `allow_internal: true` lets events go over a network of your own without TLS";
            return Err(wrong("url", "is plain HTTP, over which anybody on the way reads the events", help));
        }
        _ => return Err(wrong("url", "is neither `https://` nor `http://`", "write one that is")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help = "put them into `headers`, as `Authorization`";
        return Err(wrong("url", "has a user name or a password", help));
    }
    let unreached = |error: taskiq_flow_outbound::NotReached| {
        let help = match (error, reach) {
            (taskiq_flow_outbound::NotReached::NotPublic(_), Reach::Internet) => {
                "`allow_internal: true` allows addresses of your own network"
            }
            _ => "write another",
        };
        wrong("url", error.to_string(), help)
    };
    reach.check(&url).map_err(unreached)?;
    Ok(url)
}

fn check_filter(events: &[String], pipelines: &[String]) -> Result<EventFilter, WebhookError> {
    if events.is_empty() {
        let help = "write the types it is told of, such as `[PipelineErrorEvent]`, or `[\"*\"]` for all";
        return Err(wrong("events", "is empty", help));
    }
    let help_for = |error: &EventFilterError| match error {
        EventFilterError::Type { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
        EventFilterError::Type { .. } => format!("the types are {}", Fact::TYPES.join(", ")),
        EventFilterError::Pipeline { .. } => "write an id, in which `*` stands for any text".to_owned(),
    };
    for given in events {
        let alone = EventFilter::all()
            .types([given])
            .map_err(|error| wrong("events", format!("no event has the type `{given}`"), help_for(&error)))?;
        if alone.chosen_types().iter().all(|name| Fact::TYPES_OF_DEFINITIONS.contains(name)) {
            let message = format!("`{given}` is no event of a run, and webhooks are told of those");
            return Err(wrong("events", message, "watch it over WebSocket"));
        }
    }
    let bad_pipeline = |error: EventFilterError| wrong("pipelines", error.to_string(), help_for(&error));
    let filter = EventFilter::all().pipelines(pipelines).map_err(bad_pipeline)?;
    filter.types(events).map_err(|error| wrong("events", error.to_string(), help_for(&error)))
}

fn check_headers(headers: &BTreeMap<String, SecretString>) -> Result<HeaderMap, WebhookError> {
    let mut checked = HeaderMap::with_capacity(headers.len());
    for (place, (name, value)) in headers.iter().enumerate() {
        // What is no name may be a value that was mistyped.
        let is_none = |_| {
            let message = format!("the name of header {} is none that a header can have", place + 1);
            wrong("headers", message, "write such as `Authorization`")
        };
        let known = HeaderName::try_from(name.as_str()).map_err(is_none)?;
        if OWN_HEADERS.contains(&known.as_str()) || known.as_str().starts_with(PREFIX) {
            return Err(wrong("headers", format!("`{known}` is the server's to write"), "leave it out"));
        }
        let has_control = |_| {
            wrong(
                "headers",
                format!("the value of `{known}` has a control character"),
                "write it on one line",
            )
        };
        let mut value = HeaderValue::try_from(value.expose_secret()).map_err(has_control)?;
        value.set_sensitive(true);
        checked.insert(known, value);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> WebhookSpec {
        WebhookSpec {
            name: "ops".to_owned(),
            url: "https://hooks.example.com/T0/secret?key=hunter2".into(),
            secret: "0123456789abcdef".into(),
            events: vec!["Pipeline*".to_owned()],
            pipelines: Vec::new(),
            headers: BTreeMap::new(),
            allow_internal: false,
            timeout: None,
        }
    }

    #[test]
    fn nothing_that_may_be_secret_is_shown() {
        let header = BTreeMap::from([("Authorization".to_owned(), "Bearer hunter2".into())]);
        let spec = WebhookSpec { headers: header, ..spec() };
        let shown = format!("{spec:?}");
        let said = WebhookSpec { timeout: Some(TIMEOUT), ..spec.clone() }.redacted("[redacted]");
        let webhook = Webhook::new(spec).unwrap();
        assert_eq!((webhook.redacted(), &said["timeout"]), (&said, &json!("10s")));
        assert_eq!(webhook.origin(), "https://hooks.example.com");
        for shown in [shown, format!("{webhook:?}"), format!("{:?}", webhook.headers), said.to_string()] {
            assert!(
                ["T0", "hunter2", "0123456789abcdef"].iter().all(|secret| !shown.contains(secret)),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        let url = |url: &str| WebhookSpec { url: url.into(), ..spec() };
        let internal = |text: &str| WebhookSpec { allow_internal: true, ..url(text) };
        let header = |name: &str, value: &str| WebhookSpec {
            headers: BTreeMap::from([(name.to_owned(), value.into())]),
            ..spec()
        };
        let events = |event: &str| WebhookSpec { events: vec![event.to_owned()], ..spec() };
        for (spec, field, message) in [
            (WebhookSpec { name: "a b".to_owned(), ..spec() }, "name", "no name of a webhook"),
            (WebhookSpec { name: String::new(), ..spec() }, "name", "no name of a webhook"),
            (url("hooks.example.com"), "url", "is no address"),
            (url("http://example.com/"), "url", "`allow_internal: true`"),
            (url("ftp://example.com/"), "url", "is neither"),
            (url("https://me:hunter2@example.com/"), "url", "has a user name"),
            (url("https://127.0.0.1/"), "url", "`allow_internal: true` allows addresses"),
            (url("https://2130706433/"), "url", "no public address"),
            (url("https://[::ffff:10.0.0.1]/"), "url", "no public address"),
            (url("https://169.254.169.254/"), "url", "metadata address"),
            (internal("http://169.254.169.254/"), "url", "metadata address"),
            (WebhookSpec { secret: "short".into(), ..spec() }, "secret", "openssl rand -hex 32"),
            (WebhookSpec { events: Vec::new(), ..spec() }, "events", "is empty"),
            (events("PipelineErorEvent"), "events", "did you mean `PipelineErrorEvent`?"),
            (events("DAGUpdatedEvent"), "events", "no event of a run"),
            (WebhookSpec { pipelines: vec!["a\n".to_owned()], ..spec() }, "pipelines", "control character"),
            (header("a b", "c"), "headers", "the name of header 1"),
            (header("Host", "example.com"), "headers", "the server's to write"),
            (header("X-TaskIQ-Flow-Signature", "v1=0"), "headers", "the server's to write"),
            (header("X-Token", "a\r\nX-Other: b"), "headers", "control character"),
            (WebhookSpec { timeout: Some(Duration::ZERO), ..spec() }, "timeout", "`10s`"),
            (WebhookSpec { timeout: Some(Duration::from_secs(61)), ..spec() }, "timeout", "`10s`"),
        ] {
            let error = Webhook::new(spec).unwrap_err();
            assert_eq!(error.field, field, "{error}");
            assert!(error.to_string().contains(message), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(Webhook::new(internal("http://10.0.0.1/")).is_ok());
        assert!(Webhook::new(events("*")).is_ok());
    }

    #[test]
    fn without_pipelines_only_those_are_taken_that_name_it() {
        let id = |text: &str| text.parse::<PipelineId>().unwrap();
        let named = Webhook::new(spec()).unwrap();
        assert!(named.takes_pipeline(&id("a"), true) && !named.takes_pipeline(&id("a"), false));
        let listed = Webhook::new(WebhookSpec { pipelines: vec!["audio_*".to_owned()], ..spec() }).unwrap();
        assert!(listed.takes_pipeline(&id("audio_in"), false) && !listed.takes_pipeline(&id("video"), true));
    }
}
