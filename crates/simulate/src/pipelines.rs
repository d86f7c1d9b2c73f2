//! Random pipelines that follow from a seed.

use serde_json::{Value, json};
use taskiq_flow_core::definition::Pipeline;
use taskiq_flow_core::load::load_json;

use crate::random::Random;

/// A random pipeline that follows from `seed` and `place`: a few tasks of every kind the machine knows, each needing some
/// of those before it.
///
/// # Panics
/// Never, unless the loader refuses what is made here.
pub fn random_pipeline(seed: u64, place: u64) -> Pipeline {
    let mut random = Random::new(seed.wrapping_mul(31).wrapping_add(place));
    let count = 1 + random.below(9);
    let tasks: Vec<Value> = (0..count).map(|n| task(&mut random, n)).collect();
    let mut definition = json!({
        "id": format!("random-{place}"),
        "inputs": {"list": {"type": "array"}},
        "tasks": tasks,
    });
    if random.permille(400) {
        definition["on_error"] = json!("continue");
    }
    if random.permille(400) {
        definition["max_parallel"] = json!(1 + random.below(3));
    }
    if random.permille(150) {
        definition["timeout"] = json!("20m");
    }
    match load_json(definition) {
        Ok(mut pipelines) if pipelines.len() == 1 => pipelines.remove(0),
        Ok(_) => panic!("one definition is one pipeline"),
        Err(errors) => panic!("a random pipeline is not one: {errors}"),
    }
}

fn task(random: &mut Random, place: usize) -> Value {
    let mut task = body(random, 2);
    task["name"] = json!(format!("t{place}"));
    let needs: Vec<String> = (0..place).filter(|_| random.permille(350)).map(|n| format!("t{n}")).collect();
    let optional = random.permille(200);
    task["inputs"] = json!(["list"]);
    if optional {
        task["optional_inputs"] = json!(needs);
    } else if let Some(inputs) = task["inputs"].as_array_mut() {
        inputs.extend(needs.into_iter().map(Value::from));
    }
    if random.permille(500) {
        task["retry"] = json!({"max_attempts": 2 + random.below(3), "delay": "3s"});
    }
    if task.get("wait").is_none() && random.permille(200) {
        task["timeout"] = json!("30s");
    }
    if random.permille(100) {
        task["when"] = json!("list");
    }
    if random.permille(200) {
        task["on_error"] = json!(if random.permille(500) { "fail" } else { "continue" });
    }
    if !has(&task, "wait") && !has(&task, "chunk") && random.permille(300) {
        task["cache"] = json!({"ttl": "1h"});
        // The items of a map are not given the list.
        if task.get("task").is_some() {
            task["cache"]["key"] = json!("list");
        }
    }
    task
}

/// What a task or an item does, at most so many composites deep.
fn body(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 6 } else { 12 }) {
        0 => json!({"pipeline": "another"}),
        1 => json!({"wait": {"duration": "20s"}}),
        2 => json!({"wait": {"signal": "go"}}),
        3 => json!({"wait": {"signal": "stop", "timeout": "5m"}}),
        6 | 7 => json!({"map": composite(random, depth)}),
        8 => json!({"filter": composite(random, depth)}),
        9 => {
            let mut reduce = body(random, depth - 1);
            merge(&mut reduce, json!({"over": "list", "as": "x", "into": "sum", "initial": 0}));
            if reduce.get("task").is_some() && random.permille(400) {
                reduce["chunk"] = json!(1 + random.below(3));
            }
            json!({"reduce": reduce})
        }
        10 => json!({"group": [body(random, depth - 1), body(random, depth - 1)]}),
        _ => json!({"task": "anything"}),
    }
}

/// Whether there is a field of that name in it, however deep.
fn has(body: &Value, field: &str) -> bool {
    match body {
        Value::Object(fields) => fields.iter().any(|(name, value)| name == field || has(value, field)),
        Value::Array(members) => members.iter().any(|member| has(member, field)),
        _ => false,
    }
}

fn composite(random: &mut Random, depth: usize) -> Value {
    let mut inner = body(random, depth - 1);
    merge(&mut inner, json!({"over": "list", "as": "x"}));
    if random.permille(500) {
        inner["max_parallel"] = json!(1 + random.below(3));
    }
    if inner.get("task").is_some() && random.permille(400) {
        inner["chunk"] = if random.permille(300) { json!("auto") } else { json!(1 + random.below(4)) };
    }
    inner
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}
