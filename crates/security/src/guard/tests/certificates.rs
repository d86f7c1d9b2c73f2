use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::audit::AuditEvent;
use crate::certificate::{CertificateFacts, ClientTrust};
use crate::permission::Permission;
use crate::policy::Resource;
use crate::principal::PrincipalKind;
use crate::settings::AuthProvider;

fn stage_of_robots() -> Stage {
    stage(robots)
}

fn robots(options: &mut SecurityOptions) {
    let entries = json!({
        "CN=robot": {"role": "viewer", "pipelines": ["pipeline1"], "permissions": ["read"], "id": "robot-1"},
        "CN=late": {"role": "viewer", "permissions": ["read"], "expires_at": "2020-01-01T00:00:00Z"},
    });
    options.client_certificates = serde_json::from_value(entries).unwrap();
}

fn shown(name: &str) -> ClientCertificate {
    ClientCertificate::new(CertificateFacts::of_test(name), ClientTrust::new())
}

fn call(name: &str) -> Call {
    Call { certificate: Some(shown(name)), ..Call::new() }
}

#[tokio::test]
async fn a_certificate_that_an_entry_names_is_a_credential() {
    let stage = stage_of_robots();
    let robot = stage.admit(&call("robot")).await.unwrap();
    let principal = robot.principal();
    assert_eq!((principal.id(), principal.kind()), ("robot-1", PrincipalKind::Certificate));
    assert!(principal.is_authenticated() && robot.credential() == CredentialState::Accepted);
    let may = |permission, pipeline| {
        stage.guard.authorize(&robot, permission, Resource::Pipeline(pipeline)).is_ok()
    };
    assert!(may(Permission::Read, "pipeline1") && !may(Permission::Execute, "pipeline1"));
    assert!(!may(Permission::Read, "pipeline2"), "its list of pipelines holds");
    let success =
        stage.records().into_iter().find(|record| record.event == AuditEvent::AuthenticationSuccess).unwrap();
    let by = success.principal.unwrap();
    assert_eq!(
        (by.id.as_str(), by.kind.as_str(), success.detail.as_deref()),
        ("robot-1", "certificate", Some("certificate"))
    );
}

#[tokio::test]
async fn any_other_certificate_is_no_credential_and_no_error() {
    let stage = stage_of_robots();
    for name in ["stranger", "late", "Robot"] {
        assert_eq!(stage.refused(&call(name)).await, RefusalKind::MissingCredential, "{name}");
        let socket = Call { certificate: Some(shown(name)), ..Call::socket() };
        assert_eq!(stage.admit(&socket).await.unwrap().credential(), CredentialState::Awaited, "{name}");
    }
    let refused =
        stage.records().into_iter().find(|record| record.event == AuditEvent::AuthenticationFailure).unwrap();
    assert!(refused.detail.unwrap().contains("no entry of client_certificates names it"));
    let withdrawn = ClientTrust::new();
    withdrawn.withdraw();
    let certificate = ClientCertificate::new(CertificateFacts::of_test("robot"), withdrawn);
    let call = Call { certificate: Some(certificate), ..Call::new() };
    assert_eq!(stage.refused(&call).await, RefusalKind::MissingCredential);
    // Only tokens count there.
    let stage = super::stage(|options| {
        robots(options);
        options.auth_provider = AuthProvider::Jwt;
    });
    assert_eq!(stage.refused(&self::call("robot")).await, RefusalKind::MissingCredential);
}

#[tokio::test]
async fn a_header_beside_it_decides_alone() {
    let stage = stage_of_robots();
    let with = |key: &str| Call { certificate: Some(shown("robot")), ..Call::new().key(key) };
    assert_eq!(stage.admit(&with("admin-key")).await.unwrap().principal().id(), "admin");
    assert_eq!(
        stage.refused(&with("wrong")).await,
        RefusalKind::InvalidKey,
        "no way back to the certificate"
    );
    // What is no credential here is not passed over either: it may be another's, whom a program with a certificate of
    // its own speaks for.
    let stage = super::stage(|options| {
        robots(options);
        options.jwt_secret = None;
    });
    assert!(stage.admit(&call("robot")).await.is_ok());
    for (name, value) in [
        ("authorization", "Bearer a.b.c"),
        ("authorization", "Basic dTpw"),
        ("authorization", ""),
        ("x-api-key", ""),
    ] {
        let mut call = call("robot");
        call.headers.insert(name, HeaderValue::from_static(value));
        assert_eq!(stage.refused(&call).await, RefusalKind::MissingCredential, "{name}: {value}");
    }
}

