//! `selftest authz` against a live server.

use std::time::Duration;

use serde_json::Value;
use taskiq_flow_testkit::{Authority, Cli, Pair, Server, ServerBuilder, until};

use crate::PROGRAM;

const CONFIG: &str = r#"
jwt_secret = "a secret of at least thirty-two bytes"
role_permissions = { admin = ["read", "execute", "admin"], reader = ["read"] }
rate_limit_enabled = false
auth_failure_limit = ""

[api_keys]
a-key-of-the-administrator = { id = "root", role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
a-key-of-somebody-restricted = { id = "local", role = "admin", pipelines = ["mine"], permissions = ["admin"] }
"#;

const ADMIN: &str = "a-key-of-the-administrator";

fn server() -> ServerBuilder {
    let pipeline = "id: mine\ntasks:\n  - { name: one, expression: \"1\", output: one }\n";
    Server::builder(PROGRAM).config_toml(CONFIG).pipeline(pipeline)
}

fn cli(key: &str) -> Cli {
    Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", key).limit(Duration::from_secs(170))
}

/// What of the server's is the test's.
async fn made(server: &Server) -> Vec<String> {
    let admin = server.client().key(ADMIN);
    let mut found = Vec::new();
    for (path, list, field) in [
        ("/pipelines?limit=500", "pipelines", "id"),
        ("/schedules?limit=500", "schedules", "id"),
        ("/security/keys?limit=500", "keys", "id"),
        ("/security/acls", "acls", "pipeline_id"),
    ] {
        let shown = admin.get(path).await.expect(200).json();
        let entries = shown[list].as_array().unwrap_or_else(|| panic!("{path}: {shown}")).clone();
        let names = entries.iter().map(|entry| entry[field].as_str().unwrap().to_owned());
        found.extend(names.filter(|name| name.starts_with("selftest-")));
    }
    found
}

#[tokio::test]
async fn a_server_that_keeps_its_promises_passes_and_is_left_as_it_was() {
    let server = server().start().await;
    let cli = cli(ADMIN);
    let config = cli.file("server.toml", CONFIG);
    let url = server.url();
    let exit =
        cli.run(["selftest", "authz", "--url", &url, "--json", "--config", config.to_str().unwrap()]).await;
    let report: Value = serde_json::from_str(&exit.stdout).unwrap_or_else(|_| panic!("{}", exit.output()));
    assert_eq!((exit.code, &report["passed"]), (Some(0), &true.into()), "{}", exit.output());
    assert_eq!(report["findings"], Value::Array(vec![]));
    assert_eq!(report["skipped"], Value::Array(vec![]), "tokens are tested too");
    assert!(report["requests"].as_u64().unwrap() > 500 && report["sockets"].as_u64().unwrap() > 10);
    for output in [&exit.stdout, &exit.stderr] {
        assert!(!output.contains(ADMIN) && !output.contains("tqf_"), "a key is shown: {output}");
    }
    assert_eq!(made(&server).await, [""; 0], "something was left behind");
}

#[tokio::test]
async fn certificates_are_asked_as_what_their_entries_say() {
    let directory = tempfile::tempdir().unwrap();
    let (pair, authority) = (Pair::self_signed(directory.path(), &[]), Authority::new());
    let entry = "[client_certificates.\"CN=robot\"]\nid = \"robot-1\"\nrole = \"reader\"\npipelines = [\"mine\"]\npermissions = [\"read\"]\n";
    let server = Server::builder(PROGRAM)
        .config_toml(&format!("tls_client_auth = \"optional\"\n{CONFIG}{entry}"))
        .tls(&pair)
        .client_ca(authority.certificate(), None)
        .start()
        .await;
    let cli = cli(ADMIN);
    let (url, ca) = (format!("https://localhost:{}", server.port()), pair.certificate.display().to_string());
    let base = ["selftest", "authz", "--json", "--url", &url, "--ca", &ca];
    let robot = cli.file("robot.pem", &authority.issue("robot", "/CN=robot", "").both());
    let stranger = cli.file("stranger.pem", &authority.issue("stranger", "/CN=stranger", "").both());
    let named = [robot, stranger].map(|file| file.display().to_string());
    let exit = cli.run([&base[..], &["--certificate", &named[0], "--certificate", &named[1]]].concat()).await;
    let report: Value = serde_json::from_str(&exit.stdout).unwrap_or_else(|_| panic!("{}", exit.output()));
    assert_eq!((exit.code, &report["passed"]), (Some(0), &true.into()), "{}", exit.output());
    assert!(!report["skipped"].to_string().contains("certificates"), "{}", report["skipped"]);
    let audit = server.audit();
    assert!(
        audit.lines().any(|line| line.contains("robot-1") && line.contains("authorization.denied")),
        "nobody asked"
    );

    // Without them it is said that they were not tried.
    let exit = cli.run([&base[..], &["--minutes", "0"]].concat()).await;
    assert!(exit.stdout.contains("client certificates: none were named"), "{}", exit.output());
    let bad = cli.file("bad.pem", "no certificate");
    let exit = cli.run([&base[..], &["--certificate", &bad.display().to_string()]].concat()).await;
    assert!(
        exit.code == Some(2) && exit.stderr.contains("--certificate") && exit.stderr.contains("PEM"),
        "{}",
        exit.output()
    );
}

#[tokio::test]
async fn what_was_made_is_taken_away_when_the_test_is_broken_off() {
    let server = server().start().await;
    let running = cli(ADMIN).start(["selftest", "authz", "--url", &server.url(), "--full"]);
    let seen = until(Duration::from_secs(30), async || (!made(&server).await.is_empty()).then_some(()));
    seen.await.unwrap_or_else(|| panic!("nothing was made: {}", running.stderr()));
    let exit = running.stop(Duration::from_secs(60)).await;
    assert_eq!(exit.code, Some(1), "{}", exit.output());
    assert!(exit.stderr.contains("interrupted"), "{}", exit.stderr);
    assert_eq!(made(&server).await, [""; 0], "something was left behind: {}", exit.stderr);
}

#[tokio::test]
async fn what_cannot_be_tested_is_said() {
    let server = server().start().await;
    let url = server.url();
    let run = async |key: &str, url: &str| cli(key).run(["selftest", "authz", "--url", url]).await;
    let exit = run("", &url).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("TASKIQ_FLOW_API_KEY"), "{}", exit.stderr);
    let exit = run("a-key-of-somebody-restricted", &url).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("unrestricted"), "{}", exit.stderr);
    let exit = run(ADMIN, "http://flow.example.com").await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("--allow-plain-http"), "{}", exit.stderr);
}
