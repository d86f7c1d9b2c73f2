//! A server in this process, and a client that checks every answer against the OpenAPI document.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use taskiq_flow_api::{ApiOptions, AppState, Connection, Router};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::document::Format;
use taskiq_flow_core::load::load_text;
use taskiq_flow_engine::{Engine, EngineOptions, SystemClock};
use taskiq_flow_security::administration::{MemoryState, SecurityState};
use taskiq_flow_security::audit::{AuditMode, AuditOptions, AuditSink};
use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
use taskiq_flow_security::{Administration, AuditLogger, SecurityOptions};
use taskiq_flow_store::MemoryStore;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// Pipelines that need no time of their own but where they wait for a signal.
pub(crate) const PIPELINES: &str = r#"
- id: diamond
  description: A diamond
  inputs:
    number: { type: integer, default: 2, minimum: 0 }
  tasks:
    - { name: load, expression: number + 1, inputs: [number], output: loaded }
    - { name: left, expression: loaded * 2, inputs: [loaded], output: doubled }
    - { name: right, expression: loaded * 3, inputs: [loaded], output: tripled }
    - { name: join, expression: doubled + tripled, inputs: [doubled, tripled], output: total }
- id: gate
  tasks:
    - { name: ask, wait: { signal: go }, output: answer }
    - { name: after, expression: "[answer, 1]", inputs: [answer], output: result }
- id: failing
  tasks:
    - { name: good, expression: "1", output: one }
    - { name: bad, expression: "one / 0", inputs: [one], output: two }
- id: secret
  tasks:
    - { name: hidden, expression: name, inputs: [name], output: value }
- id: python
  tasks:
    - { name: add, taskiq: { task: "tasks:add" }, output: sum }
"#;

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

static DOCUMENT: LazyLock<Value> = LazyLock::new(taskiq_flow_api::document);

/// A server, and where it keeps what.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) state: AppState,
    pub(crate) folder: tempfile::TempDir,
}

/// How a server is set up.
pub(crate) struct Setup {
    pub(crate) security: SecurityOptions,
    pub(crate) api: ApiOptions,
    pub(crate) engine: EngineOptions,
    pub(crate) audit_mode: AuditMode,
    pub(crate) audit_file: bool,
    pub(crate) state: Arc<dyn SecurityState>,
}

/// A request that is being put together: over TLS, from one address.
#[must_use]
pub(crate) struct Call<'a> {
    server: &'a Server,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    connection: Connection,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn security() -> SecurityOptions {
    let keys = json!({
        "admin-key": {"id": "admin", "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"]},
        "reader-key": {"id": "reader", "role": "reader", "pipelines": ["*"], "permissions": ["read"]},
        "viewer-key": {"id": "viewer", "role": "viewer", "pipelines": ["diamond", "gate"], "permissions": ["read"]},
        "runner-key": {"id": "runner", "role": "runner", "pipelines": ["diamond"], "permissions": ["execute"]},
        "limited-admin-key": {"id": "limited-admin", "role": "admin", "pipelines": ["diamond", "new*"], "permissions": ["admin"]},
    });
    SecurityOptions {
        api_keys: serde_json::from_value(keys).unwrap(),
        jwt_secret: Some(SECRET.into()),
        pipeline_acls: serde_json::from_value(json!({"secret": {"read": ["keeper"]}})).unwrap(),
        rate_limit_enabled: false,
        auth_failure_limit: String::new(),
        ..SecurityOptions::default()
    }
}

pub(crate) async fn server() -> Server {
    server_with(|_| {}).await
}

pub(crate) async fn server_with(change: impl FnOnce(&mut Setup)) -> Server {
    let engine = EngineOptions { shards: 1, ..EngineOptions::default() };
    let mut setup = Setup {
        security: security(),
        api: ApiOptions::default(),
        engine,
        audit_mode: AuditMode::BestEffort,
        audit_file: true,
        state: Arc::new(MemoryState::default()),
    };
    change(&mut setup);
    let folder = tempfile::tempdir().unwrap();
    let sinks = match setup.audit_file {
        true => vec![AuditSink::File(folder.path().join("audit.jsonl"))],
        false => vec![],
    };
    let audit =
        AuditLogger::open(AuditOptions { sinks, mode: setup.audit_mode, ..AuditOptions::default() }).unwrap();
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    let settings = setup.security.build().unwrap();
    let administration = Administration::start(settings, limiter, audit, setup.state).await.unwrap();
    let pipelines = load_text("pipelines.yaml", PIPELINES, Format::Yaml).unwrap();
    let broker = InMemoryBroker::new();
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let engine = Engine::start(store, Arc::new(broker), clock, setup.engine, pipelines).await.unwrap();
    let state = AppState::new(engine, administration, setup.api).unwrap();
    Server { router: taskiq_flow_api::router(state.clone()), state, folder }
}