/// A viewer's token that is bound to the certificate of this name (RFC 8705).
fn bound_to(name: &str) -> String {
    let thumbprint = URL_SAFE_NO_PAD.encode(CertificateFacts::of_test(name).fingerprint());
    let exp = jiff::Timestamp::now().as_second() + 600;
    let claims = json!({"sub": "ada", "roles": ["viewer"], "exp": exp, "cnf": {"x5t#S256": thumbprint}});
    crate::jwt::sign(&SECRET.into(), r#"{"alg":"HS256"}"#, &claims.to_string()).unwrap()
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_alone() {
    // Limits would tell the refusals apart by what is left.
    let stage = stage(|options| {
        robots(options);
        options.rate_limit_enabled = false;
    });
    let token = bound_to("laptop");
    // The certificate itself need be no credential.
    let with = |name: &str| Call { certificate: Some(shown(name)), ..Call::new().bearer(&token) };
    assert_eq!(stage.admit(&with("laptop")).await.unwrap().principal().id(), "ada");
    for stolen in [Call::new().bearer(&token), with("robot"), with("Laptop")] {
        let refusal = stage.admit(&stolen).await.unwrap_err();
        let bad = stage.admit(&Call::new().bearer("not.a.token")).await.unwrap_err();
        assert_eq!(public_face(&refusal), public_face(&bad));
    }
    let recorded = stage.records().into_iter().filter_map(|record| record.detail);
    assert!(recorded.into_iter().any(|detail| detail.contains("bound to a client certificate")));
    // In the message of a socket it is the same, and the socket lives no longer than the certificate counts.
    let trust = ClientTrust::new();
    let certificate = ClientCertificate::new(CertificateFacts::of_test("laptop"), trust.clone());
    let socket = stage.admit(&Call { certificate: Some(certificate), ..Call::socket() }).await.unwrap();
    let socket = stage.guard.authenticate_message(&socket, &token).await.unwrap();
    assert!(stage.guard.revalidate(&socket).is_some());
    trust.withdraw();
    assert!(stage.guard.revalidate(&socket).is_none());
    let bare = stage.admit(&Call::socket()).await.unwrap();
    let refusal = stage.guard.authenticate_message(&bare, &token).await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::InvalidToken);
}

#[tokio::test]
async fn foreign_pages_cannot_use_the_certificate_of_a_browser() {
    let stage = stage_of_robots();
    let from = |lines: &[(&'static str, &'static str)]| {
        let mut call = call("robot");
        call.headers.insert("host", HeaderValue::from_static("flow.example.com"));
        for (name, value) in lines {
            call.headers.insert(*name, HeaderValue::from_static(value));
        }
        call
    };
    for foreign in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("origin", "http://flow.example.com")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(stage.refused(&from(foreign)).await, RefusalKind::ForeignOrigin, "{foreign:?}");
    }
    for own in [
        &[("origin", "https://flow.example.com"), ("sec-fetch-site", "same-origin")][..],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        assert!(stage.admit(&from(own)).await.is_ok(), "{own:?}");
    }
    // Who sends a key is no browser that was led astray.
    let mut call = from(&[("origin", "https://evil.example")]);
    call.headers.insert("x-api-key", HeaderValue::from_static("viewer-key"));
    assert!(stage.admit(&call).await.is_ok());
}

#[tokio::test]
async fn an_open_socket_lives_as_long_as_its_certificate_counts() {
    let stage = stage_of_robots();
    let trust = ClientTrust::new();
    let certificate = ClientCertificate::new(CertificateFacts::of_test("robot"), trust.clone());
    let call = Call { certificate: Some(certificate), ..Call::socket() };
    let socket = stage.admit(&call).await.unwrap();
    assert_eq!((socket.credential(), socket.principal().id()), (CredentialState::Accepted, "robot-1"));
    assert!(socket.principal().expires_at().is_some(), "it ends with the certificate");
    assert!(stage.guard.revalidate(&socket).is_some());

    let mut changed = options();
    robots(&mut changed);
    changed.client_certificates.get_mut("CN=robot").unwrap().role = Some("other".to_owned());
    stage.guard.reload(changed.build().unwrap(), None).unwrap();
    assert_eq!(stage.guard.revalidate(&socket).unwrap().principal().roles(), ["other"]);
    let changes =
        stage.records().into_iter().rfind(|record| record.event == AuditEvent::SecurityConfigChange).unwrap();
    assert_eq!(changes.detail.as_deref(), Some("changed: client_certificates"));

    trust.withdraw();
    assert!(stage.guard.revalidate(&socket).is_none(), "its authority counts no more");

    let fresh = stage.admit(&Call { certificate: Some(shown("robot")), ..Call::socket() }).await.unwrap();
    stage.guard.reload(options().build().unwrap(), None).unwrap();
    assert!(stage.guard.revalidate(&fresh).is_none(), "its entry was removed");
}

#[test]
fn entries_that_cannot_be_are_refused_by_field() {
    for (entries, words) in [
        (json!({"robot": {"role": "r"}}), "names no certificate"),
        (json!({"CN=robot": {}}), "has no role"),
        (json!({"CN=robot": {"role": "r", "id": "a"}, "CN=other": {"role": "r", "id": "a"}}), "stands twice"),
        (
            json!({"dns:A.example": {"role": "r", "id": "a"}, "dns:a.example": {"role": "r", "id": "b"}}),
            "stands twice",
        ),
    ] {
        let options =
            SecurityOptions { client_certificates: serde_json::from_value(entries).unwrap(), ..options() };
        let error = options.build().unwrap_err();
        assert!(error.field().starts_with("client_certificates"), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
