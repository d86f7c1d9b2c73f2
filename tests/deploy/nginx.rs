//! The real nginx: the guide's server blocks as they stand, and deploy's.

use serde_json::json;
use taskiq_flow_testkit::{Client, EventStream, Server, Socket};

use crate::support::{Front, HOST, service, text};

/// The guide's site, word for word.
const GUIDE: &str = include_str!("guide-site.conf");

async fn guide() -> Front {
    Front::start(GUIDE, service().start().await).await
}

async fn own() -> Front {
    Front::start(&own_site(), service().start().await).await
}

fn own_site() -> String {
    format!("{}{}", text("nginx/upstream.conf"), text("nginx/taskiq-flow.conf"))
}

async fn expect_redirect(front: &Front) {
    let plain = Client::new(format!("http://{}", front.http)).header("Host", HOST).key("k");
    for path in ["/", "/pipelines", "/api/runs?limit=3", "/ws"] {
        let reply = plain.get(path).await.expect(301);
        assert_eq!(reply.header("Location"), format!("https://{HOST}{path}"));
    }
}

/// A WebSocket through nginx that sees every event of a run while it is made.
async fn expect_live_events(front: &Front, path: &str) {
    let url = format!("wss://{HOST}:{}{path}", front.https.port());
    let pem = front.pair.pem();
    let mut socket = Socket::connect_tls(&url, front.https, &pem, &[("X-API-Key", "k")]).await.unwrap();
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "three" })).await;
    while socket.recv().await["type"] != "subscribed" {}
    let run = front.client().post("/pipelines/three/execute", &json!({})).await.expect(202).json();
    let mut sequence = Vec::new();
    loop {
        let event = socket.recv().await;
        assert_eq!(event["run_id"], run["run_id"], "{event}");
        sequence.push(event["seq"].as_u64().unwrap());
        if event["type"] == "PipelineCompleteEvent" {
            break;
        }
    }
    assert_eq!(sequence, (1..=sequence.len() as u64).collect::<Vec<_>>());
    assert_eq!(sequence.len(), 8, "start, two for each of three tasks, end");
    let refused = Socket::connect_tls(&url, front.https, &pem, &[("X-API-Key", "wrong")]).await.unwrap_err();
    assert_eq!(refused.status, 403);
}

/// Guide: "Place nginx in front of the application to terminate TLS, enforce HTTPS, and add security headers:"
#[tokio::test]
async fn the_guides_site_works_in_front_of_the_service_as_it_stands() {
    let front = guide().await;
    assert_eq!(front.client().get("/pipelines").await.expect(200).json()["pipelines"][0]["id"], "three");
    assert_eq!(front.client().key("wrong").get("/pipelines").await.status, 403);
    expect_redirect(&front).await;
    let record = front.service.audit();
    assert!(record.contains("\"ip\":\"127.0.0.1\""), "{record}");
}

/// Guide: "All HTTP traffic is redirected to HTTPS (require_https also enforced inside the app)"
#[tokio::test]
async fn all_http_traffic_is_redirected_to_https() {
    let front = guide().await;
    expect_redirect(&front).await;
    let past_nginx = front.service.plain_client().key("k").get("/pipelines").await;
    assert_eq!(past_nginx.status, 403, "require_https is enforced inside the app");
}

/// Guide: "Security headers are added to every response"
#[tokio::test]
async fn security_headers_are_added_to_every_response() {
    let front = guide().await;
    for (path, status) in [("/pipelines", 200), ("/missing", 404), ("/health", 200)] {
        let reply = front.client().get(path).await.expect(status);
        assert_eq!(reply.header("X-Frame-Options"), "DENY", "{path}");
        assert_eq!(reply.header("X-Content-Type-Options"), "nosniff", "{path}");
        assert!(reply.header("Strict-Transport-Security").starts_with("max-age=31536000"), "{path}");
    }
    assert_eq!(front.client().get("/pipelines").await.header("X-XSS-Protection"), "1; mode=block");
    // Without nginx the service sends its own.
    let reply = front.service.client().get("/pipelines").await.expect(401);
    assert_eq!(
        (reply.header("X-Frame-Options"), reply.header("X-Content-Type-Options")),
        ("DENY", "nosniff")
    );
}

