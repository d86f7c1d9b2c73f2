//! No secret gets out, wherever a mistake is made.

use super::super::{ApiKey, JwtAlgorithm, PublicKeyEntry, Sources, TaskiqFlowConfig};
use super::{load, load_env};

/// Part of every secret in these tests.
const CANARY: &str = "C4n4ry";

const TOML: &str = r#"jwt_secret = "C4n4ry-secret-of-more-than-thirty-two-bytes"
store_url = "sqlite:x.db"
jwt_public_keys = []
port = 8000
[api_keys.C4n4ry-key]
role = "viewer"
pipelines = ["a"]
permissions = ["read"]
[api_keys."sha256:C4n4ry"]
role = "admin"
[rate_limits]
get_dag = "5/minute"
"#;

const YAML: &str = r#"jwt_secret: "C4n4ry-secret-of-more-than-thirty-two-bytes"
port: 8000
api_keys:
  C4n4ry-key: { role: viewer, permissions: [read] }
  "C4n4ry: other":
    role: admin
jwt_issuer: [a, b]
rate_limit_storage: |
  redis://user:C4n4ry@redis:6379
webhooks:
  - { name: ops, url: "https://a.example/C4n4ry", secret: C4n4ry-of-some-length, events: ["*"], pipelines: [],
      headers: { X-Token: C4n4ry }, timeout: 5s }
"#;

const JSON: &str = r#"{"jwt_secret": "C4n4ry-secret", "port": 8000, "api_keys": {"C4n4ry-key": {"role": "viewer",
"permissions": ["read"]}}, "rate_limit_storage": "redis://:C4n4ry@redis", "audit_log": ["stdout"]}"#;

