//! The two servers, each in a process of its own that ends with this one.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Extension;
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;
use taskiq_flow::config::Sources;
use taskiq_flow::{InMemoryBroker, create_visualization_api};
use taskiq_flow_security::audit::{AuditEvent, AuditLogger, AuditOptions, AuditSink};
use taskiq_flow_security::guard::{Access, Endpoint, Guard, Note, endpoint};
use taskiq_flow_security::layer::{Connection, GuardLayer, RequestId, SecurityHeadersLayer};
use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
use taskiq_flow_security::{Admission, Permission, Refusal, Resource, SecurityOptions};
use tower::ServiceExt;

/// What is asked for: it needs a key, a limit, a whitelist, an access list, and is recorded.
pub(crate) const PATH: &str = "/pipelines/bench/parallel-groups";
/// A key of the length that `taskiq-flow key new` makes.
pub(crate) const KEY: &str = "tqf_bench00000000000000000000000000000000000000000";

/// The pipeline that the path names.
const ID: &str = "bench";
/// A limit that no load here reaches.
const UNLIMITED: &str = "1000000/second";
const PIPELINE: &str = "id: bench\ninputs:\n  n: { type: integer }\ntasks:\n  - { name: a, expression: \"n + 1\", inputs: [n] }\n  - { name: b, expression: \"a * 2\", inputs: [a] }\n";

/// A server process.
pub(crate) struct Child {
    process: std::process::Child,
    port: u16,
}

impl Child {
    /// Starts this program as that server; it says its port in its first line.
    pub(crate) fn start(what: &str, with: &[&str]) -> Self {
        let Ok(program) = std::env::current_exe() else { panic!("this program has no path") };
        let started = Command::new(program)
            .arg(what)
            .args(with)
            // Ends when this process does: its standard input closes.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut process) = started else { panic!("the server `{what}` does not start") };
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            let mut out = BufReader::new(out);
            let _ = out.read_line(&mut line);
        }
        let Ok(port) = line.trim().parse() else {
            panic!("the server `{what}` says {line:?} instead of its port")
        };
        Self { process, port }
    }

    /// What it holds of the machine's memory, as Linux counts it.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// axum as it comes, with one route. It answers with these headers, a line for each.
pub(crate) fn bare(body: &str, headers: &str) {
    let body: Arc<str> = body.into();
    block_on(async move {
        let headers: HeaderMap = headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?)))
            .collect();
        let answer = move || {
            let (headers, body) = (headers.clone(), bytes::Bytes::copy_from_slice(body.as_bytes()));
            async move { (headers, body) }
        };
        let router = axum::Router::new().route(PATH, axum::routing::get(answer));
        let Ok(listener) = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await else {
            panic!("no port")
        };
        say_port(&listener);
        tokio::select! {
            _ = axum::serve(listener, router).into_future() => {}
            () = parent_is_gone() => {}
        }
    });
}

/// The same route behind the guard, as a program that uses the library puts it there: HTTPS rule, limits, key, access list
/// and the two records that the product writes of such a request.
pub(crate) fn guarded(body: &str) {
    let body: Arc<str> = body.into();
    block_on(async move {
        let Ok(folder) = tempfile::tempdir() else { panic!("no folder for the audit log") };
        let guard = guard(&folder.path().join("audit.jsonl"));
        let json = [("content-type", "application/json")];
        let asked = guard.clone();
        let answer = move |Extension(caller): Extension<Admission>| {
            let body = bytes::Bytes::copy_from_slice(body.as_bytes());
            let note = Note {
                action: Some("get_parallel_groups"),
                pipeline_id: Some(ID),
                status: Some(200),
                ..Note::default()
            };
            let allowed = asked
                .authorize(&caller, Permission::Read, Resource::Pipeline(ID))
                .and_then(|_permit| asked.note(&caller, AuditEvent::PipelineRead, note));
            async move {
                match allowed {
                    Ok(()) => (json, body).into_response(),
                    Err(refusal) => refusal.status().into_response(),
                }
            }
        };
        let refused = |refusal: &Refusal, _: &RequestId| refusal.status().into_response();
        let endpoint = Endpoint { name: endpoint::GET_PARALLEL_GROUPS, access: Access::Authenticated };
        let router = axum::Router::new()
            .route(PATH, axum::routing::get(answer))
            .layer((SecurityHeadersLayer::default(), GuardLayer::new(guard, refused)));
        let Ok(listener) = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await else {
            panic!("no port")
        };
        say_port(&listener);
        let connected =
            tower::service_fn(move |stream: axum::serve::IncomingStream<'_, tokio::net::TcpListener>| {
                let connection = Connection { peer: stream.remote_addr().ip(), native_tls: false };
                let service = router.clone().map_request(move |mut request: axum::extract::Request| {
                    request.extensions_mut().insert(connection);
                    request.extensions_mut().insert(endpoint);
                    request
                });
                std::future::ready(Ok::<_, std::convert::Infallible>(service))
            });
        tokio::select! {
            _ = axum::serve(listener, connected).into_future() => {}
            () = parent_is_gone() => {}
        }
    });
}

