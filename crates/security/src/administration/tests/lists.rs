//! Access lists, revocations of tokens, and what the configuration says beside them.

use super::*;

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
