//! `/security/explain`: what it says is what happens.

use http::Method;
use serde_json::{Value, json};

use crate::support::{SECRET, Server, server, server_with};

async fn explain(server: &Server, question: Value) -> Value {
    let answer = server.post("/security/explain", question).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for secret in ["viewer-key", "admin-key", SECRET, "sha256:"] {
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
    answer.json()
}

#[tokio::test]
async fn an_explanation_is_what_the_request_is_answered() {
    let server = server().await;
    for (key, id) in [
        ("admin-key", "admin"),
        ("reader-key", "reader"),
        ("viewer-key", "viewer"),
        ("runner-key", "runner"),
        ("limited-admin-key", "limited-admin"),
    ] {
        for (permission, method, path) in
            [("read", Method::GET, "/pipelines/{id}"), ("execute", Method::POST, "/pipelines/{id}/execute")]
        {
            for pipeline in ["diamond", "failing", "secret", "missing"] {
                let path = path.replace("{id}", pipeline);
                let status = server.call(method.clone(), &path).key(key).send().await.status;
                let why = explain(
                    &server,
                    json!({"key_id": id, "permission": permission, "pipeline_id": pipeline}),
                );
                let why = why.await;
                assert_eq!(why["allowed"], status != 403, "{method} {path} by {key}: {status}, {why}");
                assert_eq!(why["rule"], why["chain"].as_array().unwrap().last().unwrap()["rule"]);
                assert_eq!(why["pipeline_exists"], pipeline != "missing");
            }
        }
        let status = server.call(Method::GET, "/security/config").key(key).send().await.status;
        let question = json!({"principal": id, "permission": "admin", "resource": "security_admin"});
        assert_eq!(explain(&server, question).await["allowed"], status != 403, "{key}");
    }
}

#[tokio::test]
async fn it_says_which_rule_and_what_would_help() {
    let server = server().await;
    let why =
        explain(&server, json!({"key_id": "viewer", "permission": "read", "pipeline_id": "failing"})).await;
    assert_eq!((&why["allowed"], &why["rule"]), (&json!(false), &json!("whitelist")));
    assert_eq!(
        why["changes"],
        json!([{
            "text": "add `failing` to the pipelines of the key `viewer`",
            "edits": [{"field": "api_keys.viewer.pipelines", "action": "add", "value": "failing"}],
        }])
    );
    let question = json!({"principal": {"type": "jwt", "roles": ["viewer"]}, "permission": "read", "pipeline_id": "secret"});
    let why = explain(&server, question).await;
    assert_eq!((&why["rule"], &why["principal"]["type"]), (&json!("acl"), &json!("jwt")));
    assert_eq!(why["changes"][0]["text"], "add role `viewer` to pipeline_acls.secret.read");
    let question = json!({"roles": ["keeper"], "permission": "read", "pipeline_id": "secret"});
    assert_eq!(explain(&server, question).await["allowed"], true);
    let question = json!({
        "type": "api_key", "role": "x", "pipelines": ["d*"], "permissions": ["execute"],
        "permission": "execute", "pipeline_id": "diamond",
    });
    assert_eq!(explain(&server, question).await["allowed"], true);
    let question = json!({"type": "anonymous", "permission": "read"});
    assert_eq!(explain(&server, question).await["rule"], "anonymous");
}

#[tokio::test]
async fn a_certificate_is_asked_about_by_its_id_or_its_name() {
    let server = server_with(|setup| {
        let entries = json!({
            "CN=robot": {"id": "robot-1", "role": "robot", "pipelines": ["diamond"], "permissions": ["read"]},
            "CN=twin": {"id": "viewer", "role": "robot", "permissions": ["read"]},
        });
        setup.security.client_certificates = serde_json::from_value(entries).unwrap();
    })
    .await;
    for who in [
        json!({"certificate": "robot-1"}),
        json!({"certificate": "CN=robot"}),
        json!({"type": "certificate", "certificate": "robot-1"}),
        json!({"principal": "robot-1"}),
        json!({"principal": {"certificate": "robot-1"}}),
    ] {
        let ask = async |pipeline: &str| {
            let mut question = who.clone();
            question["permission"] = json!("read");
            question["pipeline_id"] = json!(pipeline);
            explain(&server, question).await
        };
        let may = ask("diamond").await;
        assert_eq!((&may["allowed"], &may["principal"]["id"]), (&json!(true), &json!("robot-1")), "{who}");
        assert_eq!(may["principal"]["type"], "certificate");
        let why = ask("failing").await;
        assert_eq!((&why["allowed"], &why["rule"]), (&json!(false), &json!("whitelist")), "{who}");
        let text = "add `failing` to the pipelines of the certificate `robot-1`";
        assert_eq!(why["changes"][0]["text"], text);
    }
    for (who, field) in [
        (json!({"certificate": "robot-2"}), "certificate"),
        (json!({"type": "certificate", "roles": ["robot"]}), "certificate"),
        (json!({"certificate": "robot-1", "key_id": "viewer"}), "principal"),
        (json!({"certificate": "robot-1", "type": "api_key"}), "principal"),
        (json!({"certificate": "robot-1", "roles": ["x"]}), "principal"),
        (json!({"certificate": "robot-1", "principal": "viewer"}), "principal"),
        // A key and a certificate have the id: which one is meant?
        (json!({"principal": "viewer"}), "principal"),
    ] {
        let mut question = who.clone();
        question["permission"] = json!("read");
        assert_eq!(server.post("/security/explain", question).await.fields(), [field], "{who}");
    }
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_with_the_mend() {
    let server = server().await;
    let fields = async |question: Value| server.post("/security/explain", question).await.fields();
    assert_eq!(fields(json!({"key_id": "nobody", "permission": "read"})).await, ["key_id"]);
    assert_eq!(fields(json!({"key_id": "viewer", "permission": "write"})).await, ["permission"]);
    assert_eq!(fields(json!({"key_id": "viewer"})).await, ["permission"]);
    assert_eq!(fields(json!({"permission": "read"})).await, ["principal"]);
    assert_eq!(
        fields(json!({"key_id": "viewer", "roles": ["x"], "permission": "read"})).await,
        ["principal"]
    );
    assert_eq!(
        fields(json!({"principal": "viewer", "roles": ["x"], "permission": "read"})).await,
        ["principal"]
    );
    assert_eq!(
        fields(json!({"type": "jwt", "permissions": ["read"], "permission": "read"})).await,
        ["principal"]
    );
    assert_eq!(fields(json!({"type": "robot", "permission": "read"})).await, ["type"]);
    assert_eq!(
        fields(json!({"key_id": "viewer", "permission": "read", "pipeline_id": "a*"})).await,
        ["pipeline_id"]
    );
    let both = json!({"key_id": "viewer", "permission": "read", "pipeline_id": "a", "resource": "myself"});
    assert_eq!(fields(both).await, ["resource"]);
    let unknown = server.post("/security/explain", json!({"key_id": "viewer", "permissoin": "read"})).await;
    assert_eq!(unknown.status, 400);
}
