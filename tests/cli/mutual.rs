//! Commands against a server that lets nobody in without a client certificate.

use serde_json::Value;
use taskiq_flow_testkit::{Authority, Cli, Exit, Pair, Server, ServerBuilder};
use tempfile::TempDir;

use crate::PROGRAM;

const ADMIN: &str = "admin-key-of-this-test-alone";

const CONFIG: &str = r#"
rate_limit_enabled = false
auth_failure_limit = ""

[client_certificates."CN=boss"]
id = "boss"
role = "admin"
permissions = ["read", "execute", "admin"]

[api_keys.admin-key-of-this-test-alone]
id = "root"
role = "admin"
pipelines = ["*"]
permissions = ["read", "execute", "admin"]
"#;

/// A server with `tls_client_auth = "required"`, and certificates that its authority signed.
struct Mutual {
    server: Server,
    cli: Cli,
    pair: Pair,
    authority: Authority,
    _directory: TempDir,
}

impl Mutual {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (pair, authority) = (Pair::self_signed(directory.path(), &[]), Authority::new());
        let probe = authority.issue("probe", "/CN=probe", "");
        let server = builder().tls(&pair).client_ca(authority.certificate(), Some(&probe)).start().await;
        Self { server, cli: Cli::new(PROGRAM), pair, authority, _directory: directory }
    }

    fn issue(&self, name: &str) -> Pair {
        self.authority.issue(name, &format!("/CN={name}"), "")
    }

    async fn run(&self, arguments: &[&str]) -> Exit {
        let url = format!("https://localhost:{}", self.server.port());
        self.cli.run([arguments, &["--url", &url, "--ca", &text(&self.pair.certificate)]].concat()).await
    }

    /// As one who shows this certificate.
    async fn run_as(&self, identity: &Pair, arguments: &[&str]) -> Exit {
        let [certificate, key] = [&identity.certificate, &identity.key].map(|path| text(path));
        self.run(&[arguments, &["--client-cert", &certificate, "--client-key", &key]].concat()).await
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.cli = self.cli.env(name, value);
        self
    }
}

fn builder() -> ServerBuilder {
    Server::builder(PROGRAM)
        .config_toml(CONFIG)
        .pipeline("id: etl\ntasks:\n  - { name: a, expression: \"1\", output: one }\n")
}

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Each command that speaks to a server, once.
const COMMANDS: [&[&str]; 6] = [
    &["key", "list"],
    &["acl", "list"],
    &["token", "revoke", "--sub", "ada"],
    &["token", "revocations"],
    &["security", "explain", "--key-id", "root", "--permission", "read"],
    &["key", "create", "--id", "ci"],
];

#[tokio::test]
async fn a_server_that_requires_a_certificate_is_administered_with_one() {
    let mutual = Mutual::start().await.with("TASKIQ_FLOW_API_KEY", ADMIN);
    let stranger = mutual.issue("stranger");
    for command in COMMANDS {
        let exit = mutual.run(command).await;
        assert_eq!(exit.code, Some(1), "{command:?}: {}", exit.output());
        assert!(exit.stderr.contains("no answer"), "{command:?}: {}", exit.output());
        let exit = mutual.run_as(&stranger, command).await;
        assert_eq!(exit.code, Some(0), "{command:?}: {}", exit.output());
    }
    let listed = mutual.run_as(&stranger, &["key", "list"]).await.stdout;
    assert!(listed.lines().any(|line| line.starts_with("ci ")), "{listed}");

    // One that the server's authority did not sign opens nothing.
    let elsewhere = Authority::new();
    let foreign = elsewhere.issue("stranger", "/CN=stranger", "");
    let exit = mutual.run_as(&foreign, &["key", "list"]).await;
    assert!(exit.code == Some(1) && exit.stderr.contains("no answer"), "{}", exit.output());
}

