//! Changes while a server runs: what they do, that they last, and that nothing is half done.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::audit::{AuditMode, AuditOptions, AuditSink};
use crate::guard::{Access, RequestFacts, endpoint};
use crate::jwt::Revocation;
use crate::networks::Networks;
use crate::permission::{Permission, PermissionSet};
use crate::policy::Acl;
use crate::rate_limit::RateLimiterOptions;
use crate::settings::SecurityOptions;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A state that can be told to fail.
#[derive(Debug, Default)]
struct Flaky {
    kept: MemoryState,
    down: AtomicBool,
}

#[async_trait]
impl SecurityState for Flaky {
    async fn load(&self) -> Result<Vec<StateRecord>, StateError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(StateError("it is down".to_owned())),
            false => self.kept.load().await,
        }
    }

    async fn write(&self, changes: Vec<StateChange>) -> Result<(), StateError> {
        // What is slow is overtaken by whoever does not wait for it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        match self.down.load(Ordering::SeqCst) {
            true => Err(StateError("it is down".to_owned())),
            false => self.kept.write(changes).await,
        }
    }
}

struct Stage {
    administration: Administration,
    state: Arc<Flaky>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn options() -> SecurityOptions {
    let keys = json!({
        "admin-key": {"role": "admin", "pipelines": ["*"], "permissions": ["admin"], "id": "admin"},
        "viewer-key": {"role": "viewer", "permissions": ["read"], "id": "viewer"},
    });
    SecurityOptions {
        api_keys: serde_json::from_value(keys).unwrap(),
        jwt_secret: Some(SECRET.into()),
        pipeline_acls: serde_json::from_value(json!({"etl": {"read": ["viewer"]}})).unwrap(),
        rate_limit_enabled: false,
        auth_failure_limit: String::new(),
        ..SecurityOptions::default()
    }
}

async fn begin(
    options: SecurityOptions,
    state: Arc<Flaky>,
    mode: AuditMode,
) -> Result<Stage, AdministrationError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let audit = AuditLogger::open(AuditOptions {
        sinks: vec![AuditSink::File(file.clone())],
        mode,
        ..AuditOptions::default()
    })
    .unwrap();
    let limiter = RateLimiter::new(RateLimiterOptions::default());
    let administration =
        Administration::start(options.build().unwrap(), limiter, audit, state.clone()).await?;
    Ok(Stage { administration, state, file, _folder: folder })
}

async fn stage() -> Stage {
    begin(options(), Arc::default(), AuditMode::Required).await.unwrap()
}

impl Stage {
    async fn admit(&self, key: &str) -> Result<Admission, Refusal> {
        self.admit_from(key, "192.0.2.1").await
    }

    async fn admit_from(&self, key: &str, from: &str) -> Result<Admission, Refusal> {
        self.send("x-api-key", key, from).await
    }

    async fn send(&self, header: &'static str, value: &str, from: &str) -> Result<Admission, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_str(value).unwrap());
        let facts = RequestFacts {
            peer: from.parse().unwrap(),
            native_tls: true,
            method: &Method::GET,
            path: "/pipelines/etl",
            headers: &headers,
            request_id: "req-1",
            websocket_upgrade: false,
            certificate: None,
        };
        self.administration.guard().admit(endpoint::GET_PIPELINE, Access::Authenticated, facts).await
    }

    async fn admin(&self) -> Administrator {
        let caller = self.admit("admin-key").await.unwrap();
        let permit =
            self.administration.guard().authorize(&caller, Permission::Admin, Resource::SecurityAdmin);
        Administrator::new(&caller, &permit.unwrap()).unwrap()
    }

    async fn create(&self, id: &str) -> IssuedKey {
        self.administration.create_key(&self.admin().await, new_key(id)).await.unwrap()
    }

    /// The same state after the process ended.
    async fn restart(&self) -> Stage {
        begin(options(), self.state.clone(), AuditMode::Required).await.unwrap()
    }

    fn may_read(&self, caller: &Admission, pipeline: &str) -> bool {
        self.administration.guard().may_read(caller.principal(), pipeline)
    }

    /// The records of changes: action, outcome and detail.
    fn changes(&self) -> Vec<(String, String, Value)> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let changes = records.filter(|record| record["event"] == "security.config_change");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        changes
            .map(|record| {
                let detail = text(&record["detail"]);
                let detail = serde_json::from_str(&detail).unwrap_or(Value::String(detail));
                (text(&record["action"]), text(&record["outcome"]), detail)
            })
            .collect()
    }
}

