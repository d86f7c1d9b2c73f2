//! Keys: made, rotated, revoked, used.

use super::*;

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
    // It goes with the key.
    again.administration.revoke_key(&again.admin().await, "ci").await.unwrap();
    again.administration.flush().await.unwrap();
    let kept = again.state.load().await.unwrap();
    assert!(kept.iter().all(|record| (record.kind.as_str(), record.id.as_str()) != ("api_key_usage", "ci")));
}

#[tokio::test]
async fn the_id_of_a_revoked_key_is_given_to_no_other() {
    let stage = stage().await;
    stage.create("ci").await;
    stage.administration.revoke_key(&stage.admin().await, "ci").await.unwrap();
    let kept = stage.state.load().await.unwrap();
    let [tombstone] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((tombstone.kind.as_str(), tombstone.id.as_str()), ("revoked_api_key", "ci"));
    assert_eq!(tombstone.body["revoked_by"], "admin");
    for stage in [&stage, &stage.restart().await] {
        let error = stage.administration.create_key(&stage.admin().await, new_key("ci")).await.unwrap_err();
        let AdministrationError::Conflict(message) = error else { panic!("{error:?}") };
        for part in ["`ci`", "revoked at 20", "by `admin`", "choose an id"] {
            assert!(message.contains(part), "{message}");
        }
    }
    // Nor does a reload or a start bring a key of that id.
    let late = json!({"late-key": {"role": "viewer", "permissions": ["read"], "id": "ci"}});
    let with = SecurityOptions { api_keys: serde_json::from_value(late).unwrap(), ..options() };
    let reloaded = stage.administration.reload(with.clone().build().unwrap(), None).await.map(|_| ());
    let begun = begin(with, stage.state.clone(), AuditMode::Required).await.map(|_| ());
    for outcome in [reloaded, begun] {
        let Err(AdministrationError::Settings(error)) = outcome else { panic!("{outcome:?}") };
        assert!(error.field() == "api_keys.ci" && error.message().contains("choose an id"), "{error:?}");
    }
    assert!(stage.admit("late-key").await.is_err() && stage.admit("viewer-key").await.is_ok());
}

#[tokio::test]
async fn a_key_can_always_be_revoked_and_the_oldest_of_very_many_ids_is_forgotten() {
    let stage = stage().await;
    let tombstone = |number: u32| {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(number.into());
        StateChange::Put(StateRecord {
            kind: "revoked_api_key".to_owned(),
            // The oldest is neither the first nor the last by name.
            id: format!("k{}", (number + 7) % 100_000),
            body: json!({"revoked_by": "admin", "revoked_at": at}),
            updated_at: at,
        })
    };
    stage.state.write((0..100_000).map(tombstone).collect()).await.unwrap();
    let stage = stage.restart().await;
    stage.create("ci").await;
    let admin = stage.admin().await;
    assert!(stage.administration.create_key(&admin, new_key("k7")).await.is_err());
    stage.administration.revoke_key(&admin, "ci").await.unwrap();
    let kept = stage.state.load().await.unwrap();
    assert_eq!(kept.len(), 100_000);
    assert!(kept.iter().any(|record| record.id == "ci") && !kept.iter().any(|record| record.id == "k7"));
    assert!(stage.administration.create_key(&admin, new_key("ci")).await.is_err());
    assert!(stage.administration.create_key(&admin, new_key("k8")).await.is_err());
    assert!(stage.administration.create_key(&admin, new_key("k7")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn uses_are_written_a_minute_later_by_themselves() {
    let stage = stage().await;
    stage.admit("viewer-key").await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let kinds: Vec<_> = stage.state.load().await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(kinds, ["viewer"]);
}
