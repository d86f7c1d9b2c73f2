//! What the tests share.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::signing::SigningKey;
use taskiq_flow_testkit::{Server, ServerBuilder, jwt};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");

/// The shared secret of servers that have one.
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

/// A server with one pipeline, the API key `k`, and no limits in the way.
pub(crate) fn server() -> ServerBuilder {
    Server::builder(PROGRAM)
        .admin_key("k")
        .without_limits()
        .pipeline("id: one\ntasks:\n  - { name: t, expression: \"1\", output: o }\n")
        .pipeline("id: waits\ntasks:\n  - { name: t, wait: { signal: go }, output: o }\n")
}

/// One key for each of these algorithms, called by its algorithm.
pub(crate) fn key(algorithm: &str) -> &'static SigningKey {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let algorithms = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
        algorithms.iter().map(|algorithm| SigningKey::generate(algorithm, algorithm)).collect()
    });
    keys.iter().find(|key| key.algorithm() == algorithm).unwrap()
}

/// Good claims of an administrator.
pub(crate) fn claims() -> Value {
    json!({ "sub": "ada", "roles": ["admin"], "exp": jwt::from_now(Duration::from_secs(600)) })
}

/// Good claims with these members changed; `null` removes one.
pub(crate) fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// The status of a request with this token.
pub(crate) async fn status(server: &Server, token: &str) -> u16 {
    server.client().token(token).get("/pipelines").await.status
}