impl Server {
    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let connection = Connection { peer: IpAddr::from([192, 0, 2, 1]), native_tls: true };
        let (path, headers) = (path.to_owned(), HeaderMap::new());
        Call { server: self, method, path, headers, body: Vec::new(), connection }
    }

    /// `GET` by the admin.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).key("admin-key").send().await
    }

    /// `POST` by the admin.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path).key("admin-key").json(&body).send().await
    }

    /// Starts a run and waits for its end.
    pub(crate) async fn run(&self, pipeline: &str, parameters: Value) -> String {
        let body = json!({"parameters": parameters, "wait": true});
        let answer = self.post(&format!("/pipelines/{pipeline}/execute"), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["run_id"].as_str().unwrap().to_owned()
    }

    /// Starts a run.
    pub(crate) async fn start(&self, pipeline: &str, parameters: Value) -> String {
        let body = json!({"parameters": parameters});
        let answer = self.post(&format!("/pipelines/{pipeline}/execute"), body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["run_id"].as_str().unwrap().to_owned()
    }

    /// The audit records, oldest first.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        // Records are written meanwhile; the last line may not be whole yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Call<'_> {
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn from(mut self, peer: &str, native_tls: bool) -> Self {
        self.connection = Connection { peer: peer.parse().unwrap(), native_tls };
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let (method, path) = (self.method.clone(), self.path.clone());
        let response = self.open().await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, bytes };
        check_document(&method, &path, &answer);
        answer
    }

    /// Sends all but the body, which follows when it is told to. Returns once the server waits for it.
    pub(crate) async fn hold_back(
        mut self,
    ) -> (JoinHandle<http::Response<axum::body::Body>>, oneshot::Sender<()>) {
        let (waits, waited_for) = oneshot::channel();
        let (send, sent) = oneshot::channel();
        let bytes = std::mem::take(&mut self.body);
        let body = futures_util::stream::once(async move {
            waits.send(()).unwrap();
            sent.await.unwrap();
            Ok::<_, std::convert::Infallible>(bytes)
        });
        let router = self.server.router.clone();
        let asked = tokio::spawn(router.oneshot(self.request(axum::body::Body::from_stream(body))));
        waited_for.await.unwrap();
        (tokio::spawn(async move { asked.await.unwrap().unwrap() }), send)
    }

    /// Leaves the body where it is.
    pub(crate) async fn open(mut self) -> http::Response<axum::body::Body> {
        let body = axum::body::Body::from(std::mem::take(&mut self.body));
        let router = self.server.router.clone();
        router.oneshot(self.request(body)).await.unwrap()
    }

    fn request(self, body: axum::body::Body) -> Request<axum::body::Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        *request.headers_mut().unwrap() = self.headers;
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(self.connection);
        request
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Without the request's id, which differs.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let mut problem = self.json();
        let id = problem.as_object_mut().unwrap().shift_remove("request_id");
        assert_eq!(id, Some(json!(self.header("x-request-id"))));
        assert_eq!(problem["status"], self.status);
        problem
    }

    /// The fields at fault.
    pub(crate) fn fields(&self) -> Vec<String> {
        let problem = self.problem();
        assert_eq!(self.status, 422, "{problem}");
        let errors = problem["errors"].as_array().unwrap().iter();
        errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

/// Polls until something is there.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come");
}

/// What is answered has the shape that the document says.
fn check_document(method: &Method, path: &str, answer: &Answer) {
    let media_type = answer.header("content-type").split(';').next().unwrap_or("");
    let path = path.split('?').next().unwrap();
    let path = path.strip_prefix("/api/").map_or(path.to_owned(), |rest| format!("/{rest}"));
    let operation = DOCUMENT["paths"].as_object().unwrap().iter().find_map(|(template, item)| {
        let fits = template.split('/').count() == path.split('/').count()
            && template
                .split('/')
                .zip(path.split('/'))
                .all(|(part, text)| part == text || part.starts_with('{'));
        fits.then(|| &item[method.as_str().to_lowercase()]).filter(|operation| operation.is_object())
    });
    let Some(operation) = operation else { return };
    let status = StatusCode::from_u16(answer.status).unwrap();
    // `default` is for what a proxy may answer: our own answers are named one by one.
    let mut response = &operation["responses"][status.as_str()];
    if let Some(reference) = response["$ref"].as_str() {
        response = DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap();
    }
    assert!(response.is_object(), "{method} {path}: {status} is not documented");
    if answer.bytes.is_empty() {
        return;
    }
    let content = &response["content"][media_type];
    assert!(content.is_object(), "{method} {path}: {status} {media_type} is not documented");
    if media_type.ends_with("json") {
        let mut schema = content["schema"].clone();
        schema["components"] = DOCUMENT["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let body = answer.json();
        let errors: Vec<String> = validator
            .iter_errors(&body)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{method} {path}: {body} does not fit: {errors:?}");
    }
}
