//! `key` and `acl` against a running server.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Exit, Server};

use crate::PROGRAM;

const ADMIN: &str = "admin-key-of-this-test-alone";

async fn server() -> Server {
    let keys = json!({ADMIN: {"id": "root", "role": "admin", "pipelines": ["*"], "permissions": ["admin"]}});
    Server::builder(PROGRAM)
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .pipeline("id: etl\ntasks:\n  - { name: a, expression: \"1\" }\n")
        .start()
        .await
}

fn cli() -> Cli {
    Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", ADMIN)
}

async fn on(server: &Server, arguments: &[&str]) -> Exit {
    let url = server.url();
    cli().run([arguments, &["--url", &url]].concat()).await
}

async fn done(server: &Server, arguments: &[&str]) -> Exit {
    let exit = on(server, arguments).await;
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.output());
    exit
}

#[tokio::test]
async fn a_key_lives_from_create_to_revoke() {
    let mut server = server().await;
    let made =
        done(&server, &["key", "create", "--id", "ci", "--pipelines", "etl", "--permissions", "read"]).await;
    let key = made.stdout.trim().to_owned();
    assert!(key.starts_with("tqf_ci_") && !made.stderr.contains(&key), "{}", made.output());
    assert_eq!(server.client().key(&key).get("/pipelines/etl").await.status, 200);
    let listed = done(&server, &["key", "list"]).await.stdout;
    let row = listed.lines().find(|line| line.starts_with("ci ")).unwrap();
    assert!(row.contains("viewer") && row.contains("etl") && row.ends_with("stored"), "{listed}");
    assert!(
        listed.lines().any(|line| line.starts_with("root ") && line.ends_with("configuration")),
        "{listed}"
    );

    // What was made over the API outlives the process, killed as it may be.
    server.kill9().await;
    server.restart().await;
    assert_eq!(server.client().key(&key).get("/me").await.status, 200);

    let rotated = done(&server, &["key", "rotate", "ci", "--overlap", "1h", "--json"]).await;
    let rotated: Value = serde_json::from_str(&rotated.stdout).unwrap();
    let second = rotated["key"].as_str().unwrap();
    assert!(rotated["previous_valid_until"].is_string() && second != key, "{rotated}");
    for key in [&key, second] {
        assert_eq!(server.client().key(key).get("/me").await.status, 200);
    }
    done(&server, &["key", "revoke", "ci"]).await;
    for key in [&key, second] {
        assert_eq!(server.client().key(key).get("/me").await.status, 403);
    }
    let again = on(&server, &["key", "revoke", "ci"]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("404"), "{}", again.stderr);
    // Its id is kept for it, also by a process that was not there.
    server.kill9().await;
    server.restart().await;
    let anew = on(&server, &["key", "create", "--id", "ci"]).await;
    assert!(
        anew.code == Some(1) && anew.stderr.contains("409") && anew.stderr.contains("by `root`"),
        "{}",
        anew.stderr
    );
    let of_file = on(&server, &["key", "revoke", "root"]).await;
    assert!(of_file.code == Some(1) && of_file.stderr.contains("configuration"), "{}", of_file.stderr);
    let wrong = on(&server, &["key", "create", "--id", "a b"]).await;
    assert!(wrong.code == Some(2) && wrong.stderr.contains("id: "), "{}", wrong.stderr);
    assert_eq!(wrong.stderr.matches("id: ").count(), 1, "it is said once: {}", wrong.stderr);
    let long = on(&server, &["key", "rotate", "ci", "--overlap", "31d"]).await;
    assert!(long.code == Some(2) && long.stderr.contains("at most 30d"), "{}", long.stderr);
    for secret in [key.as_str(), second] {
        assert!(!server.audit().contains(secret) && !server.stderr().contains(secret));
    }
    assert!(server.audit().contains("key.revoke"));
    let exit = server.stop().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[tokio::test]
async fn keys_are_listed_however_many_they_are() {
    let entry = |number: usize| {
        let text = format!("key-number-{number}-of-this-test-alone");
        (text, json!({"id": format!("k{number:04}"), "role": "viewer", "permissions": ["read"]}))
    };
    let mut keys: serde_json::Map<String, Value> = (0..1_100).map(entry).collect();
    keys.insert(ADMIN.to_owned(), json!({"id": "root", "role": "admin", "permissions": ["admin"]}));
    let config = json!({ "api_keys": keys }).to_string();
    let server = Server::builder(PROGRAM).config_file("taskiq-flow.test.json", &config).start().await;
    let listed = done(&server, &["key", "list"]).await.stdout;
    let ids: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    let expected: Vec<String> =
        (0..1_100).map(|number| format!("k{number:04}")).chain(["root".to_owned()]).collect();
    assert_eq!(ids, expected);
    let listed: Value =
        serde_json::from_str(&done(&server, &["key", "list", "--json"]).await.stdout).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1_101);
}

