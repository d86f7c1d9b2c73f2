//! What a changed right takes away at once: open sockets and streams; and what it leaves alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_testkit::{EventStream, Incoming, Server, Socket, raise_open_files, until, within};

use crate::support::*;

/// A pipeline that waits until it is told to go on.
const GATE: &str = "id: gate\ntasks:\n  - { name: ask, wait: { signal: go }, output: answer }\n";

/// Makes a key over the API.
async fn make_key(server: &Server, id: &str) -> String {
    let body =
        json!({"id": id, "role": "viewer", "pipelines": ["row", "gate"], "permissions": ["read", "execute"]});
    let made = server.client().key("k").post("/security/keys", &body).await.expect(201).json();
    made["key"].as_str().unwrap().to_owned()
}

async fn open(server: &Server, key: &str, count: usize) -> Vec<Socket> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let some = (count - sockets.len()).min(16);
        sockets.extend(futures_util::future::join_all((0..some).map(|_| socket(server, key))).await);
    }
    sockets
}

/// The close that comes, whatever is said before it.
async fn closed(socket: &mut Socket) -> (u16, Vec<Value>) {
    let mut said = Vec::new();
    loop {
        match socket.next(Duration::from_secs(10)).await {
            Some(Incoming::Message(message)) if message["type"] == "connected" => {}
            Some(Incoming::Message(message)) => said.push(message),
            Some(Incoming::Closed(code, _)) => return (code, said),
            other => panic!("{other:?} instead of a close, after {said:?}"),
        }
    }
}

#[tokio::test]
async fn a_revoked_key_loses_its_sockets_within_a_second_among_a_thousand() {
    raise_open_files(4096);
    let server = server().pipeline(GATE).start().await;
    let key = make_key(&server, "leaving").await;
    let mut staying = open(&server, "k", 950).await;
    let mut leaving = open(&server, &key, 50).await;
    for socket in &mut leaving {
        assert_eq!(subscribe(socket, json!({"pipeline_id": "row"})).await["type"], "subscribed");
    }
    let began = Instant::now();
    server.client().key("k").delete("/security/keys/leaving").await.expect(204);
    let closes = futures_util::future::join_all(leaving.iter_mut().map(closed));
    for (code, said) in within(Duration::from_secs(1), "the closes", closes).await {
        assert_eq!((code, said[0]["code"].as_str()), (1008, Some("credential-expired")), "{said:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(server.socket("/ws", &[("X-API-Key", &key)]).await.unwrap_err().status, 403);
    for index in [0, 474, 949] {
        staying[index].send(&json!({ "type": "ping" })).await;
        assert_eq!(next(&mut staying[index]).await["type"], "pong");
    }
    // What the server itself measured.
    let metrics = server.client().key("k").get("/metrics").await.expect(200).text();
    let count = |suffix: &str| {
        let name = format!("taskiq_flow_revocation_close_seconds_{suffix}");
        let line = metrics.lines().find(|line| line.starts_with(&name) && line.contains("websocket"));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(count("count"), 50.0);
    assert!(count("sum") < 50.0, "on average under a second");
    let below_a_second = "taskiq_flow_revocation_close_seconds_bucket{transport=\"websocket\",le=\"1\"} 50";
    assert!(metrics.contains(below_a_second), "{metrics}");
}

#[tokio::test]
async fn an_access_list_closes_the_streams_it_shuts_out_and_no_others() {
    let server = server().pipeline(GATE).start().await;
    let key = make_key(&server, "viewer").await;
    let viewer = server.client().key(&key);
    let started = viewer.post("/pipelines/gate/execute", &json!({})).await.expect(202).json();
    let events = format!("/runs/{}/events", started["run_id"].as_str().unwrap());
    let mut stream = EventStream::open(&viewer, &events, None).await.unwrap();
    let admin = server.client().key("k");
    let mut admins = EventStream::open(&admin, &events, None).await.unwrap();
    assert_eq!(stream.data().await["type"], "PipelineStartEvent");
    let mut on_gate = socket(&server, &key).await;
    subscribe(&mut on_gate, json!({"pipeline_id": "gate"})).await;
    let mut on_row = socket(&server, &key).await;
    subscribe(&mut on_row, json!({"pipeline_id": "row"})).await;

    admin.put("/security/acls/gate", &json!({"read": ["ops"]})).await.expect(200);
    let (code, said) = within(Duration::from_secs(1), "the socket", closed(&mut on_gate)).await;
    assert_eq!((code, said[0]["code"].as_str()), (1008, Some("forbidden")), "{said:?}");
    let ended = async { while stream.next().await.is_some() {} };
    within(Duration::from_secs(1), "the stream", ended).await;
    // Not concerned: another pipeline, and an admin.
    on_row.send(&json!({ "type": "ping" })).await;
    assert_eq!(next(&mut on_row).await["type"], "pong");
    admin.post(&events.replace("/events", "/signals/go"), &json!(1)).await.expect(202);
    let mut last = String::new();
    while let Some(event) = admins.next().await {
        last = event.event;
    }
    assert_eq!(last, "PipelineCompleteEvent");
    let metrics = admin.get("/metrics").await.expect(200).text();
    assert!(metrics.contains("taskiq_flow_revocation_close_seconds_count{transport=\"sse\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_reader_that_reads_nothing_loses_its_stream_all_the_same() {
    let server = server().pipeline(&row("long", 400)).start().await;
    let body = json!({"id": "slow", "role": "viewer", "pipelines": ["long"], "permissions": ["read"]});
    let made = server.client().key("k").post("/security/keys", &body).await.expect(201).json();
    let key = made["key"].as_str().unwrap().to_owned();
    let mut socket = socket(&server, &key).await;
    subscribe(&mut socket, json!({"pipeline_id": "long"})).await;
    let admin = server.client().key("k");
    // Nobody reads the socket while some thousand events come.
    run(&admin, "long").await;
    admin.delete("/security/keys/slow").await.expect(204);
    // The server has let go of it: its close is in the audit log, and in the metrics.
    let gone = until(Duration::from_secs(1), async || {
        let metrics = admin.get("/metrics").await.expect(200).text();
        metrics
            .contains("taskiq_flow_revocation_close_seconds_count{transport=\"websocket\"} 1")
            .then_some(())
    });
    assert!(gone.await.is_some(), "it is still open");
}

#[tokio::test]
async fn a_request_under_way_finishes_and_the_next_is_refused() {
    let server = server().pipeline(GATE).start().await;
    let key = make_key(&server, "runner").await;
    let runner = server.client().key(&key);
    let waiting = {
        let runner = runner.clone();
        let body = json!({"wait": true, "timeout": 30});
        tokio::spawn(async move { runner.post("/pipelines/gate/execute", &body).await })
    };
    let admin = server.client().key("k");
    let run = until(Duration::from_secs(10), async || {
        let runs = admin.get("/runs?pipeline_id=gate&status=running").await.expect(200).json();
        runs["runs"][0]["run_id"].as_str().map(str::to_owned)
    });
    let run = run.await.expect("it did not start");
    admin.delete("/security/keys/runner").await.expect(204);
    assert_eq!(runner.post("/pipelines/gate/execute", &json!({})).await.status, 403);
    let signals = format!("/runs/{run}/signals/go");
    admin.post(&signals, &json!(1)).await.expect(202);
    let done = waiting.await.unwrap();
    assert_eq!((done.status, &done.json()["status"]), (200, &json!("completed")));
    let runs = admin.get("/runs?pipeline_id=gate").await.expect(200).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "what was refused started nothing");
}
