//! Credentials in the wrong place, of the wrong shape, or of somebody else.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::jwt;

use crate::support::{SECRET, builder};

#[tokio::test]
async fn a_key_counts_in_its_header_alone_and_as_it_is() {
    let server = builder().start().await;
    let plain = server.plain_client();
    // printf admin-key | sha256sum: what a stolen configuration shows.
    let digest = "sha256:69a5265506c94c77b787a7d7377b7685a0eff82e33920a71e7ee22cd6154953e";
    for key in [digest, &digest[7..], "ADMIN-KEY", "\"admin-key\"", "admin-key,x", "admin-ke", "admin-key "] {
        let expected = if key.ends_with(' ') { 200 } else { 403 };
        assert_eq!(plain.clone().key(key).get("/me").await.status, expected, "{key:?}");
    }
    for query in ["api_key=admin-key", "X-API-Key=admin-key", "access_token=admin-key"] {
        assert_eq!(plain.get(&format!("/me?{query}")).await.status, 401, "{query}");
    }
    for (name, value) in [
        ("Cookie", "X-API-Key=admin-key"),
        ("X_API_Key", "admin-key"),
        ("Authorization", "Basic YWRtaW46YWRtaW4ta2V5"),
        ("Authorization", "Bearer admin-key"),
        ("X-Forwarded-User", "ops"),
        ("X-Remote-User", "ops"),
        ("X-Forwarded-Client-Cert", "Subject=\"CN=ops\""),
        ("X-SSL-Client-Verify", "SUCCESS"),
    ] {
        assert_eq!(plain.clone().header(name, value).get("/me").await.status, 401, "{name}: {value}");
    }
    assert_eq!(
        plain.clone().key("reader-key").header("Authorization", "Bearer x").get("/me").await.status,
        400
    );
    // Nothing of it is kept anywhere.
    for text in [server.audit(), server.stderr(), server.stdout()] {
        assert!(!text.contains("admin-key") && !text.contains("ADMIN-KEY"), "{text}");
    }
}

#[tokio::test]
async fn a_token_is_nobody_but_its_subject() {
    let server = builder().start().await;
    let get = async |path: &str, claims: Value| {
        let token = jwt::hs256(SECRET, &claims);
        server.plain_client().token(&token).get(path).await.status
    };
    let claims = |sub: &str, roles: &[&str]| json!({ "sub": sub, "roles": roles, "exp": jwt::from_now(Duration::from_secs(600)) });
    assert_eq!(get("/pipelines/secret", claims("ada", &["boss"])).await, 200);
    // A subject that is called like a key has none of the key's rights; nor has a role that nobody gave any.
    assert_eq!(get("/security/config", claims("ops", &["reader"])).await, 403);
    assert_eq!(get("/security/config", claims("ops", &["admin"])).await, 403);
    assert_eq!(get("/pipelines/secret", claims("ada", &["Boss", "boss "])).await, 403);
}
