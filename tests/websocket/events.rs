//! The events that a subscriber is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

/// The events of a run of `row`: start, two for each step, end.
const EVENTS: u64 = 12;

#[tokio::test]
async fn events_of_a_live_run_arrive_in_order_and_complete() {
    let server = server().start().await;
    let mut socket = socket(&server, "row-only").await;
    assert_eq!(subscribe(&mut socket, json!({ "pipeline_id": "row" })).await["type"], "subscribed");
    let run_id = run(&server.client().key("k"), "row").await;
    for seq in 1..=EVENTS {
        let event = next(&mut socket).await;
        assert_eq!((&event["seq"], &event["run_id"]), (&json!(seq), &run_id), "{event}");
        assert_eq!(event["pipeline_id"], "row");
        assert!(event["timestamp"].is_string(), "{event}");
        let expected = match seq {
            1 => "PipelineStartEvent",
            EVENTS => "PipelineCompleteEvent",
            seq if seq % 2 == 0 => "StepStartEvent",
            _ => "StepCompleteEvent",
        };
        assert_eq!(event["type"], expected, "{event}");
    }
}

#[tokio::test]
async fn runs_at_the_same_time_are_each_in_order_for_every_subscriber() {
    let server = server().start().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = socket(&server, "k").await;
        assert_eq!(subscribe(&mut socket, json!({ "pipeline_id": "*" })).await["type"], "subscribed");
        sockets.push(socket);
    }
    let client = server.client().key("k");
    let runs = futures_util::future::join_all((0..5).map(|_| run(&client, "row"))).await;
    for socket in &mut sockets {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..EVENTS * 5 {
            let event = next(socket).await;
            let last = seen.entry(event["run_id"].as_str().unwrap().to_owned()).or_default();
            assert_eq!(event["seq"].as_u64(), Some(*last + 1), "{event}");
            *last += 1;
        }
        assert_eq!(seen.len(), runs.len());
    }
}

#[tokio::test]
async fn a_subscriber_can_begin_after_an_event_that_it_has_seen() {
    let server = server().start().await;
    let run_id = run(&server.client().key("k"), "row").await;
    let mut socket = socket(&server, "row-only").await;
    let from_seven = json!({ "pipeline_id": "row", "run_id": run_id, "after_seq": 7 });
    assert_eq!(subscribe(&mut socket, from_seven).await["type"], "subscribed");
    for seq in 8..=EVENTS {
        assert_eq!(next(&mut socket).await["seq"], seq);
    }
    // From the beginning, too.
    let mut socket = crate::support::socket(&server, "row-only").await;
    let from_the_start = json!({ "pipeline_id": "row", "run_id": run_id, "after_seq": 0 });
    assert_eq!(subscribe(&mut socket, from_the_start).await["type"], "subscribed");
    for seq in 1..=EVENTS {
        assert_eq!(next(&mut socket).await["seq"], seq);
    }
}

#[tokio::test]
async fn a_run_of_another_pipeline_cannot_be_had_by_naming_ones_own() {
    let server = server().start().await;
    let foreign = run(&server.client().key("k"), "other").await;
    let mut socket = socket(&server, "row-only").await;
    let message = json!({ "pipeline_id": "row", "run_id": foreign, "after_seq": 0 });
    let answer = subscribe(&mut socket, message).await;
    // Refused, or subscribed to what does not exist: in no case an event of that run.
    while let Some(taskiq_flow_testkit::Incoming::Message(message)) =
        socket.next(Duration::from_millis(300)).await
    {
        assert_ne!(message["run_id"], foreign, "{message}");
    }
    assert!(answer["type"] == "error" || answer["type"] == "subscribed", "{answer}");
}

#[tokio::test]
async fn an_address_with_a_pipeline_subscribes_by_itself() {
    let server = server().start().await;
    let mut socket = server.socket("/ws/row", &[("X-API-Key", "row-only")]).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "subscribed");
    run(&server.client().key("k"), "row").await;
    assert_eq!(next(&mut socket).await["type"], "PipelineStartEvent");
}

#[tokio::test]
async fn after_unsubscribe_nothing_comes() {
    let server = server().start().await;
    let mut socket = socket(&server, "k").await;
    for pipeline in ["row", "other"] {
        assert_eq!(subscribe(&mut socket, json!({ "pipeline_id": pipeline })).await["type"], "subscribed");
    }
    socket.send(&json!({ "type": "unsubscribe", "pipeline_id": "row" })).await;
    assert_eq!(next(&mut socket).await["type"], "unsubscribed");
    run(&server.client().key("k"), "row").await;
    let run_id: Value = run(&server.client().key("k"), "other").await;
    let event = next(&mut socket).await;
    assert_eq!((&event["pipeline_id"], &event["run_id"]), (&json!("other"), &run_id));
}
