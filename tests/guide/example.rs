//! Example: Securing a Pipeline, as a configuration of the program. (The same as a program is an example of the
//! library.)

use http::Method;
use serde_json::json;
use taskiq_flow_testkit::{Server, jwt};

use crate::support::{PROGRAM, claims, execute, listed, pipeline, read, run, subscribe};

const CONFIG: &str = r#"
security_enabled = true
auth_provider = "api_key"
jwt_secret = "super-secret"
require_https = true
rate_limit_enabled = true
rate_limit_default = "30/minute"
websocket_require_auth = true

[api_keys.processor-key]
role = "processor"
pipelines = ["data-pipeline"]
permissions = ["read", "execute"]

[api_keys.admin-key]
role = "admin"
pipelines = ["*"]
permissions = ["read", "execute", "admin"]

[pipeline_acls.data-pipeline]
read = ["processor", "admin"]
execute = ["processor", "admin"]
"#;

async fn secured() -> Server {
    let server = Server::builder(PROGRAM).config_toml(CONFIG);
    server.pipeline(&pipeline("data-pipeline")).pipeline(&pipeline("other")).start().await
}

/// Guide: "Here is a complete example of securing a TaskIQ-Flow API with the current API (create_visualization_api, flat TaskiqFlowConfig fields):"
#[tokio::test]
async fn the_example_secures_a_pipeline() {
    let server = secured().await;
    let (processor, admin) = (server.client().key("processor-key"), server.client().key("admin-key"));
    assert_eq!(listed(&processor).await, ["data-pipeline"]);
    assert_eq!(
        (read(&processor, "data-pipeline").await, execute(&processor, "data-pipeline").await),
        (200, 202)
    );
    assert_eq!((read(&processor, "other").await, execute(&processor, "other").await), (403, 403));
    assert_eq!(processor.get("/security/config").await.status, 403);
    assert_eq!(run(&admin, "data-pipeline", json!({ "x": 1 })).await["result"], json!({ "y": 2 }));
    assert_eq!((read(&admin, "other").await, execute(&admin, "other").await), (200, 202));
    // Tokens get their rights from the ACL.
    let token = |role: &str| server.client().token(&jwt::hs256("super-secret", &claims("someone", &[role])));
    assert_eq!(execute(&token("processor"), "data-pipeline").await, 202);
    assert_eq!(read(&token("processor"), "other").await, 403);
    assert_eq!(read(&token("visitor"), "data-pipeline").await, 403);
    assert_eq!(server.plain_client().key("admin-key").get("/pipelines").await.status, 403);
    let policy = admin.get("/runs").await.expect(200);
    assert!(policy.header("RateLimit-Policy").contains("q=30;w=60"), "{}", policy.header("RateLimit-Policy"));
    let mut socket = server.socket("/ws", &[("X-API-Key", "processor-key")]).await.unwrap();
    assert_eq!(subscribe(&mut socket, "data-pipeline").await["type"], "subscribed");
}

/// Guide: "# All endpoints now require authentication."
#[tokio::test]
async fn all_endpoints_now_require_authentication() {
    let server = secured().await;
    let done = run(&server.client().key("admin-key"), "data-pipeline", json!({})).await;
    let run_id = done["run_id"].as_str().unwrap();
    let nobody = server.client();
    let (get, post) = (Method::GET, Method::POST);
    for (method, path) in [
        (&get, "/pipelines"),
        (&post, "/pipelines/new"),
        (&Method::PUT, "/pipelines/data-pipeline"),
        (&Method::DELETE, "/pipelines/data-pipeline"),
        (&get, "/pipelines/data-pipeline"),
        (&get, "/pipelines/data-pipeline/dag"),
        (&get, "/dag/data-pipeline"),
        (&get, "/pipelines/data-pipeline/dag/dot"),
        (&get, "/pipelines/data-pipeline/critical-path"),
        (&get, "/pipelines/data-pipeline/parallel-groups"),
        (&post, "/pipelines/data-pipeline/execute"),
        (&get, "/pipelines/data-pipeline/status"),
        (&get, "/runs"),
        (&get, "/runs/RUN"),
        (&get, "/runs/RUN/events"),
        (&post, "/runs/RUN/cancel"),
        (&post, "/runs/RUN/pause"),
        (&post, "/runs/RUN/resume"),
        (&post, "/runs/RUN/retry"),
        (&post, "/runs/RUN/signals/go"),
        (&get, "/schedules"),
        (&post, "/schedules"),
        (&get, "/security/config"),
        (&get, "/me"),
        (&get, "/metrics"),
        (&get, "/openapi.json"),
    ] {
        for prefix in ["", "/api"] {
            let path = format!("{prefix}{}", path.replace("RUN", run_id));
            let body = json!({});
            let body = (method != get && method != Method::DELETE).then_some(&body);
            let reply = nobody.clone().send(method.clone(), &path, body).await;
            assert_eq!(reply.status, 401, "{method} {path}: {}", reply.text());
            assert!(!reply.header("WWW-Authenticate").is_empty(), "{method} {path}");
        }
    }
    // Probes do not, and learn nothing.
    assert_eq!(nobody.get("/health").await.json(), json!({ "status": "healthy" }));
    // A socket may be opened without, but must say who it is before anything else.
    let mut socket = server.socket("/ws/data-pipeline", &[]).await.unwrap();
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "data-pipeline" })).await;
    crate::support::expect_denied(&mut socket).await;
}