/// Breaks a text in every way one edit can, and shows every message.
#[test]
fn whatever_is_mistyped_in_a_file_no_message_shows_a_secret() {
    let junk = ["", "\"", "x = ", "[", "}", ": ", "true", "7", "'", "\t", "# ", "&a ", "*a", "\u{0}"];
    let mut refused = 0;
    for (name, text) in [("c.toml", TOML), ("c.yaml", YAML), ("c.json", JSON)] {
        let ends = text.char_indices().map(|(at, _)| at).filter(|at| at % 11 == 0);
        for at in ends {
            for junk in junk {
                let broken = match junk {
                    "" => text[..at].to_owned() + &text[(at + 1).min(text.len())..],
                    junk => format!("{}{junk}{}", &text[..at], &text[at..]),
                };
                // A canary that was cut in two cannot be looked for.
                if broken.matches(CANARY).count() != text.matches(CANARY).count() {
                    continue;
                }
                if let Err(error) = load(name, &broken, &[]) {
                    refused += 1;
                    let json = serde_json::to_string(error.diagnostic()).unwrap();
                    for shown in [error.to_string(), error.render(true), format!("{error:?}"), json] {
                        assert!(!shown.contains(CANARY), "{shown}\n--- of\n{broken}");
                    }
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn whatever_is_wrong_in_a_variable_no_message_shows_a_secret() {
    for (name, value) in [
        ("API_KEYS", r#"{"C4n4ry": 5}"#),
        (
            "WEBHOOKS",
            r#"[{"name": "a", "url": "C4n4ry", "secret": "C4n4ry-of-some-length", "events": ["*"], "pipelines": []}]"#,
        ),
        (
            "WEBHOOKS",
            r#"[{"name": "a", "url": "http://C4n4ry.example", "secret": "C4n4ry-of-some-length", "events": ["*"], "pipelines": []}]"#,
        ),
        (
            "WEBHOOKS",
            r#"[{"name": "a", "url": "https://a.example/C4n4ry", "secret": "C4n4ry", "events": ["*"], "pipelines": []}]"#,
        ),
        (
            "WEBHOOKS",
            r#"[{"name": "a", "url": "https://a.example/C4n4ry", "secret": "C4n4ry-of-some-length", "events": [], "pipelines": []}]"#,
        ),
        (
            "WEBHOOKS",
            r#"[{"name": "a", "url": "https://a.example/", "secret": 5, "events": ["*"], "pipelines": [], "headers": {"X": "C4n4ry\n"}}]"#,
        ),
        ("WEBHOOKS", "C4n4ry"),
        ("API_KEYS", r#"{"C4n4ry": {"role": 5}}"#),
        ("API_KEYS", r#"{"C4n4ry": {"C4n": 5}}"#),
        ("API_KEYS", r#"{"C4n4ry with spaces": {"role": "a"}}"#),
        ("API_KEYS", r#"{"sha256:C4n4ry": {"role": "a"}}"#),
        ("API_KEYS", r#"{"C4n4ry": {}}"#),
        ("API_KEYS", r#"{"C4n4ry": {"role": "a", "id": "C4n4ry"}}"#),
        ("API_KEYS", r#"{"C4n4ry": {"role": "a"}, "C4n4ry": {"role": "b"}}"#),
        ("API_KEYS", r#"{"C4n4ry": {"role": "a", "expires_at": "soon"}}"#),
        ("API_KEYS", r#"{"C4n4ry": {"role": "a"} "#),
        ("API_KEYS", "C4n4ry"),
        ("API_KEYS", r#"["C4n4ry"]"#),
        ("JWT_PUBLIC_KEYS", r#"[{"pem": "C4n4ry", "algorithm": "RS256"}]"#),
        ("JWT_PUBLIC_KEYS", r#"[{"pem": "-----BEGIN PRIVATE KEY-----C4n4ry", "algorithm": "RS256"}]"#),
        ("JWT_PUBLIC_KEYS", r#"[{"pem": ["C4n4ry"], "algorithm": "RS256"}]"#),
        ("JWT_SECRET", "-----BEGIN PRIVATE KEY-----C4n4ry"),
        ("STORE_URL", "postgres://u:C4n4ry@h"),
        ("STORE_URL", "C4n4ry"),
        ("BROKER_URL", "amqp://u:C4n4ry@h"),
        ("RATE_LIMIT_STORAGE", "redissss://u:C4n4ry@h"),
        ("JWKS_URL", "https://u:C4n4ry@h"),
    ] {
        let error = load_env(&[(&format!("TASKIQ_FLOW_{name}"), value)]).unwrap_err();
        let json = serde_json::to_string(error.diagnostic()).unwrap();
        for shown in [error.to_string(), format!("{error:?}"), json] {
            assert!(!shown.contains(CANARY), "{name}={value}: {shown}");
        }
    }
}

#[test]
fn what_a_mounted_file_holds_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mounted");
    std::fs::write(&path, CANARY).unwrap();
    let value = format!("file:{}", path.display());
    for field in ["PORT", "REQUIRE_HTTPS", "AUTH_PROVIDER", "API_KEYS", "TRUSTED_PROXIES", "AUDIT_MODE"] {
        let error = load_env(&[(&format!("TASKIQ_FLOW_{field}"), &value)]).unwrap_err().to_string();
        assert!(!error.contains(CANARY), "{error}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let config = TaskiqFlowConfig::builder()
        .api_keys([("C4n4ry-key", ApiKey::new("viewer").id("ops"))])
        .jwt_secret("C4n4ry-secret")
        .rate_limit_storage("redis://user:C4n4ry@redis/0?password=C4n4ry")
        .store_url("postgres://C4n4ry:x@db")
        .jwt_public_keys([PublicKeyEntry { kid: None, algorithm: JwtAlgorithm::RS256, pem: CANARY.into() }])
        .build();
    let shown = format!("{config:?} {config:#?} {:?} {:?}", config.api_keys, config.store_url);
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(shown.contains("ops") && shown.contains("redis/0"), "{shown}");
    assert!(!serde_json::to_string(&config.redacted()).unwrap().contains(CANARY));
    let builder = TaskiqFlowConfig::builder()
        .api_keys([("C4n4ry-key", ApiKey::new("viewer"))])
        .jwt_secret("C4n4ry-secret")
        .store_url("postgres://C4n4ry:x@db");
    assert!(!format!("{builder:?}").contains(CANARY));
    let sources =
        Sources::default().env([("TASKIQ_FLOW_JWT_SECRET", CANARY)]).set("jwt_secret", CANARY, "--secret");
    assert!(!format!("{sources:?}").contains(CANARY));
    assert!(!format!("{:?}", sources.load().unwrap()).contains(CANARY));
}
