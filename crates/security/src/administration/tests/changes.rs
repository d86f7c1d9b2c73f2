//! That a change is made wholly or not at all, recorded, and by who may.

use super::*;

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
        ("revoked_api_key", json!({"revoked_by": by})),
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

#[tokio::test]
async fn who_lost_the_right_while_waiting_changes_nothing() {
    let stage = stage().await;
    let admin = stage.admin().await;
    let deputy = NewKey {
        roles: vec!["admin".to_owned()],
        pipelines: Vec::new(),
        permissions: [Permission::Admin].into_iter().collect(),
        ..new_key("deputy")
    };
    let issued = stage.administration.create_key(&admin, deputy.clone()).await.unwrap();
    let stale = stage.administrator(issued.key.expose_secret()).await;
    stage.create("ci").await;
    stage.administration.revoke_key(&admin, "deputy").await.unwrap();
    let before = stage.state.load().await.unwrap();
    let tokens = Revocation::Token { jti: "x".to_owned(), issuer: None, expires_at: None };
    for outcome in [
        stage.administration.create_key(&stale, NewKey { id: None, ..deputy }).await.map(drop),
        stage.administration.rotate_key(&stale, "ci", 0).await.map(drop),
        stage.administration.revoke_key(&stale, "ci").await,
        stage.administration.put_acl(&stale, "etl", acl(&["deputy"])).await.map(drop),
        stage.administration.remove_acl(&stale, "etl").await,
        stage.administration.revoke_tokens(&stale, tokens).await.map(drop),
        stage.administration.reload(options().build().unwrap(), Some(&stale.0)).await.map(drop),
    ] {
        let refused = matches!(&outcome, Err(AdministrationError::Refused(refusal)) if refusal.kind() == RefusalKind::Forbidden);
        assert!(refused, "{outcome:?}");
    }
    assert_eq!(stage.state.load().await.unwrap(), before);
    assert_eq!(stage.changes().len(), 3, "none was announced");
}