#[tokio::test]
async fn access_lists_are_set_and_outlive_a_reload() {
    let server = server().await;
    let made = done(&server, &["key", "create", "--id", "viewer", "--json"]).await;
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let viewer = server.client().key(made["key"].as_str().unwrap());
    assert_eq!(viewer.get("/pipelines/etl").await.status, 200);
    done(&server, &["acl", "set", "etl", "--read", "ops,dev"]).await;
    assert_eq!(viewer.get("/pipelines/etl").await.status, 403);
    let shown: Value = serde_json::from_str(&done(&server, &["acl", "get", "etl"]).await.stdout).unwrap();
    assert_eq!(shown, json!({"read": ["ops", "dev"]}));
    let listed = done(&server, &["acl", "list"]).await.stdout;
    assert!(listed.lines().any(|line| line.starts_with("etl ") && line.contains("ops,dev")), "{listed}");
    server.hangup();
    let reloaded = taskiq_flow_testkit::until(std::time::Duration::from_secs(10), async || {
        server.stderr().contains("the security settings were read again").then_some(())
    });
    reloaded.await.expect("no reload");
    assert_eq!(viewer.get("/pipelines/etl").await.status, 403);
    let typo = done(&server, &["acl", "set", "elt", "--read"]).await;
    assert!(typo.stderr.contains("warning") && typo.stderr.contains("elt"), "{}", typo.stderr);
    // Without a list it is open, which whoever removes one had better know.
    let removed = done(&server, &["acl", "remove", "etl"]).await;
    assert!(removed.stderr.contains("acl set etl"), "{}", removed.stderr);
    assert_eq!(viewer.get("/pipelines/etl").await.status, 200);
    done(&server, &["acl", "set", "etl"]).await;
    assert_eq!(viewer.get("/pipelines/etl").await.status, 403);
    let removed = done(&server, &["acl", "remove", "etl", "--to-configuration"]).await;
    assert!(removed.stderr.contains("the configuration decides again"), "{}", removed.stderr);
}

#[tokio::test]
async fn keys_are_checked_without_a_server() {
    let cli = Cli::new(PROGRAM);
    let key = cli.run(["key", "new", "--id", "ops", "--allowed-ips", "10.0.0.0/8"]).await;
    assert!(key.stderr.contains("allowed_ips = [\"10.0.0.0/8\"]"), "{}", key.stderr);
    let good = cli.run_with_input(["key", "check"], &key.stdout).await;
    assert!(good.code == Some(0) && good.stdout.contains("`ops`"), "{}", good.output());
    let ended = cli.run(["key", "new", "--expires-at", "2020-01-31T00:00:00Z"]).await;
    assert!(ended.code == Some(2) && ended.stderr.contains("--expires-at"), "{}", ended.output());
    assert!(ended.stdout.is_empty(), "a key that can open nothing: {}", ended.stdout);
    for bad in ["admin-key\n", &key.stdout.replacen("tqf_ops", "tqf_ips", 1)] {
        let exit = cli.run_with_input(["key", "check"], bad).await;
        assert_eq!(exit.code, Some(1), "{bad}: {}", exit.output());
        assert!(!exit.output().contains(bad.trim()), "{}", exit.output());
    }
}

#[tokio::test]
async fn no_key_leaves_the_machine_in_the_clear() {
    let cli = Cli::new(PROGRAM);
    let exit = cli.run(["key", "list"]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("TASKIQ_FLOW_API_KEY"), "{}", exit.stderr);
    let cli = cli.env("TASKIQ_FLOW_API_KEY", "k");
    let exit = cli.run(["key", "list", "--url", "http://192.0.2.1:8000"]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("--allow-plain-http"), "{}", exit.stderr);
    let exit = cli.run(["key", "list", "--url", "http://127.0.0.1:1"]).await;
    assert!(exit.code == Some(1) && exit.stderr.contains("no answer"), "{}", exit.stderr);
    let key = cli.file("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let exit = cli.run(["key", "list", "--url", "https://127.0.0.1:1", "--ca", key.to_str().unwrap()]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("no certificate"), "{}", exit.stderr);
}
