use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use taskiq_flow_security::api_key::KeyDigest;
use taskiq_flow_security::permission::Permission::{self, Admin, Execute, Read};

use super::*;
use crate::config::{ApiKey, AuditMode, AuditTarget, AuthProvider, HandshakeAuth, PipelineAcl, ServiceUrl};

const STRONG: &str = "a secret of at least thirty-two bytes";
const KEY: &str = "a-key-of-more-than-twenty-characters";

/// A configuration that no check finds anything in, in a folder of its own.
struct Safe {
    folder: tempfile::TempDir,
    config: TaskiqFlowConfig,
    pipelines: Vec<String>,
    file: Option<PathBuf>,
}

fn key(permissions: &[Permission]) -> ApiKey {
    let end = "2099-01-01T00:00:00Z".parse().unwrap();
    let key = ApiKey::new("ops").id("ops").pipelines(["etl"]);
    key.permissions(permissions.iter().copied()).expires_at(end)
}

fn digest(key: &str) -> String {
    KeyDigest::of(key).to_config()
}

fn safe() -> Safe {
    let folder = tempfile::tempdir().unwrap();
    let mut config = TaskiqFlowConfig::builder()
        .api_keys([(digest(KEY), key(&[Read, Execute]))])
        .pipeline_acls([("etl", PipelineAcl::new().allow(Read, ["ops"]).allow(Execute, ["ops"]))])
        .audit_log([AuditTarget::File(folder.path().join("audit.jsonl"))])
        .build();
    config.audit_mode = AuditMode::Required;
    config.store_url =
        ServiceUrl::from(format!("sqlite:{}", folder.path().join("flow.db").display()).as_str());
    config.audit_signing_key = Some(folder.path().join("audit.pem"));
    Safe { folder, config, pipelines: vec!["etl".to_owned()], file: None }
}

