//! Configuration: the block of the guide, field by field.

use taskiq_flow_testkit::Server;

use crate::support::*;

/// Guide: "Security features are configured in the TaskiqFlowConfig object or via environment variables."
#[tokio::test]
async fn security_features_are_configured_in_the_config_object_or_via_environment_variables() {
    // The object's fields are those of a file; both name the same feature, and the environment wins.
    let server = guide_with(&[("require_https = true", "require_https = false")]).start().await;
    assert_eq!(server.plain_client().get("/pipelines").await.status, 401);
    let server = guide_with(&[("require_https = true", "require_https = false")])
        .env("TASKIQ_FLOW_REQUIRE_HTTPS", "true")
        .start()
        .await;
    assert_eq!(server.plain_client().get("/pipelines").await.status, 403);
    // The same block as YAML and as JSON.
    for (name, text) in [
        ("c.yaml", "require_https: false\napi_keys:\n  k: { role: r, pipelines: [], permissions: [read] }\n"),
        ("c.json", r#"{"require_https": false, "api_keys": {"k": {"role": "r", "permissions": ["read"]}}}"#),
    ] {
        let server = pipelines(Server::builder(PROGRAM)).config_file(name, text).start().await;
        assert_eq!(server.plain_client().key("k").get("/pipelines").await.status, 200, "{name}");
    }
}

/// Guide: "security_enabled=True,"
#[tokio::test]
async fn security_enabled_switches_all_checks_on_and_off() {
    let server = guide().start().await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    let server = guide_with(&[("security_enabled = true", "security_enabled = false")]).start().await;
    let anybody = server.plain_client();
    assert_eq!(listed(&anybody).await, ["other", "pipeline1", "pipeline2"]);
    assert_eq!(execute(&anybody, "pipeline1").await, 202);
    assert!(anybody.key("nobody's").get("/pipelines").await.status == 200);
    let log = server.stderr().to_lowercase();
    assert!(log.contains("warn") && log.contains("security_enabled"), "a loud warning: {log}");
}

/// Guide: "auth_provider="api_key", # "api_key" or "jwt""
#[tokio::test]
async fn auth_provider_is_api_key_or_jwt() {
    let admin = token("alice", &["admin"]);
    let server = guide().start().await;
    assert_eq!(server.client().key("admin-key").get("/pipelines").await.status, 200);
    assert_eq!(server.client().token(&admin).get("/pipelines").await.status, 200);
    let jwt = [("auth_provider = \"api_key\"", "auth_provider = \"jwt\"")];
    let server = guide_with(&jwt).start().await;
    let reply = server.client().key("admin-key").get("/pipelines").await.expect(401);
    assert!(reply.header("WWW-Authenticate").starts_with("Bearer"));
    assert_eq!(server.client().token(&admin).get("/pipelines").await.status, 200);
    let neither = [("auth_provider = \"api_key\"", "auth_provider = \"password\"")];
    let exit = guide_with(&neither).try_start().await.unwrap_err();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    for word in ["auth_provider", "api_key", "jwt"] {
        assert!(exit.stderr.contains(word), "{}", exit.stderr);
    }
}

/// Guide: "api_keys={ "admin-key": { "role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"], },"
#[tokio::test]
async fn the_admin_key_of_the_block_may_do_everything() {
    let server = guide().start().await;
    let admin = server.client().key("admin-key");
    assert_eq!(listed(&admin).await, ["other", "pipeline1", "pipeline2"]);
    for pipeline in ["pipeline1", "pipeline2", "other"] {
        assert_eq!((read(&admin, pipeline).await, execute(&admin, pipeline).await), (200, 202), "{pipeline}");
    }
    assert_eq!(admin.get("/security/config").await.status, 200);
    assert_eq!(read(&admin, "missing").await, 404);
}

/// Guide: ""viewer-key": { "role": "viewer", "pipelines": ["pipeline1", "pipeline2"], "permissions": ["read"], }, },"
#[tokio::test]
async fn the_viewer_key_of_the_block_may_read_two_pipelines() {
    let server = guide().start().await;
    let viewer = server.client().key("viewer-key");
    assert_eq!(listed(&viewer).await, ["pipeline1", "pipeline2"]);
    for pipeline in ["pipeline1", "pipeline2"] {
        assert_eq!(
            (read(&viewer, pipeline).await, execute(&viewer, pipeline).await),
            (200, 403),
            "{pipeline}"
        );
    }
    // What exists and may not be seen looks like what does not exist.
    let (there, missing) = (viewer.get("/pipelines/other").await, viewer.get("/pipelines/missing").await);
    assert_eq!((there.status, missing.status), (403, 403));
    let without_id = |reply: &taskiq_flow_testkit::Reply| {
        let mut problem = reply.json();
        problem["request_id"] = serde_json::Value::Null;
        problem
    };
    assert_eq!(without_id(&there), without_id(&missing));
    assert_eq!(viewer.get("/security/config").await.status, 403);
}

/// Guide: "jwt_secret="your-jwt-secret","
#[tokio::test]
async fn jwt_secret_is_what_tokens_are_signed_with() {
    let server = guide().start().await;
    let client = server.client();
    assert_eq!(client.clone().token(&token("a", &["admin"])).get("/pipelines").await.status, 200);
    let other = taskiq_flow_testkit::jwt::hs256("another-secret!", &claims("a", &["admin"]));
    assert_eq!(client.token(&other).get("/pipelines").await.status, 401);
    // A placeholder of 15 bytes works, and is no good.
    let log = server.stderr();
    assert!(log.contains("jwt_secret") && log.contains("32"), "a loud warning: {log}");
    assert!(!log.contains(GUIDE_SECRET));
    let strong = "require_strong_jwt_secret = true\njwt_secret = \"your-jwt-secret\"";
    let exit = guide_with(&[("jwt_secret = \"your-jwt-secret\"", strong)]).try_start().await.unwrap_err();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("jwt_secret") && !exit.stderr.contains(GUIDE_SECRET), "{}", exit.stderr);
}

