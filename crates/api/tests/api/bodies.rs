//! Bodies and queries that are refused, and how.

use http::Method;
use serde_json::json;

use crate::support::{server, server_with};

#[tokio::test]
async fn a_body_is_refused_for_what_it_is() {
    let server = server_with(|setup| setup.api.max_body_bytes = 1000).await;
    let send = async |media_type: Option<&str>, body: &str| {
        let call = server.call(Method::POST, "/pipelines/diamond/execute").key("admin-key").body(body);
        match media_type {
            Some(media_type) => call.header("content-type", media_type).send().await,
            None => call.send().await,
        }
    };
    let json = Some("application/json");
    assert_eq!(send(None, "").await.status, 202);
    assert_eq!(send(json, " ").await.status, 202);
    assert_eq!(send(Some("application/json; charset=utf-8"), "{}").await.status, 202);
    assert_eq!(send(Some("application/merge-patch+json"), "{}").await.status, 202);
    for media_type in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")]
    {
        assert_eq!(send(media_type, "{}").await.problem()["status"], 415, "{media_type:?}");
    }
    let bad = send(json, "{\n \"wait\": tru}").await.problem();
    assert_eq!(bad["status"], 400);
    assert!(bad["detail"].as_str().unwrap().starts_with("Line 2, column "), "{bad}");
    let unknown = send(json, "{\"wiat\": true}").await.problem();
    assert!(unknown["status"] == 400 && unknown["detail"].as_str().unwrap().contains("wiat"), "{unknown}");
    assert_eq!(send(json, "{\"wait\": 1}").await.fields(), ["wait"]);
    assert_eq!(send(json, "{\"timeout\": 301}").await.fields(), ["timeout"]);
    assert_eq!(send(json, "{\"timeout\": -1}").await.fields(), ["timeout"]);
    assert_eq!(send(json, "{\"priority\": 10}").await.fields(), ["priority"]);
    assert_eq!(
        send(json, "{\"parameters\": {\"number\": \"x\", \"other\": 1}}").await.fields(),
        ["number", "other"]
    );
    assert_eq!(send(json, "[]").await.status, 400);
    assert_eq!(send(json, &"x".repeat(1001)).await.status, 413);
    // Announced, on a route that reads no body.
    let announced =
        server.call(Method::POST, "/runs/x/cancel").key("admin-key").header("content-length", "1001");
    assert_eq!(announced.send().await.status, 413);
    // Not before it is known who asks.
    let stranger = server.call(Method::POST, "/pipelines/diamond/execute").header("content-length", "1001");
    assert_eq!(stranger.send().await.status, 401);
}

#[tokio::test]
async fn a_body_without_a_length_is_counted() {
    use http_body_util::StreamBody;
    use tower::ServiceExt;
    let server = server_with(|setup| setup.api.max_body_bytes = 1000).await;
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 100])));
    let frames = futures_util::stream::iter(chunks.map(|chunk| chunk.map(hyper::body::Frame::data)));
    let mut request = http::Request::post("/pipelines/diamond/execute")
        .header("x-api-key", "admin-key")
        .header("content-type", "application/json")
        .body(axum::body::Body::new(StreamBody::new(frames)))
        .unwrap();
    let connection = taskiq_flow_api::Connection { peer: [192, 0, 2, 1].into(), native_tls: true };
    request.extensions_mut().insert(connection);
    assert_eq!(server.router.clone().oneshot(request).await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_query_is_refused_for_what_it_is() {
    let server = server().await;
    for (path, status) in [
        ("/pipelines?limit=1&offset=2", 400),
        ("/pipelines?limit=1&limit=2", 400),
        ("/pipelines?limit=0", 422),
        ("/pipelines?limit=501", 422),
        ("/pipelines?limit=ten", 422),
        ("/runs?status=broken", 422),
        ("/runs?cursor=broken", 422),
        ("/pipelines/diamond/dag?format=png", 422),
        ("/pipelines/diamond/dag?run_id=1", 422),
        ("/pipelines/diamond/critical-path?weight=age", 422),
        ("/security/audit?event=party", 422),
        ("/security/audit?since=yesterday", 422),
        ("/schedules?limit=-1", 422),
    ] {
        assert_eq!(server.get(path).await.problem()["status"], status, "{path}");
    }
}

#[tokio::test]
async fn an_idempotency_key_is_one_of_visible_characters() {
    let server = server().await;
    let execute =
        || server.call(Method::POST, "/pipelines/diamond/execute").key("admin-key").json(&json!({}));
    for bad in ["", "a b", &"x".repeat(256)] {
        assert_eq!(execute().header("idempotency-key", bad).send().await.status, 400, "{bad}");
    }
    let twice = execute().header("idempotency-key", "a").header("idempotency-key", "b");
    assert_eq!(twice.send().await.status, 400);
    let longest = "x".repeat(255);
    let first = execute().header("idempotency-key", &longest).send().await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (202, ""));
    let again = execute().header("idempotency-key", &longest).send().await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(first.json()["run_id"], again.json()["run_id"]);
    assert_eq!(first.header("location"), again.header("location"));
    assert_ne!(execute().send().await.json()["run_id"], first.json()["run_id"]);
}
