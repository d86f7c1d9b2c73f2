//! `security`: what it says of a configuration is what the server does with it.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Pair, Server};

use crate::PROGRAM;

const SAFE: &str = r#"
audit_log = "audit.jsonl"
audit_mode = "required"
store_url = "sqlite:state.db"

[api_keys."sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1"]
id = "ci"
role = "ci"
pipelines = ["build"]
permissions = ["read", "execute"]
expires_at = "2099-01-01T00:00:00Z"

[pipeline_acls.build]
read = ["ci"]
execute = ["keeper"]
"#;

const GUIDE: &str = r#"
security_enabled = true
jwt_secret = "your-jwt-secret"
require_https = true
pipeline_acls.build = { read = ["admin", "viewer"], execute = ["admin"] }
api_keys."admin-key" = { role = "admin", pipelines = ["*"], permissions = ["read", "execute", "admin"] }
api_keys."viewer-key" = { role = "viewer", pipelines = ["build"], permissions = ["read"], id = "viewer" }
"#;

const PIPELINE: &str = "id: build\ntasks:\n  - { name: one, expression: \"1\", output: one }\n";

fn cli(config: &str) -> Cli {
    let cli = Cli::new(PROGRAM);
    let file = cli.file("taskiq-flow.toml", config);
    private(&file);
    cli.file("pipelines/build.yaml", PIPELINE);
    cli
}

fn private(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn check_exits_by_what_it_finds_and_shows_no_secret() {
    let exit = cli(SAFE).run(["security", "check", "--json"]).await;
    let found: Value = serde_json::from_str(&exit.stdout).unwrap();
    // The ACL lists `keeper`, which no key has, and nothing signs the audit log: advice.
    assert_eq!((exit.code, &found["high"], &found["medium"]), (Some(0), &json!(0), &json!(0)), "{found}");
    let mut ids: Vec<_> =
        found["findings"].as_array().unwrap().iter().map(|finding| &finding["id"]).collect();
    ids.sort_by_key(|id| id.to_string());
    assert_eq!(ids, ["acl-unknown-role", "audit-unsigned"], "{found}");
    assert_eq!(found["score"], 98);

    let guide = cli(GUIDE);
    let exit = guide.run(["security", "check", "--json"]).await;
    assert_eq!(exit.code, Some(1), "{}", exit.output());
    let found: Value = serde_json::from_str(&exit.stdout).unwrap();
    let ids: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap()).collect();
    for id in
        ["placeholder", "jwt-secret-weak", "key-raw", "key-endless", "key-guessable", "audit-best-effort"]
    {
        assert!(ids.contains(&id), "{id}: {ids:?}");
    }
    for finding in found["findings"].as_array().unwrap() {
        for field in ["severity", "field", "what", "fix"] {
            assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        }
        assert!(!finding["asvs"].as_array().unwrap().is_empty(), "{finding}");
        assert!(!finding["api_top10"].as_array().unwrap().is_empty(), "{finding}");
    }
    let text = guide.run(["security", "check"]).await;
    assert_eq!(text.code, Some(1));
    assert!(text.stdout.contains("HIGH") && text.stdout.contains("fix: "), "{}", text.stdout);
    for secret in ["admin-key", "viewer-key", "your-jwt-secret"] {
        assert!(!exit.output().contains(secret) && !text.output().contains(secret), "{secret} is shown");
    }

    let exit = cli("rate_limit_default = \"often\"\n").run(["security", "check"]).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("rate_limit_default"), "{}", exit.stderr);
}

