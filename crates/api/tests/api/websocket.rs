//! Sockets, over a real connection.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use crate::support::{Server, Setup, security, server_with};

struct Live {
    server: Server,
    address: SocketAddr,
}

struct Socket(tokio_tungstenite::WebSocketStream<TcpStream>);

#[derive(Debug, PartialEq)]
enum Said {
    Message(Value),
    Closed(u16),
    Lost,
}

async fn live() -> Live {
    live_with(|_| {}).await
}

async fn live_with(change: impl FnOnce(&mut Setup)) -> Live {
    let server = server_with(|setup| {
        setup.security.require_https = false;
        change(setup);
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = taskiq_flow_api::ServeOptions::default();
    tokio::spawn(taskiq_flow_api::serve(listener, server.router.clone(), options, CancellationToken::new()));
    Live { server, address }
}

impl Live {
    /// The status of the answer when it is no handshake.
    async fn open(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let socket = TcpSocket::new_v4().unwrap();
        // How much the kernel takes for a client that does not read is then the same everywhere.
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether the audit log says that a slow reader was dropped. It may be in the middle of a line.
    fn has_dropped_a_reader(&self) -> bool {
        let log = std::fs::read_to_string(self.server.folder.path().join("audit.jsonl")).unwrap();
        log.contains("1013 reads too slowly; resume with after_seq")
    }

    /// A socket that has been greeted.
    async fn connected(&self, key: &str) -> Socket {
        let mut socket = self.open("/ws", &[("x-api-key", key)]).await.unwrap();
        socket.expect("connected").await;
        socket
    }
}

impl Socket {
    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Said {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await.expect("in time");
            return match frame {
                Some(Ok(Message::Text(text))) => Said::Message(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    Said::Closed(frame.map_or(1005, |frame| frame.code.into()))
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Said::Lost,
            };
        }
    }

    async fn message(&mut self) -> Value {
        match self.next().await {
            Said::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    async fn expect(&mut self, kind: &str) -> Value {
        let message = self.message().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    async fn subscribe(&mut self, what: Value) -> Value {
        let mut message = json!({"type": "subscribe"});
        message.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        self.send(message).await;
        self.expect("subscribed").await
    }

    /// An error, then a close with this code.
    async fn ends(&mut self, code: u16) -> String {
        let error = self.expect("error").await;
        assert_eq!(self.next().await, Said::Closed(code), "{error}");
        error["code"].as_str().unwrap().to_owned()
    }

    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.message().await["seq"].as_u64().unwrap());
        }
        numbers
    }
}

#[tokio::test]
async fn bad_credentials_are_refused_in_the_handshake() {
    let live = live_with(|setup| {
        setup.security.websocket_handshake_auth = serde_json::from_str("\"optional\"").unwrap()
    })
    .await;
    assert_eq!(live.open("/ws", &[("x-api-key", "wrong")]).await.err(), Some(403));
    assert_eq!(live.open("/ws", &[("authorization", "Bearer x.y.z")]).await.err(), Some(401));
    assert_eq!(
        live.open("/ws", &[("x-api-key", "viewer-key"), ("origin", "https://evil.example")]).await.err(),
        Some(403)
    );
    let own = format!("http://{}", live.address);
    assert!(live.open("/ws", &[("x-api-key", "viewer-key"), ("origin", &own)]).await.is_ok());
    let strict = live_with(|setup| {
        setup.security.websocket_handshake_auth = serde_json::from_str("\"required\"").unwrap()
    })
    .await;
    assert_eq!(strict.open("/ws", &[]).await.err(), Some(401));
    let tls = live_with(|setup| setup.security.require_https = true).await;
    assert_eq!(tls.open("/ws", &[("x-api-key", "viewer-key")]).await.err(), Some(403));
    let proxied = [("x-api-key", "viewer-key"), ("x-real-ip", "192.0.2.7")];
    assert!(tls.open("/ws", &proxied).await.is_ok(), "the guide's nginx block");
}

#[tokio::test]
async fn the_credential_may_come_in_the_first_message() {
    let live = live().await;
    let mut socket = live.open("/ws", &[]).await.unwrap();
    socket.send(json!({"type": "connect", "auth": "viewer-key"})).await;
    let greeting = socket.expect("connected").await;
    assert_eq!(greeting["principal"], json!({"id": "viewer", "type": "api_key", "roles": ["viewer"]}));
    assert_eq!(greeting["heartbeat_seconds"], 30);
    let subscribed = socket.subscribe(json!({"pipeline_id": "diamond"})).await;
    assert_eq!(subscribed, json!({"type": "subscribed", "pipeline_id": "diamond"}));
    let mut wrong = live.open("/ws", &[]).await.unwrap();
    wrong.send(json!({"type": "connect", "auth": "wrong"})).await;
    assert_eq!(wrong.ends(1008).await, "invalid-key");
    for first in [
        json!({"type": "subscribe", "pipeline_id": "diamond"}),
        json!({"type": "ping"}),
        json!({"type": "connect"}),
        json!(1),
    ] {
        let mut socket = live.open("/ws", &[]).await.unwrap();
        socket.send(first.clone()).await;
        assert_eq!(socket.ends(1008).await, "not-authenticated", "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_told_nothing_and_closed() {
    let live = live().await;
    let begun = tokio::time::Instant::now();
    let mut socket = live.open("/ws/diamond", &[]).await.unwrap();
    assert_eq!(socket.ends(1008).await, "authentication-timeout");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(8), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_socket_has_a_heartbeat() {
    let live = live().await;
    let mut socket = live.connected("viewer-key").await;
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        assert!(socket.expect("heartbeat").await["timestamp"].is_string());
    }
    assert!(begun.elapsed() >= Duration::from_secs(59), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn events_of_a_run_arrive_in_order() {
    let live = live().await;
    let mut one = live.connected("viewer-key").await;
    one.subscribe(json!({"pipeline_id": "diamond"})).await;
    let mut all = live.connected("viewer-key").await;
    all.subscribe(json!({"pipeline_id": "*"})).await;
    let mut itself = live.open("/ws/diamond", &[("x-api-key", "viewer-key")]).await.unwrap();
    itself.expect("connected").await;
    itself.expect("subscribed").await;
    live.server.run("failing", json!({})).await;
    let run = live.server.run("diamond", json!({})).await;
    for socket in [&mut one, &mut all, &mut itself] {
        let first = socket.expect("PipelineStartEvent").await;
        assert_eq!(
            (&first["run_id"], &first["pipeline_id"]),
            (&json!(run), &json!("diamond")),
            "not `failing`"
        );
        assert_eq!(socket.numbers(8).await, (2..=9).collect::<Vec<_>>());
        assert_eq!(socket.expect("PipelineCompleteEvent").await["result"], json!({"total": 15}));
    }
    one.send(json!({"type": "unsubscribe", "pipeline_id": "diamond"})).await;
    one.expect("unsubscribed").await;
    live.server.run("diamond", json!({})).await;
    one.send(json!({"type": "ping", "id": 7})).await;
    assert_eq!(one.message().await, json!({"type": "pong", "id": 7}));
}

#[tokio::test]
async fn a_socket_goes_on_after_an_event_it_has_seen() {
    let live = live().await;
    let run = live.server.start("gate", json!({})).await;
    let events = async || live.server.get(&format!("/runs/{run}/events")).await;
    crate::support::until(async || (events().await.json()["next_seq"] == 3).then_some(())).await;
    let mut socket = live.connected("viewer-key").await;
    let subscribed = socket.subscribe(json!({"pipeline_id": "gate", "run_id": run, "after_seq": 0})).await;
    assert_eq!((&subscribed["run_id"], &subscribed["after_seq"]), (&json!(run), &json!(0)));
    assert_eq!(socket.numbers(2).await, [1, 2]);
    // A second subscription that overlaps does not double anything.
    socket.subscribe(json!({"pipeline_id": "*"})).await;
    live.server.post(&format!("/runs/{run}/signals/go"), json!(1)).await;
    let last = crate::support::until(async || {
        let page = events().await.json();
        let ended = page["events"].as_array().unwrap().last().unwrap()["type"] == "PipelineCompleteEvent";
        ended.then(|| page["next_seq"].as_u64().unwrap() - 1)
    })
    .await;
    assert_eq!(socket.numbers(last as usize - 2).await, (3..=last).collect::<Vec<_>>());
    let mut later = live.connected("viewer-key").await;
    later.subscribe(json!({"run_id": run, "after_seq": last - 1})).await;
    assert_eq!(later.numbers(1).await, [last]);
}

#[tokio::test]
async fn what_may_not_be_read_ends_the_socket() {
    let live = live().await;
    let run = live.server.run("failing", json!({})).await;
    for target in [
        json!({"pipeline_id": "failing"}),
        json!({"pipeline_id": "missing"}),
        json!({"run_id": run}),
        json!({"run_id": "0190a000-0000-7000-8000-000000000000"}),
        json!({"pipeline_id": "diamond", "run_id": run}),
    ] {
        let mut socket = live.connected("viewer-key").await;
        let mut message = json!({"type": "subscribe"});
        message.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        socket.send(message).await;
        assert_eq!(socket.ends(1008).await, "forbidden", "{target}");
    }
    let denied = |record: &Value| record["event"] == "websocket.denied" && record["pipeline_id"] == "failing";
    crate::support::until(async || live.server.audit().iter().any(denied).then_some(())).await;
    // Who may read everything is told what is not there, and stays.
    let mut reader = live.connected("reader-key").await;
    for target in [
        json!({"pipeline_id": "missing"}),
        json!({"run_id": "0190a000-0000-7000-8000-000000000000"}),
        json!({"pipeline_id": "diamond", "run_id": run}),
    ] {
        let mut message = json!({"type": "subscribe"});
        message.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        reader.send(message).await;
        assert_eq!(reader.expect("error").await["code"], "not-found", "{target}");
    }
}

#[tokio::test]
async fn mistakes_are_told_and_bad_manners_end_the_socket() {
    let live = live().await;
    let mut socket = live.connected("viewer-key").await;
    for bad in [
        "{",
        "[]",
        "{\"type\":\"dance\"}",
        "{\"type\":\"subscribe\",\"afer_seq\":1}",
        "{\"type\":\"subscribe\",\"pipeline_id\":\"diamond\",\"after_seq\":1}",
    ] {
        socket.0.send(Message::text(bad)).await.unwrap();
        assert_eq!(socket.expect("error").await["code"], "invalid-message", "{bad}");
    }
    socket.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(socket.ends(1003).await, "binary");
    let mut large = live.connected("viewer-key").await;
    large.0.send(Message::text("x".repeat(70_000))).await.unwrap();
    assert_eq!(large.next().await, Said::Closed(1009));
    let mut many = live.connected("viewer-key").await;
    for _ in 0..101 {
        many.0.feed(Message::text("{\"type\":\"ping\"}")).await.unwrap();
    }
    many.0.flush().await.unwrap();
    for _ in 0..100 {
        many.expect("pong").await;
    }
    assert_eq!(many.ends(1008).await, "too-many-messages");
}

#[tokio::test]
async fn a_changed_policy_closes_what_it_forbids_and_nothing_else() {
    let live = live().await;
    let mut revoked = live.connected("viewer-key").await;
    let mut barred = live.connected("reader-key").await;
    barred.subscribe(json!({"pipeline_id": "gate"})).await;
    let mut stays = live.connected("reader-key").await;
    stays.subscribe(json!({"pipeline_id": "diamond"})).await;
    let keys = json!({"reader-key": {"id": "reader", "role": "reader", "permissions": ["read"]}});
    let mut changed = security();
    changed.require_https = false;
    changed.api_keys = serde_json::from_value(keys).unwrap();
    changed.pipeline_acls = serde_json::from_value(json!({"gate": {"read": ["keeper"]}})).unwrap();
    let begun = std::time::Instant::now();
    live.server.state.guard().reload(changed.build().unwrap(), None).unwrap();
    assert_eq!(revoked.ends(1008).await, "credential-expired");
    assert_eq!(barred.ends(1008).await, "forbidden");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    stays.send(json!({"type": "ping"})).await;
    stays.expect("pong").await;
}

#[tokio::test]
async fn there_are_as_many_sockets_as_may_be() {
    let live = live_with(|setup| setup.api.websocket_max_connections = 2).await;
    let one = live.connected("viewer-key").await;
    let _two = live.connected("viewer-key").await;
    assert_eq!(live.open("/ws", &[("x-api-key", "viewer-key")]).await.err(), Some(503));
    drop(one);
    crate::support::until(async || live.open("/ws", &[("x-api-key", "viewer-key")]).await.ok()).await;
    let limited = live_with(|setup| setup.security.rate_limit_enabled = true).await;
    for _ in 0..5 {
        assert!(limited.open("/ws", &[("x-api-key", "viewer-key")]).await.is_ok());
    }
    assert_eq!(limited.open("/ws", &[("x-api-key", "viewer-key")]).await.err(), Some(429));
}

#[tokio::test]
async fn a_slow_reader_is_dropped_and_holds_up_nobody() {
    let live = live().await;
    let mut slow = live.connected("admin-key").await;
    slow.subscribe(json!({"pipeline_id": "secret"})).await;
    let mut quick = live.connected("admin-key").await;
    quick.subscribe(json!({"pipeline_id": "secret"})).await;
    // Each run's events hold its large value twice: together more than the kernel's buffers and the queue can take.
    const RUNS: usize = 120;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let reading = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stopped.cancelled() => return quick,
                message = quick.message() => if message["type"] == "PipelineCompleteEvent" { tell.send(()).unwrap() },
            }
        }
    });
    let large = "x".repeat(120_000);
    let mut runs = 0;
    while !live.has_dropped_a_reader() {
        assert!(runs < RUNS, "{RUNS} runs were not too much");
        live.server.run("secret", json!({"name": large})).await;
        // The next run waits for the quick reader alone, however busy the machine is: so it never counts as slow.
        told.recv().await.unwrap();
        runs += 1;
    }
    stop.cancel();
    let mut quick = reading.await.unwrap();
    quick.send(json!({"type": "ping"})).await;
    quick.expect("pong").await;
    let mut received = 0;
    let end = loop {
        match slow.next().await {
            Said::Message(_) => received += 1,
            end => break end,
        }
    };
    // It reads what the kernel held for it, and then why nothing more comes.
    assert_eq!(end, Said::Closed(1013));
    assert!(received < runs * 4, "everything came: {received} events of {runs} runs");
}

#[tokio::test]
async fn who_reads_nothing_is_told_why_it_was_dropped_even_when_the_queue_has_room() {
    let live = live().await;
    let mut stalled = live.connected("admin-key").await;
    stalled.subscribe(json!({"pipeline_id": "secret"})).await;
    let large = "x".repeat(200_000);
    // More than the kernel takes for such a socket, and less than that and what the queue may hold.
    for _ in 0..22 {
        live.server.run("secret", json!({"name": large})).await;
    }
    assert!(!live.has_dropped_a_reader());
    tokio::time::pause();
    for _ in 0..120 {
        if live.has_dropped_a_reader() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        // The audit log is written by a thread of its own, in real time.
        std::thread::sleep(Duration::from_millis(5));
    }
    tokio::time::resume();
    assert!(live.has_dropped_a_reader());
    let end = loop {
        match stalled.next().await {
            Said::Message(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, Said::Closed(1013));
}

#[tokio::test]
async fn a_burst_of_one_pipeline_closes_no_socket_but_those_that_watch_it() {
    let live = live_with(|setup| {
        setup.engine.watcher_backlog = 20;
        let acls = json!({"loud": {"read": ["keeper"]}});
        setup.security.pipeline_acls = serde_json::from_value(acls).unwrap();
    })
    .await;
    // All its items start in one decision: so many events come at once that no watcher is asked between them.
    let loud = json!({"tasks": [
        {"name": "all", "map": {"over": "list", "as": "item", "expression": "item"}, "inputs": ["list"]}
    ]});
    let registered = live.server.post("/pipelines/loud", loud).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let mut one = live.connected("viewer-key").await;
    one.subscribe(json!({"pipeline_id": "diamond"})).await;
    let mut all = live.connected("reader-key").await;
    all.subscribe(json!({"pipeline_id": "*"})).await;
    let mut watching = live.connected("admin-key").await;
    watching.subscribe(json!({"pipeline_id": "loud"})).await;
    live.server.run("loud", json!({"list": (0..200).collect::<Vec<_>>()})).await;
    live.server.run("diamond", json!({})).await;
    for socket in [&mut one, &mut all] {
        assert_eq!(socket.expect("PipelineStartEvent").await["pipeline_id"], "diamond");
        assert_eq!(socket.numbers(9).await, (2..=10).collect::<Vec<_>>());
    }
    let end = loop {
        match watching.next().await {
            Said::Message(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, Said::Closed(1013), "it cannot be told what it missed");
}

#[tokio::test]
async fn anonymous_sockets_may_read_what_has_no_acl_where_that_is_allowed() {
    let live = live_with(|setup| setup.security.websocket_require_auth = false).await;
    let mut socket = live.open("/ws", &[]).await.unwrap();
    assert_eq!(socket.expect("connected").await["principal"]["type"], "anonymous");
    socket.subscribe(json!({"pipeline_id": "diamond"})).await;
    socket.send(json!({"type": "subscribe", "pipeline_id": "secret"})).await;
    assert_eq!(socket.ends(1008).await, "forbidden");
}

#[tokio::test]
async fn sockets_are_told_when_the_server_stops() {
    let live = live().await;
    let mut socket = live.connected("viewer-key").await;
    let state = live.server.state.clone();
    let closing = tokio::spawn(async move { state.close_streams(Duration::from_secs(5)).await });
    assert_eq!(socket.next().await, Said::Closed(1001));
    closing.await.unwrap();
    assert_eq!(live.open("/ws", &[("x-api-key", "viewer-key")]).await.err(), Some(503));
    let events: Vec<Value> = live.server.audit().iter().map(|record| record["event"].clone()).collect();
    assert!(events.contains(&json!("websocket.connect")) && events.contains(&json!("websocket.close")));
}
