//! Counting answers: handles that are looked up once. A look-up by labels costs more than many an answer.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram};
use taskiq_flow_security::guard::endpoint;

/// Methods that are counted apart. Anybody may invent methods; a measurement must not have a value for each.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// Statuses below this have a handle of their own.
const STATUSES: usize = 600;

/// The measurements of all endpoints.
#[derive(Debug)]
pub(crate) struct Meters {
    by_endpoint: Vec<OfEndpoint>,
    unknown: OfEndpoint,
}

#[derive(Debug)]
struct OfEndpoint {
    name: &'static str,
    seconds: OnceLock<Handle<Histogram>>,
    /// By method and status, made when one first occurs.
    answers: Vec<OnceLock<ByStatus>>,
}

type ByStatus = Box<[OnceLock<Handle<Counter>>]>;

struct Handle<T>(T);

impl Meters {
    pub(crate) fn new() -> Self {
        let by_endpoint = endpoint::ALL.iter().map(|name| OfEndpoint::new(name)).collect();
        Self { by_endpoint, unknown: OfEndpoint::new("unknown") }
    }

    /// Counts an answer of an endpoint; `None` is one that no route gave.
    pub(crate) fn count(
        &self,
        endpoint: Option<&'static str>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let known = endpoint.and_then(|name| self.by_endpoint.iter().find(|of| of.name == name));
        known.unwrap_or(&self.unknown).count(method, status, took);
    }
}

impl OfEndpoint {
    fn new(name: &'static str) -> Self {
        Self { name, seconds: OnceLock::new(), answers: METHODS.iter().map(|_| OnceLock::new()).collect() }
    }

    fn count(&self, method: &Method, status: StatusCode, took: Duration) {
        let place = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1);
        let by_status = self.answers[place].get_or_init(|| (0..STATUSES).map(|_| OnceLock::new()).collect());
        let counter = |status: StatusCode| {
            Handle(metrics::counter!(
                "taskiq_flow_http_requests_total",
                "endpoint" => self.name, "method" => METHODS[place], "status" => status.as_str().to_owned()
            ))
        };
        match by_status.get(usize::from(status.as_u16())) {
            Some(held) => held.get_or_init(|| counter(status)).0.increment(1),
            None => counter(status).0.increment(1),
        }
        let seconds = self.seconds.get_or_init(|| {
            Handle(metrics::histogram!("taskiq_flow_http_request_duration_seconds", "endpoint" => self.name))
        });
        seconds.0.record(took);
    }
}

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}
