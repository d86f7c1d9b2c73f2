//! Who may reach what, and in which order it is decided.

use http::Method;
use serde_json::{Value, json};
use taskiq_flow_api::routes::{ROUTES, Rule};

use crate::support::{Server, server, server_with};

async fn status(server: &Server, method: Method, path: &str, key: &str) -> u16 {
    let call = server.call(method, path);
    if key.is_empty() { call.send().await.status } else { call.key(key).send().await.status }
}

#[tokio::test]
async fn only_public_routes_answer_without_a_credential() {
    let server = server().await;
    for route in ROUTES {
        for path in route.paths {
            let path = path.replace("{id}", "diamond").replace("{file}", "app.js").replace("{name}", "go");
            if route.name == "metrics" {
                continue;
            }
            let bare = status(&server, route.method.clone(), &path, "").await;
            let wrong = status(&server, route.method.clone(), &path, "wrong").await;
            match route.rule {
                // The handshake without a credential goes on to the upgrade, which this is not.
                Rule::WebSocket => assert_eq!((bare, wrong), (426, 403), "{path}"),
                Rule::Probe | Rule::Public => assert_eq!(bare, wrong, "{path}"),
                _ => assert_eq!((bare, wrong), (401, 403), "{} {path}", route.method),
            }
        }
    }
}

#[tokio::test]
async fn only_probes_answer_over_plain_http() {
    let server = server().await;
    for route in ROUTES.iter().filter(|route| route.name != "metrics") {
        let path =
            route.paths[0].replace("{id}", "diamond").replace("{file}", "app.js").replace("{name}", "go");
        let answer =
            server.call(route.method.clone(), &path).key("admin-key").from("192.0.2.1", false).send().await;
        let required = answer.status == 403 && answer.json()["title"] == "HTTPS required";
        assert_eq!(required, route.rule != Rule::Probe, "{path}: {}", answer.text());
        assert!(!answer.headers.contains_key("strict-transport-security"), "{path}");
    }
    let refused = server.call(Method::GET, "/nothing").from("192.0.2.1", false).send().await;
    assert_eq!(refused.problem()["title"], "HTTPS required");
    // A trusted proxy's word counts, a stranger's does not.
    for (peer, expected) in [("127.0.0.1", 200), ("192.0.2.1", 403)] {
        let call = server.call(Method::GET, "/me").key("admin-key").header("x-forwarded-proto", "https");
        assert_eq!(call.from(peer, false).send().await.status, expected, "{peer}");
    }
}

#[tokio::test]
async fn what_is_denied_looks_the_same_whether_or_not_it_exists() {
    let server = server().await;
    let run = server.run("failing", json!({})).await;
    let schedule = json!({"id": "nightly", "pipeline_id": "failing", "interval": "1h"});
    assert_eq!(server.post("/schedules", schedule).await.status, 201);
    let refused = async |path: &str| {
        let answer = server.call(Method::GET, path).key("viewer-key").send().await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        answer.problem()
    };
    let forbidden = refused("/pipelines/failing").await;
    for path in [
        "/pipelines/missing",
        "/pipelines/-no-id-",
        "/pipelines/failing/dag",
        "/pipelines/missing/status",
        "/runs?pipeline_id=failing",
        "/runs?pipeline_id=missing",
        &format!("/runs/{run}"),
        "/runs/0190a000-0000-7000-8000-000000000000",
        "/runs/no-id",
        &format!("/runs/{run}/events"),
        "/schedules/nightly",
        "/schedules/missing",
    ] {
        assert_eq!(refused(path).await, forbidden, "{path}");
    }
    // Who may read everything is told.
    for path in [
        "/pipelines/missing",
        "/pipelines/-no-id-",
        "/runs/0190a000-0000-7000-8000-000000000000",
        "/runs/no-id",
        "/schedules/missing",
    ] {
        let answer = server.call(Method::GET, path).key("reader-key").send().await;
        assert_eq!(answer.problem()["status"], 404, "{path}");
    }
    // The reader has every pipeline on its list and is kept out of this one by its ACL.
    assert_eq!(status(&server, Method::GET, "/pipelines/secret", "reader-key").await, 403);
    assert_eq!(status(&server, Method::GET, "/pipelines/secret", "admin-key").await, 200);
}

#[tokio::test]
async fn permissions_are_apart() {
    let server = server().await;
    let run = server.run("diamond", json!({})).await;
    for (method, path, reads, executes, administers) in [
        (Method::GET, "/pipelines/diamond".to_owned(), true, false, true),
        (Method::POST, "/pipelines/diamond/execute".to_owned(), false, true, true),
        (Method::GET, format!("/runs/{run}/events"), true, false, true),
        (Method::POST, format!("/runs/{run}/cancel"), false, true, true),
        (Method::DELETE, "/pipelines/diamond".to_owned(), false, false, true),
        (Method::GET, "/security/config".to_owned(), false, false, false),
        (Method::GET, "/security/audit".to_owned(), false, false, false),
        (Method::GET, "/me".to_owned(), true, true, true),
    ] {
        for (key, may) in
            [("viewer-key", reads), ("runner-key", executes), ("limited-admin-key", administers)]
        {
            let status = status(&server, method.clone(), &path, key).await;
            assert_eq!(status != 403, may, "{method} {path} by {key}: {status}");
        }
    }
}