/// Guide: "require_https=True,"
#[tokio::test]
async fn require_https_is_what_decides_about_plain_http() {
    for (value, expected) in [("true", 403), ("false", 200)] {
        let change = format!("require_https = {value}");
        let server = guide_with(&[("require_https = true", &change)]).start().await;
        let reply = server.plain_client().key("admin-key").get("/pipelines").await;
        assert_eq!(reply.status, expected, "require_https = {value}");
    }
}

/// Guide: "pipeline_acls={ "pipeline1": { "read": ["admin", "viewer"], "execute": ["admin"], }, },"
#[tokio::test]
async fn pipeline_acls_list_the_roles_of_each_permission() {
    let may_execute = [("permissions = [\"read\"]", "permissions = [\"read\", \"execute\"]")];
    let server = guide_with(&may_execute).start().await;
    let (admin, viewer) = (server.client().key("admin-key"), server.client().key("viewer-key"));
    assert_eq!((read(&viewer, "pipeline1").await, execute(&viewer, "pipeline1").await), (200, 403));
    // Without an ACL the key's own permissions decide.
    assert_eq!((read(&viewer, "pipeline2").await, execute(&viewer, "pipeline2").await), (200, 202));
    assert_eq!((read(&admin, "pipeline1").await, execute(&admin, "pipeline1").await), (200, 202));
    // The role of a token is looked up in the same list.
    let token = server.client().token(&token("v", &["viewer"]));
    assert_eq!((read(&token, "pipeline1").await, execute(&token, "pipeline1").await), (200, 403));
    assert_eq!(read(&token, "pipeline2").await, 403);
}

/// Guide: "rate_limit_enabled=True,"
#[tokio::test]
async fn rate_limit_enabled_switches_the_limits_on_and_off() {
    for (value, expected) in [("true", 429), ("false", 200)] {
        let change = format!("rate_limit_enabled = {value}\nrate_limits.list_pipelines = \"1/hour\"");
        let server = guide_with(&[("rate_limit_enabled = true", &change)]).start().await;
        let client = server.client().key("admin-key");
        assert_eq!(client.get("/pipelines").await.status, 200);
        assert_eq!(client.get("/pipelines").await.status, expected, "rate_limit_enabled = {value}");
    }
}

/// Guide: "rate_limit_default="100/minute","
#[tokio::test]
async fn rate_limit_default_is_the_limit_of_endpoints_without_one() {
    let server = guide().start().await;
    let reply = server.client().key("admin-key").get("/runs").await.expect(200);
    assert!(reply.header("RateLimit-Policy").contains("q=100;w=60"), "{}", reply.header("RateLimit-Policy"));
    let server = guide_with(&[("100/minute", "2/hour")]).start().await;
    let client = server.client().key("admin-key");
    for expected in [200, 200, 429] {
        assert_eq!(client.get("/runs").await.status, expected);
    }
}

/// Guide: "websocket_require_auth=True,"
#[tokio::test]
async fn websocket_require_auth_decides_about_anonymous_sockets() {
    let server = guide().start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&serde_json::json!({ "type": "subscribe", "pipeline_id": "pipeline2" })).await;
    expect_denied(&mut socket).await;
    let server =
        guide_with(&[("websocket_require_auth = true", "websocket_require_auth = false")]).start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    assert_eq!(subscribe(&mut socket, "pipeline2").await["type"], "subscribed");
    // A pipeline with an ACL is nobody's but those whom it lists.
    socket.send(&serde_json::json!({ "type": "subscribe", "pipeline_id": "pipeline1" })).await;
    expect_denied(&mut socket).await;
}

/// Guide: "websocket_max_connections=1000,"
#[tokio::test]
async fn websocket_max_connections_is_how_many_may_be_open() {
    let server =
        guide_with(&[("websocket_max_connections = 1000", "websocket_max_connections = 2")]).start().await;
    let key = [("X-API-Key", "admin-key")];
    let first = server.socket("/ws", &key).await.unwrap();
    let _second = server.socket("/ws", &key).await.unwrap();
    assert_eq!(server.socket("/ws", &key).await.unwrap_err().status, 503);
    first.close().await;
    let again = taskiq_flow_testkit::until(std::time::Duration::from_secs(2), async || {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        server.socket("/ws", &key).await.ok()
    });
    assert!(again.await.is_some(), "a closed socket makes room");
}
