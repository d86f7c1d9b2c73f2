use taskiq_flow_security::audit::ExportFormat;

use super::super::{
    ApiKey, AuditTarget, JwtAlgorithm, Permission, PipelineAcl, PublicKeyEntry, RateLimitStorage,
    SecretString, Sources, StoreTarget, TaskiqFlowConfig, fields,
};
use super::{load, load_env};

#[test]
fn the_defaults_are_those_of_the_contract() {
    let defaults: serde_json::Value = serde_json::from_str(
        r#"{
        "host": "127.0.0.1", "port": 8000, "security_enabled": true, "auth_provider": "api_key", "api_keys": {}, "client_certificates": {},
        "jwt_secret": null, "require_strong_jwt_secret": false, "jwt_public_keys": [], "jwks_url": null,
        "jwt_issuer": null, "jwt_audience": null, "jwt_leeway_seconds": 30, "jwt_issuers": [],
        "jwt_required_type": null, "jwks_refresh_seconds": 300, "jwks_max_age_seconds": 86400,
        "allow_private_jwks": false,
        "role_permissions": {"admin": ["read", "execute", "admin"]}, "require_https": true,
        "trusted_proxies": ["127.0.0.0/8", "::1/128"], "tls_cert": null, "tls_key": null, "tls_client_ca": null,
        "tls_client_auth": "required", "max_connections": 8192, "max_connections_per_address": 256,
        "pipeline_acls": {}, "rate_limit_enabled": true, "rate_limit_default": "100/minute", "rate_limits": {},
        "auth_failure_limit": "20/minute", "rate_limit_storage": "memory", "websocket_require_auth": true,
        "websocket_max_connections": 1000, "allowed_origins": [],
        "audit_log": ["stdout", "taskiq-flow-audit.jsonl"], "audit_mode": "best_effort",
        "audit_flood_limit": "60/minute",
        "audit_signing_key": null, "audit_previous_signing_key": null, "audit_checkpoints": null,
        "audit_checkpoint_seconds": 60, "audit_origin": "taskiq-flow", "store_url": "sqlite:taskiq-flow.db", "broker_url": "memory:", "durability": "strict",
        "metrics_enabled": true, "metrics_path": "/metrics", "log_level": "info", "log_format": "text",
        "max_body_bytes": 1048576, "max_concurrent_runs": 1024, "retention_days": 30,
        "strict_forwarded_proto": false, "allow_remote_commands": false, "websocket_handshake_auth": "optional",
        "rate_limit_key": "both", "rate_limit_on_error": "local",
        "pipeline_quotas": {}, "max_queued_runs": 10000, "max_backups": 400, "max_priority": 9, "max_schedules_per_pipeline": 100,
        "max_cached_values": 100000, "max_cached_bytes": 1073741824,
        "max_concurrent_attempts": 256, "resources": {}, "webhooks": []
    }"#,
    )
    .unwrap();
    for (name, value) in defaults.as_object().unwrap() {
        let field =
            fields().iter().find(|field| field.name == name).unwrap_or_else(|| panic!("no field {name}"));
        assert_eq!(field.default, *value, "{name}");
    }
    TaskiqFlowConfig::default().validate().unwrap();
}

#[test]
fn every_field_is_described_and_secrets_are_marked() {
    for field in fields() {
        assert!(field.doc.ends_with('.') && field.doc.len() > 15, "{}: {}", field.name, field.doc);
    }
    let secret: Vec<_> = fields().iter().filter(|field| field.secret).map(|field| field.name).collect();
    let expected = [
        "api_keys",
        "jwt_secret",
        "jwt_public_keys",
        "jwks_url",
        "jwt_issuers",
        "rate_limit_storage",
        "store_url",
        "broker_url",
        "webhooks",
    ];
    assert_eq!(secret, expected);
}

