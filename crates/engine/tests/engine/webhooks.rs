//! Events that are told to others over HTTP.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{
    ControlError, EngineOptions, RegisterError, Submission, Webhook, WebhookSpec, WebhookView,
};
use taskiq_flow_store::{Delivery, DeliveryChange, DeliveryFilter, MemoryStore, Origin, Store};
use taskiq_flow_testkit::{Reaction, Receiver, until};
use uuid::Uuid;

use crate::support::{Fixture, SOON, request, start};

const SECRET: &str = "a secret of some length";

fn webhook(name: &str, receiver: &Receiver, events: &[&str], pipelines: &[&str]) -> Webhook {
    let spec = WebhookSpec {
        name: name.to_owned(),
        url: receiver.url().into(),
        secret: SECRET.into(),
        events: events.iter().map(ToString::to_string).collect(),
        pipelines: pipelines.iter().map(ToString::to_string).collect(),
        headers: BTreeMap::from([("X-Token".to_owned(), "t".into())]),
        allow_internal: true,
        timeout: Some(Duration::from_secs(2)),
    };
    Webhook::new(spec).unwrap()
}

async fn with(store: &Arc<MemoryStore>, webhooks: Vec<Webhook>, definition: Value) -> Fixture {
    let options = EngineOptions { webhooks: Some(webhooks), ..EngineOptions::default() };
    start(Arc::clone(store) as Arc<dyn Store>, InMemoryBroker::new(), definition, options).await
}

fn pipelines() -> Value {
    json!([
        {"id": "good", "inputs": {"n": {"type": "integer"}}, "tasks": [{"name": "a", "expression": "n + 1", "inputs": ["n"]}]},
        {"id": "bad", "tasks": [{"name": "a", "expression": "1 / 0"}], "on_event": ["named"]},
    ])
}

/// A pipeline that nobody runs.
fn idle() -> Value {
    json!({"id": "idle", "tasks": [{"name": "a", "expression": "1"}]})
}

/// The webhook once something holds of it.
async fn view_when(fixture: &Fixture, name: &str, test: impl Fn(&WebhookView) -> bool) -> WebhookView {
    let mut last = None;
    let found = until(SOON, async || {
        let views = fixture.engine.webhooks().await.unwrap();
        last = views.into_iter().find(|view| view.name == name);
        last.clone().filter(&test)
    });
    found.await.unwrap_or_else(|| panic!("it never held of {last:?}"))
}

fn waiting_of(hook: &str) -> DeliveryFilter {
    DeliveryFilter { hook: Some(hook.to_owned()), limit: 100, ..DeliveryFilter::default() }
}

/// A delivery as the engine would have written it.
fn delivery(hook: &str) -> Delivery {
    let now = Timestamp::now();
    Delivery {
        id: Uuid::now_v7(),
        hook: hook.to_owned(),
        body: Arc::new(json!({"type": "PipelineErrorEvent", "pipeline_id": "bad", "seq": 3})),
        created_at: now,
        next_at: now,
        attempts: 0,
        error: None,
        dead: false,
    }
}

