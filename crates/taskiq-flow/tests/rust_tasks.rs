//! Rust tasks in pipelines of both styles, carried out by the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow::broker::Broker;
use taskiq_flow::core::definition::Pipeline as Definition;
use taskiq_flow::core::run::RunView;
use taskiq_flow::engine::{Engine, EngineOptions, Submission, SystemClock};
use taskiq_flow::pipeline::{Pipeline, TaskSpec, expr, expression, group, map, reduce};
use taskiq_flow::store::{MemoryStore, Trigger};
use taskiq_flow::task::{TaskContext, TaskError};
use taskiq_flow::{InMemoryBroker, task};

#[task(output = "words")]
async fn split(text: String) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[task]
fn letters(word: String) -> usize {
    word.chars().count()
}

#[task]
async fn plus(total: i64, next: i64) -> i64 {
    total + next
}

#[task(outputs = ["shortest", "longest"])]
async fn ends(sizes: Vec<i64>) -> Result<(i64, i64), TaskError> {
    let smallest = sizes.iter().min().ok_or_else(|| TaskError::permanent("there are no words"))?;
    Ok((*smallest, sizes.iter().copied().max().unwrap_or(*smallest)))
}

static CALLS: AtomicU32 = AtomicU32::new(0);

#[task(retries = 3, delay = "1ms", jitter = false)]
async fn third_time(context: TaskContext) -> Result<u32, String> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    if context.attempt < 3 { Err(format!("attempt {}", context.attempt)) } else { Ok(context.attempt) }
}

async fn run(pipeline: impl FnOnce(&InMemoryBroker) -> Definition, parameters: Value) -> RunView {
    let broker = InMemoryBroker::new();
    let pipeline = pipeline(&broker);
    let id = pipeline.id.clone();
    let store = Arc::new(MemoryStore::new());
    let options = EngineOptions::default();
    let engine = Engine::start(store, Arc::new(broker), Arc::new(SystemClock), options, vec![pipeline]).await;
    let engine = engine.expect("the engine starts");
    let parameters = parameters.as_object().cloned().expect("parameters have names");
    let trigger = Trigger::Request { principal: "test".to_owned() };
    let submission =
        Submission { pipeline_id: id, parameters, idempotency_key: None, priority: None, trigger };
    let run_id = engine.submit(submission).await.expect("the run is accepted").run_id;
    let view = engine.wait(run_id, Duration::from_secs(20)).await.expect("the run is known");
    engine.shutdown().await;
    view.expect("the run ends")
}

#[tokio::test]
async fn a_dataflow_of_rust_tasks() {
    let view = run(
        |broker| {
            Pipeline::dataflow("sizes")
                .input("text", "string")
                .task(split)
                .task(map("words", letters).named("sizes").max_parallel(2))
                .task(reduce("sizes", 0, plus).named("sum"))
                .task(ends)
                .task(third_time)
                .task(
                    group([TaskSpec::from(ends).named("ends"), expr("sum", "sum")])
                        .named("both")
                        .inputs(["sizes", "sum"]),
                )
                .outputs(["both", "longest", "third_time"])
                .build_with(broker.registry())
                .expect("the pipeline is sound")
        },
        json!({"text": "to be or not"}),
    )
    .await;
    let expected =
        json!({"both": {"ends": {"shortest": 2, "longest": 3}, "sum": 9}, "longest": 3, "third_time": 3});
    assert_eq!(view.result.as_deref(), Some(&expected), "{view:?}");
    assert_eq!(CALLS.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_chain_of_rust_tasks() {
    let view = run(
        |broker| {
            Pipeline::chain("chain")
                .input("text", "string")
                .call(split)
                .filter(expression("value != 'be'"))
                .map(letters)
                .group([TaskSpec::from(ends), expr("count", "value | length")])
                .build_with(broker.registry())
                .expect("the pipeline is sound")
        },
        json!({"text": "to be or not"}),
    )
    .await;
    let expected = json!({"ends": {"shortest": 2, "longest": 3}, "count": 3});
    assert_eq!(view.result.as_deref(), Some(&expected), "{view:?}");
}

#[tokio::test]
async fn an_input_of_the_wrong_type_fails_the_run_at_once() {
    let pipeline = |broker: &InMemoryBroker| {
        let pipeline = Pipeline::dataflow("p").task(TaskSpec::from(split).retries(5));
        pipeline.build_with(broker.registry()).expect("the pipeline is sound")
    };
    let view = run(pipeline, json!({"text": 5})).await;
    let error = view.error.expect("the run failed");
    assert!(
        error.message.contains("input `text` of task `split` must be text (String), found a whole number"),
        "{error:?}"
    );
    assert_eq!(view.steps[0].state.attempt, 1, "another attempt would not help");
}
