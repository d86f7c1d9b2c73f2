//! What the tests share.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow_testkit::{Cli, Client, Server, ServerBuilder};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// The longest that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

const PIPELINE: &str = "id: p\ninputs:\n  x: { type: integer, default: 1 }\ntasks:\n  - name: increment\n    \
                        expression: x + 1\n    inputs: [x]\n    output: y\n";

/// A server with an administrator's key `k`, a reader's key `r`, one pipeline, and no limits in the way.
pub(crate) fn server() -> ServerBuilder {
    Server::builder(PROGRAM)
        .env(
            "TASKIQ_FLOW_API_KEYS",
            r#"{"k":{"id":"admin","role":"admin","pipelines":["*"],"permissions":["read","execute","admin"]},
                "r":{"id":"reader","role":"viewer","pipelines":["p"],"permissions":["read"]}}"#,
        )
        .env("TASKIQ_FLOW_RATE_LIMIT_ENABLED", "false")
        .env("TASKIQ_FLOW_AUTH_FAILURE_LIMIT", "")
        .pipeline(PIPELINE)
}

/// The administrator.
pub(crate) fn admin(server: &Server) -> Client {
    server.client().key("k")
}

/// The records of a file, or of any text with one on each line.
pub(crate) fn records(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    text.lines().map(parse).collect()
}

/// The records of one event.
pub(crate) fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

/// What `audit verify` ends with.
pub(crate) async fn verify(file: &Path) -> Option<i32> {
    Cli::new(PROGRAM).run(["audit".as_ref(), "verify".as_ref(), file.as_os_str()]).await.code
}