impl Safe {
    fn file(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn posture(&self) -> Posture {
        let settings = self.config.security_settings().unwrap_or_else(|error| panic!("{error}"));
        let facts = Facts::new(&self.config, &settings).pipelines(&self.pipelines);
        look(&facts.file(self.file.as_deref()))
    }
}

type Change = fn(&mut Safe);

/// For each check what makes it find something, and how grave that is.
#[rustfmt::skip]
const CASES: &[(&str, Severity, Change)] = &[
    ("security-off", Severity::High, |safe| safe.config.security_enabled = false),
    ("placeholder", Severity::High, |safe| safe.config.api_keys.insert(digest("admin-key"), key(&[Read]).id("guide"))),
    ("placeholder", Severity::High, |safe| safe.config.jwt_secret = Some("super-secret".into())),
    ("jwt-secret-weak", Severity::High, |safe| safe.config.jwt_secret = Some("thirty-one bytes are not enough".into())),
    ("jwt-secret-unused", Severity::Low, |safe| {
        safe.config.jwt_secret = Some(STRONG.into());
        safe.config.jwt_algorithms = Some(vec![taskiq_flow_security::jwt::JwtAlgorithm::EdDSA]);
    }),
    ("jwt-secret-unbound", Severity::Low, |safe| safe.config.jwt_secret = Some(STRONG.into())),
    ("jwt-unbound", Severity::Low, |safe| safe.config.jwt_secret = Some(STRONG.into())),
    ("jwks-private", Severity::Low, |safe| safe.config.allow_private_jwks = true),
    ("jwt-leeway", Severity::Low, |safe| {
        safe.config.jwt_secret = Some(STRONG.into());
        safe.config.jwt_leeway_seconds = 300;
    }),
    ("key-guessable", Severity::Medium, |safe| safe.config.api_keys.insert("nineteen-characters", key(&[Read]).id("short"))),
    ("key-raw", Severity::Medium, |safe| safe.config.api_keys.insert("another-key-of-more-than-twenty-characters", key(&[Read]).id("raw"))),
    ("key-endless", Severity::Low, |safe| {
        safe.config.api_keys.insert(digest("x-key"), ApiKey::new("ops").pipelines(["etl"]).permissions([Read]));
    }),
    ("key-endless", Severity::Medium, |safe| {
        safe.config.api_keys.insert(digest("x-key"), ApiKey::new("ops").pipelines(["etl"]).permissions([Admin]));
    }),
    ("key-masters", Severity::Low, |safe| {
        safe.config.api_keys.insert(digest("x-key"), key(&[Admin]).pipelines(["*"]).id("x"));
        safe.config.api_keys.insert(digest("y-key"), key(&[Admin]).pipelines(["*"]).id("y"));
    }),
    ("key-wide", Severity::Low, |safe| {
        safe.config.pipeline_acls.clear();
        safe.config.api_keys.insert(digest("x-key"), key(&[Execute]).pipelines(["*"]).id("x"));
    }),
    ("key-without-permission", Severity::Low, |safe| safe.config.api_keys.insert(digest("x-key"), key(&[]).id("x"))),
    ("keys-unused", Severity::Low, |safe| {
        safe.config.auth_provider = AuthProvider::Jwt;
        safe.config.jwt_secret = Some(STRONG.into());
    }),
    ("certificates-unasked", Severity::Medium, |safe| {
        safe.config.client_certificates = [("CN=robot", key(&[Read]).id("robot"))].into_iter().collect();
    }),
    ("nobody-can-authenticate", Severity::Medium, |safe| safe.config.api_keys = Default::default()),
    ("acl-unknown-pipeline", Severity::Medium, |safe| safe.pipelines = vec!["elt".to_owned()]),
    ("acl-unknown-role", Severity::Low, |safe| {
        safe.config.pipeline_acls.insert("etl".to_owned(), PipelineAcl::new().allow(Read, ["opps"]).into());
    }),
    ("https-off", Severity::Medium, |safe| safe.config.require_https = false),
    ("https-off", Severity::High, |safe| {
        safe.config.require_https = false;
        safe.config.host = "0.0.0.0".to_owned();
    }),
    ("no-tls", Severity::Low, |safe| safe.config.host = "10.0.0.7".to_owned()),
    ("proxies-everybody", Severity::High, |safe| safe.config.trusted_proxies = vec!["0.0.0.0/0".parse().unwrap()]),
    ("proxies-wide", Severity::Medium, |safe| safe.config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]),
    ("proxies-lenient", Severity::Low, |safe| safe.config.trusted_proxies = vec!["10.0.0.7/32".parse().unwrap()]),
    ("origins-plain", Severity::Medium, |safe| safe.config.allowed_origins = vec!["http://ops.example.com".to_owned()]),
    ("sockets-anonymous", Severity::Medium, |safe| safe.config.websocket_require_auth = false),
    ("handshake-contradicts", Severity::Low, |safe| {
        safe.config.websocket_require_auth = false;
        safe.config.websocket_handshake_auth = HandshakeAuth::Required;
    }),
    ("limits-off", Severity::Medium, |safe| safe.config.rate_limit_enabled = false),
    ("limits-huge", Severity::Low, |safe| safe.config.rate_limit_default = "1000/second".to_owned()),
    ("limits-huge", Severity::Low, |safe| {
        safe.config.rate_limits.insert("execute_pipeline".to_owned(), "100/second".to_owned());
    }),
    ("limits-apart", Severity::Medium, |safe| safe.config.broker_url = ServiceUrl::from("nats://127.0.0.1:4222")),
    ("limit-unknown-endpoint", Severity::Low, |safe| {
        safe.config.rate_limits.insert("get_dags".to_owned(), "10/minute".to_owned());
    }),
    ("guessing-unlimited", Severity::Medium, |safe| safe.config.auth_failure_limit = String::new()),
    ("bodies-large", Severity::Low, |safe| safe.config.max_body_bytes = 64 << 20),
    ("services-plain", Severity::Medium, |safe| {
        safe.config.rate_limit_storage = ServiceUrl::from("redis://:hunter2@redis.example.com:6379/0");
    }),
    ("remote-commands", Severity::High, |safe| safe.config.allow_remote_commands = true),
    ("metrics-exposed", Severity::Low, |safe| safe.config.host = "::".to_owned()),
    ("log-talkative", Severity::Low, |safe| safe.config.log_level = "info,taskiq_flow_engine=debug".to_owned()),
    ("audit-none", Severity::Medium, |safe| {
        safe.config.audit_mode = AuditMode::BestEffort;
        safe.config.audit_log = std::iter::empty().collect();
    }),
    ("audit-no-file", Severity::Low, |safe| safe.config.audit_log = [AuditTarget::Stdout].into_iter().collect()),
    ("audit-unsigned", Severity::Low, |safe| safe.config.audit_signing_key = None),
    ("audit-key-readable", Severity::High, |safe| drop(safe.file("audit.pem", 0o644))),
    ("audit-best-effort", Severity::Low, |safe| safe.config.audit_mode = AuditMode::BestEffort),
    ("retention-long", Severity::Low, |safe| safe.config.retention_days = 0),
    ("config-readable", Severity::Low, |safe| safe.file = Some(safe.file("flow.toml", 0o644))),
    ("config-readable", Severity::High, |safe| {
        safe.config.jwt_secret = Some(STRONG.into());
        safe.file = Some(safe.file("flow.toml", 0o644));
    }),
    ("config-readable", Severity::High, |safe| safe.file = Some(safe.file("flow.toml", 0o602))),
    ("tls-key-readable", Severity::High, |safe| safe.config.tls_key = Some(safe.file("key.pem", 0o644))),
    ("records-open", Severity::Low, |safe| drop(safe.file("audit.jsonl", 0o644))),
    ("records-open", Severity::High, |safe| drop(safe.file("flow.db", 0o666))),
];

#[test]
fn a_safe_configuration_has_no_finding() {
    let mut safe = safe();
    for file in ["audit.jsonl", "flow.db"] {
        safe.file(file, 0o600);
    }
    safe.file = Some(safe.file("flow.toml", 0o600));
    let posture = safe.posture();
    assert!(posture.findings.is_empty(), "{:#?}", posture.findings);
    assert_eq!((posture.score(), posture.worst()), (100, None));
}