/// One list: what the start warns of is what the command finds.
#[tokio::test]
async fn the_start_warns_of_what_the_check_finds() {
    let exit = cli(GUIDE).run(["security", "check", "--json"]).await;
    let found: Value = serde_json::from_str(&exit.stdout).unwrap();
    let mut grave = 0;
    let server = Server::builder(PROGRAM)
        .config_toml(GUIDE)
        .env("TASKIQ_FLOW_AUDIT_LOG", r#"["stdout", "audit.jsonl"]"#)
        .pipeline(PIPELINE)
        .start()
        .await;
    let said = server.stderr();
    for finding in found["findings"].as_array().unwrap() {
        let what = format!("{}: {}", finding["field"].as_str().unwrap(), finding["what"].as_str().unwrap());
        if finding["severity"] != "low" {
            grave += 1;
            assert!(said.contains(&what), "the start does not say: {what}\n{said}");
        }
    }
    assert!(grave >= 3);
    assert!(said.contains("WARNING: jwt_secret"), "{said}");
    assert!(said.contains("taskiq-flow security check"), "{said}");
}

#[tokio::test]
async fn explain_says_what_the_server_would_answer() {
    let cli = cli(GUIDE);
    let server = Server::builder(PROGRAM).config_toml(GUIDE).pipeline(PIPELINE).start().await;
    for (who, permission) in [("viewer", "read"), ("viewer", "execute")] {
        let arguments = [
            "security",
            "explain",
            "--key-id",
            who,
            "--permission",
            permission,
            "--pipeline",
            "build",
            "--json",
        ];
        let exit = cli.run(arguments).await;
        assert_eq!(exit.code, Some(0), "{}", exit.output());
        let mut offline: Value = serde_json::from_str(&exit.stdout).unwrap();
        let question = json!({"key_id": who, "permission": permission, "pipeline_id": "build"});
        let online = server.client().key("admin-key").post("/security/explain", &question).await;
        let mut online = online.expect(200).json();
        for answer in [&mut offline, &mut online] {
            answer.as_object_mut().unwrap().remove("pipeline_exists");
        }
        assert_eq!(offline, online);
        assert_eq!(offline["allowed"], permission == "read");
    }
    let exit = cli
        .run(["security", "explain", "--roles", "viewer", "--permission", "execute", "--pipeline", "build"])
        .await;
    assert!(exit.stdout.starts_with("denied by rule `acl`"), "{}", exit.output());
    assert!(exit.stdout.contains("add role `viewer` to pipeline_acls.build.execute"), "{}", exit.stdout);
    let certificates =
        "[client_certificates.\"CN=robot\"]\nid = \"robot-1\"\nrole = \"viewer\"\npermissions = [\"read\"]\n";
    let with_robot = self::cli(&format!("{GUIDE}\n{certificates}"));
    for name in ["robot-1", "CN=robot"] {
        let words =
            ["security", "explain", "--certificate", name, "--permission", "execute", "--pipeline", "build"];
        let exit = with_robot.run(words).await;
        assert!(
            exit.code == Some(0) && exit.stdout.starts_with("denied by rule `permission`"),
            "{}",
            exit.output()
        );
        assert!(exit.stdout.contains("certificate `robot-1`"), "{}", exit.stdout);
    }
    let exit = cli.run(["security", "explain", "--certificate", "robot-1", "--permission", "read"]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("client_certificates"), "{}", exit.output());
    let exit = cli.run(["security", "explain", "--permission", "read"]).await;
    assert_eq!(exit.code, Some(2));
    let exit = cli.run(["security", "explain", "--key-id", "nobody", "--permission", "read"]).await;
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("nobody"), "{}", exit.stderr);
}

