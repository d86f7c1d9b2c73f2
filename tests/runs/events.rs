//! The events of a run, as a list and as a stream.

use serde_json::{Value, json};
use taskiq_flow_testkit::{EventStream, until};

use crate::support::*;

const THREE: &str = "id: three\ntasks:\n  - { name: a, expression: \"1\", output: a }\n  - { name: b, command: [sleep, \"0.3\"], \
    inputs: [a], output: b }\n  - { name: c, expression: \"3\", inputs: [b], output: c }\n";

fn numbers(events: &Value) -> Vec<u64> {
    events["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_list_has_every_event_in_order_with_its_number() {
    let server = server().pipeline(THREE).start().await;
    let client = client(&server);
    let run_id = start(&client, "three", json!({})).await;
    ended(&client, &run_id).await;
    let path = format!("/runs/{run_id}/events");
    let all = client.get(&path).await.expect(200).json();
    assert_eq!(numbers(&all), (1..=8).collect::<Vec<_>>());
    assert_eq!(all["next_seq"], 9, "{}", all["next_seq"]);
    let kinds: Vec<&str> =
        all["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    let (start, step, done) = ("PipelineStartEvent", "StepStartEvent", "StepCompleteEvent");
    assert_eq!(kinds, [start, step, done, step, done, step, done, "PipelineCompleteEvent"]);
    for event in all["events"].as_array().unwrap() {
        assert_eq!((&event["pipeline_id"], &event["run_id"]), (&json!("three"), &json!(run_id)), "{event}");
        assert!(event["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
    }
    let event = &all["events"][2];
    assert_eq!(
        (&event["task_name"], &event["attempt"], &event["result"]),
        (&json!("a"), &json!(1), &json!(1)),
        "{event}"
    );
    assert!(event["duration_ms"].is_u64() && event["step_index"] == 0, "{event}");
}

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_where_it_was() {
    let server = server().pipeline(THREE).start().await;
    let client = client(&server);
    let run_id = start(&client, "three", json!({})).await;
    let path = format!("/runs/{run_id}/events");
    let mut seen = Vec::new();
    let mut last_id = String::new();
    let mut stream = EventStream::open(&client, &path, None).await.unwrap();
    for _ in 0..3 {
        let event = stream.next().await.unwrap();
        assert_eq!(
            (event.json()["type"].as_str(), event.json()["seq"].to_string()),
            (Some(event.event.as_str()), event.id.clone())
        );
        seen.push(event.json()["seq"].as_u64().unwrap());
        last_id = event.id;
    }
    drop(stream);
    // The rest of it, some of which is yet to happen: nothing twice, nothing missing, and an end.
    let mut stream = EventStream::open(&client, &path, Some(&last_id)).await.unwrap();
    while let Some(event) = stream.next().await {
        seen.push(event.json()["seq"].as_u64().unwrap());
    }
    assert_eq!(seen, (1..=8).collect::<Vec<_>>());
    assert_eq!(ended(&client, &run_id).await["status"], "completed");
}

#[tokio::test]
async fn a_stream_obeys_the_same_checks() {
    let server = server()
        .pipeline(THREE)
        .env(
            "TASKIQ_FLOW_API_KEYS",
            r#"{"k":{"role":"admin","pipelines":["*"],"permissions":["admin"]},"other":{"role":"r","pipelines":["x"],"permissions":["read"]}}"#,
        )
        .start()
        .await;
    let run_id = start(&client(&server), "three", json!({})).await;
    let path = format!("/runs/{run_id}/events");
    for (who, expected) in [
        (server.client(), 401),
        (server.client().key("wrong"), 403),
        (server.client().key("other"), 403),
        (server.plain_client().key("k"), 403),
    ] {
        assert_eq!(EventStream::open(&who, &path, None).await.unwrap_err().status, expected);
    }
}

#[tokio::test]
async fn a_list_of_runs_is_paged_newest_first() {
    let server = server().pipeline(THREE).pipeline(&script("bad", "exit 1", "")).start().await;
    let client = client(&server);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(start(&client, "three", json!({})).await);
    }
    let bad = start(&client, "bad", json!({})).await;
    ended(&client, &bad).await;
    ids.reverse();
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    for _ in 0..5 {
        let path = format!("/runs?pipeline_id=three&limit=2{cursor}");
        let page = client.get(&path).await.expect(200).json();
        let runs = page["runs"].as_array().unwrap();
        assert!(runs.len() <= 2);
        listed.extend(runs.iter().map(|run| run["run_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, ids);
    let failed = until(LIMIT, async || {
        let page = client.get("/runs?status=failed").await.expect(200).json();
        (page["runs"].as_array()?.len() == 1).then_some(page)
    });
    assert_eq!(failed.await.unwrap()["runs"][0]["run_id"], json!(bad));
    assert_eq!(client.get("/runs?status=broken").await.status, 422);
    assert!(matches!(client.get("/runs?cursor=%00").await.status, 400 | 422));
}
