//! The guard as its callers see it: what is admitted, in which order the checks come, and what is recorded.

mod authentication;
mod certificates;
mod limits;
mod order;
mod quotas;
mod sockets;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::audit::{AuditFilter, AuditMode, AuditOptions, AuditRecord, AuditSink, read_records};
use crate::jwt::{MintClaims, mint};
use crate::rate_limit::RateLimiterOptions;
use crate::refusal::{Refusal, RefusalKind};
use crate::settings::SecurityOptions;

pub(super) const SECRET: &str = "a secret of at least thirty-two bytes";

/// A guard that records into a file of its own and counts by a clock that stands still until told otherwise.
pub(super) struct Stage {
    pub(super) guard: Guard,
    clock: Arc<AtomicU64>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

/// A request, by default from outside, over TLS, for `GET /pipelines/etl/dag`.
pub(super) struct Call {
    pub(super) endpoint: &'static str,
    pub(super) access: Access,
    pub(super) peer: &'static str,
    pub(super) native_tls: bool,
    pub(super) headers: HeaderMap,
    pub(super) certificate: Option<ClientCertificate>,
}

/// The guide's keys, an expired one, tokens, and the guide's ACL on `pipeline1`.
pub(super) fn options() -> SecurityOptions {
    let keys = json!({
        "admin-key": {"role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"], "id": "admin"},
        "viewer-key": {"role": "viewer", "pipelines": ["pipeline1", "pipeline2"], "permissions": ["read"], "id": "viewer"},
        "old-key": {"role": "viewer", "permissions": ["read"], "id": "old", "expires_at": "2020-01-01T00:00:00Z"},
    });
    SecurityOptions {
        api_keys: serde_json::from_value(keys).unwrap(),
        jwt_secret: Some(SECRET.into()),
        pipeline_acls: serde_json::from_value(json!({"pipeline1": {"read": ["admin", "viewer"]}})).unwrap(),
        ..SecurityOptions::default()
    }
}

pub(super) fn stage(change: impl FnOnce(&mut SecurityOptions)) -> Stage {
    let mut options = options();
    change(&mut options);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let sinks = vec![AuditSink::File(file.clone())];
    let audit =
        AuditLogger::open(AuditOptions { sinks, mode: AuditMode::Required, ..AuditOptions::default() })
            .unwrap();
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let seconds = clock.clone();
    let limiter = RateLimiter::new(RateLimiterOptions {
        clock: Arc::new(move || Duration::from_secs(seconds.load(Ordering::Relaxed))),
        ..RateLimiterOptions::default()
    });
    Stage { guard: Guard::new(options.build().unwrap(), limiter, audit), clock, file, _folder: folder }
}

pub(super) fn token(subject: &str, roles: &[&str]) -> String {
    mint(&SECRET.into(), &MintClaims::new(subject, roles.iter().copied(), Duration::from_secs(600))).unwrap()
}

impl Stage {
    pub(super) fn pass_seconds(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(super) async fn admit(&self, call: &Call) -> Result<Admission, Refusal> {
        let facts = RequestFacts {
            peer: call.peer.parse().unwrap(),
            native_tls: call.native_tls,
            client: None,
            method: &Method::GET,
            path: "/pipelines/etl/dag",
            headers: &call.headers,
            request_id: "req-1",
            websocket_upgrade: call.headers.contains_key("upgrade") || call.access == Access::WebSocket,
            certificate: call.certificate.as_ref(),
        };
        self.guard.admit(call.endpoint, call.access, facts).await
    }

    pub(super) async fn refused(&self, call: &Call) -> RefusalKind {
        self.admit(call).await.expect_err("must be refused").kind()
    }

    /// What was recorded, oldest first, without the record of the start.
    pub(super) fn records(&self) -> Vec<AuditRecord> {
        let filter = AuditFilter { limit: 1000, ..AuditFilter::default() };
        let mut records = read_records(&self.file, &filter).unwrap().records;
        records.reverse();
        records.remove(0);
        records
    }

    /// Event names with the outcome.
    pub(super) fn events(&self) -> Vec<String> {
        let name = |record: &AuditRecord| {
            let value = serde_json::to_value(record).unwrap();
            let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("event"), text("outcome"))
        };
        self.records().iter().map(name).collect()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }
}

impl Call {
    pub(super) fn new() -> Self {
        Call {
            endpoint: endpoint::GET_DAG,
            access: Access::Authenticated,
            peer: "192.0.2.1",
            native_tls: true,
            headers: HeaderMap::new(),
            certificate: None,
        }
    }

    pub(super) fn socket() -> Self {
        Call { endpoint: endpoint::WEBSOCKET_CONNECT, access: Access::WebSocket, ..Call::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(super) fn key(self, key: &str) -> Self {
        self.with("x-api-key", key)
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(super) fn plain(mut self) -> Self {
        self.native_tls = false;
        self
    }

    pub(super) fn from(mut self, peer: &'static str) -> Self {
        self.peer = peer;
        self
    }
}

pub(super) fn header(refusal: &Refusal, name: &str) -> Option<String> {
    let mut headers = HeaderMap::new();
    refusal.write_headers(&mut headers);
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

pub(super) fn public_face(refusal: &Refusal) -> Value {
    let headers: Vec<String> =
        refusal.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    json!({
        "status": refusal.status().as_u16(), "title": refusal.title(), "detail": refusal.detail(),
        "code": refusal.kind().code(), "headers": headers, "display": refusal.to_string(),
    })
}