#[test]
fn the_builder_reads_like_the_guide() {
    let config = TaskiqFlowConfig::builder()
        .host("0.0.0.0")
        .api_keys([
            ("admin-key", ApiKey::new("admin").pipelines(["*"]).permissions(Permission::ALL)),
            (
                "viewer-key",
                ApiKey::new("viewer").pipelines(["pipeline1", "p_*"]).permissions([Permission::Read]),
            ),
        ])
        .jwt_secret("your-jwt-secret")
        .jwt_issuer("https://issuer.example")
        .jwt_audience(["a", "b"].into_iter().collect::<super::super::Texts>())
        .role_permissions([("ops", vec![Permission::Read])])
        .pipeline_acls([(
            "pipeline1",
            PipelineAcl::new()
                .allow(Permission::Read, ["admin"])
                .allow(Permission::Execute, ["admin"])
                .allow(Permission::Read, ["viewer"]),
        )])
        .rate_limits([("get_dag", "5/minute")])
        .allowed_origins(["https://ops.example.com"])
        .audit_log([AuditTarget::Stdout])
        .store_url("sqlite:///var/lib/taskiq-flow/runs.db")
        .build();
    config.validate().unwrap();
    let settings = config.security_settings().unwrap();
    let viewer = settings.keys().find("viewer-key", [127, 0, 0, 1].into(), jiff::Timestamp::now()).unwrap();
    assert!(viewer.whitelist().allows("p_1") && !viewer.whitelist().allows("q"));
    assert_eq!(settings.limit_of("get_dag").to_string(), "5/minute");
    assert_eq!(settings.limit_of("get_status").to_string(), "30/minute");
    let (_, readers) = config.pipeline_acls["pipeline1"].lists().next().unwrap();
    assert_eq!(readers, ["admin", "viewer"]);
    let path = "/var/lib/taskiq-flow/runs.db".into();
    assert_eq!(config.store_target().unwrap(), StoreTarget::Sqlite { path });
    assert_eq!(config.audit_options().unwrap().sinks.len(), 1);
    assert_eq!(config.jwt_audience.as_slice(), ["a", "b"]);
}

#[test]
fn a_builder_made_configuration_is_checked_as_well() {
    for (config, field) in [
        (TaskiqFlowConfig::builder().rate_limit_default("often").build(), "rate_limit_default"),
        (TaskiqFlowConfig::builder().store_url("postgres://db").build(), "store_url"),
        (TaskiqFlowConfig::builder().tls_cert("a.pem").build(), "tls_cert"),
        (
            TaskiqFlowConfig::builder().api_keys([("k", ApiKey::new("a")), ("k", ApiKey::new("b"))]).build(),
            "api_keys",
        ),
        (TaskiqFlowConfig::builder().jwt_algorithms([]).build(), "jwt_algorithms"),
    ] {
        let error = config.validate().unwrap_err();
        assert_eq!(error.field(), Some(field));
        assert!(error.to_string().contains("--> TaskiqFlowConfig"), "{error}");
    }
}

