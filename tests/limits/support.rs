//! What the tests share.

use serde_json::json;
use taskiq_flow_testkit::{Server, ServerBuilder};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// A server with a key for everything and a pipeline that waits for a signal.
pub(crate) fn server() -> ServerBuilder {
    let keys = json!({
        "k": { "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"], "id": "keeper" },
    });
    Server::builder(PROGRAM)
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env("TASKIQ_FLOW_RATE_LIMITS", r#"{"execute_pipeline": "1000/second", "get_status": "1000/second"}"#)
        .pipeline("id: gate\ntasks:\n  - { name: ask, wait: { signal: go }, output: answer }\n")
        .pipeline("id: quick\ntasks:\n  - { name: one, expression: \"1\", output: one }\n")
}
