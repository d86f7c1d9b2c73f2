use super::*;
use crate::jwt::{Revocation, Revocations};
use crate::permission::Permission;
use crate::policy::Resource;
use crate::principal::PrincipalKind;
use crate::settings::{AuthProvider, HandshakeAuth};

#[tokio::test]
async fn a_socket_may_authenticate_in_its_first_message() {
    let stage = stage(|_| ());
    let socket = stage.admit(&Call::socket()).await.unwrap();
    assert_eq!(socket.credential(), CredentialState::Awaited);
    assert_eq!(socket.principal().kind(), PrincipalKind::Anonymous);
    // Until then it may nothing, also what an anonymous socket might elsewhere.
    assert!(stage.guard.authorize(&socket, Permission::Read, Resource::Pipeline("pipeline2")).is_err());
    assert!(!stage.guard.may_read(socket.principal(), "pipeline2"));
    let by_key = stage.guard.authenticate_message(&socket, "viewer-key").await.unwrap();
    assert_eq!((by_key.principal().id(), by_key.credential()), ("viewer", CredentialState::Accepted));
    let by_token = stage.guard.authenticate_message(&socket, &token("ada", &[])).await.unwrap();
    assert_eq!(by_token.principal().kind(), PrincipalKind::Jwt);
    for bad in ["", "wrong", "x.y.z", "Bearer "] {
        assert!(stage.guard.authenticate_message(&socket, bad).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_bad_credential_at_the_handshake_is_refused_there() {
    let stage = stage(|_| ());
    assert_eq!(stage.refused(&Call::socket().key("wrong")).await, RefusalKind::InvalidKey);
    assert_eq!(stage.refused(&Call::socket().bearer("x.y.z")).await, RefusalKind::InvalidToken);
    let admitted = stage.admit(&Call::socket().key("viewer-key")).await.unwrap();
    assert_eq!(admitted.credential(), CredentialState::Accepted);
}

#[tokio::test]
async fn the_handshake_can_be_made_to_carry_the_credential() {
    let stage = stage(|options| options.websocket_handshake_auth = HandshakeAuth::Required);
    assert_eq!(stage.refused(&Call::socket()).await, RefusalKind::MissingCredential);
    assert!(stage.admit(&Call::socket().key("viewer-key")).await.is_ok());
}

#[tokio::test]
async fn an_anonymous_socket_reads_what_has_no_acl() {
    let stage = stage(|options| options.websocket_require_auth = false);
    let socket = stage.admit(&Call::socket()).await.unwrap();
    assert_eq!(socket.credential(), CredentialState::Anonymous);
    let may = |permission, resource| stage.guard.authorize(&socket, permission, resource).is_ok();
    assert!(may(Permission::Read, Resource::Pipeline("pipeline2")));
    assert!(!may(Permission::Read, Resource::Pipeline("pipeline1")));
    assert!(!may(Permission::Execute, Resource::Pipeline("pipeline2")));
    assert!(stage.guard.may_read(socket.principal(), "pipeline2"));
    assert!(!stage.guard.may_read(socket.principal(), "pipeline1"));
    // Only sockets are let in so.
    assert_eq!(stage.refused(&Call::new()).await, RefusalKind::MissingCredential);
}

#[tokio::test]
async fn five_connections_a_minute() {
    let stage = stage(|_| ());
    for _ in 0..5 {
        stage.admit(&Call::socket().key("viewer-key")).await.unwrap();
    }
    assert_eq!(stage.refused(&Call::socket().key("viewer-key")).await, RefusalKind::RateLimited);
    stage.pass_seconds(12);
    assert!(stage.admit(&Call::socket().key("viewer-key")).await.is_ok());
    assert_eq!(stage.refused(&Call::socket().key("viewer-key")).await, RefusalKind::RateLimited);
}

#[tokio::test]
async fn origins() {
    let stage = stage(|options| options.allowed_origins = vec!["https://ops.example.com".to_owned()]);
    for (origin, allowed) in [
        (None, true),
        (Some("https://flow.example.com"), true),
        (Some("https://ops.example.com"), true),
        (Some("http://flow.example.com"), false),
        (Some("https://evil.example"), false),
        (Some("null"), false),
    ] {
        stage.pass_seconds(60);
        let call = Call::socket().key("viewer-key").with("host", "flow.example.com");
        let call = match origin {
            Some(origin) => call.with("origin", origin),
            None => call,
        };
        assert_eq!(stage.admit(&call).await.is_ok(), allowed, "{origin:?}");
    }
    stage.pass_seconds(60);
    let twice = Call::socket().key("viewer-key").with("host", "flow.example.com");
    let twice = twice.with("origin", "https://flow.example.com").with("origin", "https://evil.example");
    assert_eq!(stage.refused(&twice).await, RefusalKind::ForeignOrigin);
}

#[tokio::test]
async fn the_guides_nginx_block_counts_as_secure_unless_strict() {
    let call = || Call::socket().plain().from("127.0.0.1").with("x-real-ip", "203.0.113.9").key("viewer-key");
    assert!(stage(|_| ()).admit(&call()).await.is_ok());
    let strict = stage(|options| options.strict_forwarded_proto = true);
    assert_eq!(strict.refused(&call()).await, RefusalKind::HttpsRequired);
    // The rule is for sockets; a plain request needs the protocol named.
    let plain = Call { endpoint: endpoint::GET_DAG, access: Access::Authenticated, ..call() };
    assert_eq!(stage(|_| ()).refused(&plain).await, RefusalKind::HttpsRequired);
}

#[tokio::test]
async fn a_full_house_is_recorded() {
    let stage = stage(|_| ());
    let socket = stage.admit(&Call::socket().key("viewer-key")).await.unwrap();
    let refusal = stage.guard.too_many_connections(&socket);
    assert_eq!(refusal.status(), 503);
    assert_eq!(stage.events(), ["authentication.success success", "websocket.denied denied"]);
}

#[tokio::test]
async fn a_reload_acts_on_open_sockets() {
    let stage = stage(|_| ());
    let by_key = stage.admit(&Call::socket().key("viewer-key")).await.unwrap();
    let by_token = stage.admit(&Call::socket().bearer(&token("ada", &["viewer"]))).await.unwrap();
    let awaiting = stage.admit(&Call::socket()).await.unwrap();
    let mut changes = stage.guard.subscribe_policy_changes();
    let reload = |change: &dyn Fn(&mut SecurityOptions)| {
        let mut options = options();
        change(&mut options);
        stage.guard.reload(options.build().unwrap(), None).unwrap();
        [&by_key, &by_token, &awaiting].map(|socket| stage.guard.revalidate(socket).is_some())
    };

    assert_eq!(reload(&|_| ()), [true, true, true]);
    assert!(changes.changed().await);
    assert_eq!(reload(&|o| o.api_keys = serde_json::from_value(json!({})).unwrap()), [false, true, true]);
    assert_eq!(
        reload(&|o| o.jwt_secret = Some("another secret of thirty-two bytes".into())),
        [true, false, true]
    );
    assert_eq!(reload(&|o| o.auth_provider = AuthProvider::Jwt), [false, true, true]);
    assert_eq!(reload(&|o| o.websocket_handshake_auth = HandshakeAuth::Required), [true, true, false]);
    // The same id with another key is another principal.
    let replaced = json!({"new-viewer-key": {"role": "viewer", "permissions": ["read"], "id": "viewer"}});
    assert_eq!(
        reload(&|o| o.api_keys = serde_json::from_value(replaced.clone()).unwrap()),
        [false, true, true]
    );
    assert_eq!(reload(&|_| ()), [true, true, true]);

    // What changed about a key acts on the socket that has it.
    let widened = json!({"viewer-key": {"role": "ops", "permissions": ["read", "execute"], "id": "viewer"}});
    reload(&|o| o.api_keys = serde_json::from_value(widened.clone()).unwrap());
    let now = stage.guard.revalidate(&by_key).unwrap();
    assert_eq!(now.principal().roles(), ["ops"]);
    assert!(stage.guard.authorize(&now, Permission::Execute, Resource::Pipeline("x")).is_ok());
    assert!(stage.guard.authorize(&now, Permission::Read, Resource::Pipeline("pipeline1")).is_err());
}

#[tokio::test]
async fn a_principal_of_times_without_security_does_not_outlive_them() {
    let stage = stage(|options| options.security_enabled = false);
    let open = stage.admit(&Call::socket().plain()).await.unwrap();
    assert!(stage.guard.revalidate(&open).is_some());
    stage.guard.reload(options().build().unwrap(), None).unwrap();
    assert!(stage.guard.revalidate(&open).is_none());
}

#[tokio::test]
async fn a_reload_records_what_changed_secrets_by_name_only() {
    let stage = stage(|_| ());
    let admin = stage.admit(&Call::new().key("admin-key")).await.unwrap();
    let mut changed = options();
    changed.jwt_secret = Some("another secret of thirty-two bytes".into());
    changed.require_https = false;
    stage.guard.reload(changed.build().unwrap(), Some(&admin)).unwrap();
    let record = stage.records().pop().unwrap();
    assert_eq!(record.detail.as_deref(), Some("changed: jwt_secret, require_https"));
    assert_eq!(record.principal.unwrap().id, "admin");
    assert!(stage.events().last().unwrap().starts_with("security.config_change"));
    // The next request is decided by the new settings.
    assert!(stage.admit(&Call::new().key("viewer-key").plain()).await.is_ok());
}

#[tokio::test]
async fn revocations_act_on_the_next_request_and_on_open_sockets() {
    let stage = stage(|_| ());
    let good = token("ada", &["viewer"]);
    let by_token = stage.admit(&Call::socket().bearer(&good)).await.unwrap();
    let by_key = stage.admit(&Call::socket().key("viewer-key")).await.unwrap();
    let mut changes = stage.guard.subscribe_policy_changes();
    let now = jiff::Timestamp::now();
    let rule =
        |not_before| Revocation::Subject { sub: "ada".into(), issuer: None, not_before, expires_at: None };
    let minute = jiff::SignedDuration::from_mins(1);
    for (not_before, refused) in [(now + minute, true), (now - minute, false)] {
        stage.guard.set_revocations(Revocations::new([rule(not_before)]).unwrap());
        assert!(changes.changed().await);
        assert_eq!(stage.guard.revalidate(&by_token).is_none(), refused);
        assert!(stage.guard.revalidate(&by_key).is_some());
        stage.pass_seconds(3600);
        let again = stage.admit(&Call::new().bearer(&good)).await;
        assert_eq!(again.is_err(), refused);
        if let Err(refusal) = again {
            stage.pass_seconds(3600);
            let garbage = stage.admit(&Call::new().bearer("x.y.z")).await.unwrap_err();
            assert_eq!(public_face(&refusal), public_face(&garbage));
            assert_eq!(refusal.reason(), "token is revoked");
        }
        assert!(stage.admit(&Call::new().bearer(&token("bob", &["viewer"]))).await.is_ok());
    }
    let refused = stage.records().into_iter().find(|record| record.status == Some(401)).unwrap();
    assert_eq!(refused.principal.unwrap().id, "ada", "the operator sees whose it was");
}