/// Guide: "WebSocket connections are proxied with correct upgrade headers"
#[tokio::test]
async fn websocket_connections_are_proxied_with_correct_upgrade_headers() {
    // This block sends neither X-Forwarded-Proto nor X-Forwarded-For.
    let front = guide().await;
    expect_live_events(&front, "/ws").await;
}

/// Guide: "The app receives X-Forwarded-Proto=https, so the HTTPS enforcement middleware does not block legitimate requests"
#[tokio::test]
async fn the_app_receives_x_forwarded_proto_https() {
    let front = guide().await;
    front.client().get("/pipelines").await.expect(200);
    front.client().post("/pipelines/three/execute", &json!({})).await.expect(202);
    // What a client writes itself is nothing to go by.
    let claimed = front.service.plain_client().key("k").header("X-Forwarded-Proto", "http");
    assert_eq!(claimed.get("/pipelines").await.status, 403);
}

#[tokio::test]
async fn deploys_site_redirects_and_adds_each_header_once() {
    let front = own().await;
    expect_redirect(&front).await;
    for (path, status) in [("/pipelines", 200), ("/missing", 404), ("/ws", 400), ("/health", 200)] {
        let reply = front.client().get(path).await;
        // What a plain request to a WebSocket's address gets is the service's affair.
        assert!(reply.status == status || path == "/ws", "{path}: {}", reply.status);
        for (name, value) in [
            ("X-Frame-Options", "DENY"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-XSS-Protection", "1; mode=block"),
            ("Referrer-Policy", "no-referrer"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ] {
            let values: Vec<_> = reply.headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{path} {name}");
        }
        assert_eq!(reply.header("Server"), "nginx", "no version");
    }
}

#[tokio::test]
async fn deploys_site_carries_websockets_with_live_events() {
    let front = own().await;
    expect_live_events(&front, "/ws").await;
    expect_live_events(&front, "/api/ws").await;
}

#[tokio::test]
async fn deploys_site_works_with_the_strict_rule_about_forwarded_proto() {
    let strict = || service().env("TASKIQ_FLOW_STRICT_FORWARDED_PROTO", "true");
    let front = Front::start(&own_site(), strict().start().await).await;
    expect_live_events(&front, "/ws").await;
    // The guide's block does not, and that is what the rule is for.
    let front = Front::start(GUIDE, strict().start().await).await;
    let url = format!("wss://{HOST}:{}/ws", front.https.port());
    let refused =
        Socket::connect_tls(&url, front.https, &front.pair.pem(), &[("X-API-Key", "k")]).await.unwrap_err();
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn deploys_site_does_not_hold_back_server_sent_events() {
    let front = own().await;
    let client = front.client();
    let run = client.post("/pipelines/three/execute", &json!({})).await.expect(202).json();
    let path = format!("/runs/{}/events", run["run_id"].as_str().unwrap());
    let mut events = EventStream::open(&client, &path, None).await.unwrap();
    for expected in 1..=8 {
        assert_eq!(events.data().await["seq"], expected);
    }
}

#[tokio::test]
async fn deploys_site_passes_the_clients_address_on_and_nothing_that_the_client_made_up() {
    let service: Server =
        service().env("TASKIQ_FLOW_RATE_LIMITS", r#"{"list_runs": "2/hour"}"#).start().await;
    let front = Front::start(&own_site(), service).await;
    for (n, expected) in [200, 200, 429].into_iter().enumerate() {
        let client = front.client().from_ip(&format!("203.0.113.{n}")).header("X-Real-IP", "203.0.113.9");
        let client = client.header("Forwarded", &format!("for=198.51.100.{n};proto=http"));
        assert_eq!(client.get("/runs").await.status, expected);
    }
}
