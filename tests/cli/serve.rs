//! `serve`: starts, refusals to start, and where the configuration comes from.

use taskiq_flow_testkit::{Cli, Server};

use crate::PROGRAM;

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = Server::builder(PROGRAM).start().await;
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_AUDIT_LOG", "none").env("TASKIQ_FLOW_STORE_URL", "memory:");
    let exit = cli.run(["serve", "--port", &taken.port().to_string()]).await;
    assert!(matches!(exit.code, Some(1 | 2)), "{:?}", exit.code);
    assert!(exit.stderr.contains(&taken.port().to_string()), "{}", exit.stderr);
    assert!(exit.stderr.to_lowercase().contains("address already in use"), "{}", exit.stderr);
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    // The test kit itself gives --port; the other two sources say what nobody could listen on.
    let server = Server::builder(PROGRAM)
        .config_toml("port = 1\nhost = \"192.0.2.1\"\nsecurity_enabled = true\n")
        .env("TASKIQ_FLOW_PORT", "2")
        .env("TASKIQ_FLOW_HOST", "127.0.0.1")
        .start()
        .await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
}

#[tokio::test]
async fn a_configuration_in_the_working_directory_is_found() {
    let server = Server::builder(PROGRAM);
    let keys = "require_https = false\napi_keys.k = { role = \"r\", permissions = [\"read\"] }\n";
    std::fs::write(server.dir().join("taskiq-flow.toml"), keys).unwrap();
    let server = server.start().await;
    assert_eq!(server.plain_client().key("k").get("/pipelines").await.status, 200);
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_explained() {
    for (name, value, words) in [
        ("TASKIQ_FLOW_REQUIRE_HTTPS", "maybe", &["TASKIQ_FLOW_REQUIRE_HTTPS", "true"][..]),
        ("TASKIQ_FLOW_API_KEYS", "{", &["TASKIQ_FLOW_API_KEYS", "JSON"]),
        ("TASKIQ_FLOW_API_KEYS", r#"{"k": {"rle": "admin"}}"#, &["rle", "role"]),
        ("TASKIQ_FLOW_PORT", "80000", &["TASKIQ_FLOW_PORT"]),
        ("TASKIQ_FLOW_STORE_URL", "mysql://x", &["TASKIQ_FLOW_STORE_URL", "sqlite"]),
        ("TASKIQ_FLOW_RATE_LIMITS", r#"{"list_pipelines": "1/era"}"#, &["list_pipelines", "era", "minute"]),
        ("TASKIQ_FLOW_JWT_SECRET", "file:/no/such/file", &["/no/such/file"]),
    ] {
        let exit = Server::builder(PROGRAM).env(name, value).try_start().await.unwrap_err();
        assert_eq!(exit.code, Some(2), "{name}={value}: {}", exit.output());
        for word in words {
            assert!(exit.stderr.contains(word), "{name}={value}: no {word}: {}", exit.stderr);
        }
        assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
    }
    // Records that cannot be written are told of; a start that must be recorded is refused.
    let nowhere = || Server::builder(PROGRAM).env("TASKIQ_FLOW_AUDIT_LOG", "/no/such/directory/audit.jsonl");
    let server = nowhere().start().await;
    assert!(server.stderr().contains("/no/such/directory/audit.jsonl"), "{}", server.stderr());
    let exit = nowhere().env("TASKIQ_FLOW_AUDIT_MODE", "required").try_start().await.unwrap_err();
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("/no/such/directory/audit.jsonl"), "{}", exit.stderr);
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_REQIRE_HTTPS", "false").start().await;
    let log = server.stderr();
    assert!(log.contains("TASKIQ_FLOW_REQIRE_HTTPS") && log.contains("TASKIQ_FLOW_REQUIRE_HTTPS"), "{log}");
    assert_eq!(server.plain_client().get("/pipelines").await.status, 403, "it stays as safe as it was");
    let limits = r#"{"list_pipeline": "1/minute"}"#;
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_RATE_LIMITS", limits).start().await;
    let log = server.stderr();
    assert!(log.contains("rate_limits.list_pipeline") && log.contains("list_pipelines"), "{log}");
}

#[tokio::test]
async fn secrets_come_from_files_too() {
    let server = Server::builder(PROGRAM);
    let file = server.dir().join("keys.json");
    std::fs::write(&file, r#"{"k": {"role": "r", "permissions": ["read"]}}"#).unwrap();
    let server = server.env("TASKIQ_FLOW_API_KEYS", format!("file:{}", file.display())).start().await;
    assert_eq!(server.client().key("k").get("/pipelines").await.status, 200);
}

#[tokio::test]
async fn without_any_key_a_warning_says_so_and_everything_is_refused() {
    let server = Server::builder(PROGRAM).start().await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    assert_eq!(server.client().key("").get("/pipelines").await.status, 401);
    assert!(server.stderr().contains("api_keys"), "{}", server.stderr());
}