#[test]
fn every_check_finds_what_it_is_for() {
    for (number, (id, severity, change)) in CASES.iter().enumerate() {
        let mut safe = safe();
        change(&mut safe);
        // What one of several cases of a check is about is that it is this grave.
        let posture = safe.posture();
        let found: Vec<_> = posture.findings.iter().filter(|finding| finding.check.id == *id).collect();
        assert!(
            found.iter().any(|finding| finding.severity == *severity),
            "{number} {id}: {:#?}",
            posture.findings
        );
        assert!(posture.score() < 100);
        let shown = format!("{} {:?}", posture.to_json(), posture.findings);
        for secret in
            ["hunter2", "admin-key", "super-secret", STRONG, "nineteen-characters", "thirty-one bytes"]
        {
            assert!(!shown.contains(secret), "{id} shows a secret: {shown}");
        }
    }
    let tested: BTreeSet<_> = CASES.iter().map(|(id, ..)| *id).collect();
    let of_configuration = CHECKS.iter().filter(|check| check.is_of_configuration());
    let known: BTreeSet<_> = of_configuration.map(|check| check.id).collect();
    assert_eq!(tested, known, "a check without a case");
    let ids: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len(), "an id twice");
    assert_eq!(safe().posture().checks, known.len());
}

/// A warning of the security crate that is in no row would be shown nowhere.
#[test]
fn every_warning_of_the_settings_is_a_check() {
    for (id, _, change) in CASES {
        let mut safe = safe();
        change(&mut safe);
        let settings = safe.config.security_settings().unwrap();
        for warning in settings.warnings() {
            let known =
                CHECKS.iter().any(|check| check.id == warning.id && matches!(check.look, Look::Settings));
            assert!(known, "{id}: {warning:?}");
        }
    }
    let source = concat!(
        include_str!("../../../security/src/settings/build.rs"),
        include_str!("../../../security/src/settings/tokens.rs"),
    );
    let ids = source
        .split("warning(\"")
        .skip(1)
        .chain(source.split("warn(\n").skip(1))
        .chain(source.split("warn(\"").skip(1));
    let ids: Vec<&str> =
        ids.filter_map(|rest| rest.trim().trim_start_matches('"').split('"').next()).collect();
    assert!(ids.len() >= 10, "{ids:?}");
    for id in ids {
        assert!(CHECKS.iter().any(|check| check.id == id), "`{id}` is no check");
    }
}

#[test]
fn every_check_names_its_requirements_and_the_mend() {
    let risk = |name: &&str| {
        name.strip_prefix("API")
            .is_some_and(|number| number.parse::<u8>().is_ok_and(|n| (1..=10).contains(&n)))
    };
    let requirement =
        |name: &&str| name.split('.').count() == 3 && name.split('.').all(|part| part.parse::<u8>().is_ok());
    for check in CHECKS {
        assert!(!check.asvs.is_empty() && check.asvs.iter().all(requirement), "{}", check.id);
        assert!(!check.api_top10.is_empty() && check.api_top10.iter().all(risk), "{}", check.id);
        assert!(!check.title.is_empty() && !check.fix.is_empty(), "{}", check.id);
    }
}

#[test]
fn the_score_falls_with_what_is_found() {
    let mut bad = safe();
    bad.config.security_enabled = false;
    bad.config.allow_remote_commands = true;
    let posture = bad.posture();
    assert_eq!(posture.worst(), Some(Severity::High));
    assert!(posture.score() <= 50, "{}", posture.score());
    let json = posture.to_json();
    assert_eq!((json["score"].as_u64(), json["high"].as_u64()), (Some(posture.score().into()), Some(2)));
    assert_eq!(json["findings"][0]["asvs"][0], "8.2.1");
}

/// `docs/guide/hardening.md` has the list. `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_guide_has_the_list() {
    const BEGIN: &str =
        "<!-- checks: written by `UPDATE_DOCS=1 cargo test -p taskiq-flow --lib posture` -->\n";
    const END: &str = "<!-- end of checks -->\n";
    let mut table = String::from(
        "| check | at most | finds | fix | ASVS 5.0 | API Top 10 | seen in |\n|---|---|---|---|---|---|---|\n",
    );
    for check in CHECKS {
        let seen_in = match (check.is_of_configuration(), check.is_of_outside()) {
            (true, true) => "configuration, outside",
            (_, false) => "configuration",
            (false, _) => "outside",
        };
        let severity = format!("{:?}", check.severity).to_lowercase();
        table.push_str(&format!(
            "| `{}` | {severity} | {} | {} | {} | {} | {seen_in} |\n",
            check.id,
            check.title,
            check.fix,
            check.asvs.join(", "),
            check.api_top10.join(", ")
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/hardening.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "docs/guide/hardening.md is out of date; run this test with UPDATE_DOCS=1");
}
