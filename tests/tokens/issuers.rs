//! Several issuers: each bound to its own keys, and their subjects kept apart.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Issuer, Server, jwt};

use crate::support::*;

const ONE: &str = "https://one.example";
const TWO: &str = "https://two.example";

async fn two_issuers() -> (Server, Issuer) {
    let published = Issuer::start(&[key("ES256")]).await;
    let issuers = json!([
        { "issuer": ONE, "audiences": "flow", "algorithms": ["ES256"], "jwks_url": published.url() },
        {
            "issuer": TWO,
            "public_keys": [{ "algorithm": "EdDSA", "kid": "EdDSA", "pem": key("EdDSA").public_pem() }],
        },
    ]);
    let server = server()
        .env("TASKIQ_FLOW_JWT_SECRET", SECRET)
        .env("TASKIQ_FLOW_JWT_ISSUERS", issuers.to_string())
        .start()
        .await;
    (server, published)
}

fn of_one() -> Value {
    with(json!({ "iss": ONE, "aud": "flow" }))
}

fn of_two() -> Value {
    with(json!({ "iss": TWO }))
}

#[tokio::test]
async fn a_token_of_one_issuer_signed_by_another_is_refused() {
    let (server, _published) = two_issuers().await;
    for (token, expected) in [
        (key("ES256").token(&of_one()), 200),
        (key("EdDSA").token(&of_two()), 200),
        (jwt::hs256(SECRET, &claims()), 200),
        (key("EdDSA").token(&of_one()), 401),
        (key("ES256").token(&of_two()), 401),
        (jwt::hs256(SECRET, &of_one()), 401),
        (jwt::hs256(SECRET, &of_two()), 401),
        (key("ES256").token(&with(json!({ "iss": ONE }))), 401),
        (key("ES256").token(&with(json!({ "iss": "https://three.example", "aud": "flow" }))), 401),
    ] {
        assert_eq!(status(&server, &token).await, expected, "{token}");
    }
}

#[tokio::test]
async fn the_same_subject_of_two_issuers_is_two_principals() {
    let (server, _published) = two_issuers().await;
    let clients =
        [key("ES256").token(&of_one()), key("EdDSA").token(&of_two()), jwt::hs256(SECRET, &claims())]
            .map(|token| server.client().token(&token));
    let mut runs = Vec::new();
    for client in &clients {
        let started =
            client.clone().header("Idempotency-Key", "same").post("/pipelines/one/execute", &json!({})).await;
        runs.push(started.expect(202).json()["run_id"].as_str().unwrap().to_owned());
        let again =
            client.clone().header("Idempotency-Key", "same").post("/pipelines/one/execute", &json!({})).await;
        assert_eq!(again.json()["run_id"], runs[runs.len() - 1].as_str());
    }
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 3, "a key of another's is not one's own");
    for (client, issuer) in clients.iter().zip([Some(ONE), Some(TWO), None]) {
        let me = client.get("/me").await.expect(200).json();
        assert_eq!((me["id"].as_str(), me["issuer"].as_str()), (Some("ada"), issuer));
    }
    let records: Vec<Value> =
        server.audit().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for issuer in [ONE, TWO] {
        let named =
            |record: &&Value| record["principal"]["issuer"] == issuer && record["principal"]["id"] == "ada";
        assert!(records.iter().any(|record| named(&record)), "{issuer}");
    }
}

#[tokio::test]
async fn a_single_issuer_is_shown_as_ever() {
    let server =
        server().env("TASKIQ_FLOW_JWT_SECRET", SECRET).env("TASKIQ_FLOW_JWT_ISSUER", ONE).start().await;
    let me = server.client().token(&jwt::hs256(SECRET, &with(json!({ "iss": ONE })))).get("/me").await;
    let me = me.expect(200).json();
    assert_eq!((&me["id"], me.get("issuer")), (&json!("ada"), None));
}