fn new_key(id: &str) -> NewKey {
    NewKey {
        id: Some(id.to_owned()),
        roles: vec!["viewer".to_owned()],
        pipelines: vec!["etl".to_owned()],
        permissions: [Permission::Read].into_iter().collect(),
        expires_at: None,
        allowed_ips: None,
    }
}

/// A token, signed with the secret of the configuration.
fn hs256(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn acl(roles: &[&str]) -> Acl {
    Acl::new([(Permission::Read, roles.iter().map(|role| (*role).to_owned()).collect())])
}

#[tokio::test]
async fn a_key_that_was_made_is_accepted_lasts_and_is_shown_nowhere() {
    let stage = stage().await;
    let issued = stage.create("ci").await;
    let key = issued.key.expose_secret().to_owned();
    assert_eq!(crate::api_key::check_shape(&key), Ok("ci"));
    let caller = stage.admit(&key).await.unwrap();
    assert_eq!((caller.principal().id(), caller.principal().roles()), ("ci", &["viewer".to_owned()][..]));
    assert!(stage.may_read(&caller, "etl") && !stage.may_read(&caller, "other"));

    let again = stage.restart().await;
    assert!(again.admit(&key).await.is_ok());
    let listed = again.administration.keys(&again.admin().await);
    let ids: Vec<_> = listed.iter().map(|key| (key.id.as_str(), key.source)).collect();
    let expected =
        [("admin", Source::Configuration), ("ci", Source::Stored), ("viewer", Source::Configuration)];
    assert_eq!(ids, expected);
    assert_eq!(listed[1].created_by.as_deref(), Some("admin"));
    assert!(listed[1].created_at.is_some() && listed[0].created_at.is_none());

    // Neither the key nor its digest is anywhere but in the state, and there only the digest.
    let secret = key.split('_').nth(2).unwrap();
    let digest = crate::api_key::KeyDigest::of(&key).to_config()[7..].to_owned();
    let stored = format!("{:?}", stage.state.load().await.unwrap());
    assert!(stored.contains(&digest) && !stored.contains(secret));
    let log = std::fs::read_to_string(&stage.file).unwrap();
    let shown = format!(
        "{log}{listed:?}{issued:?}{:?}{}{:?}",
        stage.administration,
        stage.administration.guard().settings().redacted(),
        stage.administration.inner.view.load().stored
    );
    for hidden in [secret, &key, &digest] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}

#[tokio::test]
async fn a_change_is_recorded_with_what_was_and_what_is() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let id = stage.create("ci").await.view.id;
    stage.administration.rotate_key(&admin, &id, 60).await.unwrap();
    stage.administration.revoke_key(&admin, &id).await.unwrap();
    stage.administration.put_acl(&admin, "etl", acl(&["ops"])).await.unwrap();
    stage.administration.remove_acl(&admin, "etl").await.unwrap();
    stage.administration.reset_acl(&admin, "etl").await.unwrap();
    let changes = stage.changes();
    let actions: Vec<_> = changes.iter().map(|(action, outcome, _)| format!("{action} {outcome}")).collect();
    let expected = ["key.create", "key.rotate", "key.revoke", "acl.put", "acl.remove", "acl.reset"];
    assert_eq!(actions, expected.map(|action| format!("{action} success")));
    let detail = |at: usize| &changes[at].2;
    assert_eq!((&detail(0)["key"], &detail(0)["before"]), (&json!("ci"), &Value::Null));
    assert_eq!(detail(0)["after"]["pipelines"], json!(["etl"]));
    assert_eq!(detail(1)["before"]["previous_valid_until"], Value::Null);
    assert!(detail(1)["after"]["previous_valid_until"].is_string());
    assert_eq!(detail(2)["after"], Value::Null);
    let lists = |at: usize| (detail(at)["before"].clone(), detail(at)["after"].clone());
    assert_eq!(lists(3), (json!({"read": ["viewer"]}), json!({"read": ["ops"]})));
    assert_eq!(lists(4), (json!({"read": ["ops"]}), Value::Null));
    assert_eq!(lists(5), (Value::Null, json!({"read": ["viewer"]})));
}

