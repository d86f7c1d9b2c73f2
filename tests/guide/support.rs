//! What the tests of all sections share.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Client, Server, ServerBuilder, Socket, jwt};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// The guide's configuration block, field by field, as a file has it.
pub(crate) const GUIDE_CONFIG: &str = r#"
security_enabled = true

auth_provider = "api_key"
api_keys."admin-key" = { role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
api_keys."viewer-key" = { role = "viewer", pipelines = ["pipeline1", "pipeline2"], permissions = ["read"] }
jwt_secret = "your-jwt-secret"

require_https = true

pipeline_acls.pipeline1 = { read = ["admin", "viewer"], execute = ["admin"] }

rate_limit_enabled = true
rate_limit_default = "100/minute"

websocket_require_auth = true
websocket_max_connections = 1000
"#;

/// The guide's placeholder for the secret of tokens.
pub(crate) const GUIDE_SECRET: &str = "your-jwt-secret";

/// A server with the guide's configuration and three pipelines.
pub(crate) fn guide() -> ServerBuilder {
    pipelines(Server::builder(PROGRAM)).config_toml(GUIDE_CONFIG)
}

/// A server with the guide's configuration in which lines are replaced.
pub(crate) fn guide_with(changes: &[(&str, &str)]) -> ServerBuilder {
    let mut config = GUIDE_CONFIG.to_owned();
    for (from, to) in changes {
        assert!(config.contains(from), "the guide's configuration has no {from}");
        config = config.replace(from, to);
    }
    pipelines(Server::builder(PROGRAM)).config_toml(&config)
}

/// Adds the guide's `pipeline1` and `pipeline2`, and one that its viewer knows nothing of.
pub(crate) fn pipelines(server: ServerBuilder) -> ServerBuilder {
    ["pipeline1", "pipeline2", "other"].iter().fold(server, |server, id| server.pipeline(&pipeline(id)))
}

/// A pipeline that adds one to `x`.
pub(crate) fn pipeline(id: &str) -> String {
    format!(
        "id: {id}\ninputs:\n  x: {{ type: integer, default: 1 }}\ntasks:\n  - name: increment\n    expression: x + 1\n    \
         inputs: [x]\n    output: y\n"
    )
}

/// One entry of `api_keys`.
pub(crate) fn key(role: &str, pipelines: &[&str], permissions: &[&str]) -> Value {
    json!({ "role": role, "pipelines": pipelines, "permissions": permissions })
}

/// A good token of the guide's secret.
pub(crate) fn token(sub: &str, roles: &[&str]) -> String {
    jwt::hs256(GUIDE_SECRET, &claims(sub, roles))
}

/// What a good token says.
pub(crate) fn claims(sub: &str, roles: &[&str]) -> Value {
    json!({ "sub": sub, "roles": roles, "exp": jwt::from_now(Duration::from_secs(600)) })
}

/// The ids of the pipelines that a client is shown.
pub(crate) async fn listed(client: &Client) -> Vec<String> {
    let list = client.get("/pipelines").await.expect(200).json();
    let pipelines = list["pipelines"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> =
        pipelines.iter().map(|entry| entry["id"].as_str().unwrap_or_default().to_owned()).collect();
    ids.sort();
    ids
}

/// The status of a read.
pub(crate) async fn read(client: &Client, pipeline: &str) -> u16 {
    client.get(&format!("/pipelines/{pipeline}")).await.status
}

/// The status of an execution that is not waited for.
pub(crate) async fn execute(client: &Client, pipeline: &str) -> u16 {
    client.post(&format!("/pipelines/{pipeline}/execute"), &json!({ "parameters": {} })).await.status
}

/// Runs a pipeline to its end.
pub(crate) async fn run(client: &Client, pipeline: &str, parameters: Value) -> Value {
    let body = json!({ "parameters": parameters, "wait": true, "timeout": 20 });
    client.post(&format!("/pipelines/{pipeline}/execute"), &body).await.expect(200).json()
}

/// Subscribes, and gives the answer: `subscribed` or `error`.
pub(crate) async fn subscribe(socket: &mut Socket, pipeline: &str) -> Value {
    socket.send(&json!({ "type": "subscribe", "pipeline_id": pipeline })).await;
    answer(socket).await
}

/// The next message that is neither `connected` nor a heartbeat.
pub(crate) async fn answer(socket: &mut Socket) -> Value {
    loop {
        let message = socket.recv().await;
        if message["type"] != "connected" && message["type"] != "heartbeat" {
            return message;
        }
    }
}

/// Expects `error` and then close 1008.
pub(crate) async fn expect_denied(socket: &mut Socket) {
    let error = answer(socket).await;
    assert_eq!(error["type"], "error", "{error}");
    assert!(error["code"].as_str().is_some_and(|code| !code.is_empty()), "{error}");
    let (code, _) = socket.expect_close(Duration::from_secs(5)).await;
    assert_eq!(code, 1008);
}

/// Whether nothing comes out of the socket for a moment.
pub(crate) async fn is_silent(socket: &mut Socket) -> bool {
    socket.next(Duration::from_millis(200)).await.is_none()
}

/// The records of the audit file.
pub(crate) fn records(server: &Server) -> Vec<Value> {
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the audit file: {line}"))
    };
    server.audit().lines().map(parse).collect()
}

/// The events of the audit file that are named `event`, once there is one.
pub(crate) async fn recorded(server: &Server, event: &str) -> Vec<Value> {
    let found = taskiq_flow_testkit::until(Duration::from_secs(5), async || {
        let found: Vec<Value> =
            records(server).into_iter().filter(|record| record["event"] == event).collect();
        (!found.is_empty()).then_some(found)
    });
    found.await.unwrap_or_default()
}