#[tokio::test]
async fn limits_come_before_credentials_and_every_answer_tells_of_them() {
    let server = server_with(|setup| {
        setup.security.rate_limit_enabled = true;
        setup.security.rate_limits = [("me".to_owned(), "3/hour".to_owned())].into();
    })
    .await;
    for left in [2, 1, 0] {
        let answer = server.call(Method::GET, "/me").send().await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("ratelimit").contains(&format!("r={left};")), "{}", answer.header("ratelimit"));
        assert_eq!(answer.header("ratelimit-policy"), "\"me\";q=3;w=3600");
    }
    let answer = server.call(Method::GET, "/me").key("admin-key").send().await;
    assert_eq!(
        (answer.status, answer.problem()["type"].as_str().unwrap()),
        (429, "/docs/errors/rate-limited")
    );
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    // Another address has a bucket of its own, and other endpoints have theirs.
    let other = server.call(Method::GET, "/me").key("admin-key").from("192.0.2.9", true).send().await;
    assert_eq!(other.status, 200);
    for (path, key) in [
        ("/pipelines", "admin-key"),
        ("/pipelines/missing", "viewer-key"),
        ("/pipelines/missing", "admin-key"),
        ("/nothing", ""),
    ] {
        let call = server.call(Method::GET, path);
        let answer = if key.is_empty() { call.send().await } else { call.key(key).send().await };
        assert!(answer.header("ratelimit").contains(";r="), "{path}: {:?}", answer.headers);
    }
}

#[tokio::test]
async fn what_is_done_is_recorded_with_whom_and_what() {
    let server = server().await;
    let run = server.run("diamond", json!({"number": 987_654_321_012_u64})).await;
    server
        .call(Method::GET, &format!("/runs/{run}"))
        .key("viewer-key")
        .header("x-request-id", "look")
        .send()
        .await;
    server.post(&format!("/runs/{run}/cancel"), json!({})).await;
    server.call(Method::GET, "/pipelines/secret").key("viewer-key").send().await;
    // Records are written beside the answers: the last of them may come a little later.
    let denied =
        |record: &Value| record["event"] == "authorization.denied" && record["pipeline_id"] == "secret";
    for _ in 0..500 {
        if server.audit().iter().any(denied) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let records = server.audit();
    let find = |event: &str, action: &str| -> &Value {
        let fits = |record: &&Value| record["event"] == event && record["action"] == action;
        records.iter().find(fits).unwrap_or_else(|| panic!("{event} {action} in {records:#?}"))
    };
    let execute = find("pipeline.execute", "execute_pipeline");
    assert_eq!((&execute["pipeline_id"], &execute["principal"]["id"]), (&json!("diamond"), &json!("admin")));
    let read = find("pipeline.read", "get_run");
    assert_eq!(
        (&read["run_id"], &read["request_id"], &read["ip"]),
        (&json!(run), &json!("look"), &json!("192.0.2.1"))
    );
    assert_eq!((&read["pipeline_id"], &read["principal"]["id"]), (&json!("diamond"), &json!("viewer")));
    assert_eq!(find("run.control", "cancel_run")["run_id"], json!(run));
    assert!(records.iter().any(denied));
    assert!(!records.iter().any(|record| record.to_string().contains("987654321012")), "a parameter's value");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let server =
        server_with(|setup| setup.audit_mode = taskiq_flow_security::audit::AuditMode::Required).await;
    server.state.guard().audit().close();
    let answer = server.post("/pipelines/diamond/execute", json!({})).await;
    assert_eq!(
        (answer.status, answer.problem()["type"].as_str().unwrap()),
        (503, "/docs/errors/audit-unavailable")
    );
    let id = "diamond".parse().unwrap();
    assert!(server.state.engine().last_runs(&[id]).await.unwrap().is_empty());
}

#[tokio::test]
async fn without_security_everything_is_open() {
    let server = server_with(|setup| setup.security.security_enabled = false).await;
    let answer = server.call(Method::GET, "/me").from("192.0.2.1", false).send().await;
    assert_eq!((answer.status, &answer.json()["type"]), (200, &json!("open")));
    assert_eq!(status(&server, Method::GET, "/pipelines/secret", "").await, 200);
    assert_eq!(status(&server, Method::GET, "/security/config", "").await, 200);
}
