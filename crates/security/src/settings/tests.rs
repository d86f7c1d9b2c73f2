use serde_json::{Value, json};

use super::*;

/// Reads one nested piece the way the configuration's crate does.
fn keys(value: Value) -> ApiKeyMap {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn guide_keys() -> ApiKeyMap {
    keys(json!({
        "admin-key": {"role": "admin", "pipelines": ["*"], "permissions": ["read", "execute", "admin"]},
        "viewer-key": {"role": "viewer", "pipelines": ["pipeline1", "pipeline2"], "permissions": ["read"]},
    }))
}

fn refused(change: impl FnOnce(&mut SecurityOptions)) -> SettingsError {
    let mut options = SecurityOptions::default();
    change(&mut options);
    options.build().unwrap_err()
}

fn warned(change: impl FnOnce(&mut SecurityOptions)) -> Vec<(Severity, String)> {
    let mut options = SecurityOptions {
        jwt_secret: Some("a secret of at least thirty-two bytes".into()),
        ..SecurityOptions::default()
    };
    change(&mut options);
    let settings = options.build().unwrap();
    settings.warnings().iter().map(|warning| (warning.severity, warning.field.clone())).collect()
}

#[test]
fn the_guides_block_is_accepted() {
    let options = SecurityOptions {
        api_keys: guide_keys(),
        jwt_secret: Some("your-jwt-secret".into()),
        pipeline_acls: serde_json::from_value(
            json!({"pipeline1": {"read": ["admin", "viewer"], "execute": ["admin"]}}),
        )
        .unwrap(),
        ..SecurityOptions::default()
    };
    let settings = options.build().unwrap();
    assert_eq!(settings.keys().len(), 2);
    assert!(settings.tokens().is_some() && settings.require_https());
    assert_eq!(settings.limit_of("execute_pipeline").to_string(), "10/minute");
    assert_eq!(settings.limit_of("no_such_endpoint").to_string(), "100/minute");
    assert_eq!(settings.warnings()[0].field, "jwt_secret");
    assert_eq!(settings.warnings()[0].severity, Severity::High);
}

#[test]
fn a_named_limit_replaces_its_entry_and_the_rest_of_the_table_stays() {
    let options = SecurityOptions {
        rate_limit_default: "30/minute".to_owned(),
        rate_limits: BTreeMap::from([("get_dag".to_owned(), "5 per second; 100/hour".to_owned())]),
        ..SecurityOptions::default()
    };
    let settings = options.build().unwrap();
    let parsed: Limit = "5 per second; 100/hour".parse().unwrap();
    assert_eq!(settings.limit_of("get_dag").to_string(), parsed.to_string());
    assert_eq!(settings.limit_of("list_pipelines").to_string(), "60/minute");
    assert_eq!(settings.limit_of("me").to_string(), "30/minute");
}

#[test]
fn what_cannot_be_is_refused_by_field() {
    let entry =
        |id: &str| ApiKeyEntry { role: Some("r".into()), id: Some(id.into()), ..ApiKeyEntry::default() };
    for (error, field, part) in [
        (refused(|o| o.rate_limit_default = "lots".into()), "rate_limit_default", "lots"),
        (refused(|o| _ = o.rate_limits.insert("me".into(), "1/era".into())), "rate_limits.me", ""),
        (refused(|o| o.auth_failure_limit = "x".into()), "auth_failure_limit", ""),
        (refused(|o| o.jwt_secret = Some("".into())), "jwt_secret", "empty"),
        (
            refused(|o| {
                o.jwt_secret = Some("short".into());
                o.require_strong_jwt_secret = true;
            }),
            "jwt_secret",
            "32",
        ),
        (refused(|o| o.auth_provider = AuthProvider::Jwt), "auth_provider", "jwt_secret"),
        (refused(|o| o.jwt_leeway_seconds = 601), "jwt_leeway_seconds", "600"),
        (refused(|o| o.jwt_audience = vec![String::new()]), "jwt_audience", "empty"),
        (
            refused(|o| {
                o.jwt_algorithms = Some(vec![JwtAlgorithm::HS256]);
                o.jwt_public_keys =
                    vec![PublicKeyEntry { kid: None, algorithm: JwtAlgorithm::RS256, pem: String::new() }];
            }),
            "jwt_public_keys[0]",
            "RS256",
        ),
        (
            refused(|o| {
                o.jwt_public_keys =
                    vec![PublicKeyEntry { kid: None, algorithm: JwtAlgorithm::ES256, pem: "x".into() }];
            }),
            "jwt_public_keys[0]",
            "BEGIN PUBLIC KEY",
        ),
        (refused(|o| _ = o.api_keys.insert("", entry("a"))), "api_keys", "empty"),
        (refused(|o| _ = o.api_keys.insert("with space", entry("a"))), "api_keys", "ASCII"),
        (refused(|o| _ = o.api_keys.insert("sha256:12", entry("a"))), "api_keys", "64 hex"),
        (refused(|o| _ = o.api_keys.insert("the-key", entry("the-key"))), "api_keys", "itself"),
        (refused(|o| _ = o.api_keys.insert("k", entry(""))), "api_keys.", "id"),
        (refused(|o| _ = o.api_keys.insert("k", entry("a\nb"))), "api_keys.a\\nb", "control"),
        (
            refused(|o| _ = o.api_keys.insert("k", ApiKeyEntry { role: None, ..entry("a") })),
            "api_keys.a",
            "role",
        ),
        (
            refused(|o| {
                _ = o.api_keys.insert("k", ApiKeyEntry { pipelines: Some(vec!["".into()]), ..entry("a") })
            }),
            "api_keys.a.pipelines",
            "empty",
        ),
        (
            refused(|o| {
                o.api_keys.insert("k", entry("a"));
                o.api_keys.insert("l", entry("a"));
            }),
            "api_keys",
            "`a`",
        ),
        (
            refused(|o| _ = o.pipeline_acls.insert("audio_*".into(), Acl::default())),
            "pipeline_acls.audio_*",
            "`*`",
        ),
        (refused(|o| _ = o.pipeline_acls.insert("".into(), Acl::default())), "pipeline_acls", "id"),
        (refused(|o| o.allowed_origins = vec!["*".into()]), "allowed_origins[0]", "https://"),
    ] {
        assert_eq!(error.field(), field, "{error}");
        assert!(error.message().contains(part), "{error}");
        assert!(
            !error.to_string().contains("with space") && !error.to_string().contains("the-key"),
            "{error}"
        );
    }
}

#[test]
fn nested_pieces_refuse_what_they_do_not_know() {
    for text in [
        r#"{"k": {"role": "r", "pipeline": ["a"]}}"#,
        r#"{"k": {"role": "r", "permissions": ["write"]}}"#,
        r#"{"k": {"role": "r", "permissions": "read"}}"#,
        r#"{"k": {"role": "r", "expires_at": "tomorrow"}}"#,
        r#"{"k": {"role": "r", "expires_at": "2030-01-01"}}"#,
        r#"{"k": {"role": "r"}, "k": {"role": "s"}}"#,
        r#"{"k": "r"}"#,
        "[]",
    ] {
        assert!(serde_json::from_str::<ApiKeyMap>(text).is_err(), "{text}");
    }
    for text in [
        r#"{"algorithm": "RS256"}"#,
        r#"{"algorithm": "rs256", "pem": "x"}"#,
        r#"{"algorithm": "none", "pem": "x"}"#,
        r#"{"algorithm": "RS256", "pem": "x", "key": "y"}"#,
    ] {
        assert!(serde_json::from_str::<PublicKeyEntry>(text).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<Acl>(r#"{"write": ["r"]}"#).is_err());
    assert!(serde_json::from_str::<AuthProvider>(r#""oauth""#).is_err());
    assert!(serde_json::from_str::<OneOrMany>("1").is_err());
    assert_eq!(serde_json::from_str::<OneOrMany>(r#""a""#).unwrap().0, ["a"]);
    assert_eq!(serde_json::from_str::<OneOrMany>(r#"["a", "b"]"#).unwrap().0, ["a", "b"]);
}

#[test]
fn the_older_name_of_pipelines_and_several_roles_are_understood() {
    let settings = SecurityOptions {
        api_keys: keys(json!({
            "k": {"roles": ["a", "b"], "pipeline_whitelist": ["x"], "permissions": ["read"], "id": "k1",
                  "expires_at": "2030-01-01T02:00:00+02:00"},
        })),
        ..SecurityOptions::default()
    }
    .build()
    .unwrap();
    let record = settings.keys().records().next().unwrap();
    assert_eq!(record.roles, ["a", "b"]);
    assert_eq!(record.whitelist.to_list(), ["x"]);
    assert_eq!(record.expires_at.unwrap().to_string(), "2030-01-01T00:00:00Z");
}

#[test]
fn what_should_not_be_left_so_is_warned_of() {
    assert_eq!(warned(|_| ()), []);
    for (found, expected) in [
        (warned(|o| o.security_enabled = false), (Severity::High, "security_enabled")),
        (warned(|o| o.jwt_secret = Some("your-jwt-secret".into())), (Severity::High, "jwt_secret")),
        (
            warned(|o| o.trusted_proxies = vec!["0.0.0.0/0".parse().unwrap()]),
            (Severity::High, "trusted_proxies"),
        ),
        (warned(|o| o.require_https = false), (Severity::Medium, "require_https")),
        (warned(|o| o.rate_limit_enabled = false), (Severity::Medium, "rate_limit_enabled")),
        (warned(|o| o.auth_failure_limit = " ".into()), (Severity::Medium, "auth_failure_limit")),
        (warned(|o| o.websocket_require_auth = false), (Severity::Medium, "websocket_require_auth")),
        (warned(|o| o.jwt_secret = None), (Severity::Medium, "api_keys")),
        (
            warned(|o| _ = o.rate_limits.insert("get_dags".into(), "1/second".into())),
            (Severity::Low, "rate_limits.get_dags"),
        ),
    ] {
        assert_eq!(found, [(expected.0, expected.1.to_owned())]);
    }
    let guessable = warned(|o| o.api_keys = guide_keys());
    assert_eq!(guessable.len(), 2);
    assert!(
        guessable
            .iter()
            .all(|(severity, field)| *severity == Severity::Medium && field.starts_with("api_keys.key-"))
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let options = SecurityOptions {
        api_keys: guide_keys(),
        jwt_secret: Some("your-jwt-secret".into()),
        ..SecurityOptions::default()
    };
    let shown = format!("{options:?}");
    let settings = options.build().unwrap();
    let shown = format!("{shown}{settings:?}{}{:?}", settings.redacted(), settings.warnings());
    let digest = crate::api_key::KeyDigest::of("admin-key").to_config();
    for secret in ["admin-key", "viewer-key", "your-jwt-secret", &digest] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[test]
fn the_redacted_view_has_every_field() {
    let settings = SecurityOptions {
        api_keys: guide_keys(),
        jwt_secret: Some("s".into()),
        ..SecurityOptions::default()
    }
    .build()
    .unwrap();
    let view = settings.redacted();
    assert_eq!(view["jwt_secret"], "[redacted]");
    assert_eq!(view["jwt_algorithms"], json!(["HS256"]));
    assert_eq!(view["trusted_proxies"], json!(["127.0.0.0/8", "::1/128"]));
    assert_eq!(view["auth_provider"], "api_key");
    assert_eq!(view["api_keys"].as_array().unwrap().len(), 2);
    assert_eq!(view["rate_limits"]["websocket_connect"], "5/minute");
    // As many as the options have.
    let fields = format!("{:#?}", SecurityOptions::default())
        .lines()
        .filter(|line| line.starts_with("    ") && !line.starts_with("     ") && line.contains(": "))
        .count();
    assert_eq!(view.as_object().unwrap().len(), fields);
}
