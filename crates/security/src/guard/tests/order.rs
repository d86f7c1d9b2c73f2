use super::*;
use crate::audit::AuditEvent;
use crate::permission::Permission;
use crate::policy::Resource;

#[tokio::test]
async fn https_comes_before_everything() {
    let stage = stage(|options| {
        options.rate_limits.insert("get_dag".to_owned(), "1/hour".to_owned());
    });
    for _ in 0..3 {
        for call in [
            Call::new(),
            Call::new().key("viewer-key"),
            Call::new().key("wrong"),
            Call::new().key("a").key("b"),
        ] {
            let refusal = stage.admit(&call.plain()).await.unwrap_err();
            assert_eq!((refusal.kind(), refusal.title()), (RefusalKind::HttpsRequired, "HTTPS required"));
            assert_eq!(refusal.status(), 403);
        }
    }
    assert!(
        stage.events().iter().all(|event| event == "authorization.denied denied"),
        "{:?}",
        stage.events()
    );
    // None of them was counted, as a request or as a bad credential.
    assert!(stage.admit(&Call::new().key("viewer-key")).await.is_ok());
}

#[tokio::test]
async fn only_a_socket_counts_as_secure_when_a_proxy_names_no_protocol() {
    let stage = stage(|_| {});
    let behind =
        |call: Call| call.key("viewer-key").plain().from("127.0.0.1").with("x-real-ip", "203.0.113.9");
    assert!(stage.admit(&behind(Call::socket())).await.is_ok());
    // Any client can write this header.
    let pretending = behind(Call::new()).with("upgrade", "websocket");
    assert_eq!(stage.refused(&pretending).await, RefusalKind::HttpsRequired);
}

#[tokio::test]
async fn the_address_limit_comes_before_authentication() {
    let stage = stage(|options| {
        options.rate_limits.insert("get_dag".to_owned(), "2/hour".to_owned());
    });
    assert_eq!(stage.refused(&Call::new()).await, RefusalKind::MissingCredential);
    assert_eq!(stage.refused(&Call::new().key("wrong")).await, RefusalKind::InvalidKey);
    for call in [Call::new(), Call::new().key("wrong"), Call::new().key("viewer-key")] {
        assert_eq!(stage.refused(&call).await, RefusalKind::RateLimited);
    }
    assert_eq!(stage.events()[2..], ["rate_limit.exceeded throttled"; 3]);
}

#[tokio::test]
async fn the_principal_limit_comes_after_authentication_and_before_authorization() {
    let stage = stage(|options| {
        options.rate_limits.insert("get_dag".to_owned(), "2/hour".to_owned());
    });
    for peer in ["192.0.2.1", "192.0.2.2"] {
        stage.admit(&Call::new().key("viewer-key").from(peer)).await.unwrap();
    }
    // A new address, but the principal has spent its quota; a bad key is found out first.
    assert_eq!(
        stage.refused(&Call::new().key("viewer-key").from("192.0.2.3")).await,
        RefusalKind::RateLimited
    );
    assert_eq!(stage.refused(&Call::new().key("wrong").from("192.0.2.4")).await, RefusalKind::InvalidKey);
    assert!(stage.admit(&Call::new().key("admin-key").from("192.0.2.5")).await.is_ok());
    let throttled =
        stage.records().into_iter().find(|record| record.event == AuditEvent::RateLimitExceeded).unwrap();
    assert_eq!(throttled.principal.unwrap().id, "viewer");
    assert_eq!((throttled.status, throttled.action.as_deref()), (Some(429), Some("get_dag")));
}

#[tokio::test]
async fn a_foreign_origin_is_refused_before_its_credential_is_looked_at() {
    let stage = stage(|_| ());
    let call =
        Call::socket().with("origin", "https://evil.example").with("host", "flow.example.com").key("wrong");
    assert_eq!(stage.refused(&call).await, RefusalKind::ForeignOrigin);
    assert_eq!(stage.events(), ["websocket.denied denied"]);
}