#[tokio::test]
async fn a_revoked_key_is_unknown_from_the_next_request_on() {
    let stage = stage().await;
    let key = stage.create("ci").await.key;
    let open = stage.admit(key.expose_secret()).await.unwrap();
    let mut changes = stage.administration.guard().subscribe_policy_changes();
    stage.administration.revoke_key(&stage.admin().await, "ci").await.unwrap();
    assert!(changes.changed().await);
    assert!(stage.administration.guard().revalidate(&open).is_none(), "what it has open is to be closed");
    let refused = stage.admit(key.expose_secret()).await.unwrap_err();
    let unknown = stage.admit("no-such-key").await.unwrap_err();
    assert_eq!((refused.status(), refused.detail()), (unknown.status(), unknown.detail()));
    assert!(stage.restart().await.admit(key.expose_secret()).await.is_err());
    let error = stage.administration.revoke_key(&stage.admin().await, "ci").await.unwrap_err();
    assert!(matches!(error, AdministrationError::Unknown("key")), "{error:?}");
}

#[tokio::test]
async fn a_rotated_key_is_accepted_beside_the_new_one_for_a_while() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let first = stage.create("ci").await.key;
    let open = stage.admit(first.expose_secret()).await.unwrap();
    let second = stage.administration.rotate_key(&admin, "ci", 3600).await.unwrap();
    assert_eq!(second.view.id, "ci");
    let until = second.view.previous_valid_until.unwrap();
    let left = until.duration_since(Timestamp::now());
    assert!(left > SignedDuration::from_secs(3590) && left <= SignedDuration::from_secs(3600), "{left}");
    for key in [&first, &second.key] {
        assert_eq!(stage.admit(key.expose_secret()).await.unwrap().principal().id(), "ci");
    }
    // What the old key holds open ends with it.
    let open = stage.administration.guard().revalidate(&open).unwrap();
    assert_eq!(open.principal().expires_at(), Some(until));
    let again = stage.restart().await;
    assert!(
        again.admit(first.expose_secret()).await.is_ok()
            && again.admit(second.key.expose_secret()).await.is_ok()
    );
    // Without overlap all that came before ends at once.
    let third = stage.administration.rotate_key(&admin, "ci", 0).await.unwrap();
    assert_eq!(third.view.previous_valid_until, None);
    assert!(stage.admit(third.key.expose_secret()).await.is_ok());
    for key in [&first, &second.key] {
        assert!(stage.admit(key.expose_secret()).await.is_err());
    }
    // Revoking ends all.
    let fourth = stage.administration.rotate_key(&admin, "ci", 60).await.unwrap();
    stage.administration.revoke_key(&admin, "ci").await.unwrap();
    for key in [&third.key, &fourth.key] {
        assert!(stage.admit(key.expose_secret()).await.is_err());
    }
}

#[tokio::test]
async fn rotations_have_bounds() {
    let stage = stage().await;
    let admin = stage.admin().await;
    stage.create("ci").await;
    let rotate = async |overlap: u64| stage.administration.rotate_key(&admin, "ci", overlap).await;
    assert!(matches!(
        rotate(MAX_OVERLAP_SECONDS + 1).await,
        Err(AdministrationError::Invalid { field, .. }) if field == "overlap_seconds"
    ));
    for _ in 0..4 {
        rotate(60).await.unwrap();
    }
    assert!(matches!(rotate(60).await, Err(AdministrationError::Conflict(_))));
    rotate(0).await.unwrap();
    rotate(60).await.unwrap();
}

