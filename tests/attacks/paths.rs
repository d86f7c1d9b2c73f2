//! Ways to write a path, a method or a header that lead past a rule.

use http::Method;
use std::time::Duration;
use taskiq_flow_testkit::raw;

use crate::support::{builder, told};

#[tokio::test]
async fn no_spelling_of_a_path_leads_past_its_rule() {
    let server = builder().start().await;
    let refused = told(&server.plain_client().key("reader-key").get("/pipelines/no-such-pipeline").await);
    assert_eq!(told(&server.plain_client().key("reader-key").get("/pipelines/secret").await), refused);
    assert_eq!(refused.0, 403);
    for path in [
        "/pipelines/open/../secret",
        "/pipelines/open/%2e%2e/secret",
        "/pipelines/open%2f..%2fsecret",
        "//pipelines/secret",
        "/pipelines//secret",
        "/PIPELINES/secret",
        "/pipelines/secret/",
        "/pipelines/secret%00",
        "/pipelines/secret;x",
        "/pipelines/%73ecret",
        "/pipelines/se%63ret/dag/dot",
        "/pipelines/secret%20",
        "/api/api/pipelines/secret",
        "/api/../pipelines/secret",
        "/dag/secret",
        "/api/dag/secret",
        "/./pipelines/secret",
        "/health/../pipelines/secret",
        "/ui/../pipelines/secret",
        "/ui/..%2f..%2fetc%2fpasswd",
        "/pipelines/glob_*",
        "/pipelines/*",
        "http://elsewhere.example/pipelines/secret",
    ] {
        for key in ["", "X-API-Key: reader-key\r\n"] {
            let host = if path.starts_with("http") { "elsewhere.example" } else { "flow.example" };
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{key}Connection: close\r\n\r\n");
            let answer = raw::send(server.address(), request.as_bytes(), Duration::from_secs(10)).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "401", "403", "404"].contains(&status), "{path} {key}: {answer}");
            assert!(!answer.contains("\"tasks\""), "{path} {key}: {answer}");
        }
    }
}

#[tokio::test]
async fn no_header_makes_another_request_of_it() {
    let server = builder().start().await;
    let reader = server.plain_client().key("reader-key");
    for (name, value) in [
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Original-URL", "/security/config"),
        ("X-Rewrite-URL", "/security/config"),
        ("X-Forwarded-Prefix", "/elsewhere"),
        ("X-Forwarded-Host", "elsewhere.example"),
    ] {
        let reply = reader.clone().header(name, value).get("/pipelines").await.expect(200);
        assert!(reply.text().contains("\"open\"") && !reply.text().contains("secret"), "{name}");
        assert!(!format!("{:?}", reply.headers).contains("elsewhere"), "{name}");
    }
    let head = reader.send(Method::HEAD, "/pipelines/secret", None).await;
    assert_eq!((head.status, head.body.len()), (403, 0));
    assert_eq!(reader.send(Method::TRACE, "/pipelines", None).await.status, 405);
}
