use std::path::PathBuf;

use super::super::{DEFAULT_FILE, Durability, Origin, Sources, TaskiqFlowConfig, fields};
use super::{load, load_env};

#[test]
fn the_later_source_wins_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "host = 'file'\nport = 1\nmax_body_bytes = 11\n").unwrap();
    for (file, env, flag, expected) in [
        (false, None, None, 8000),
        (true, None, None, 1),
        (true, Some("2"), None, 2),
        (false, Some("2"), None, 2),
        (true, Some("2"), Some("3"), 3),
        (false, None, Some("3"), 3),
    ] {
        let mut sources = Sources::default();
        if file {
            sources = sources.file(&path);
        }
        if let Some(port) = env {
            sources = sources.env([("TASKIQ_FLOW_PORT", port), ("PATH", "/bin")]);
        }
        if let Some(port) = flag {
            sources = sources.set("port", port, "--port");
        }
        let loaded = sources.load().unwrap();
        assert_eq!(loaded.config.port, expected);
        let origin = match (flag, env, file) {
            (Some(_), _, _) => Origin::Flag("--port".into()),
            (_, Some(_), _) => Origin::Environment("TASKIQ_FLOW_PORT".into()),
            (_, _, true) => Origin::File(path.clone()),
            _ => Origin::Default,
        };
        assert_eq!(loaded.origins["port"], origin);
        assert_eq!(loaded.origins["durability"], Origin::Default);
        assert_eq!(loaded.config.host, if file { "file" } else { "127.0.0.1" });
        assert_eq!(loaded.config.max_body_bytes, if file { 11 } else { 1 << 20 });
    }
}

#[test]
fn the_default_file_is_read_only_where_it_is_and_no_other_is_named() {
    assert_eq!(DEFAULT_FILE, "taskiq-flow.toml");
    let folder = tempfile::tempdir().unwrap();
    let (default, other) = (folder.path().join("default.toml"), folder.path().join("other.toml"));
    let sources = Sources::default().default_file(&default);
    assert_eq!(sources.load().unwrap().file, None);
    std::fs::write(&default, "port = 1").unwrap();
    std::fs::write(&other, "host = 'h'").unwrap();
    let loaded = sources.load().unwrap();
    assert_eq!((loaded.config.port, loaded.file), (1, Some(default)));
    let loaded = sources.clone().file(&other).load().unwrap();
    assert_eq!((loaded.config.port, loaded.file), (8000, Some(other)));
    assert!(sources.file("/nowhere/c.toml").load().is_err(), "a file that is named must be there");
}

#[test]
fn every_field_has_an_environment_variable_that_acts() {
    let samples = |kind: &str, name: &str| {
        match (name, kind) {
        ("store_url", _) => "sqlite:x.db".to_owned(),
        ("rate_limit_storage", _) => "memory".to_owned(),
        ("broker_url", _) => "memory:".to_owned(),
        ("rate_limit_default" | "auth_failure_limit" | "audit_flood_limit", _) => "7/hour".to_owned(),
        ("rate_limits", _) => r#"{"get_dag": "7/hour"}"#.to_owned(),
        ("pipeline_quotas", _) => r#"{"p": {"concurrent_runs": 1}}"#.to_owned(),
        ("webhooks", _) => r#"[{"name": "ops", "url": "https://a.example/x", "secret": "0123456789abcdef", "events": ["*"], "pipelines": []}]"#.to_owned(),
        ("resources", _) => r#"{"gpu": 1}"#.to_owned(),
        ("metrics_path", _) => "/m".to_owned(),
        ("log_level", _) => "debug".to_owned(),
        ("allowed_origins", _) => r#"["https://a.example"]"#.to_owned(),
        ("role_permissions", _) => r#"{"ops": ["read"]}"#.to_owned(),
        ("pipeline_acls", _) => r#"{"p": {"read": ["ops"]}}"#.to_owned(),
        ("api_keys", _) => r#"{"k": {"role": "ops"}}"#.to_owned(),
        ("client_certificates", _) => r#"{"CN=robot": {"role": "ops"}}"#.to_owned(),
        ("jwt_algorithms", _) => r#"["HS256"]"#.to_owned(),
        ("jwt_public_keys" | "jwt_issuers", _) => "[]".to_owned(),
        ("jwks_url", _) => "https://idp.example.com/keys".to_owned(),
        ("jwks_max_age_seconds", _) => "3600".to_owned(),
        ("trusted_proxies", _) => r#"["10.0.0.0/8"]"#.to_owned(),
        ("auth_provider", _) => "api_key".to_owned(),
        (_, "true or false") => "true".to_owned(),
        (_, "number") => "7".to_owned(),
        (_, kind) if kind.contains('"') => kind.rsplit('"').nth(1).unwrap().to_owned(),
        _ => "some-text".to_owned(),
    }
    };
    for field in fields() {
        let value = samples(&field.kind, field.name);
        let result = load_env(&[(&field.env, &value)]);
        if ["tls_cert", "tls_key", "tls_client_ca", "tls_client_auth"].contains(&field.name) {
            assert!(result.unwrap_err().to_string().contains("is set without"), "{}", field.name);
            continue;
        }
        // These make sense only together.
        if ["audit_signing_key", "audit_previous_signing_key", "audit_checkpoints"].contains(&field.name) {
            assert_eq!(result.unwrap_err().field(), Some(field.name));
            continue;
        }
        let loaded = result.unwrap_or_else(|error| panic!("{}: {error}", field.env));
        assert_eq!(loaded.origins[field.name], Origin::Environment(field.env.clone()));
        assert!(loaded.warnings.is_empty());
        let (shown, default) = (&loaded.config.redacted()[field.name], &field.default);
        let same_as_default =
            ["auth_provider", "rate_limit_storage", "broker_url", "jwt_public_keys", "jwt_issuers"]
                .contains(&field.name)
                || default == &serde_json::Value::Bool(true);
        assert_eq!(shown == default, same_as_default, "{}: {shown}", field.name);
    }
}

