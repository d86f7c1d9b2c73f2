//! Changes while a server runs: what they do, that they last, and that nothing is half done.

mod changes;
mod keys;
mod lists;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::audit::{AuditMode, AuditOptions, AuditSink};
use crate::guard::{Access, RequestFacts, endpoint};
use crate::jwt::Revocation;
use crate::networks::Networks;
use crate::permission::{Permission, PermissionSet};
use crate::policy::Acl;
use crate::rate_limit::RateLimiterOptions;
use crate::settings::SecurityOptions;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A state that can be told to fail.
#[derive(Debug, Default)]
struct Flaky {
    kept: MemoryState,
    down: AtomicBool,
}

#[async_trait]
impl SecurityState for Flaky {
    async fn load(&self) -> Result<Vec<StateRecord>, StateError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(StateError("it is down".to_owned())),
            false => self.kept.load().await,
        }
    }

    async fn write(&self, changes: Vec<StateChange>) -> Result<(), StateError> {
        // What is slow is overtaken by whoever does not wait for it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        match self.down.load(Ordering::SeqCst) {
            true => Err(StateError("it is down".to_owned())),
            false => self.kept.write(changes).await,
        }
    }
}

struct Stage {
    administration: Administration,
    state: Arc<Flaky>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn options() -> SecurityOptions {
    let keys = json!({
        "admin-key": {"role": "admin", "pipelines": ["*"], "permissions": ["admin"], "id": "admin"},
        "viewer-key": {"role": "viewer", "permissions": ["read"], "id": "viewer"},
    });
    SecurityOptions {
        api_keys: serde_json::from_value(keys).unwrap(),
        jwt_secret: Some(SECRET.into()),
        pipeline_acls: serde_json::from_value(json!({"etl": {"read": ["viewer"]}})).unwrap(),
        rate_limit_enabled: false,
        auth_failure_limit: String::new(),
        ..SecurityOptions::default()
    }
}

async fn begin(
    options: SecurityOptions,
    state: Arc<Flaky>,
    mode: AuditMode,
) -> Result<Stage, AdministrationError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let audit = AuditLogger::open(AuditOptions {
        sinks: vec![AuditSink::File(file.clone())],
        mode,
        ..AuditOptions::default()
    })
    .unwrap();
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    let administration =
        Administration::start(options.build().unwrap(), limiter, audit, state.clone()).await?;
    Ok(Stage { administration, state, file, _folder: folder })
}

async fn stage() -> Stage {
    begin(options(), Arc::default(), AuditMode::Required).await.unwrap()
}

impl Stage {
    async fn admit(&self, key: &str) -> Result<Admission, Refusal> {
        self.admit_from(key, "192.0.2.1").await
    }

    async fn admit_from(&self, key: &str, from: &str) -> Result<Admission, Refusal> {
        self.send("x-api-key", key, from).await
    }

    async fn send(&self, header: &'static str, value: &str, from: &str) -> Result<Admission, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_str(value).unwrap());
        let facts = RequestFacts {
            peer: from.parse().unwrap(),
            native_tls: true,
            client: None,
            method: &Method::GET,
            path: "/pipelines/etl",
            headers: &headers,
            request_id: "req-1",
            websocket_upgrade: false,
            certificate: None,
        };
        self.administration.guard().admit(endpoint::GET_PIPELINE, Access::Authenticated, facts).await
    }

    async fn admin(&self) -> Administrator {
        self.administrator("admin-key").await
    }

    async fn administrator(&self, key: &str) -> Administrator {
        let caller = self.admit(key).await.unwrap();
        let permit =
            self.administration.guard().authorize(&caller, Permission::Admin, Resource::SecurityAdmin);
        Administrator::new(&caller, &permit.unwrap()).unwrap()
    }

    async fn create(&self, id: &str) -> IssuedKey {
        self.administration.create_key(&self.admin().await, new_key(id)).await.unwrap()
    }

    /// The same state after the process ended.
    async fn restart(&self) -> Stage {
        begin(options(), self.state.clone(), AuditMode::Required).await.unwrap()
    }

    fn may_read(&self, caller: &Admission, pipeline: &str) -> bool {
        self.administration.guard().may_read(caller.principal(), pipeline)
    }

    /// The records of changes: action, outcome and detail.
    fn changes(&self) -> Vec<(String, String, Value)> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let changes = records.filter(|record| record["event"] == "security.config_change");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        changes
            .map(|record| {
                let detail = text(&record["detail"]);
                let detail = serde_json::from_str(&detail).unwrap_or(Value::String(detail));
                (text(&record["action"]), text(&record["outcome"]), detail)
            })
            .collect()
    }
}

fn new_key(id: &str) -> NewKey {
    NewKey {
        id: Some(id.to_owned()),
        roles: vec!["viewer".to_owned()],
        pipelines: vec!["etl".to_owned()],
        permissions: [Permission::Read].into_iter().collect(),
        expires_at: None,
        allowed_ips: None,
    }
}

/// A token, signed with the secret of the configuration.
fn hs256(claims: &Value) -> String {
    crate::jwt::sign(&SECRET.into(), r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string()).unwrap()
}

fn acl(roles: &[&str]) -> Acl {
    Acl::new([(Permission::Read, roles.iter().map(|role| (*role).to_owned()).collect())])
}
