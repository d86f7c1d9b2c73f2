//! `#[task]`: what it makes of functions, and what becomes of inputs and results.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taskiq_flow::core::expr::Inputs;
use taskiq_flow::core::id::RunId;
use taskiq_flow::core::run::TaskId;
use taskiq_flow::task;
use taskiq_flow::task::{TaskCall, TaskContext, TaskDef, TaskError, TaskRegistry};

/// Adds two numbers.
///
/// This is not part of the description.
#[task]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "text.split", output = "words", retries = 2, delay = "100ms", timeout = "1m30s")]
async fn split(text: String, limit: Option<u8>) -> Vec<String> {
    text.split_whitespace().take(limit.map_or(usize::MAX, usize::from)).map(str::to_owned).collect()
}

#[task(outputs = ["lines", "words"])]
fn measure(text: String) -> (usize, usize) {
    (text.lines().count(), text.split_whitespace().count())
}

#[derive(Serialize)]
struct Size {
    lines: usize,
    words: usize,
}

#[task(outputs = ["lines", "words"])]
fn size(text: String) -> Result<Size, std::convert::Infallible> {
    Ok(Size { lines: text.lines().count(), words: 2 })
}

#[task]
async fn who(context: TaskContext, greeting: String) -> String {
    format!("{greeting}, {} of {} ({})", context.step, context.pipeline_id, context.attempt)
}

#[task]
async fn nothing() {}

#[task]
pub(crate) fn blocks(r#type: String, mut times: u32) -> Result<String, std::num::ParseIntError> {
    std::thread::sleep(std::time::Duration::from_millis(1));
    times += r#type.parse::<u32>()?;
    Ok("x".repeat(times as usize))
}

#[task]
async fn refuses(permanent: bool) -> Result<(), TaskError> {
    Err(if permanent { TaskError::permanent("never") } else { TaskError::new("not now") })
}

/// An error that knows what it means.
enum Own {
    Gone,
}

impl From<Own> for TaskError {
    fn from(Own::Gone: Own) -> Self {
        TaskError::permanent("gone")
    }
}

#[task]
async fn converts() -> Result<u8, Own> {
    Err(Own::Gone)
}

type Fallible<T> = std::result::Result<T, String>;

#[task]
async fn behind_an_alias(fail: bool) -> Fallible<u8> {
    if fail { Err("the text".to_owned()) } else { Ok(7) }
}

#[derive(Deserialize)]
struct Order {
    items: Vec<HashMap<String, f64>>,
}

#[task]
async fn sum(order: Order, order_value: Option<Value>) -> f64 {
    assert!(order_value.is_none());
    order.items.iter().flat_map(HashMap::values).sum()
}

#[task]
async fn narrow(number: u8, list: Vec<u8>, flag: bool) -> usize {
    usize::from(number) + list.len() + usize::from(flag)
}

#[task]
fn breaks() -> u8 {
    panic!("broken")
}

#[task]
async fn no_json() -> HashMap<(u8, u8), u8> {
    HashMap::from([((1, 2), 3)])
}

#[task]
#[allow(clippy::too_many_arguments)]
async fn names_of_ours(call: i64, info: i64, result: i64, value_0: i64, position: i64) -> i64 {
    call + info + result + value_0 + position
}