#[tokio::test]
async fn trusted_proxies_make_a_request_secure_and_name_its_client_others_do_not() {
    let stage = stage(|_| ());
    let call = Call::new()
        .key("viewer-key")
        .plain()
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-for", "203.0.113.9");
    assert_eq!(stage.refused(&call).await, RefusalKind::HttpsRequired);
    let admitted = stage.admit(&call.from("127.0.0.1")).await.unwrap();
    assert!(admitted.client().secure);
    assert_eq!(admitted.client().ip.to_string(), "203.0.113.9");
    assert_eq!(stage.records()[1].ip.unwrap().to_string(), "203.0.113.9");
}

#[tokio::test]
async fn probes_need_neither_https_nor_credential_and_public_pages_only_https() {
    let stage = stage(|_| ());
    let probe = |access| Call { endpoint: endpoint::HEALTH, access, ..Call::new() };
    let admitted = stage.admit(&probe(Access::Probe).plain()).await.unwrap();
    assert_eq!(admitted.credential(), CredentialState::NotNeeded);
    assert_eq!(stage.refused(&probe(Access::Public).plain()).await, RefusalKind::HttpsRequired);
    // A bad credential on a public page is not looked at, so it is no oracle either.
    assert!(stage.admit(&probe(Access::Public).key("wrong")).await.is_ok());
    // And what is admitted so may do nothing that needs a principal.
    assert!(stage.guard.authorize(&admitted, Permission::Execute, Resource::Pipeline("etl")).is_err());
    assert!(stage.guard.authorize(&admitted, Permission::Read, Resource::Myself).is_err());
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused() {
    let stage = stage(|_| ());
    let viewer = stage.admit(&Call::new().key("viewer-key")).await.unwrap();
    stage.guard.audit().close();
    for call in [Call::new(), Call::new().key("viewer-key"), Call::new().key("wrong"), Call::new().plain()] {
        let refusal = stage.admit(&call).await.unwrap_err();
        assert_eq!((refusal.kind(), refusal.status().as_u16()), (RefusalKind::AuditUnavailable, 503));
    }
    let note = Note { pipeline_id: Some("etl"), ..Note::default() };
    let refusal = stage.guard.note(&viewer, AuditEvent::PipelineExecute, note).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::AuditUnavailable);
    let refusal = stage.guard.authorize(&viewer, Permission::Execute, Resource::Pipeline("etl")).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::AuditUnavailable);
    // A change of the settings that cannot be recorded does not happen.
    let off = SecurityOptions { security_enabled: false, ..options() };
    assert_eq!(
        stage.guard.reload(off.build().unwrap(), None).unwrap_err().kind(),
        RefusalKind::AuditUnavailable
    );
    assert!(stage.guard.settings().security_enabled());
}

#[tokio::test]
async fn a_note_says_who_did_what_to_what() {
    let stage = stage(|_| ());
    let admin = stage.admit(&Call::new().key("admin-key")).await.unwrap();
    let note = Note {
        action: Some("cancel"),
        run_id: Some("r1"),
        pipeline_id: Some("etl"),
        status: Some(202),
        ..Note::default()
    };
    stage.guard.note(&admin, AuditEvent::RunControl, note).unwrap();
    let record = stage.records().pop().unwrap();
    assert_eq!(record.event, AuditEvent::RunControl);
    assert_eq!(
        record.principal.as_ref().map(|p| (p.id.as_str(), p.kind.as_str())),
        Some(("admin", "api_key"))
    );
    assert_eq!((record.action.as_deref(), record.run_id.as_deref()), (Some("cancel"), Some("r1")));
    assert_eq!((record.pipeline_id.as_deref(), record.status), (Some("etl"), Some(202)));
    assert_eq!((record.method.as_deref(), record.path.as_deref()), (Some("GET"), Some("/pipelines/etl/dag")));
}