#[test]
fn the_nine_variables_of_the_guide() {
    let loaded = load_env(&[
        ("TASKIQ_FLOW_SECURITY_ENABLED", "true"),
        ("TASKIQ_FLOW_AUTH_PROVIDER", "api_key"),
        (
            "TASKIQ_FLOW_API_KEYS",
            r#"{"admin-key":{"role":"admin","pipelines":["*"],"permissions":["read","execute","admin"]}}"#,
        ),
        ("TASKIQ_FLOW_JWT_SECRET", "your-jwt-secret"),
        ("TASKIQ_FLOW_REQUIRE_HTTPS", "0"),
        ("TASKIQ_FLOW_PIPELINE_ACLS", r#"{"p":{"read":["admin","viewer"],"execute":["admin"]}}"#),
        ("TASKIQ_FLOW_RATE_LIMIT_ENABLED", "false"),
        ("TASKIQ_FLOW_RATE_LIMIT_DEFAULT", "30/minute"),
        ("TASKIQ_FLOW_WEBSOCKET_REQUIRE_AUTH", "1"),
    ])
    .unwrap();
    let config = &loaded.config;
    assert!(config.security_enabled && config.websocket_require_auth);
    assert!(!config.require_https && !config.rate_limit_enabled);
    assert_eq!(config.rate_limit_default, "30/minute");
    let settings = loaded.security_settings().unwrap();
    assert_eq!(
        settings.keys().find("admin-key", [127, 0, 0, 1].into(), jiff::Timestamp::now()).unwrap().roles(),
        ["admin"]
    );
    assert!(settings.tokens().is_some());
    assert_eq!(config.pipeline_acls["p"].lists().count(), 2);
}

#[test]
fn the_three_formats_say_the_same() {
    let toml = r#"
        port = 8001
        require_https = false
        audit_log = "stdout"
        durability = "relaxed"
        trusted_proxies = ["10.0.0.0/8", "192.0.2.1"]
        [api_keys.viewer-key]
        role = "viewer"
        pipelines = ["a"]
        permissions = ["read"]
        expires_at = 2030-01-01T00:00:00Z
        [rate_limits]
        get_dag = "7/hour"
    "#;
    let yaml = "port: 8001\nrequire_https: false\naudit_log: stdout\ndurability: relaxed\n\
                trusted_proxies: [10.0.0.0/8, 192.0.2.1]\napi_keys:\n  viewer-key:\n    role: viewer\n    \
                pipelines: [a]\n    permissions: [read]\n    expires_at: 2030-01-01T00:00:00Z\n\
                rate_limits: { get_dag: 7/hour }\n";
    let json = r#"{"port": 8001, "require_https": false, "audit_log": ["stdout"], "durability": "relaxed",
        "trusted_proxies": ["10.0.0.0/8", "192.0.2.1"], "api_keys": {"viewer-key": {"role": "viewer",
        "pipelines": ["a"], "permissions": ["read"], "expires_at": "2030-01-01T00:00:00Z"}},
        "rate_limits": {"get_dag": "7/hour"}}"#;
    let [first, second, third] = [("c.toml", toml), ("c.yml", yaml), ("c.json", json)]
        .map(|(name, text)| load(name, text, &[]).unwrap_or_else(|error| panic!("{error}")).config);
    assert_eq!(first.redacted(), second.redacted());
    assert_eq!(first.redacted(), third.redacted());
    assert_eq!(first.durability, Durability::Relaxed);
    assert_eq!(first.trusted_proxies[1].to_string(), "192.0.2.1/32");
    assert_eq!(first.api_keys.entries().next().unwrap().expires_at.unwrap().as_second(), 1_893_456_000);
    assert_eq!(load("empty.yaml", "", &[]).unwrap().config.port, 8000);
}