#[tokio::test]
async fn variables_name_it_too_and_options_win() {
    let mutual = Mutual::start().await;
    let (boss, stranger) = (mutual.issue("boss"), mutual.issue("stranger"));
    let mutual = mutual
        .with("TASKIQ_FLOW_CLIENT_CERT", text(&boss.certificate))
        .with("TASKIQ_FLOW_CLIENT_KEY", text(&boss.key));
    // No key: the certificate is the credential.
    let exit = mutual.run(&["key", "list"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    let exit = mutual.run_as(&stranger, &["key", "list"]).await;
    assert!(exit.code == Some(1) && exit.stderr.contains("401"), "{}", exit.output());
    // Where no server is asked they are left alone.
    let exit = mutual.cli.run(["security", "explain", "--anonymous", "--permission", "read"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());

    let half = Cli::new(PROGRAM).env("TASKIQ_FLOW_CLIENT_CERT", text(&boss.certificate));
    let exit = half.run(["key", "list", "--url", "https://localhost:1"]).await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    let said = "TASKIQ_FLOW_CLIENT_CERT is set and TASKIQ_FLOW_CLIENT_KEY is not";
    assert!(exit.stderr.contains(said), "{}", exit.output());
}

#[tokio::test]
async fn what_cannot_be_shown_is_said_before_anything_is_sent() {
    let authority = Authority::new();
    let [one, two] = ["one", "two"].map(|name| authority.issue(name, "/CN=robot", ""));
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", ADMIN);
    let garbage = text(&cli.file("garbage.pem", "no certificate"));
    let [certificate, key, other] = [&one.certificate, &one.key, &two.key].map(|path| text(path));
    let url = "https://localhost:1";
    for (certificate, key, url, said) in [
        (&*certificate, &*other, url, &["--client-key", "two.key", "is not the key of", "one.crt"][..]),
        ("gone.crt", &key, url, &["--client-cert", "gone.crt", "cannot be read"]),
        (&certificate, "gone.key", url, &["--client-key", "gone.key", "cannot be read"]),
        (&garbage, &key, url, &["--client-cert", "garbage.pem", "has no certificate"]),
        (&certificate, &garbage, url, &["--client-key", "garbage.pem", "has no private key"]),
        (&key, &certificate, url, &["--client-cert", "exchanged"]),
        (&certificate, &key, "http://127.0.0.1:1", &["--client-cert", "plain HTTP", "https://"]),
    ] {
        let options = ["key", "list", "--url", url, "--client-cert", certificate, "--client-key", key];
        let exit = cli.run(options).await;
        assert_eq!(exit.code, Some(2), "{said:?}: {}", exit.output());
        for part in said {
            assert!(exit.stderr.contains(part), "{part}: {}", exit.output());
        }
        assert!(!exit.output().contains(ADMIN), "{}", exit.output());
    }
    let exit = cli.run(["key", "list", "--client-cert", &certificate]).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("--client-key"), "{}", exit.output());
    for option in [["--ca", &garbage].to_vec(), vec!["--client-cert", &certificate, "--client-key", &key]] {
        let exit = cli.run([&["security", "check"], &option[..]].concat()).await;
        assert!(exit.code == Some(2) && exit.stderr.contains("--url"), "{}", exit.output());
        assert!(exit.stderr.contains(option[0]), "{}", exit.output());
    }
}

#[tokio::test]
async fn such_a_server_is_looked_at_and_tested_by_a_certificate_that_nobody_names() {
    let mut mutual = Mutual::start().await.with("TASKIQ_FLOW_API_KEY", ADMIN);
    mutual.cli = mutual.cli.limit(std::time::Duration::from_secs(170));
    let (boss, stranger) = (mutual.issue("boss"), mutual.issue("stranger"));
    // No limits are on.
    let commands: [(&[&str], &[&str]); 2] = [
        (&["security", "check", "--json", "--no-guessing"], &["limits-off"]),
        (&["selftest", "authz", "--json"], &[]),
    ];
    for (command, found) in commands {
        let exit = mutual.run_as(&boss, command).await;
        assert_eq!(exit.code, Some(2), "{}", exit.output());
        assert!(exit.stderr.contains("--client-cert") && exit.stderr.contains("`boss`"), "{}", exit.output());
        let exit = mutual.run_as(&stranger, command).await;
        assert_eq!(exit.code, Some(0), "{}", exit.output());
        let answer: Value = serde_json::from_str(&exit.stdout).unwrap();
        let findings: Vec<_> = answer["findings"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert_eq!(findings, found, "{answer}");
    }
}
