//! What the tests share.

use std::path::Path;
use std::time::Duration;

use taskiq_flow_testkit::{Client, Pair, Reply, Server, ServerBuilder, until};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// A server that requires HTTPS, with an admin's key and a pipeline.
pub(crate) fn service() -> ServerBuilder {
    Server::builder(PROGRAM)
        .env(
            "TASKIQ_FLOW_API_KEYS",
            r#"{"admin-key":{"id":"ops","role":"admin","permissions":["read","execute","admin"]}}"#,
        )
        .pipeline("id: hello\ntasks:\n  - { name: one, expression: \"1\", output: one }\n")
}

/// The same with TLS of its own; its certificate is in a directory of its own.
pub(crate) fn secured(directory: &Path) -> (ServerBuilder, Pair) {
    let pair = Pair::self_signed(directory, &[]);
    (service().tls(&pair), pair)
}

/// A pair in a new directory below `directory`.
pub(crate) fn another(directory: &Path, name: &str) -> Pair {
    let directory = directory.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    Pair::self_signed(&directory, &[])
}

/// The first answer within `limit` that a client gets which trusts this pair alone: proof that the server has it.
/// Each try is a connection of its own.
pub(crate) async fn answers_with(server: &Server, pair: &Pair, limit: Duration) -> Option<Reply> {
    let pem = pair.pem();
    until(limit, async || fresh(server, &pem).try_get("/health").await).await
}

/// A client with no connection yet.
pub(crate) fn fresh(server: &Server, pem: &str) -> Client {
    server.tls_client_trusting(pem)
}
