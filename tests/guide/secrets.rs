//! Conclusion: sensitive data stays where it belongs.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Server, free_port, jwt};

use crate::support::*;

/// What must not turn up: each is somewhere in the configuration or in a request.
const KEY: &str = "canary-key-5f1c";
const SECRET: &str = "canary-secret-81b2-of-more-than-32-bytes";
const REDIS_PASSWORD: &str = "canary-redis-90aa";
const WRONG_KEY: &str = "canary-wrong-7e07";
const PARAMETER: &str = "canary-parameter-33cd";
const QUERY: &str = "canary-query-4b2e";

const PIPELINE: &str = "id: typed\ninputs:\n  n: { type: integer }\n  s: { type: string }\ntasks:\n  - name: join\n    \
    expression: s + (n | string)\n    inputs: [n, s]\n    output: joined\n";

/// Guide: "By following this guide you can secure your TaskIQ-Flow instance to protect sensitive data and ensure that only authorized users can perform specific actions."
#[tokio::test]
async fn no_key_token_or_parameter_value_is_in_any_output() {
    let keys = json!({ KEY: key("admin", &["*"], &["read", "execute", "admin"]), "reader": key("r", &["typed"], &["read"]) });
    let server = pipelines(Server::builder(PROGRAM))
        .pipeline(PIPELINE)
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env("TASKIQ_FLOW_JWT_SECRET", SECRET)
        .env(
            "TASKIQ_FLOW_RATE_LIMIT_STORAGE",
            format!("redis://:{REDIS_PASSWORD}@127.0.0.1:{}/0", free_port()),
        )
        .env("TASKIQ_FLOW_AUDIT_LOG", r#"["stdout", "audit.jsonl"]"#)
        .env("TASKIQ_FLOW_LOG_LEVEL", "trace")
        .start()
        .await;
    let token = jwt::hs256(SECRET, &claims("alice", &["admin"]));
    let expired = jwt::hs256(SECRET, &json!({ "sub": "alice", "roles": ["admin"], "exp": 1_000_000 }));
    let (admin, alice) = (server.client().key(KEY), server.client().token(&token));
    let mut bodies: Vec<(String, String)> = Vec::new();
    let mut keep = |what: &str, expected: u16, reply: taskiq_flow_testkit::Reply| {
        assert_eq!(reply.status, expected, "{what}: {}", reply.text());
        bodies.push((what.to_owned(), format!("{:?}\n{}", reply.headers, reply.text())));
    };
    // The endpoint answers, and refuses, in every way there is.
    keep("wrong key", 403, server.client().key(WRONG_KEY).get("/pipelines").await);
    keep("expired token", 401, server.client().token(&expired).get("/pipelines").await);
    keep("plain HTTP", 403, server.plain_client().key(KEY).get("/pipelines").await);
    keep("both", 400, server.client().key(KEY).token(&token).get("/pipelines").await);
    keep("unknown path", 404, admin.get(&format!("/missing?key={QUERY}")).await);
    keep("query", 401, server.client().get(&format!("/pipelines?api_key={QUERY}")).await);
    keep("missing parameter", 422, post(&admin, json!({ "s": PARAMETER })).await);
    keep("ill-typed parameter", 422, post(&admin, json!({ "n": PARAMETER, "s": PARAMETER })).await);
    keep("unknown parameter", 422, post(&admin, json!({ "n": 1, "s": PARAMETER, "t": PARAMETER })).await);
    let broken = format!("{{\"parameters\": {{\"s\": \"{PARAMETER}\"");
    keep("broken JSON", 400, admin.send_text(http::Method::POST, EXECUTE, "application/json", &broken).await);
    keep(
        "denied",
        403,
        server.client().key("reader").post(EXECUTE, &json!({ "parameters": { "s": PARAMETER } })).await,
    );
    keep("me", 200, admin.get("/me").await);
    keep("me by token", 200, alice.get("/me").await);
    keep("configuration", 200, admin.get("/security/config").await);
    let done = run(&admin, "typed", json!({ "n": 7, "s": PARAMETER })).await;
    assert_eq!(done["result"]["joined"], format!("{PARAMETER}7"), "the caller gets its own result");
    keep("metrics", 200, admin.get("/metrics").await);
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "connect", "auth": WRONG_KEY })).await;
    expect_denied(&mut socket).await;

    let (exit, directory) = server.stop_and_keep().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let audit = std::fs::read_to_string(directory.path().join("audit.jsonl")).unwrap();
    bodies.extend([
        ("stdout".to_owned(), exit.stdout),
        ("stderr".to_owned(), exit.stderr),
        ("audit file".to_owned(), audit),
    ]);
    for (what, text) in &bodies {
        assert!(!text.trim().is_empty(), "{what} is empty");
        for canary in [KEY, SECRET, REDIS_PASSWORD, WRONG_KEY, PARAMETER, QUERY, &token, &expired] {
            assert!(!text.contains(canary), "{what} has {canary}:\n{text}");
        }
    }
}

/// Guide: "By following this guide you can secure your TaskIQ-Flow instance to protect sensitive data and ensure that only authorized users can perform specific actions."
#[tokio::test]
async fn no_secret_is_in_a_message_about_a_bad_configuration() {
    let cli = Cli::new(PROGRAM);
    for (name, text) in [
        ("unknown-field.toml", format!("jwt_secret = \"{SECRET}\"\njwt_secrte = \"{SECRET}\"\n")),
        ("wrong-type.toml", format!("jwt_secret = [\"{SECRET}\"]\n")),
        ("bad-entry.toml", format!("api_keys.\"{KEY}\" = {{ role = \"r\", permissions = [\"reed\"] }}\n")),
        ("bad-syntax.toml", format!("api_keys.\"{KEY}\" = {{ role = \n")),
        ("bad-url.toml", format!("rate_limit_storage = \"redix://:{REDIS_PASSWORD}@localhost\"\n")),
    ] {
        let file = cli.file(name, &text);
        let exit = cli.run(["serve".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
        assert_eq!(exit.code, Some(2), "{name}: {}", exit.output());
        assert!(exit.stderr.contains(name), "names the file: {}", exit.stderr);
        for canary in [SECRET, KEY, REDIS_PASSWORD] {
            assert!(!exit.output().contains(canary), "{name}: {}", exit.output());
        }
    }
}

const EXECUTE: &str = "/pipelines/typed/execute";

async fn post(client: &taskiq_flow_testkit::Client, parameters: Value) -> taskiq_flow_testkit::Reply {
    client.post(EXECUTE, &json!({ "parameters": parameters })).await
}