fn guard(audit_log: &Path) -> Guard {
    let options = SecurityOptions {
        api_keys: read(&serde_json::json!({
            KEY: { "id": ID, "role": "viewer", "pipelines": [ID], "permissions": ["read"] },
        })),
        pipeline_acls: read(&serde_json::json!({ ID: { "read": ["viewer"] } })),
        rate_limits: [("get_parallel_groups".to_owned(), UNLIMITED.to_owned())].into(),
        require_https: true,
        ..SecurityOptions::default()
    };
    let audit =
        AuditOptions { sinks: vec![AuditSink::File(audit_log.to_path_buf())], ..AuditOptions::default() };
    match (options.build(), AuditLogger::open(audit)) {
        (Ok(settings), Ok(audit)) => {
            Guard::new(settings, RateLimiter::new(RateLimiterOptions::default()), audit)
        }
        (Err(error), _) => panic!("{error}"),
        (_, Err(error)) => panic!("{error}"),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> T {
    match T::deserialize(value) {
        Ok(read) => read,
        Err(error) => panic!("{error}"),
    }
}

/// The product with everything on, and limits that the load does not reach.
pub(crate) fn secured(audit_mode: &str) {
    let audit_mode = audit_mode.to_owned();
    block_on(async move {
        let Ok(folder) = tempfile::tempdir() else { panic!("no folder for the audit log") };
        let limits = format!(r#"{{"get_parallel_groups":"{UNLIMITED}"}}"#);
        let keys = format!(
            r#"{{"{KEY}":{{"id":"bench","role":"viewer","pipelines":["bench"],"permissions":["read"]}}}}"#
        );
        let mut sources = Sources::default();
        for (field, value) in [
            ("port", "0"),
            ("store_url", "memory:"),
            ("audit_mode", audit_mode.as_str()),
            ("audit_log", &folder.path().join("audit.jsonl").display().to_string()),
            ("rate_limit_default", UNLIMITED),
            ("rate_limits", &limits),
            ("api_keys", &keys),
            ("pipeline_acls", r#"{"bench":{"read":["viewer"]}}"#),
        ] {
            sources = sources.set(field, value, "bench");
        }
        let config = match sources.load() {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{error}"),
        };
        let path = folder.path().join("bench.yaml");
        if std::fs::write(&path, PIPELINE).is_err() {
            panic!("the pipeline cannot be written");
        }
        let api = match create_visualization_api(InMemoryBroker::new(), config).load(&path) {
            Ok(api) => api,
            Err(error) => panic!("{error}"),
        };
        let server = match api.start().await {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        };
        let Ok(listener) = server.bind().await else { panic!("no port") };
        say_port(&listener);
        server.serve_on(listener, parent_is_gone()).await;
    });
}

fn block_on(future: impl Future<Output = ()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        panic!("no runtime")
    };
    runtime.block_on(future);
}

fn say_port(listener: &tokio::net::TcpListener) {
    println!("{}", listener.local_addr().map_or(0, |address| address.port()));
}

async fn parent_is_gone() {
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
}
