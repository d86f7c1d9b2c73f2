//! What the tests share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Client, Server, ServerBuilder, until};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// The longest that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A server with one key that may do everything, and no limits in the way.
pub(crate) fn server() -> ServerBuilder {
    Server::builder(PROGRAM).admin_key("k").without_limits()
}

/// Its client.
pub(crate) fn client(server: &Server) -> Client {
    server.client().key("k")
}

/// The pipelines that come with the product.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines")
}

/// Starts a run; gives its id.
pub(crate) async fn start(client: &Client, pipeline: &str, parameters: Value) -> String {
    let path = format!("/pipelines/{pipeline}/execute");
    let reply = client.post(&path, &json!({ "parameters": parameters })).await.expect(202);
    let accepted = reply.json();
    let id = accepted["run_id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (&accepted["pipeline_id"], &accepted["status"]),
        (&json!(pipeline), &json!("queued")),
        "{accepted}"
    );
    assert!(reply.header("Location").ends_with(&format!("/runs/{id}")), "{}", reply.header("Location"));
    id
}

/// The run as it is now.
pub(crate) async fn view(client: &Client, run_id: &str) -> Value {
    client.get(&format!("/runs/{run_id}")).await.expect(200).json()
}

/// The run once `wanted` is true of it.
pub(crate) async fn view_when(
    client: &Client,
    run_id: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    let found = until(LIMIT, async || {
        last = view(client, run_id).await;
        wanted(&last).then(|| last.clone())
    })
    .await;
    found.unwrap_or_else(|| panic!("the run is not {what}: {last:#}"))
}

/// The run once it has ended.
pub(crate) async fn ended(client: &Client, run_id: &str) -> Value {
    view_when(client, run_id, "at its end", |view| {
        ["completed", "failed", "cancelled", "timed_out"]
            .contains(&view["status"].as_str().unwrap_or_default())
    })
    .await
}

/// The step of this id.
pub(crate) fn step<'a>(view: &'a Value, id: &str) -> &'a Value {
    let mut steps = view["steps"].as_array().into_iter().flatten();
    steps.find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step {id} in {view:#}"))
}

/// How many runs there are.
pub(crate) async fn runs(client: &Client) -> usize {
    client.get("/runs?limit=100").await.expect(200).json()["runs"].as_array().map_or(0, Vec::len)
}

/// A pipeline of one task that runs a shell script.
pub(crate) fn script(id: &str, script: &str, more: &str) -> String {
    let argv = json!(["sh", "-c", script]);
    format!("id: {id}\n{more}tasks:\n  - name: script\n    command: {argv}\n    output: out\n")
}
