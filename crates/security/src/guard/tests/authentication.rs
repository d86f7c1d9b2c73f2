use super::*;
use crate::permission::Permission;
use crate::policy::Resource;
use crate::principal::PrincipalKind;
use crate::settings::AuthProvider;

fn unlimited(options: &mut SecurityOptions) {
    options.auth_failure_limit = String::new();
}

#[tokio::test]
async fn the_guides_three_answers() {
    let stage = stage(|_| ());
    let missing = stage.admit(&Call::new()).await.unwrap_err();
    assert_eq!(missing.status(), 401);
    assert_eq!(
        header(&missing, "www-authenticate").unwrap(),
        r#"ApiKey realm="taskiq-flow", header="X-API-Key", Bearer realm="taskiq-flow""#
    );
    assert_eq!(stage.admit(&Call::new().key("invalid-key")).await.unwrap_err().status(), 403);
    let admitted = stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    assert_eq!((admitted.principal().id(), admitted.credential()), ("viewer", CredentialState::Accepted));
    assert_eq!(
        stage.events(),
        [
            "authentication.failure failure",
            "authentication.failure failure",
            "authentication.success success"
        ]
    );
}

#[tokio::test]
async fn tokens_are_admitted_and_bad_ones_answered_as_rfc_6750_says() {
    let stage = stage(|_| ());
    let admitted = stage.admit(&Call::new().bearer(&token("ada", &["viewer"]))).await.unwrap();
    assert_eq!((admitted.principal().id(), admitted.principal().kind()), ("ada", PrincipalKind::Jwt));
    let refusal = stage.admit(&Call::new().bearer("x.y.z")).await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.status().as_u16()), (RefusalKind::InvalidToken, 401));
    let challenge = header(&refusal, "www-authenticate").unwrap();
    assert_eq!(challenge, r#"Bearer realm="taskiq-flow", error="invalid_token""#);
}

#[tokio::test]
async fn what_counts_as_a_credential_depends_on_the_provider() {
    let jwt_only = stage(|options| options.auth_provider = AuthProvider::Jwt);
    let refusal = jwt_only.admit(&Call::new().key("admin-key")).await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::MissingCredential);
    assert_eq!(header(&refusal, "www-authenticate").unwrap(), r#"Bearer realm="taskiq-flow""#);
    assert!(jwt_only.admit(&Call::new().bearer(&token("ada", &[]))).await.is_ok());

    let keys_only = stage(|options| options.jwt_secret = None);
    assert_eq!(keys_only.refused(&Call::new().bearer("x.y.z")).await, RefusalKind::MissingCredential);
    assert!(keys_only.admit(&Call::new().key("admin-key")).await.is_ok());

    let both = stage(|_| ());
    let call = Call::new().key("admin-key").bearer(&token("ada", &[]));
    assert_eq!(both.refused(&call).await, RefusalKind::AmbiguousCredential);
    assert_eq!(
        both.refused(&Call::new().key("admin-key").key("admin-key")).await,
        RefusalKind::AmbiguousCredential
    );
    assert_eq!(
        both.refused(&Call::new().with("authorization", "Basic YTpi")).await,
        RefusalKind::MissingCredential
    );
}

#[tokio::test]
async fn unknown_expired_and_revoked_keys_are_answered_alike() {
    let stage = stage(unlimited);
    stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    let unknown = stage.admit(&Call::new().key("no-such-key").from("192.0.2.2")).await.unwrap_err();
    let expired = stage.admit(&Call::new().key("old-key").from("192.0.2.3")).await.unwrap_err();
    let mut without = options();
    without.api_keys = serde_json::from_value(json!({})).unwrap();
    stage.guard.reload(without.build().unwrap(), None).unwrap();
    let revoked = stage.admit(&Call::new().key("viewer-key").from("192.0.2.4")).await.unwrap_err();
    assert_eq!(public_face(&unknown), public_face(&expired));
    assert_eq!(public_face(&unknown), public_face(&revoked));
    // The operator sees the difference.
    assert_eq!(expired.reason(), "expired key `old`");
    let records = stage.records();
    assert_eq!(records[2].principal.as_ref().unwrap().id, "old");
    assert_eq!(records[1].principal, None);
}

#[tokio::test]
async fn all_bad_tokens_are_answered_alike() {
    let stage = stage(unlimited);
    let other = mint(
        &"another secret of thirty-two bytes".into(),
        &MintClaims::new("a", ["r"], Duration::from_secs(9)),
    );
    let good = token("ada", &["viewer"]);
    let mut faces = Vec::new();
    for bad in [&other.unwrap(), &good[..good.len() - 3], "x", "e30.e30.e30", &"x".repeat(9000)] {
        stage.pass_seconds(3600);
        faces.push(public_face(&stage.admit(&Call::new().bearer(bad)).await.unwrap_err()));
    }
    assert!(faces.iter().all(|face| *face == faces[0]), "{faces:#?}");
}

#[tokio::test]
async fn denials_do_not_tell_which_rule_or_whether_the_pipeline_exists() {
    let stage = stage(|_| ());
    let viewer = stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    let mut faces = Vec::new();
    for (permission, resource) in [
        (Permission::Execute, Resource::Pipeline("pipeline1")),
        (Permission::Read, Resource::Pipeline("not-on-the-list")),
        (Permission::Read, Resource::WholeServer),
        (Permission::Admin, Resource::SecurityAdmin),
    ] {
        let refusal = stage.guard.authorize(&viewer, permission, resource).unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::Forbidden);
        faces.push(public_face(&refusal));
    }
    assert!(faces.iter().all(|face| *face == faces[0]));
    let permit = stage.guard.authorize(&viewer, Permission::Read, Resource::Pipeline("pipeline1")).unwrap();
    assert_eq!((permit.pipeline(), permit.principal().id()), (Some("pipeline1"), "viewer"));

    let denied = &stage.records()[1];
    assert_eq!(denied.pipeline_id.as_deref(), Some("pipeline1"));
    assert_eq!(denied.detail.as_deref(), Some("needs execute; denied by rule: permission"));
    assert_eq!((denied.status, denied.request_id.as_deref()), (Some(403), Some("req-1")));
}

#[tokio::test]
async fn no_credential_reaches_the_log() {
    let stage = stage(unlimited);
    let good = token("ada", &["viewer"]);
    stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    stage.admit(&Call::new().bearer(&good)).await.unwrap();
    _ = stage.admit(&Call::new().key("wrong-key-1")).await;
    _ = stage.admit(&Call::new().bearer("wrong.token.2")).await;
    _ = stage.admit(&Call::new().key("viewer-key").bearer(&good)).await;
    let socket = stage.admit(&Call::socket()).await.unwrap();
    _ = stage.guard.authenticate_message(&socket, "wrong-key-3").await;
    let log = stage.log();
    assert_eq!(stage.records().len(), 6);
    for secret in ["viewer-key", &good, "wrong-key-1", "wrong.token.2", "wrong-key-3", SECRET] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn with_security_off_everything_is_open() {
    let stage = stage(|options| {
        options.security_enabled = false;
        options.rate_limit_default = "1/day".to_owned();
        options.rate_limits.insert("get_dag".to_owned(), "1/day".to_owned());
    });
    for _ in 0..3 {
        let caller = stage.admit(&Call::new().plain()).await.unwrap();
        assert_eq!(caller.principal().kind(), PrincipalKind::Open);
        assert!(stage.guard.authorize(&caller, Permission::Admin, Resource::SecurityAdmin).is_ok());
        assert!(stage.guard.authorize(&caller, Permission::Execute, Resource::Pipeline("pipeline1")).is_ok());
    }
}
