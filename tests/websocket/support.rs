//! What the tests share.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Client, Server, ServerBuilder, Socket};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// A server with a key for everything, one for the pipeline `row` alone, and no limits in the way.
pub(crate) fn server() -> ServerBuilder {
    let keys = json!({
        "k": { "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"] },
        "row-only": { "role": "viewer", "pipelines": ["row"], "permissions": ["read"] },
    });
    Server::builder(PROGRAM)
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env(
            "TASKIQ_FLOW_RATE_LIMITS",
            r#"{"websocket_connect": "100000/second", "execute_pipeline": "1000/second"}"#,
        )
        .pipeline(&row("row", 5))
        .pipeline(&row("other", 1))
}

/// A pipeline of `count` tasks, one after the other.
pub(crate) fn row(id: &str, count: usize) -> String {
    let mut yaml = format!("id: {id}\ntasks:\n");
    for n in 0..count {
        let inputs = if n == 0 { String::new() } else { format!(", inputs: [o{}]", n - 1) };
        yaml.push_str(&format!("  - {{ name: t{n}, expression: \"{n}\"{inputs}, output: o{n} }}\n"));
    }
    yaml
}

/// A socket that has said who it is.
pub(crate) async fn socket(server: &Server, key: &str) -> Socket {
    server.socket("/ws", &[("X-API-Key", key)]).await.unwrap()
}

/// Subscribes, with further fields.
pub(crate) async fn subscribe(socket: &mut Socket, mut message: Value) -> Value {
    message["type"] = json!("subscribe");
    socket.send(&message).await;
    next(socket).await
}

/// The next message that is neither `connected` nor a heartbeat.
pub(crate) async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = socket.recv().await;
        if message["type"] != "connected" && message["type"] != "heartbeat" {
            return message;
        }
    }
}

/// Runs a pipeline to its end; gives the run's id.
pub(crate) async fn run(client: &Client, pipeline: &str) -> Value {
    let path = format!("/pipelines/{pipeline}/execute");
    let done = client.post(&path, &json!({ "wait": true, "timeout": 20 })).await.expect(200).json();
    assert_eq!(done["status"], "completed", "{done}");
    done["run_id"].clone()
}