fn ids(found: &Value) -> Vec<&str> {
    let findings = found["findings"].as_array().unwrap();
    let mut ids: Vec<_> = findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_server_as_it_is_made_has_no_finding_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::self_signed(directory.path(), &[]);
    let server = Server::builder(PROGRAM).config_toml(SAFE).tls(&pair).pipeline(PIPELINE).start().await;
    let url = format!("https://localhost:{}", server.port());
    let ca = pair.certificate.display().to_string();
    let exit = Cli::new(PROGRAM).run(["security", "check", "--url", &url, "--ca", &ca, "--json"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let found: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!((ids(&found), &found["score"]), (vec![], &json!(100)), "{found}");
    assert!(found["checks"].as_u64().unwrap() >= 15, "{found}");
    // Its certificate is not one that everybody trusts.
    let exit = Cli::new(PROGRAM).run(["security", "check", "--url", &url]).await;
    assert_eq!(exit.code, Some(1), "{}", exit.output());
    assert!(exit.stderr.contains(&url) && exit.stderr.contains("--ca"), "{}", exit.stderr);
    // A port of TLS answers probes in the clear, and refuses everything else: that says nothing about the server.
    let plain = format!("http://localhost:{}", server.port());
    let exit = Cli::new(PROGRAM).run(["security", "check", "--url", &plain]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("speaks TLS"), "{}", exit.output());
    assert!(exit.stdout.is_empty(), "{}", exit.stdout);
}

#[tokio::test]
async fn a_server_of_its_own_authority_explains_and_tells_a_pipeline_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::self_signed(directory.path(), &[]);
    let server = Server::builder(PROGRAM).config_toml(GUIDE).tls(&pair).pipeline(PIPELINE).start().await;
    let url = format!("https://localhost:{}", server.port());
    let ca = pair.certificate.display().to_string();
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", "admin-key");
    for (pipeline, missing) in [("build", false), ("biuld", true)] {
        let words = ["security", "explain", "--key-id", "viewer", "--permission", "read"];
        let exit =
            cli.run([&words[..], &["--pipeline", pipeline, "--url", &url, "--ca", &ca]].concat()).await;
        assert_eq!(exit.code, Some(0), "{}", exit.output());
        assert_eq!(exit.stdout.contains("there is no pipeline `biuld`"), missing, "{}", exit.stdout);
    }
}

#[tokio::test]
async fn what_is_open_is_found_from_outside() {
    let open = r#"
require_https = false
rate_limit_enabled = false
auth_failure_limit = ""
websocket_require_auth = false
"#;
    let server =
        Server::builder(PROGRAM).config_toml(&format!("{open}{SAFE}")).pipeline(PIPELINE).start().await;
    let url = server.url();
    let check = async |more: &[&str]| {
        let words = [&["security", "check", "--url", &url, "--json"], more].concat();
        let exit = Cli::new(PROGRAM).run(words).await;
        assert_eq!(exit.code, Some(1), "{}", exit.output());
        serde_json::from_str::<Value>(&exit.stdout).unwrap()
    };
    let found = check(&[]).await;
    assert_eq!(
        ids(&found),
        ["guessing-unlimited", "https-off", "limits-off", "sockets-anonymous"],
        "{found}"
    );
    assert_eq!((&found["high"], &found["findings"][0]["severity"]), (&json!(1), &json!("high")));
    let found = check(&["--no-guessing"]).await;
    assert_eq!(ids(&found), ["https-off", "limits-off", "sockets-anonymous"], "{found}");

    let off = Server::builder(PROGRAM).config_toml("security_enabled = false").start().await;
    let exit = Cli::new(PROGRAM).run(["security", "check", "--url", &off.url(), "--no-guessing"]).await;
    assert!(exit.code == Some(1) && exit.stdout.contains("(security-off)"), "{}", exit.output());
}

#[tokio::test]
async fn who_is_no_such_server_is_said() {
    let check = async |words: &[&str]| Cli::new(PROGRAM).run([&["security", "check"], words].concat()).await;
    let exit = check(&["--url", "http://127.0.0.1:1"]).await;
    assert!(
        exit.code == Some(1) && exit.stderr.contains("http://127.0.0.1:1/: GET /health"),
        "{}",
        exit.output()
    );
    let exit = check(&["--url", "flow.example.com"]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("--url"), "{}", exit.output());
    for words in [&["--no-guessing"][..], &["--ca", "x"], &["--url", "http://127.0.0.1:1", "--config", "x"]] {
        let exit = check(words).await;
        assert_eq!(exit.code, Some(2), "{words:?}: {}", exit.output());
    }
}
