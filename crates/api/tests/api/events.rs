//! The events of a run, listed and streamed.

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{Server, server, server_with, until};

/// An open stream.
struct Stream {
    body: axum::body::Body,
    text: String,
}

impl Stream {
    async fn open(server: &Server, path: &str, key: &str, last: Option<u64>) -> Result<Self, u16> {
        let mut call = server.call(Method::GET, path).key(key).header("accept", "text/event-stream");
        if let Some(last) = last {
            call = call.header("last-event-id", &last.to_string());
        }
        let response = call.open().await;
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self { body: response.into_body(), text: String::new() })
    }

    /// The next event; none when the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let Some(data) = field("data: ") else { continue };
                let event: Value = serde_json::from_str(&data).unwrap();
                assert_eq!(field("id: "), Some(event["seq"].to_string()));
                assert_eq!(field("event: ").as_deref(), event["type"].as_str());
                return Some(event);
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    async fn rest(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(event) = self.next().await {
            numbers.push(event["seq"].as_u64().unwrap());
        }
        numbers
    }
}

fn numbers(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_paged_by_number() {
    let server = server().await;
    let run = server.run("diamond", json!({})).await;
    let page = async |query: &str| server.get(&format!("/runs/{run}/events{query}")).await.json();
    let all = page("").await;
    assert_eq!(numbers(&all), (1..=10).collect::<Vec<_>>());
    assert_eq!((&all["next_seq"], &all["events"][9]["type"]), (&json!(11), &json!("PipelineCompleteEvent")));
    let first = page("?limit=4").await;
    assert_eq!((numbers(&first), &first["next_seq"]), (vec![1, 2, 3, 4], &json!(5)));
    let rest = page("?from_seq=5").await;
    assert_eq!(numbers(&rest), (5..=10).collect::<Vec<_>>());
    assert_eq!(numbers(&page("?after_seq=8").await), [9, 10]);
    let end = page("?from_seq=11").await;
    assert_eq!((numbers(&end), &end["next_seq"]), (vec![], &json!(11)));
    for bad in ["?limit=0", "?from_seq=-1", "?after_seq=x"] {
        assert_eq!(server.get(&format!("/runs/{run}/events{bad}")).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_then_ends() {
    let server = server().await;
    let run = server.start("gate", json!({})).await;
    let path = format!("/runs/{run}/events");
    let mut stream = Stream::open(&server, &path, "viewer-key", None).await.ok().unwrap();
    for expected in ["PipelineStartEvent", "StepStartEvent"] {
        assert_eq!(stream.next().await.unwrap()["type"], expected);
    }
    let mut later = Stream::open(&server, &path, "viewer-key", Some(1)).await.ok().unwrap();
    assert_eq!(later.next().await.unwrap()["seq"], 2);
    server.post(&format!("/runs/{run}/signals/go"), json!(1)).await;
    let rest = stream.rest().await;
    assert_eq!(rest, (3..=*rest.last().unwrap()).collect::<Vec<_>>());
    assert_eq!(later.rest().await, rest);
    // Nothing is left to tell.
    let last = *rest.last().unwrap();
    assert_eq!(Stream::open(&server, &path, "viewer-key", Some(last)).await.err(), Some(204));
    let mut again = Stream::open(&server, &path, "viewer-key", None).await.ok().unwrap();
    assert_eq!(again.rest().await, (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_ends_when_the_caller_may_no_longer_read() {
    let server = server().await;
    let run = server.start("gate", json!({})).await;
    let path = format!("/runs/{run}/events?after_seq=2");
    let mut stream = Stream::open(&server, &path, "viewer-key", None).await.ok().unwrap();
    let mut reader = Stream::open(&server, &path, "reader-key", None).await.ok().unwrap();
    let mut changed = crate::support::security();
    changed.pipeline_acls = serde_json::from_value(json!({"gate": {"read": ["reader"]}})).unwrap();
    server.state.guard().reload(changed.build().unwrap(), None).unwrap();
    assert_eq!(stream.next().await, None);
    assert_eq!(Stream::open(&server, &path, "viewer-key", None).await.err(), Some(403));
    server.post(&format!("/runs/{run}/signals/go"), json!(1)).await;
    assert!(!reader.rest().await.is_empty());
}

#[tokio::test]
async fn streams_are_counted_and_closed_with_the_server() {
    let server = server_with(|setup| setup.api.websocket_max_connections = 2).await;
    let run = server.start("gate", json!({})).await;
    let path = format!("/runs/{run}/events?after_seq=2");
    let mut one = Stream::open(&server, &path, "admin-key", None).await.ok().unwrap();
    let two = Stream::open(&server, &path, "admin-key", None).await.ok().unwrap();
    assert_eq!(Stream::open(&server, &path, "admin-key", None).await.err(), Some(503));
    drop(two);
    until(async || Stream::open(&server, &path, "admin-key", None).await.ok()).await;
    server.state.close_streams(std::time::Duration::from_secs(1)).await;
    assert_eq!(one.next().await, None);
    assert_eq!(Stream::open(&server, &path, "admin-key", None).await.err(), Some(503));
}