#[test]
fn stores_and_storages() {
    let store = |url: &str| TaskiqFlowConfig::builder().store_url(url).build().store_target();
    assert_eq!(store("memory:").unwrap(), StoreTarget::Memory);
    for (url, path) in [("sqlite:a.db", "a.db"), ("sqlite://a.db", "a.db"), ("sqlite:/x/a.db", "/x/a.db")] {
        assert_eq!(store(url).unwrap(), StoreTarget::Sqlite { path: path.into() }, "{url}");
    }
    for bad in ["", "sqlite", "sqlite:", "sqlite::memory:", "postgresql://x", "mysql://x", "/x/a.db"] {
        assert!(store(bad).is_err(), "{bad}");
    }
    let storage =
        |url: &str| TaskiqFlowConfig::builder().rate_limit_storage(url).build().rate_limit_storage_target();
    assert!(matches!(storage("memory").unwrap(), RateLimitStorage::Memory));
    for url in ["redis://h:6379/0", "rediss://h:6380/0"] {
        assert_eq!(storage(url).is_ok(), cfg!(feature = "redis"), "{url}");
    }
    for bad in ["rediss:h", "redis:h", "", "memcached://h"] {
        assert!(storage(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_value_may_stand_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("file:{}", path.display())
    };
    let secret = put("secret", "of thirty-two bytes or a few more\n");
    let keys = put("keys.json", r#"{"mounted-key": {"role": "viewer", "permissions": ["read"]}}"#);
    let port = put("port", "8001\r\n");
    let role = put("role", "operator");
    let crlf = put("crlf", "two\n\n");
    let file = format!(
        "port = '{port}'\njwt_issuer = ['{crlf}']\n[api_keys.k]\nrole = '{role}'\npermissions = ['read']"
    );
    let loaded =
        load("c.toml", &file, &[("TASKIQ_FLOW_JWT_SECRET", &secret)]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.config.port, 8001);
    assert_eq!(
        loaded.config.jwt_issuer.as_slice(),
        ["two\n"],
        "one line break is the file's, the rest is the value's"
    );
    assert_eq!(loaded.config.api_keys.entries().next().unwrap().role.as_deref(), Some("operator"));
    let exposed = loaded
        .config
        .jwt_secret
        .as_ref()
        .map(|secret| secrecy::ExposeSecret::expose_secret(secret).to_owned());
    assert_eq!(exposed.as_deref(), Some("of thirty-two bytes or a few more"));
    let loaded = load_env(&[("TASKIQ_FLOW_API_KEYS", &keys)]).unwrap();
    assert!(
        loaded
            .security_settings()
            .unwrap()
            .keys()
            .find("mounted-key", [127, 0, 0, 1].into(), jiff::Timestamp::now())
            .is_ok()
    );
    // What a file holds is the value, also when it looks like the name of another file.
    let nested = put("nested", "file:/etc/hostname");
    let loaded = load_env(&[("TASKIQ_FLOW_JWT_ISSUER", &nested)]).unwrap();
    assert_eq!(loaded.config.jwt_issuer.as_slice(), ["file:/etc/hostname"]);
}

#[test]
fn public_keys_may_stand_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("es256.pem");
    let pem = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n\
               q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n";
    std::fs::write(&path, pem).unwrap();
    let keys = format!(r#"[{{"algorithm": "ES256", "kid": "k1", "pem": "file:{}"}}]"#, path.display());
    let loaded =
        load_env(&[("TASKIQ_FLOW_JWT_PUBLIC_KEYS", &keys)]).unwrap_or_else(|error| panic!("{error}"));
    let settings = loaded.security_settings().unwrap();
    assert_eq!(settings.tokens().unwrap().keys().next().unwrap().kid(), Some("k1"));
    let config = TaskiqFlowConfig::builder()
        .jwt_public_keys([PublicKeyEntry { kid: None, algorithm: JwtAlgorithm::ES256, pem: pem.to_owned() }])
        .build();
    config.validate().unwrap();
}

#[test]
fn audit_targets_are_text_or_a_list() {
    let targets = |value: &str| {
        load_env(&[("TASKIQ_FLOW_AUDIT_LOG", value)]).map(|loaded| loaded.config.audit_log.targets().to_vec())
    };
    assert_eq!(targets("stdout").unwrap(), [AuditTarget::Stdout]);
    assert_eq!(targets("none").unwrap(), []);
    assert_eq!(targets("[]").unwrap(), []);
    assert_eq!(targets("/var/log/a.jsonl").unwrap(), [AuditTarget::File("/var/log/a.jsonl".into())]);
    assert_eq!(targets(r#"["a", "stdout"]"#).unwrap(), [AuditTarget::File("a".into()), AuditTarget::Stdout]);
    let copies = [
        AuditTarget::Export(ExportFormat::Ocsf, "/a".into()),
        AuditTarget::Export(ExportFormat::Cef, "b".into()),
        AuditTarget::File("leef:c".into()),
    ];
    assert_eq!(targets(r#"["ocsf:/a", "cef:b", "leef:c"]"#).unwrap(), copies);
    let maps = r#"[{"target": "stdout"}, {"target": "a.jsonl", "format": "json"}, "ocsf:/a",
        {"target": "b", "format": "cef"}]"#;
    let loaded = load_env(&[("TASKIQ_FLOW_AUDIT_LOG", maps)]).unwrap();
    let expected = [
        AuditTarget::Stdout,
        AuditTarget::File("a.jsonl".into()),
        AuditTarget::Export(ExportFormat::Ocsf, "/a".into()),
        AuditTarget::Export(ExportFormat::Cef, "b".into()),
    ];
    assert_eq!(loaded.config.audit_log.targets(), expected);
    let one = targets(r#"{"target": "b", "format": "cef"}"#).unwrap();
    assert_eq!(one, [AuditTarget::Export(ExportFormat::Cef, "b".into())]);
    // Shown as texts, which are read as the same.
    let shown = loaded.config.redacted()["audit_log"].to_string();
    assert_eq!(shown, r#"["stdout","a.jsonl","ocsf:/a","cef:b"]"#);
    assert_eq!(targets(&shown).unwrap(), expected);
    for (bad, place, part) in [
        (r#"[{}]"#, "item 1 of", "target"),
        (r#"["a", {"target": ""}]"#, "item 2 of", "path"),
        (r#"[{"target": "none"}]"#, "item 1 of", "none"),
        (r#"[{"target": "stdout", "format": "cef"}]"#, "item 1 of", "name a file"),
        (r#"[{"target": "cef:b"}]"#, "item 1 of", "`format`"),
        (r#"[{"target": "b", "format": "leef"}]"#, "item 1 of", "\"ocsf\""),
        (r#"[{"target": "b", "fromat": "cef"}]"#, "`fromat`", "`format`"),
        (r#"[{"target": ["b"]}]"#, "item 1 of", "text"),
        (r#"[["b"]]"#, "item 1 of", "text or a mapping"),
        (r#"["none", {"target": "b"}]"#, "", "none"),
        (r#"{"format": "cef"}"#, "", "target"),
    ] {
        let error = targets(bad).unwrap_err().to_string();
        assert!(error.contains("`audit_log`"), "{bad}: {error}");
        assert!(error.contains(place) && error.contains(part), "{bad}: {error}");
    }
    for bad in
        ["", r#"["none", "stdout"]"#, r#"[1]"#, "{", "{}", "[", r#"[""]"#, "cef:", r#"["ocsf:stdout"]"#]
    {
        assert!(targets(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_possible_and_what_is_not() {
    let env = |field: &str| format!("TASKIQ_FLOW_{}", field.to_uppercase());
    for (field, good, bad) in [
        (
            "host",
            &["localhost", "::1", "0.0.0.0", "a-b.example.com", "a_b"][..],
            &["", "a b", "h:80", "[::1]", "a..b", "x/y"][..],
        ),
        ("port", &["0", "65535"], &["-1", "65536", "1.5", "", " 1", "0x10"]),
        ("security_enabled", &["true", "false", "1", "0"], &["yes", "no", "True", "", "2"]),
        ("max_body_bytes", &["1"], &["0", "1MiB"]),
        ("max_concurrent_runs", &["1"], &["0"]),
        ("max_concurrent_attempts", &["1"], &["0"]),
        (
            "resources",
            &["{}", r#"{"cpu": 0.5, "memory": "8GiB", "gpu": "2"}"#, r#"{"memory": 1024}"#],
            &[
                "4",
                r#"{"cpu": "8GiB"}"#,
                r#"{"memory": "lots"}"#,
                r#"{"gpu": 0}"#,
                r#"{"": 1}"#,
                r#"{"gpu": true}"#,
            ],
        ),
        ("retention_days", &["0", "36500"], &["36501", "-1"]),
        ("max_priority", &["5", "9"], &["4", "10"]),
        ("max_backups", &["1"], &["0"]),
        ("jwt_leeway_seconds", &["0", "600"], &["601"]),
        ("rate_limit_default", &["5 per second", "1/2 hours;3/day"], &["", "5", "5/fortnight", "0/minute"]),
        ("auth_failure_limit", &["", "1/day"], &["often"]),
        (
            "rate_limits",
            &["{}", r#"{"get_dag": "1/day"}"#],
            &["", "[]", r#"{"get_dag": 5}"#, r#"{"get_dag": "x"}"#],
        ),
        (
            "trusted_proxies",
            &["[]", r#"["::/0"]"#, r#"["10.1.2.3"]"#],
            &["10.0.0.0/8", r#"["10.0.0.0/33"]"#, r#"["proxy"]"#],
        ),
        (
            "metrics_path",
            &["/m", "/metrics/of/it", "/internal/metrics"],
            &["", "metrics", "/", "/ws/x", "/store/x", "/dead-letters", "/a{b}", "/*", "/api"],
        ),
        ("log_level", &["INFO", "warn,taskiq_flow_engine=debug"], &["", "loud", "info,", "a=b", "=info"]),
        ("audit_mode", &["required"], &["Required", ""]),
        (
            "audit_flood_limit",
            &["", "5/second", "100 per hour"],
            &["0/minute", "60/day", "1/second;2/minute", "x"],
        ),
        ("durability", &["relaxed"], &["fast"]),
        (
            "allowed_origins",
            &[r#"["https://a.example"]"#],
            &[r#"["*"]"#, r#"["a.example"]"#, r#"["https://a/b"]"#],
        ),
        (
            "pipeline_acls",
            &[r#"{"p": {}}"#],
            &[r#"{"p": {"write": ["a"]}}"#, r#"{"p*": {}}"#, r#"{"p": {"read": "a"}}"#],
        ),
        ("role_permissions", &[r#"{"a": []}"#], &[r#"{"a": ["write"]}"#, r#"{"a": "read"}"#]),
        ("jwt_algorithms", &[r#"["ES256"]"#], &["[]", r#"["none"]"#, r#"["hs256"]"#, "HS256"]),
        ("jwt_secret", &["short"], &[""]),
        ("broker_url", &["memory:", "memory"], &["nats://h", "amqp://h", "kafka://h", ""]),
    ] {
        for value in good {
            if let Err(error) = load_env(&[(&env(field), value)]) {
                panic!("{field} = {value:?}: {error}");
            }
        }
        for value in bad {
            match load_env(&[(&env(field), value)]) {
                Ok(_) => panic!("{field} = {value:?} was accepted"),
                Err(error) => assert_eq!(error.field(), Some(field), "{value:?}: {error}"),
            }
        }
    }
}

#[test]
fn settings_that_do_not_fit_each_other_are_refused() {
    for (env, field) in [
        (&[("TASKIQ_FLOW_AUDIT_MODE", "required"), ("TASKIQ_FLOW_AUDIT_LOG", "none")][..], "audit_mode"),
        (&[("TASKIQ_FLOW_AUDIT_MODE", "required"), ("TASKIQ_FLOW_AUDIT_LOG", "cef:a")], "audit_mode"),
        (&[("TASKIQ_FLOW_AUDIT_CHECKPOINTS", "c.jsonl")], "audit_checkpoints"),
        (&[("TASKIQ_FLOW_AUDIT_CHECKPOINTS", "http://logs.example/")], "audit_checkpoints"),
        (&[("TASKIQ_FLOW_AUDIT_SIGNING_KEY", "k.pem")], "audit_signing_key"),
        (
            &[
                ("TASKIQ_FLOW_AUDIT_SIGNING_KEY", "/nonexistent.pem"),
                ("TASKIQ_FLOW_AUDIT_CHECKPOINTS", "c.jsonl"),
            ],
            "audit_signing_key",
        ),
        (
            &[
                ("TASKIQ_FLOW_AUDIT_SIGNING_KEY", "k.pem"),
                ("TASKIQ_FLOW_AUDIT_CHECKPOINTS", "c.jsonl"),
                ("TASKIQ_FLOW_AUDIT_LOG", "stdout"),
            ],
            "audit_signing_key",
        ),
        (&[("TASKIQ_FLOW_AUDIT_PREVIOUS_SIGNING_KEY", "k.pem")], "audit_previous_signing_key"),
        (&[("TASKIQ_FLOW_AUTH_PROVIDER", "jwt")], "auth_provider"),
        (
            &[("TASKIQ_FLOW_JWT_SECRET", "short"), ("TASKIQ_FLOW_REQUIRE_STRONG_JWT_SECRET", "true")],
            "jwt_secret",
        ),
        (&[("TASKIQ_FLOW_TLS_CERT", "a"), ("TASKIQ_FLOW_WEBSOCKET_SSL_CERT", "a")], "tls_cert"),
        (&[("TASKIQ_FLOW_WEBSOCKET_SSL_KEY", "a")], "tls_key"),
    ] {
        assert_eq!(load_env(env).unwrap_err().field(), Some(field), "{env:?}");
    }
}

#[test]
fn an_override_of_no_field_is_an_error_and_no_panic() {
    let error = Sources::default().set("prot", "1", "--prot").load().unwrap_err();
    assert!(error.to_string().contains("`prot` is no field"), "{error}");
}

#[test]
fn raw_secrets_convert_into_the_builder() {
    let config = TaskiqFlowConfig::builder().maybe_jwt_secret(None::<SecretString>).build();
    assert!(config.jwt_secret.is_none());
    let key: SecretString = "from-a-vault".into();
    let config = TaskiqFlowConfig::builder().api_keys([(key, ApiKey::new("a").id("vault"))]).build();
    assert_eq!(config.api_keys.len(), 1);
}

#[test]
fn webhooks_are_checked_and_shown_without_secrets() {
    let entry = |change: &str| {
        let mut entry = serde_json::json!({
            "name": "ops", "url": "https://hooks.example.com/T0/hunter2?k=hunter2", "secret": "hunter2-and-some-more",
            "events": ["Pipeline*"], "pipelines": ["audio_*"], "headers": {"Authorization": "hunter2"}, "timeout": "5s",
        });
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        entry
    };
    let loaded = |entries: serde_json::Value| load_env(&[("TASKIQ_FLOW_WEBHOOKS", &entries.to_string())]);
    let config = loaded(serde_json::json!([entry("{}")])).unwrap().config;
    let shown = &config.redacted()["webhooks"];
    let expected = serde_json::json!([{
        "name": "ops", "url": "https://hooks.example.com/[REDACTED]", "secret": "[REDACTED]", "events": ["Pipeline*"],
        "pipelines": ["audio_*"], "headers": {"Authorization": "[REDACTED]"}, "allow_internal": false, "timeout": "5s",
    }]);
    assert_eq!(*shown, expected);
    assert!(!format!("{config:?} {:?}", config.webhooks().unwrap()).contains("hunter2"));
    assert_eq!(config.webhooks().unwrap()[0].name(), "ops");
    for (change, message) in [
        (r#"{"url": "http://hooks.example.com/"}"#, "`url` of item 1 of `webhooks`: is plain HTTP"),
        (r#"{"events": ["PipelineErorEvent"]}"#, "did you mean `PipelineErrorEvent`?"),
        (r#"{"timeout": 5}"#, "`timeout` of item 1 of `webhooks` must be a duration such as 10s"),
        (r#"{"pipeline": []}"#, "did you mean `pipelines`?"),
    ] {
        let error = loaded(serde_json::json!([entry(change)])).unwrap_err();
        let text = error.render(false);
        assert!(text.contains(message), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let twice = loaded(serde_json::json!([entry("{}"), entry("{}")])).unwrap_err().render(false);
    assert!(twice.contains("`name` of item 2 of `webhooks` is \"ops\", as that of another entry"), "{twice}");
}