#[test]
fn redis_url_is_where_limits_are_counted_and_what_redis_alone_means() {
    let redis = ("REDIS_URL", "redis://redis:6379");
    let storage = |file: &str, env: &[(&str, &str)]| {
        let loaded = load("c.toml", file, env).map_err(|error| error.to_string())?;
        let origin = loaded.origins["rate_limit_storage"].clone();
        Ok::<_, String>((loaded.config.rate_limit_storage.expose().to_owned(), origin))
    };
    let from_redis = Ok(("redis://redis:6379".to_owned(), Origin::Environment("REDIS_URL".into())));
    if cfg!(feature = "redis") {
        assert_eq!(storage("", &[redis]), from_redis);
        assert_eq!(storage("rate_limit_storage = 'redis'", &[redis]), from_redis);
    } else {
        assert!(storage("", &[redis]).unwrap_err().contains("build with the feature `redis`"));
    }
    assert_eq!(storage("", &[("REDIS_URL", "")]).unwrap(), ("memory".into(), Origin::Default));
    assert_eq!(storage("rate_limit_storage = 'memory'", &[redis]).unwrap().0, "memory");
    let named = storage("rate_limit_storage = 'redis'", &[]).unwrap_err();
    assert!(named.contains("`REDIS_URL`, and that is not set"), "{named}");
    let broker = load("c.toml", "broker_url = 'redis'\nrate_limit_storage = 'memory'", &[redis]).unwrap_err();
    assert_eq!(broker.field(), Some("broker_url"));
    assert!(broker.message().contains("names Redis, but this version"), "{broker}");
    assert!(load_env(&[("TASKIQ_FLOW_BROKER_URL", "redis")]).unwrap_err().message().contains("not set"));
}

#[test]
fn a_variable_that_is_no_field_is_a_warning() {
    let loaded = load_env(&[
        ("TASKIQ_FLOW_RATE_LIMIT_DEFUALT", "1/minute"),
        ("TASKIQ_FLOW_API_KEY", "the command line's own"),
        ("TASKIQ_FLOW_CLIENT_CERT", "the command line's own"),
        ("TASKIQ_FLOW_CLIENT_KEY", "the command line's own"),
        ("TASKIQ_FLOW_XYZZY_PLUGH", "x"),
        ("taskiq_flow_port", "1"),
        ("TASKIQ_PORT", "1"),
    ])
    .unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        warnings,
        [
            "the environment variable TASKIQ_FLOW_RATE_LIMIT_DEFUALT is not known and has no effect; \
             did you mean TASKIQ_FLOW_RATE_LIMIT_DEFAULT?",
            "the environment variable TASKIQ_FLOW_XYZZY_PLUGH is not known and has no effect",
        ]
    );
}

#[test]
fn a_mistake_that_another_source_hides_is_a_mistake_all_the_same() {
    let error = load("c.toml", "port = 'x'", &[("TASKIQ_FLOW_PORT", "1")]).unwrap_err();
    assert!(matches!(error.origin(), Origin::File(_)));
    // A secret mount that only production has must not keep a developer from overriding it.
    let text = "jwt_secret = 'file:/nowhere/secret'";
    assert!(load("c.toml", text, &[("TASKIQ_FLOW_JWT_SECRET", "s")]).is_ok());
    assert!(load("c.toml", text, &[]).is_err());
}

#[test]
fn from_file_reads_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("c.json");
    std::fs::write(&path, r#"{"port": 8001}"#).unwrap();
    assert_eq!(TaskiqFlowConfig::from_file(&path).unwrap().port, 8001);
    assert_eq!(TaskiqFlowConfig::default().redacted(), TaskiqFlowConfig::builder().build().redacted());
}