#[tokio::test]
async fn events_are_delivered_signed_to_who_wants_them() {
    let (named, all) = (Receiver::start().await, Receiver::start().await);
    let hooks =
        vec![webhook("named", &named, &["PipelineErrorEvent"], &[]), webhook("all", &all, &["*"], &["g*"])];
    let store = Arc::new(MemoryStore::new());
    let fixture = with(&store, hooks, pipelines()).await;
    let good = fixture.run("good", json!({"n": 1})).await;
    let bad = fixture.run("bad", json!({})).await;
    let (of_good, of_bad) = (all.wait_for(4, SOON).await, named.wait_for(1, SOON).await);
    for request in of_good.iter().chain(&of_bad) {
        assert!(request.is_signed_by(SECRET) && !request.is_signed_by("another secret"), "{request:?}");
        assert_eq!((request.line.as_str(), request.header("x-token")), ("POST /hook", "t"));
        assert_eq!(request.header("content-type"), "application/json");
        let body = request.json();
        assert_eq!(body["id"], request.header("x-taskiq-flow-delivery"));
        assert_eq!(body["event"]["type"], request.header("x-taskiq-flow-event"));
    }
    // As watchers see them, in whatever order.
    let mut seen: Vec<Value> = of_good.iter().map(|request| request.json()["event"].clone()).collect();
    seen.sort_by_key(|event| event["seq"].as_u64());
    let events = fixture.engine.events(good.run_id, 0, 100).await.unwrap();
    assert_eq!(seen, events.iter().map(|event| serde_json::to_value(event).unwrap()).collect::<Vec<_>>());
    let body = of_bad[0].json();
    assert_eq!((&body["webhook"], &body["event"]["run_id"]), (&json!("named"), &json!(bad.run_id)));
    for (name, delivered) in [("named", 1), ("all", 4)] {
        let view = view_when(&fixture, name, |view| view.delivered == delivered && view.waiting == 0).await;
        assert_eq!((view.failing, view.failed, view.dead, view.error), (false, 0, 0, None));
    }
    fixture.engine.shutdown().await;
    assert!(store.deliveries(waiting_of("all")).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_under_the_same_id() {
    let receiver = Receiver::start().await;
    let secret_answer = "a body that nobody is to see".to_owned();
    receiver.react(Reaction::Answer(503, Vec::new(), secret_answer));
    let hooks = vec![webhook("ops", &receiver, &["PipelineErrorEvent"], &["*"])];
    let store = Arc::new(MemoryStore::new());
    let fixture =
        with(&store, hooks, json!({"id": "bad", "tasks": [{"name": "a", "expression": "1 / 0"}]})).await;
    fixture.run("bad", json!({})).await;
    let view = view_when(&fixture, "ops", |view| view.failing && view.waiting == 1).await;
    assert_eq!(view.error.unwrap().1, "the receiver answered 503 Service Unavailable");
    let waiting = fixture.engine.webhook_deliveries("ops", false, None, 10).await.unwrap().deliveries;
    assert_eq!((waiting[0].attempts, waiting[0].kind.as_str()), (1, "PipelineErrorEvent"));
    assert!(waiting[0].next_at.is_some());
    receiver.react(Reaction::status(200));
    view_when(&fixture, "ops", |view| !view.failing && view.waiting == 0).await;
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].body, received[1].body, "the id is in it");
    assert!(received.iter().all(|request| request.is_signed_by(SECRET)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.react(Reaction::Answer(307, vec![format!("Location: {}", other.url())], String::new()));
    let hooks = vec![webhook("ops", &receiver, &["*"], &["*"])];
    let fixture = with(&Arc::new(MemoryStore::new()), hooks, idle()).await;
    let tested = fixture.engine.test_webhook("ops").await.unwrap();
    assert_eq!(tested.status, Some(307));
    assert_eq!(
        tested.error.as_deref(),
        Some("the receiver answered 307 Temporary Redirect; redirects are not followed")
    );
    assert_eq!((receiver.received().len(), other.received().len()), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_delays_neither_runs_nor_another_webhook() {
    let (mute, quick) = (Receiver::start().await, Receiver::start().await);
    mute.react(Reaction::Silence);
    let hooks = vec![webhook("mute", &mute, &["*"], &["*"]), webhook("quick", &quick, &["*"], &["*"])];
    let store = Arc::new(MemoryStore::new());
    let fixture = with(&store, hooks, pipelines()[0].take()).await;
    for n in 0..20 {
        assert_eq!(fixture.run("good", json!({"n": n})).await.status, RunStatus::Completed);
    }
    assert_eq!(quick.wait_for(80, SOON).await.len(), 80);
    let view = view_when(&fixture, "mute", |view| view.failed > 0).await;
    assert_eq!((view.delivered, view.waiting), (0, 80));
    assert_eq!(view.error.unwrap().1, "the request failed: it took too long");
    let eight = until(SOON, async || Some(mute.open()).filter(|(open, _)| *open == 8));
    let (_, most) = eight.await.unwrap_or_else(|| panic!("eight are under way at once: {:?}", mute.open()));
    // Eight that were given up a moment ago may still count beside the next eight.
    assert!(most <= 16, "{most} at once");
    let began = Instant::now();
    fixture.engine.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "a shutdown does not wait for it");
    assert_eq!(
        store.deliveries(waiting_of("mute")).await.unwrap().len(),
        80,
        "all of it is left for the next start"
    );
}

#[tokio::test]
async fn runs_that_are_there_already_leave_nothing_waiting() {
    let receiver = Receiver::start().await;
    let store = Arc::new(MemoryStore::new());
    let hooks = vec![webhook("ops", &receiver, &["*"], &["*"])];
    let fixture = with(&store, hooks, pipelines()[0].take()).await;
    // Each would have told of two events or more; the share of one pipeline is 5,000.
    let mut first = None;
    for _ in 0..2_600 {
        let again = Submission { idempotency_key: Some("once".into()), ..request("good", json!({"n": 1})) };
        let run_id = fixture.engine.submit(again).await.unwrap().run_id;
        assert_eq!(*first.get_or_insert(run_id), run_id);
    }
    fixture.run("good", json!({"n": 2})).await;
    let view = view_when(&fixture, "ops", |view| view.delivered == 8 || view.dead > 0).await;
    assert_eq!((view.delivered, view.dead), (8, 0));
    fixture.engine.shutdown().await;
}

#[tokio::test]
async fn a_delivery_that_was_tried_often_enough_is_given_up_and_replayed() {
    let receiver = Receiver::start().await;
    receiver.react(Reaction::Nothing);
    let store = Arc::new(MemoryStore::new());
    // One try is left to it; another waits for a webhook that is gone.
    let (last, orphan) = (Delivery { attempts: 35, ..delivery("ops") }, delivery("gone"));
    let put = [&last, &orphan].map(|delivery| DeliveryChange::Put(delivery.clone()));
    store.change_deliveries(put.to_vec()).await.unwrap();
    let fixture = with(&store, vec![webhook("ops", &receiver, &["*"], &["*"])], idle()).await;
    let view = view_when(&fixture, "ops", |view| view.dead == 1).await;
    assert_eq!((view.waiting, view.failing, view.failed), (0, true, 1));
    let gone = view_when(&fixture, "gone", |view| view.waiting == 1).await;
    assert_eq!((gone.origin, gone.failing), (None, false));

    let page = fixture.engine.webhook_deliveries("ops", true, None, 10).await.unwrap();
    let [dead] = page.deliveries.as_slice() else { panic!("{page:?}") };
    assert_eq!((dead.id, dead.attempts, dead.next_at), (last.id, 36, None));
    assert_eq!((dead.kind.as_str(), dead.pipeline_id.as_str(), dead.seq), ("PipelineErrorEvent", "bad", 3));
    let engine = &fixture.engine;
    let unknown = engine.replay_delivery("ops", orphan.id).await.unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownDelivery(_)), "{unknown}");
    for unknown in [
        engine.replay_delivery("gone", orphan.id).await.unwrap_err(),
        engine.test_webhook("other").await.unwrap_err(),
        engine.webhook_deliveries("other", true, None, 1).await.unwrap_err(),
    ] {
        assert!(matches!(unknown, ControlError::UnknownWebhook(_)), "{unknown}");
    }
    receiver.react(Reaction::status(202));
    engine.replay_delivery("ops", last.id).await.unwrap();
    let view = view_when(&fixture, "ops", |view| view.delivered == 1).await;
    assert_eq!((view.waiting, view.dead, view.failing), (0, 0, false));
    let ids: HashSet<_> = receiver
        .received()
        .iter()
        .map(|request| request.header("x-taskiq-flow-delivery").to_owned())
        .collect();
    assert_eq!(ids, HashSet::from([last.id.to_string()]));
    let again = engine.replay_delivery("ops", last.id).await.unwrap_err();
    assert!(matches!(again, ControlError::UnknownDelivery(_)), "{again}");
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_comes_beyond_is_given_up() {
    let receiver = Receiver::start().await;
    let store = Arc::new(MemoryStore::new());
    let later = Timestamp::now().plus(Duration::from_secs(3600));
    let full = (0..10_000).map(|_| DeliveryChange::Put(Delivery { next_at: later, ..delivery("ops") }));
    store.change_deliveries(full.collect()).await.unwrap();
    let hooks = vec![webhook("ops", &receiver, &["PipelineErrorEvent"], &["*"])];
    let fixture =
        with(&store, hooks, json!({"id": "bad", "tasks": [{"name": "a", "expression": "1 / 0"}]})).await;
    let run = fixture.run("bad", json!({})).await;
    let view = view_when(&fixture, "ops", |view| view.dead == 1).await;
    assert_eq!(view.waiting, 10_000);
    let page = fixture.engine.webhook_deliveries("ops", true, None, 10).await.unwrap();
    assert_eq!(page.deliveries[0].run_id, run.run_id.to_string());
    assert_eq!(page.deliveries[0].error.as_deref(), Some("too many deliveries were waiting"));
    assert!(receiver.received().is_empty());
    // In pages.
    let (mut seen, mut after) = (HashSet::new(), None);
    loop {
        let page = fixture.engine.webhook_deliveries("ops", false, after, 3000).await.unwrap();
        seen.extend(page.deliveries.iter().map(|delivery| delivery.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 10_000);
}

#[tokio::test]
async fn many_or_long_events_of_one_pipeline_leave_room_to_those_of_others() {
    let failing = |id: &str| json!({"id": id, "tasks": [{"name": "a", "expression": "1 / 0"}]});
    // As many as one pipeline may have, and in another store as many bytes: half of 10,000, and of 64 MiB.
    for (count, length) in [(5000, 1), (170, 200_000)] {
        let receiver = Receiver::start().await;
        let store = Arc::new(MemoryStore::new());
        let later = Timestamp::now().plus(Duration::from_secs(3600));
        let body = Arc::new(json!({"pipeline_id": "loud", "result": "x".repeat(length)}));
        let full =
            (0..count).map(|_| Delivery { next_at: later, body: Arc::clone(&body), ..delivery("ops") });
        store.change_deliveries(full.map(DeliveryChange::Put).collect()).await.unwrap();
        let hooks = vec![webhook("ops", &receiver, &["PipelineErrorEvent"], &["*"])];
        let fixture = with(&store, hooks, json!([failing("loud"), failing("quiet")])).await;
        let loud = fixture.run("loud", json!({})).await;
        let quiet = fixture.run("quiet", json!({})).await;
        let view = view_when(&fixture, "ops", |view| view.delivered == 1).await;
        assert_eq!((view.waiting, view.dead), (count, 1));
        assert_eq!(receiver.received()[0].json()["event"]["run_id"], json!(quiet.run_id));
        let dead = fixture.engine.webhook_deliveries("ops", true, None, 10).await.unwrap().deliveries;
        assert_eq!(dead[0].run_id, loud.run_id.to_string());
        assert_eq!(dead[0].error.as_deref(), Some("too many deliveries were waiting"));
    }
}

#[tokio::test]
async fn what_a_dead_engine_has_left_is_delivered_by_the_next() {
    let receiver = Receiver::start().await;
    let store = Arc::new(MemoryStore::new());
    // Twenty at once: more than go out side by side.
    let left: Vec<_> = (0..20).map(|_| delivery("ops")).collect();
    store.change_deliveries(left.iter().cloned().map(DeliveryChange::Put).collect()).await.unwrap();
    let fixture = with(&store, vec![webhook("ops", &receiver, &["*"], &["*"])], idle()).await;
    view_when(&fixture, "ops", |view| view.delivered == 20 && view.waiting == 0).await;
    let ids: HashSet<_> = receiver
        .received()
        .iter()
        .map(|request| request.header("x-taskiq-flow-delivery").to_owned())
        .collect();
    assert_eq!(ids, left.iter().map(|delivery| delivery.id.to_string()).collect());
    assert_eq!(receiver.received().len(), 20, "each once");
}

#[tokio::test]
async fn a_pipeline_names_webhooks_that_there_are_and_that_take_it() {
    let receiver = Receiver::start().await;
    let hooks =
        vec![webhook("ops", &receiver, &["*"], &[]), webhook("audio", &receiver, &["*"], &["audio_*"])];
    let fixture = with(&Arc::new(MemoryStore::new()), hooks, idle()).await;
    let register = async |engine: &taskiq_flow_engine::Engine, id: &str, names: &[&str]| {
        let definition = json!({"id": id, "tasks": [{"name": "a", "expression": "1"}], "on_event": names});
        let pipeline = load_json(definition).unwrap().remove(0);
        engine.register(pipeline, Origin::Api).await.map(drop)
    };
    for (id, names, expected) in [
        ("p", &["opps"][..], "on_event: there is no webhook `opps`; for it there are ops"),
        (
            "p",
            &["ops", "audio"],
            "on_event: webhook `audio` takes no events of pipeline `p`: its `pipelines` do not name it",
        ),
    ] {
        let error = register(&fixture.engine, id, names).await.unwrap_err();
        assert!(matches!(error, RegisterError::Webhook(_)));
        assert_eq!(error.to_string(), expected);
    }
    register(&fixture.engine, "audio_in", &["ops", "audio"]).await.unwrap();
    let none = with(&Arc::new(MemoryStore::new()), Vec::new(), idle()).await;
    let error = register(&none.engine, "p", &["ops"]).await.unwrap_err();
    assert_eq!(error.to_string(), "on_event: there is no webhook `ops`; none is configured (`webhooks`)");
    // Where nobody is told anything, such as in a run on the command line, it has no effect.
    let silent = crate::support::engine(idle()).await;
    register(&silent.engine, "p", &["ops"]).await.unwrap();
}