#[tokio::test]
async fn keys_of_the_configuration_are_changed_there() {
    let stage = stage().await;
    let admin = stage.admin().await;
    for error in [
        stage.administration.revoke_key(&admin, "viewer").await.unwrap_err(),
        stage.administration.rotate_key(&admin, "viewer", 0).await.unwrap_err(),
        stage.administration.create_key(&admin, new_key("viewer")).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, AdministrationError::Conflict(text) if text.contains("viewer")),
            "{error:?}"
        );
    }
    assert!(stage.admit("viewer-key").await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_field() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let refused = async |change: &dyn Fn(&mut NewKey)| {
        let mut new = new_key("ci");
        change(&mut new);
        match stage.administration.create_key(&admin, new).await {
            Err(AdministrationError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    for id in ["", "a b", "é", "a/b", ".", "..", "-a", &"a".repeat(65), "a\nb"] {
        assert_eq!(refused(&|new| new.id = Some(id.to_owned())).await, "id", "{id:?}");
    }
    assert_eq!(refused(&|new| new.roles = vec![String::new()]).await, "role");
    assert_eq!(refused(&|new| new.pipelines = vec![String::new()]).await, "pipelines");
    assert_eq!(refused(&|new| new.pipelines = vec!["p".to_owned(); 101]).await, "pipelines");
    assert_eq!(refused(&|new| new.permissions = PermissionSet::EMPTY).await, "permissions");
    assert_eq!(refused(&|new| new.expires_at = Some(Timestamp::UNIX_EPOCH)).await, "expires_at");
    assert_eq!(refused(&|new| new.allowed_ips = Some(Networks::default())).await, "allowed_ips");
    for pipeline in ["", "a*", "a\n"] {
        let error = stage.administration.put_acl(&admin, pipeline, acl(&["r"])).await.unwrap_err();
        assert!(matches!(&error, AdministrationError::Invalid { .. }), "{pipeline:?}: {error:?}");
    }
    let error = stage.administration.put_acl(&admin, "p", acl(&[""])).await.unwrap_err();
    assert!(matches!(&error, AdministrationError::Invalid { field, .. } if field == "read"), "{error:?}");
    assert!(stage.changes().is_empty() && stage.state.load().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_is_bound_to_its_networks() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let new = NewKey {
        allowed_ips: Some(Networks::parse(["192.0.2.0/28", "2001:db8::/64"]).unwrap()),
        ..new_key("office")
    };
    let key = stage.administration.create_key(&admin, new).await.unwrap().key;
    let here = stage.admit_from(key.expose_secret(), "192.0.2.9").await.unwrap();
    let elsewhere = stage.admit_from(key.expose_secret(), "192.0.2.99").await.unwrap_err();
    let unknown = stage.admit("no-such-key").await.unwrap_err();
    assert_eq!((elsewhere.status(), elsewhere.detail()), (unknown.status(), unknown.detail()));
    assert!(stage.administration.guard().revalidate(&here).is_some());

    let soon = Timestamp::now() + SignedDuration::from_millis(80);
    let new = NewKey { expires_at: Some(soon), ..new_key("brief") };
    let key = stage.administration.create_key(&admin, new).await.unwrap().key;
    while Timestamp::now() < soon {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(stage.admit(key.expose_secret()).await.is_err());
    let error = stage.administration.rotate_key(&admin, "brief", 0).await.unwrap_err();
    assert!(matches!(error, AdministrationError::Conflict(_)), "{error:?}");
}

#[tokio::test]
async fn access_lists_act_at_once_and_win_over_the_configuration_until_they_are_given_back() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let viewer = stage.admit("viewer-key").await.unwrap();
    let shown = |stage: &Stage, by: &Administrator| {
        let view = stage.administration.acl(by, "etl").ok()?;
        Some((serde_json::to_value(view.acl).unwrap(), view.source))
    };
    assert_eq!(shown(&stage, &admin), Some((json!({"read": ["viewer"]}), Source::Configuration)));
    assert!(stage.may_read(&viewer, "etl"));
    stage.administration.put_acl(&admin, "etl", acl(&["ops"])).await.unwrap();
    assert!(!stage.may_read(&viewer, "etl"));
    assert_eq!(shown(&stage, &admin), Some((json!({"read": ["ops"]}), Source::Stored)));
    // Over a restart, and over a reload of the configuration.
    let again = stage.restart().await;
    assert!(!again.may_read(&viewer, "etl"));
    stage.administration.reload(options().build().unwrap(), None).await.unwrap();
    assert!(!stage.may_read(&viewer, "etl"));
    // Removed means removed, also when the configuration has one.
    stage.administration.put_acl(&admin, "other", acl(&["ops"])).await.unwrap();
    assert!(!stage.may_read(&viewer, "other"));
    for pipeline in ["etl", "other"] {
        stage.administration.remove_acl(&admin, pipeline).await.unwrap();
        assert!(stage.may_read(&viewer, pipeline), "{pipeline}");
        assert!(stage.restart().await.may_read(&viewer, pipeline), "{pipeline}");
        let error = stage.administration.remove_acl(&admin, pipeline).await.unwrap_err();
        assert!(matches!(error, AdministrationError::Unknown(_)), "{error:?}");
    }
    assert!(stage.administration.acls(&admin).is_empty());
    stage.administration.reset_acl(&admin, "etl").await.unwrap();
    assert_eq!(shown(&stage, &admin), Some((json!({"read": ["viewer"]}), Source::Configuration)));
    assert!(stage.administration.reset_acl(&admin, "etl").await.is_err());
    assert!(stage.administration.reset_acl(&admin, "nothing").await.is_err());
    assert!(stage.state.load().await.unwrap().is_empty(), "nothing is left behind");
}

#[tokio::test]
async fn tokens_are_revoked_at_once_and_for_good() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let token = |subject: &str, jti: &str| {
        let now = Timestamp::now().as_second();
        let claims = json!({"sub": subject, "roles": ["viewer"], "iat": now, "exp": now + 600, "jti": jti});
        hs256(&claims)
    };
    let accepted = async |stage: &Stage, token: &str| {
        stage.send("authorization", &format!("Bearer {token}"), "192.0.2.1").await.is_ok()
    };
    let (stolen, other, bob) = (token("ada", "1"), token("ada", "2"), token("bob", "3"));
    assert!(accepted(&stage, &stolen).await);
    let by_id = Revocation::Token { jti: "1".to_owned(), issuer: None, expires_at: None };
    let view = stage.administration.revoke_tokens(&admin, by_id.clone()).await.unwrap();
    assert!(!accepted(&stage, &stolen).await && accepted(&stage, &other).await);
    let not_before = Timestamp::now() + SignedDuration::from_secs(5);
    let by_subject = |not_before| Revocation::Subject {
        sub: "ada".to_owned(),
        issuer: None,
        not_before,
        expires_at: None,
    };
    let subject = stage.administration.revoke_tokens(&admin, by_subject(not_before)).await.unwrap();
    assert!(!accepted(&stage, &other).await && accepted(&stage, &bob).await);
    // Said again more mildly, the stricter holds.
    let milder = stage.administration.revoke_tokens(&admin, by_subject(Timestamp::UNIX_EPOCH)).await.unwrap();
    assert_eq!((&milder.id, &milder.rule), (&subject.id, &by_subject(not_before)));
    let again = stage.restart().await;
    assert!(!accepted(&again, &stolen).await && !accepted(&again, &other).await);
    assert_eq!(again.administration.revocations(&again.admin().await).len(), 2);
    for id in [&view.id, &subject.id] {
        stage.administration.remove_revocation(&admin, id).await.unwrap();
    }
    assert!(accepted(&stage, &stolen).await && accepted(&stage, &other).await);
    assert!(stage.administration.remove_revocation(&admin, &view.id).await.is_err());
    let past = Revocation::Token {
        jti: "1".to_owned(),
        issuer: None,
        expires_at: Some(Timestamp::now() - SignedDuration::from_hours(1)),
    };
    let error = stage.administration.revoke_tokens(&admin, past).await.unwrap_err();
    assert!(
        matches!(&error, AdministrationError::Invalid { field, .. } if field == "expires_at"),
        "{error:?}"
    );
}

#[tokio::test]
async fn stored_keys_stay_when_the_configuration_is_read_again() {
    let stage = stage().await;
    let key = stage.create("ci").await.key;
    let mut changed = options();
    changed.api_keys = serde_json::from_value(json!({})).unwrap();
    changed.require_https = false;
    let fields = stage.administration.reload(changed.build().unwrap(), None).await.unwrap();
    assert_eq!(fields, ["api_keys", "require_https"]);
    assert!(stage.admit(key.expose_secret()).await.is_ok() && stage.admit("viewer-key").await.is_err());
    // A configuration that contradicts what was made is refused wholly.
    let mut clash = options();
    let twin = json!({"another-key": {"role": "viewer", "permissions": ["admin"], "id": "ci"}});
    clash.api_keys = serde_json::from_value(twin).unwrap();
    let error = stage.administration.reload(clash.clone().build().unwrap(), None).await.unwrap_err();
    assert!(error.to_string().starts_with("api_keys.ci: a key of that id was made over the API"), "{error}");
    assert!(stage.admit("another-key").await.is_err() && stage.admit(key.expose_secret()).await.is_ok());
    assert!(begin(clash, stage.state.clone(), AuditMode::Required).await.is_err(), "and at the start");
    let mut same = options();
    let digest = crate::api_key::KeyDigest::of(key.expose_secret()).to_config();
    let entry = json!({digest: {"role": "viewer", "permissions": ["admin"], "id": "other"}});
    same.api_keys = serde_json::from_value(entry).unwrap();
    assert!(stage.administration.reload(same.build().unwrap(), None).await.is_err(), "the same key twice");
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_done() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let key = stage.create("ci").await.key;
    stage.state.down.store(true, Ordering::SeqCst);
    for outcome in [
        stage.administration.create_key(&admin, new_key("more")).await.map(|_| ()),
        stage.administration.rotate_key(&admin, "ci", 0).await.map(|_| ()),
        stage.administration.revoke_key(&admin, "ci").await,
        stage.administration.put_acl(&admin, "etl", acl(&["ops"])).await.map(|_| ()),
        stage.administration.remove_acl(&admin, "etl").await,
    ] {
        assert!(matches!(outcome, Err(AdministrationError::State(_))), "{outcome:?}");
    }
    stage.state.down.store(false, Ordering::SeqCst);
    assert!(stage.admit(key.expose_secret()).await.is_ok());
    assert_eq!(stage.administration.keys(&admin).len(), 3);
    assert_eq!(stage.administration.acl(&admin, "etl").unwrap().source, Source::Configuration);
    let changes = stage.changes();
    let failures = changes.iter().filter(|(_, outcome, _)| outcome == "failure").count();
    assert_eq!((changes.len(), failures), (11, 5), "each is recorded with its failure");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let stage = stage().await;
    let admin = stage.admin().await;
    stage.administration.guard().audit().close();
    let error = stage.administration.create_key(&admin, new_key("ci")).await.unwrap_err();
    let refused = |kind| matches!(&error, AdministrationError::Refused(refusal) if refusal.kind() == kind);
    assert!(refused(RefusalKind::AuditUnavailable), "{error:?}");
    assert!(stage.state.load().await.unwrap().is_empty());
    assert!(stage.administration.reload(SecurityOptions::default().build().unwrap(), None).await.is_err());
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_no_start() {
    let down: Arc<Flaky> = Arc::default();
    down.down.store(true, Ordering::SeqCst);
    assert!(begin(options(), down, AuditMode::Required).await.is_err());
    let known = json!({"role": "viewer", "permissions": ["read"]});
    let digest = crate::api_key::KeyDigest::of("k").to_config();
    let (by, at) = ("admin", "2026-01-01T00:00:00Z");
    for (kind, body) in [
        ("sorcery", json!({})),
        ("api_key", json!({})),
        ("api_key", json!({"entry": known, "digest": "k", "created_by": by, "created_at": at})),
        ("api_key", json!({"entry": {"role": "viewer"}, "digest": digest, "created_by": by})),
        // A restriction that this version does not know must not be passed over.
        (
            "api_key",
            json!({"entry": known, "digest": digest, "created_by": by, "created_at": at, "only_on": "sundays"}),
        ),
        (
            "api_key",
            json!({"entry": {"permissions": []}, "digest": digest, "created_by": by, "created_at": at}),
        ),
        ("pipeline_acl", json!({"acl": {"write": []}, "changed_by": by, "changed_at": at})),
        ("token_revocation", json!({"rule": {}, "created_by": by, "created_at": at})),
    ] {
        let state: Arc<Flaky> = Arc::default();
        let record = StateRecord {
            kind: kind.to_owned(),
            id: "x".to_owned(),
            body: body.clone(),
            updated_at: Timestamp::now(),
        };
        state.write(vec![StateChange::Put(record)]).await.unwrap();
        let error =
            begin(options(), state, AuditMode::Required).await.err().unwrap_or_else(|| panic!("{body}"));
        assert!(
            matches!(&error, AdministrationError::Unreadable { id, .. } if id == "x"),
            "{body}: {error:?}"
        );
        assert!(!error.to_string().contains(&digest[7..]), "{error}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let stage = stage().await;
    let admin = stage.admin().await;
    for delay in 0..20 {
        let id = format!("k{delay}");
        let made = stage.administration.create_key(&admin, new_key(&id));
        // Dropped somewhere on its way.
        let _ = tokio::time::timeout(Duration::from_micros(200 * delay), made).await;
    }
    // Whoever comes next waits for what is under way.
    stage.create("last").await;
    let listed: Vec<String> = stage.administration.keys(&admin).into_iter().map(|key| key.id).collect();
    let stored: Vec<String> = stage.state.load().await.unwrap().into_iter().map(|record| record.id).collect();
    let of_state: Vec<&String> =
        listed.iter().filter(|id| !["admin", "viewer"].contains(&id.as_str())).collect();
    let mut sorted: Vec<&String> = stored.iter().collect();
    sorted.sort();
    assert_eq!(of_state, sorted, "what is in force is what is kept");
    assert_eq!(stage.changes().len(), stored.len(), "and what is recorded");
}

#[tokio::test]
async fn changes_at_the_same_time_all_hold() {
    let stage = Arc::new(stage().await);
    let admin = stage.admin().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (stage, admin) = (Arc::clone(&stage), admin.clone());
        tasks.spawn(async move {
            let id = format!("k{}", number / 2);
            stage.administration.create_key(&admin, new_key(&id)).await.is_ok()
        });
    }
    let made = tasks.join_all().await;
    assert_eq!(made.iter().filter(|made| **made).count(), 10, "of two of one id one is made");
    assert_eq!(stage.administration.keys(&admin).len(), 12);
    assert_eq!(stage.state.load().await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_permit_for_something_else_is_none_for_this() {
    let stage = stage().await;
    let guard = stage.administration.guard();
    let (admin, viewer) = (stage.admit("admin-key").await.unwrap(), stage.admit("viewer-key").await.unwrap());
    let whole = guard.authorize(&admin, Permission::Admin, Resource::WholeServer).unwrap();
    let right = guard.authorize(&admin, Permission::Admin, Resource::SecurityAdmin).unwrap();
    assert!(Administrator::new(&admin, &whole).is_err());
    assert!(Administrator::new(&viewer, &right).is_err(), "somebody else's");
    assert!(Administrator::new(&admin, &right).is_ok());
}

#[tokio::test]
async fn the_last_use_of_keys_outlives_the_process() {
    let stage = stage().await;
    let key = stage.create("ci").await.key;
    stage.admit(key.expose_secret()).await.unwrap();
    let used = |stage: &Stage, by: &Administrator| {
        let keys = stage.administration.keys(by);
        keys.into_iter().map(|key| (key.id, key.last_used_at)).collect::<Vec<_>>()
    };
    let now = used(&stage, &stage.admin().await);
    assert!(now[0].1.is_some() && now[1].1.is_some(), "{now:?}");
    assert_eq!(now[2], ("viewer".to_owned(), None));
    // No request writes by itself.
    assert_eq!(stage.state.load().await.unwrap().len(), 1);
    stage.administration.flush().await.unwrap();
    let again = stage.restart().await;
    let before = again.administration.guard().settings();
    let kept = before.keys().records().find(|record| record.id == "ci").unwrap().usage.last();
    assert_eq!(kept, now[1].1);
    // A later key of the same id is another.
    again.administration.revoke_key(&again.admin().await, "ci").await.unwrap();
    let made = again.create("ci").await;
    assert_eq!(made.view.last_used_at, None);
    assert_eq!(used(&again, &again.admin().await)[1].1, None);
}

#[tokio::test(start_paused = true)]
async fn uses_are_written_a_minute_later_by_themselves() {
    let stage = stage().await;
    stage.admit("viewer-key").await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let kinds: Vec<_> = stage.state.load().await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(kinds, ["viewer"]);
}

#[tokio::test]
async fn a_change_too_long_for_a_record_is_recorded_by_its_hash() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let roles: Vec<String> = (0..100).map(|number| format!("{}{number}", "r".repeat(120))).collect();
    let lists = Permission::ALL.map(|permission| (permission, roles.clone()));
    stage.administration.put_acl(&admin, "etl", Acl::new(lists)).await.unwrap();
    let (_, _, detail) = stage.changes().pop().unwrap();
    assert_eq!(detail["after_sha256"].as_str().unwrap().len(), 64);
    stage.administration.put_acl(&admin, "etl", acl(&["a"; 100])).await.unwrap();
    let error = stage.administration.put_acl(&admin, "etl", acl(&["a"; 101])).await.unwrap_err();
    assert!(matches!(&error, AdministrationError::Invalid { field, .. } if field == "read"), "{error:?}");
}