async fn call(task: impl TaskDef, inputs: Value) -> Result<Value, TaskError> {
    let inputs = inputs.as_object().cloned().expect("inputs have names");
    let context = TaskContext {
        pipeline_id: "p".parse().expect("an id"),
        run_id: RunId::new(),
        step: Arc::from("s"),
        attempt: 2,
        task_id: TaskId { run_id: RunId::new(), step_run: 0, attempt: 2 },
    };
    let inputs = Inputs::from_iter(inputs.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let registry = TaskRegistry::default();
    let name = task.info().name();
    task.register(&registry);
    registry.call(name, TaskCall { inputs, context }).expect("it was registered").await
}

#[tokio::test]
async fn values_go_in_and_out() {
    assert_eq!(call(add, json!({"a": 1, "b": 2, "unused": 3})).await, Ok(json!(3)));
    assert_eq!(call(split, json!({"text": "a b c"})).await, Ok(json!(["a", "b", "c"])));
    assert_eq!(call(split, json!({"text": "a b c", "limit": 1})).await, Ok(json!(["a"])));
    assert_eq!(call(split, json!({"text": "a b c", "limit": null})).await, Ok(json!(["a", "b", "c"])));
    let two_names = json!({"lines": 1, "words": 2});
    assert_eq!(call(measure, json!({"text": "a b"})).await, Ok(two_names.clone()));
    assert_eq!(call(size, json!({"text": "a b"})).await, Ok(two_names));
    assert_eq!(call(who, json!({"greeting": "hi"})).await, Ok(json!("hi, s of p (2)")));
    assert_eq!(call(nothing, json!({})).await, Ok(Value::Null));
    assert_eq!(call(blocks, json!({"type": "1", "times": 2})).await, Ok(json!("xxx")));
    assert_eq!(call(sum, json!({"order": {"items": [{"a": 1.5}, {"b": 2}]}})).await, Ok(json!(3.5)));
    assert_eq!(call(behind_an_alias, json!({"fail": false})).await, Ok(json!(7)));
    let same_names = json!({"call": 1, "info": 2, "result": 3, "value_0": 4, "position": 5});
    assert_eq!(call(names_of_ours, same_names).await, Ok(json!(15)));
    assert_eq!(add::call(1, 2).await, 3);
}

#[tokio::test]
async fn in_the_chained_style_the_first_parameter_takes_the_value() {
    assert_eq!(call(add, json!({"value": 1, "b": 2})).await, Ok(json!(3)));
    assert_eq!(call(add, json!({"a": 5, "value": 1, "b": 2})).await, Ok(json!(7)), "its own name goes first");
    assert_eq!(call(who, json!({"value": "hi"})).await, Ok(json!("hi, s of p (2)")), "a context is no input");
    let error = call(add, json!({"a": 1, "value": 2})).await.unwrap_err();
    assert_eq!(error.message, "input `b` of task `add` is missing");
}

#[tokio::test]
async fn an_input_that_does_not_fit_fails_for_good_and_is_not_shown() {
    for (result, message) in [
        (call(add, json!({"a": 1})).await, "input `b` of task `add` is missing"),
        (
            call(add, json!({"a": 1, "b": "secret"})).await,
            "input `b` of task `add` must be a whole number (i64), found text",
        ),
        (
            call(add, json!({"a": 1, "b": 2.5})).await,
            "input `b` of task `add` must be a whole number (i64), found a number",
        ),
        (
            call(add, json!({"a": 1, "b": null})).await,
            "input `b` of task `add` must be a whole number (i64), found nothing",
        ),
        (
            call(split, json!({"text": ["secret"]})).await,
            "input `text` of task `text.split` must be text (String), found a list",
        ),
        (
            call(split, json!({"text": "", "limit": "secret"})).await,
            "input `limit` of task `text.split` must be a whole number (u8), found text",
        ),
        (
            call(narrow, json!({"number": 256, "list": [], "flag": true})).await,
            "input `number` of task `narrow` does not fit its type u8: found a whole number out of its range",
        ),
        (
            call(narrow, json!({"number": 1, "list": ["secret"], "flag": true})).await,
            "input `list` of task `narrow` does not fit its type Vec<u8>: found a list with other contents",
        ),
        (
            call(narrow, json!({"number": 1, "list": [], "flag": {"secret": 1}})).await,
            "input `flag` of task `narrow` must be true or false (bool), found a mapping",
        ),
        (
            call(sum, json!({"order": {"items": "secret"}})).await,
            "input `order` of task `sum` does not fit its type Order, found a mapping",
        ),
        (
            call(no_json, json!({})).await,
            "what task `no_json` returned is no JSON: keys must be text, numbers finite",
        ),
    ] {
        assert_eq!(result, Err(TaskError::permanent(message)));
    }
}

#[tokio::test]
async fn errors_say_whether_another_attempt_may_help() {
    assert_eq!(call(refuses, json!({"permanent": true})).await, Err(TaskError::permanent("never")));
    assert_eq!(call(refuses, json!({"permanent": false})).await, Err(TaskError::new("not now")));
    assert_eq!(call(converts, json!({})).await, Err(TaskError::permanent("gone")));
    assert_eq!(call(behind_an_alias, json!({"fail": true})).await, Err(TaskError::new("the text")));
    let text = call(blocks, json!({"type": "x", "times": 1})).await;
    assert_eq!(text, Err(TaskError::new("invalid digit found in string")));
}

#[tokio::test]
async fn a_panic_of_a_function_that_blocks_goes_on_as_one() {
    let ended = tokio::spawn(call(breaks, json!({}))).await;
    assert!(ended.unwrap_err().is_panic());
}

#[test]
fn what_pipelines_have_to_know() {
    let info = split.info();
    let inputs: Vec<_> =
        info.inputs().iter().map(|input| (input.name(), input.type_name(), input.is_optional())).collect();
    assert_eq!(info.name(), "text.split");
    assert_eq!(inputs, [("text", "String", false), ("limit", "u8", true)]);
    assert_eq!(info.outputs(), ["words"]);
    assert_eq!(add.info().about(), Some("Adds two numbers."));
    assert_eq!(add.info().outputs(), ["add"]);
    assert_eq!(blocks.info().inputs()[0].name(), "type");
    assert_eq!(format!("{add:?}"), "add");
}
