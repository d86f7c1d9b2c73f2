//! `/security/keys`, `/security/acls`, `/security/revocations`.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, server, server_with};

async fn put(server: &Server, path: &str, body: Value) -> Answer {
    server.call(Method::PUT, path).key("admin-key").json(&body).send().await
}

async fn delete(server: &Server, path: &str) -> u16 {
    server.call(Method::DELETE, path).key("admin-key").send().await.status
}

async fn status(server: &Server, path: &str, key: &str) -> u16 {
    server.call(Method::GET, path).key(key).send().await.status
}

fn viewer(id: &str) -> Value {
    json!({"id": id, "role": "viewer", "pipelines": ["diamond"], "permissions": ["read"]})
}

#[tokio::test]
async fn a_key_is_made_used_rotated_and_revoked() {
    let server = server().await;
    let made = server.post("/security/keys", viewer("ci")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(
        (&made["id"], &made["source"], &made["created_by"]),
        (&json!("ci"), &json!("stored"), &json!("admin"))
    );
    assert_eq!(status(&server, "/pipelines/diamond", key).await, 200);
    assert_eq!(status(&server, "/pipelines/failing", key).await, 403);

    let list = server.get("/security/keys").await;
    assert!(!list.text().contains(key) && !list.text().contains("sha256"), "{}", list.text());
    let rows = list.json()["keys"].as_array().unwrap().clone();
    let ci = rows.iter().find(|row| row["id"] == "ci").unwrap();
    assert!(ci["last_used_at"].is_string(), "{ci}");
    let of_file = rows.iter().find(|row| row["id"] == "viewer").unwrap();
    assert_eq!((&of_file["source"], &of_file["created_at"]), (&json!("configuration"), &Value::Null));

    let rotated = server.post("/security/keys/ci/rotate", json!({"overlap_seconds": 600})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let rotated = rotated.json();
    let second = rotated["key"].as_str().unwrap();
    assert!(second != key && rotated["previous_valid_until"].is_string(), "{rotated}");
    for key in [key, second] {
        assert_eq!(status(&server, "/me", key).await, 200);
    }
    // Without a body a day's overlap is meant.
    let again = server.call(Method::POST, "/security/keys/ci/rotate").key("admin-key").send().await;
    assert_eq!(again.status, 201, "{}", again.text());

    assert_eq!(delete(&server, "/security/keys/ci").await, 204);
    for key in [key, second, again.json()["key"].as_str().unwrap()] {
        assert_eq!(status(&server, "/me", key).await, 403);
    }
    assert_eq!(delete(&server, "/security/keys/ci").await, 404);
    // Records name it; no other key may be called so.
    let anew = server.post("/security/keys", viewer("ci")).await;
    assert_eq!(anew.status, 409, "{}", anew.text());
    let problem = anew.problem();
    assert!(problem["detail"].as_str().unwrap().contains("choose an id that no key has had"), "{problem}");
    let log: Vec<String> = server.audit().iter().map(Value::to_string).collect();
    for secret in [key, second] {
        assert!(log.iter().all(|line| !line.contains(secret)));
    }
}

#[tokio::test]
async fn keys_are_listed_in_pages() {
    let server = server().await;
    for id in ["a:b", "zz", "Z@1", "mid", "mid.dle"] {
        assert_eq!(server.post("/security/keys", viewer(id)).await.status, 201);
    }
    let ids = |list: &Value| -> Vec<String> {
        list["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    };
    let whole = server.get("/security/keys").await.json();
    assert_eq!((ids(&whole).len(), &whole["next_cursor"]), (10, &Value::Null));
    assert!(ids(&whole).is_sorted(), "{whole}");
    for limit in [1, 3, 5, 9, 10] {
        let (mut seen, mut path) = (Vec::new(), format!("/security/keys?limit={limit}"));
        loop {
            let page = server.get(&path).await.json();
            assert!(ids(&page).len() <= limit && !ids(&page).is_empty(), "{limit}: {page}");
            seen.extend(ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/security/keys?limit={limit}&cursor={cursor}");
        }
        assert_eq!(seen, ids(&whole), "in pages of {limit}");
    }
    for limit in ["0", "501", "-1", "all", ""] {
        assert_eq!(server.get(&format!("/security/keys?limit={limit}")).await.fields(), ["limit"], "{limit}");
    }
    // A key that is gone is no reason to begin again.
    assert_eq!(delete(&server, "/security/keys/mid").await, 204);
    let after = server.get("/security/keys?cursor=mid").await.json();
    assert_eq!(ids(&after)[0], "mid.dle");
    assert_eq!(server.get("/security/keys?cursr=mid").await.status, 400);
}

#[tokio::test]
async fn refused_keys_are_answered_alike() {
    let server = server().await;
    let key = |answer: Answer| answer.json()["key"].as_str().unwrap().to_owned();
    let revoked = key(server.post("/security/keys", viewer("gone")).await);
    assert_eq!(delete(&server, "/security/keys/gone").await, 204);
    let mut elsewhere = viewer("elsewhere");
    elsewhere["allowed_ips"] = json!(["198.51.100.0/24", "2001:db8::1"]);
    let elsewhere = key(server.post("/security/keys", elsewhere).await);
    let mistyped = revoked.replacen("tqf_gone", "tqf_gome", 1);
    let unknown = taskiq_flow_security::api_key::generate("gone").unwrap();
    let unknown = secrecy::ExposeSecret::expose_secret(&unknown).to_owned();
    let mut faces = Vec::new();
    for key in [&unknown, &revoked, &mistyped, &elsewhere, "admin-kex", "x"] {
        let answer = server.call(Method::GET, "/me").key(key).send().await;
        let mut headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        headers.sort();
        faces.push((answer.status, answer.problem(), headers));
    }
    assert_eq!(faces[0].0, 403);
    assert!(faces.iter().all(|face| *face == faces[0]), "{faces:#?}");
    let there = server.call(Method::GET, "/me").key(&elsewhere).from("198.51.100.7", true).send().await;
    assert_eq!((there.status, &there.json()["id"]), (200, &json!("elsewhere")));
}

#[tokio::test]
async fn what_is_wrong_with_a_new_key_is_told_by_field() {
    let server = server().await;
    for (change, field) in [
        (json!({"role": null}), "role"),
        (json!({"role": ""}), "role"),
        (json!({"roles": ["a"]}), "roles"),
        (json!({"id": "a b"}), "id"),
        (json!({"permissions": ["write"]}), "permissions[0]"),
        (json!({"permissions": []}), "permissions"),
        (json!({"permissions": "read"}), "permissions"),
        (json!({"pipelines": [""]}), "pipelines"),
        (json!({"expires_at": "tomorrow"}), "expires_at"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"allowed_ips": ["10.0.0.0/33"]}), "allowed_ips"),
        (json!({"allowed_ips": []}), "allowed_ips"),
    ] {
        let mut body = viewer("ci");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(server.post("/security/keys", body).await.fields(), [field], "{change}");
    }
    for missing in ["role", "pipelines", "permissions"] {
        let mut body = viewer("ci");
        body.as_object_mut().unwrap().shift_remove(missing);
        assert_eq!(server.post("/security/keys", body).await.fields(), [missing]);
    }
    let mut unknown = viewer("ci");
    unknown["secret"] = json!("mine");
    assert_eq!(server.post("/security/keys", unknown).await.status, 400);
    assert_eq!(server.post("/security/keys", viewer("viewer")).await.status, 409);
    assert_eq!(server.post("/security/keys/viewer/rotate", json!({})).await.status, 409);
    assert_eq!(server.post("/security/keys/nobody/rotate", json!({})).await.status, 404);
    let long = server.post("/security/keys/viewer/rotate", json!({"overlap_seconds": 9_999_999})).await;
    assert_eq!(long.fields(), ["overlap_seconds"]);
    let problem =
        server.call(Method::DELETE, "/security/keys/viewer").key("admin-key").send().await.problem();
    assert_eq!(problem["status"], 409);
    assert!(problem["detail"].as_str().unwrap().contains("configuration"), "{problem}");
    // Only the fields of the contract are needed.
    let least = json!({"role": "viewer", "pipelines": ["*"], "permissions": ["read"]});
    let made = server.post("/security/keys", least).await;
    assert!(made.status == 201 && made.json()["id"].as_str().unwrap().starts_with("key-"), "{}", made.text());
}

#[tokio::test]
async fn an_access_list_is_set_shown_and_removed() {
    let server = server().await;
    assert_eq!(server.get("/security/acls/diamond").await.status, 404);
    assert_eq!(status(&server, "/pipelines/diamond", "viewer-key").await, 200);
    let lists = json!({"read": ["ops"], "execute": []});
    let set = put(&server, "/security/acls/diamond", lists.clone()).await;
    assert_eq!((set.status, set.json()), (200, lists.clone()));
    assert_eq!(server.get("/security/acls/diamond").await.json(), lists);
    assert_eq!(status(&server, "/pipelines/diamond", "viewer-key").await, 403);
    let shown = server.get("/security/acls").await.json();
    let rows: Vec<_> =
        shown["acls"].as_array().unwrap().iter().map(|row| (&row["pipeline_id"], &row["source"])).collect();
    assert_eq!(rows, [(&json!("diamond"), &json!("stored")), (&json!("secret"), &json!("configuration"))]);
    let later = put(&server, "/security/acls/not-yet", json!({"read": []})).await.json();
    assert!(later["warnings"][0].as_str().unwrap().contains("not-yet"), "{later}");

    // Of the configuration's list a mark stays that it is gone; it can be had back.
    assert_eq!(status(&server, "/pipelines/secret", "reader-key").await, 403);
    assert_eq!(delete(&server, "/security/acls/secret").await, 204);
    assert_eq!(status(&server, "/pipelines/secret", "reader-key").await, 200);
    assert_eq!(delete(&server, "/security/acls/secret").await, 404);
    assert_eq!(delete(&server, "/security/acls/secret?to=configuration").await, 204);
    assert_eq!(status(&server, "/pipelines/secret", "reader-key").await, 403);
    assert_eq!(delete(&server, "/security/acls/secret?to=configuration").await, 409);
    assert_eq!(delete(&server, "/security/acls/secret?to=nowhere").await, 422);
    assert_eq!(delete(&server, "/security/acls/diamond").await, 204);
    assert_eq!(status(&server, "/pipelines/diamond", "viewer-key").await, 200);

    assert_eq!(put(&server, "/security/acls/diamond", json!({"write": ["a"]})).await.fields(), ["write"]);
    assert_eq!(put(&server, "/security/acls/diamond", json!({"read": "a"})).await.fields(), ["read"]);
    assert_eq!(put(&server, "/security/acls/diamond", json!({"read": [""]})).await.fields(), ["read"]);
    assert_eq!(put(&server, "/security/acls/a*", json!({"read": []})).await.fields(), ["pipeline_id"]);
    assert_eq!(put(&server, "/security/acls/diamond", json!([])).await.status, 400);
    let twice = server.call(Method::PUT, "/security/acls/diamond").key("admin-key");
    let twice = twice.header("content-type", "application/json").body(r#"{"read": ["a"], "read": ["b"]}"#);
    assert_eq!(twice.send().await.status, 400);
}

#[tokio::test]
async fn only_who_administers_security_may() {
    let server = server().await;
    for (method, path, body) in [
        (Method::GET, "/security/keys", None),
        (Method::POST, "/security/keys", Some(viewer("ci"))),
        (Method::POST, "/security/keys/viewer/rotate", Some(json!({}))),
        (Method::DELETE, "/security/keys/viewer", None),
        (Method::GET, "/security/acls", None),
        (Method::GET, "/security/acls/secret", None),
        (Method::PUT, "/security/acls/secret", Some(json!({"read": ["limited-admin"]}))),
        (Method::DELETE, "/security/acls/secret", None),
        (Method::GET, "/security/revocations", None),
        (Method::POST, "/security/revocations", Some(json!({"jti": "a"}))),
        (Method::DELETE, "/security/revocations/a", None),
    ] {
        for key in ["viewer-key", "runner-key", "reader-key", "limited-admin-key"] {
            let call = server.call(method.clone(), path).key(key);
            let call = if let Some(body) = &body { call.json(body) } else { call };
            assert_eq!(call.send().await.status, 403, "{method} {path} by {key}");
        }
    }
    assert_eq!(server.get("/security/keys").await.json()["keys"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn tokens_are_revoked_and_given_back() {
    let server = server().await;
    let rule =
        server.post("/security/revocations", json!({"jti": "7f", "issuer": "https://idp.example"})).await;
    assert_eq!(rule.status, 201, "{}", rule.text());
    let of_subject =
        json!({"sub": "ada", "not_before": "2026-01-01T00:00:00Z", "expires_at": "2100-01-01T00:00:00Z"});
    assert_eq!(server.post("/security/revocations", of_subject).await.status, 201);
    let shown = server.get("/security/revocations").await.json();
    let rules = shown["revocations"].as_array().unwrap();
    assert_eq!((rules.len(), &rules[0]["jti"], &rules[1]["sub"]), (2, &json!("7f"), &json!("ada")));
    assert_eq!(rules[1]["not_before"], "2026-01-01T00:00:00Z");
    let path = format!("/security/revocations/{}", rule.json()["id"].as_str().unwrap());
    assert_eq!((delete(&server, &path).await, delete(&server, &path).await), (204, 404));
    for (body, field) in [
        (json!({}), "jti"),
        (json!({"jti": "a", "sub": "b"}), "jti"),
        (json!({"jti": ""}), "jti"),
        (json!({"sub": ""}), "sub"),
        (json!({"jti": "a", "not_before": "2026-01-01T00:00:00Z"}), "not_before"),
        (json!({"jti": "a", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"sub": "a", "not_before": "then"}), "not_before"),
    ] {
        assert_eq!(server.post("/security/revocations", body.clone()).await.fields(), [field], "{body}");
    }
}

#[tokio::test]
async fn without_a_record_nothing_changes() {
    let server =
        server_with(|setup| setup.audit_mode = taskiq_flow_security::audit::AuditMode::Required).await;
    server.state.guard().audit().close();
    assert_eq!(server.post("/security/keys", viewer("ci")).await.status, 503);
    let settings = server.state.guard().settings();
    assert!(settings.keys().records().all(|key| key.id != "ci"));
}

#[tokio::test]
async fn a_request_held_back_until_its_key_is_revoked_does_nothing() {
    let server = server().await;
    let backdoor = json!({"id": "backdoor", "role": "admin", "pipelines": ["*"], "permissions": ["admin"]});
    let pipeline = json!({"id": "new", "tasks": [{"name": "one", "expression": "1"}]});
    let held_back = [
        (Method::POST, "/security/keys", backdoor),
        (Method::PUT, "/security/acls/secret", json!({"read": ["admin"]})),
        (Method::POST, "/security/reload", json!({})),
        (Method::POST, "/pipelines/diamond/execute", json!({})),
        (Method::PUT, "/pipelines/new", pipeline),
        (Method::POST, "/schedules", json!({"pipeline_id": "diamond", "interval": 60})),
    ];
    for (number, (method, path, body)) in held_back.into_iter().enumerate() {
        let id = format!("deputy-{number}");
        let mut deputy = viewer(&id);
        deputy["role"] = json!("admin");
        deputy["pipelines"] = json!(["*"]);
        deputy["permissions"] = json!(["read", "execute", "admin"]);
        let key = server.post("/security/keys", deputy).await.json()["key"].as_str().unwrap().to_owned();
        let (asked, held) = server.call(method, path).key(&key).json(&body).hold_back().await;
        assert_eq!(delete(&server, &format!("/security/keys/{id}")).await, 204);
        held.send(()).unwrap();
        let answer = asked.await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
    }
    assert_eq!(server.get("/runs").await.json()["runs"], json!([]));
    assert_eq!(server.get("/schedules").await.json()["schedules"], json!([]));
    assert_eq!(server.get("/pipelines/new").await.status, 404);
    let keys = server.get("/security/keys").await.text();
    assert!(!keys.contains("backdoor") && !keys.contains("deputy"), "{keys}");
}
