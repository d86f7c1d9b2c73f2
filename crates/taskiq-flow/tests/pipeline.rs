//! Pipelines put together in Rust are those a file would hold.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow::core::definition::{
    CatchUp, OnError, OnFull, OnItemError, Overlap, RetryPolicy, ScheduleRules, ScheduleSpec, Timing,
};
use taskiq_flow::core::load::load_json;
use taskiq_flow::pipeline::{
    Pipeline, TaskSpec, command, expr, expression, filter, group, http, kind, map, reduce, sub_pipeline,
    wait_for, wait_for_signal,
};
use taskiq_flow::task;
use taskiq_flow::task::TaskRegistry;

#[task(retries = 2, backoff = 1.5, timeout = "5s", on_error = "continue")]
async fn add(a: i64, b: Option<i64>) -> i64 {
    a + b.unwrap_or(0)
}

/// Squares a number.
#[task(output = "squared")]
async fn square(n: i64) -> i64 {
    n * n
}

#[task]
async fn scale(n: i64, factor: i64) -> i64 {
    n * factor
}

#[task(outputs = ["low", "high"])]
async fn ends(list: Vec<i64>) -> (i64, i64) {
    (list[0], list[list.len() - 1])
}

#[track_caller]
fn same(source: &Value, expected: Value) {
    assert_eq!(*source, expected, "\n{}", serde_json::to_string_pretty(source).expect("JSON is text"));
}

#[test]
fn a_dataflow_is_written_as_a_file_would_be() {
    let registry = TaskRegistry::default();
    let pipeline = Pipeline::dataflow("all")
        .description("everything")
        .input("a", "integer")
        .input("numbers", json!({"type": "array", "items": {"type": "integer"}}))
        .task(add)
        .task(TaskSpec::from(add).named("again").wire("a", "add").with("b", 5).when("a > 1").retries(0))
        .task(map("numbers", square).named("squares").max_parallel(3))
        .task(filter("squares", expression("x > 2")).item("x").named("big"))
        .task(reduce("big", 0, expression("total + item")).accumulator("total").named("sum"))
        .task(TaskSpec::from(ends).wire("list", "squares"))
        .task(group([expr("x", "a"), expr("y", "a + 1")]).named("both").inputs(["a"]))
        .task(
            command(["wc", "-l"])
                .named("count")
                .inputs(["low"])
                .optional_inputs(["again"])
                .output("lines")
                .timeout(Duration::from_millis(1500))
                .retry(RetryPolicy::default())
                .on_error(OnError::Continue)
                .description("lines"),
        )
        .task(http(json!({"url": "https://example.com"})).named("fetch"))
        .task(wait_for_signal("go", Some(Duration::from_secs(60))).named("go"))
        .task(wait_for(Duration::from_secs(1)).named("pause"))
        .task(sub_pipeline("other").named("inner").inputs(["a"]))
        .task(kind("taskiq", json!({"task": "m:f", "args": ["a"]})).named("python").inputs(["a"]))
        .outputs(["sum", "high"])
        .on_error(OnError::Continue)
        .max_parallel(8)
        .priority(7)
        .max_runs(4)
        .max_runs_per("a", 1, OnFull::CancelOldest)
        .timeout(Duration::from_secs(3600))
        .schedule(ScheduleSpec {
            id: "nightly".into(),
            timing: Timing::Cron("0 2 * * *".into()),
            timezone: "UTC".into(),
            parameters: json!({"a": 1, "numbers": []}).as_object().cloned().unwrap(),
            enabled: false,
            rules: ScheduleRules {
                catch_up: CatchUp::All,
                overlap: Overlap::CancelPrevious,
                jitter: Some(Duration::from_secs(90)),
                from: Some("2026-01-01T00:00:00Z".parse().unwrap()),
                until: None,
            },
        })
        .build_with(&registry)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(registry.names(), ["add", "ends", "square"]);
    let add_settings = |task: Value| {
        let mut task = task;
        let fields = task.as_object_mut().unwrap();
        fields.insert("timeout".into(), json!("5s"));
        fields.insert("on_error".into(), json!("continue"));
        task
    };
    same(
        &pipeline.source,
        json!({
            "id": "all",
            "inputs": {
                "a": {"type": "integer"},
                "numbers": {"type": "array", "items": {"type": "integer"}},
            },
            "tasks": [
                add_settings(json!({"task": "add", "inputs": ["a"], "output": "add",
                    "retry": {"max_attempts": 3, "backoff": 1.5}, "name": "add"})),
                add_settings(json!({"name": "again", "task": "add", "with": {"b": 5}, "inputs": {"a": "add"},
                    "when": "a > 1", "retry": {"max_attempts": 1}})),
                {"name": "squares", "map": {"as": "n", "over": "numbers", "task": "square", "max_parallel": 3}},
                {"name": "big", "filter": {"over": "squares", "expression": "x > 2", "as": "x"}},
                {"name": "sum", "reduce": {"over": "big", "initial": 0, "expression": "total + item", "into": "total"}},
                {"task": "ends", "inputs": {"list": "squares"}, "outputs": ["low", "high"], "name": "ends"},
                {"name": "both", "group": [{"name": "x", "expression": "a"}, {"name": "y", "expression": "a + 1"}],
                    "inputs": ["a"]},
                {"name": "count", "command": ["wc", "-l"], "inputs": ["low"], "optional_inputs": ["again"],
                    "output": "lines", "timeout": "1s500ms",
                    "retry": {"max_attempts": 1, "delay": "1s", "backoff": 2.0, "jitter": true, "max_delay": "1m"},
                    "on_error": "continue", "description": "lines"},
                {"name": "fetch", "http": {"url": "https://example.com"}},
                {"name": "go", "wait": {"signal": "go", "timeout": "1m"}},
                {"name": "pause", "wait": {"duration": "1s"}},
                {"name": "inner", "pipeline": "other", "inputs": ["a"]},
                {"name": "python", "taskiq": {"task": "m:f", "args": ["a"]}, "inputs": ["a"]},
            ],
            "description": "everything", "outputs": ["sum", "high"], "on_error": "continue", "max_parallel": 8,
            "priority": 7,
            "concurrency": [{"max": 4}, {"max": 1, "key": "a", "on_full": "cancel_oldest"}],
            "timeout": "1h",
            "schedule": [{"id": "nightly", "cron": "0 2 * * *", "timezone": "UTC",
                "parameters": {"a": 1, "numbers": []}, "enabled": false,
                "catch_up": "all", "overlap": "cancel_previous", "jitter": "1m30s", "from": "2026-01-01T00:00:00.000Z"}],
        }),
    );
}

#[test]
fn an_optional_input_is_wired_where_something_makes_it() {
    let optional = |pipeline: taskiq_flow::core::definition::Pipeline| {
        pipeline.tasks.iter().find(|task| task.name == "add").map(|task| task.inputs.len())
    };
    let declared = Pipeline::dataflow("p").input("a", "integer");
    assert_eq!(optional(declared.clone().task(add).build().unwrap()), Some(1));
    assert_eq!(optional(declared.clone().input("b", "integer").task(add).build().unwrap()), Some(2));
    assert_eq!(optional(declared.clone().task(add).task(expr("b", "1")).build().unwrap()), Some(2));
    assert_eq!(
        optional(Pipeline::dataflow("p").task(add).build().unwrap()),
        Some(2),
        "a parameter that may be given"
    );
    let said = declared.task(TaskSpec::from(add).optional_inputs(["b"])).build().unwrap_err().to_string();
    assert!(said.contains("task `add` needs `b`"), "{said}");
}

#[test]
fn what_was_built_loads_again_as_the_same() {
    let built = Pipeline::chain("c").call(expression("value + 1")).map(square).build().unwrap();
    let loaded = load_json(built.source.clone()).unwrap().remove(0);
    assert_eq!(loaded.source, built.source);
    assert_eq!(format!("{:?}", loaded.tasks), format!("{:?}", built.tasks));
}

#[test]
fn a_chain_is_written_as_a_file_would_be() {
    let pipeline = Pipeline::chain("c")
        .input("list", json!({"type": "array"}))
        .call(expr("keep", "list").timeout(Duration::from_secs(1)))
        .map(square)
        .map(TaskSpec::from(scale).with("factor", 3))
        .filter(expression("value >= 0"))
        .reduce(0, add)
        .call(square)
        .call(square)
        .group([TaskSpec::from(square), expr("same", "value")])
        .build()
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    same(
        &pipeline.source,
        json!({
            "id": "c",
            "inputs": {"list": {"type": "array"}},
            "steps": [
                {"name": "keep", "expression": "list", "timeout": "1s"},
                {"map": {"as": "n", "task": "square"}},
                {"map": {"as": "n", "task": "scale", "with": {"factor": 3}}},
                {"filter": {"expression": "value >= 0"}},
                {"reduce": {"into": "a", "as": "b", "initial": 0, "task": "add"},
                    "retry": {"max_attempts": 3, "backoff": 1.5}, "timeout": "5s", "on_error": "continue"},
                {"name": "square", "task": "square", "description": "Squares a number."},
                {"task": "square", "description": "Squares a number."},
                {"group": [{"name": "square", "task": "square"}, {"name": "same", "expression": "value"}]},
            ],
        }),
    );
    assert_eq!(pipeline.tasks[6].name, "step-7");
}

#[test]
fn mistakes_are_those_of_files_and_name_their_place() {
    let twice = Pipeline::dataflow("p").task(expr("a", "1")).task(expr("a", "2")).build();
    let shown = [
        (twice.unwrap_err().to_string(), "two tasks are called `a`"),
        (Pipeline::dataflow("p").build().unwrap_err().to_string(), "has no tasks"),
        (
            Pipeline::dataflow("p q").task(expr("a", "1")).build().unwrap_err().to_string(),
            "is not a pipeline id",
        ),
        (
            Pipeline::dataflow("p").task(expression("1")).build().unwrap_err().to_string(),
            "every task has a name of its own",
        ),
        (
            Pipeline::dataflow("p").task(expr("a", "1 +")).build().unwrap_err().to_string(),
            "/tasks/0/expression",
        ),
        (
            Pipeline::dataflow("p").task(expr("a", "n")).build().unwrap_err().to_string(),
            "`n` is no input of task `a`",
        ),
        (
            Pipeline::dataflow("p").input("x", "whole").task(expr("a", "1")).build().unwrap_err().to_string(),
            "bad schema of parameter `x`",
        ),
        (Pipeline::dataflow("p").task(expr("a", "1").item("x")).build().unwrap_err().to_string(), "as"),
        (
            Pipeline::dataflow("p")
                .task(map("list", expression("item").when("item > 1")).named("a"))
                .build()
                .unwrap_err()
                .to_string(),
            "`when`",
        ),
        (
            Pipeline::dataflow("p")
                .task(expr("a", "b").inputs(["b"]))
                .task(expr("b", "a").inputs(["a"]))
                .build()
                .unwrap_err()
                .to_string(),
            "in a circle",
        ),
        (
            Pipeline::chain("p").call(expr("a", "value").inputs(["value"])).build().unwrap_err().to_string(),
            "a step has no `inputs`",
        ),
        (
            Pipeline::chain("p").call(expression("1")).call(scale).build().unwrap_err().to_string(),
            "not given the input `factor` of its Rust task",
        ),
        (
            Pipeline::chain("p").input("n", "integer").call(scale).build().unwrap_err().to_string(),
            "not given the input `factor`",
        ),
        (
            Pipeline::dataflow("p").max_parallel(0).task(expr("a", "1")).build().unwrap_err().to_string(),
            "/max_parallel",
        ),
    ];
    for (shown, part) in shown {
        assert!(shown.contains(part), "{part:?} in:\n{shown}");
        assert!(shown.contains("pipeline \"p"), "{shown}");
    }
}

#[test]
fn two_functions_of_one_name_are_refused() {
    mod other {
        #[taskiq_flow::task]
        pub(super) async fn add(a: i64) -> i64 {
            a
        }
    }
    let shown =
        Pipeline::dataflow("p").task(add).task(TaskSpec::from(other::add).named("c")).build().unwrap_err();
    assert!(shown.to_string().contains("two Rust tasks are called `add`"), "{shown}");
    assert!(Pipeline::dataflow("p").task(add).task(TaskSpec::from(add).named("c")).build().is_ok());
}

#[test]
fn nothing_is_registered_for_a_pipeline_that_is_refused() {
    let registry = TaskRegistry::default();
    assert!(Pipeline::dataflow("p").task(add).task(add).build_with(&registry).is_err());
    assert!(registry.names().is_empty());
}

#[task(retries = 4, max_time = "5m", retry_on = ["rate_limited", "http:5*"], not_on = ["message ~ never"])]
async fn fetch(url: String) -> String {
    url
}

#[test]
fn rules_about_errors_are_written_as_a_file_would_have_them() {
    let rules = json!({
        "max_attempts": 5, "max_time": "5m", "retry_on": ["rate_limited", "http:5*"], "not_on": ["message ~ never"]
    });
    let pipeline = Pipeline::dataflow("p").task(fetch).build().unwrap();
    same(&pipeline.source["tasks"][0]["retry"], rules.clone());
    let policy = pipeline.tasks[0].retry.clone();
    let again = Pipeline::dataflow("p")
        .task(expr("e", "1"))
        .retry(policy.clone())
        .step_timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    assert_eq!((&again.tasks[0].retry, again.tasks[0].timeout), (&policy, Some(Duration::from_secs(30))));
    same(&again.source["step_timeout"], json!("30s"));
}

#[task(retries = 1, timeout = "3s", on_error = "continue")]
async fn refund(result: String) -> String {
    result
}

#[test]
fn what_undoes_a_task_is_written_with_its_own_settings() {
    let registry = TaskRegistry::default();
    let pipeline = Pipeline::dataflow("p")
        .task(TaskSpec::from(fetch).named("charge").retries(0).compensate(refund))
        .task(expr("last", "1").compensate(expression("result + 1").retries(2)))
        .compensate_on_cancel()
        .build_with(&registry)
        .unwrap();
    let undo = json!({"task": "refund", "retry": {"max_attempts": 2}, "timeout": "3s"});
    same(&pipeline.source["tasks"][0]["compensate"], undo);
    let undo = json!({"expression": "result + 1", "retry": {"max_attempts": 3}});
    same(&pipeline.source["tasks"][1]["compensate"], undo);
    assert!(pipeline.compensate_on_cancel);
    assert_eq!(registry.names(), ["fetch", "refund"]);
}

#[task(compensate = refund)]
async fn charge(amount: i64) -> String {
    amount.to_string()
}

#[test]
fn a_task_brings_what_undoes_it() {
    let registry = TaskRegistry::default();
    let pipeline = Pipeline::dataflow("p")
        .task(charge)
        .task(TaskSpec::from(charge).named("other").compensate(expression("result")))
        .task(map("amounts", charge).named("all").compensate(expression("result | length")))
        .build_with(&registry)
        .unwrap();
    let tasks = &pipeline.source["tasks"];
    let undo = json!({"task": "refund", "retry": {"max_attempts": 2}, "timeout": "3s"});
    same(&tasks[0]["compensate"], undo);
    same(&tasks[1]["compensate"], json!({"expression": "result"}));
    same(&tasks[2]["compensate"], json!({"expression": "result | length"}));
    assert_eq!(registry.names(), ["charge", "refund"]);
    // Registered alone, it brings it too.
    let registry = TaskRegistry::default();
    taskiq_flow::task::TaskDef::register(charge, &registry);
    assert_eq!(registry.names(), ["charge", "refund"]);
}

/// What would undo it would be dropped, and nobody would know.
#[test]
fn a_task_that_brings_what_undoes_it_is_refused_where_nothing_is_undone() {
    let plain = || TaskSpec::from(charge).named("x").without_compensation();
    for (spec, within) in [
        (map("amounts", charge), "a `map`"),
        (filter("amounts", charge), "a `filter`"),
        (reduce("amounts", 0, charge), "a `reduce`"),
        (group([TaskSpec::from(charge), expr("other", "1")]), "a `group`"),
        (map("amounts", group([charge])), "a `group`"),
    ] {
        let pipeline = |spec: &TaskSpec| Pipeline::dataflow("p").task(spec.clone().named("all")).build();
        let refused = pipeline(&spec).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("`charge` (`compensate`) has no place inside {within}")),
            "{refused}"
        );
        assert!(refused.contains("/tasks/0"), "{refused}");
        pipeline(&spec.compensate(expression("result"))).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
    let chain = |other: TaskSpec| {
        let step = expression("value").when("value > 1").compensate(expression("result"));
        Pipeline::chain("c").call(step.otherwise(other)).build()
    };
    let refused = chain(charge.into()).unwrap_err().to_string();
    assert!(refused.contains("has no place inside an `otherwise`"), "{refused}");
    let taken = chain(TaskSpec::from(charge).without_compensation());
    taken.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let pipeline =
        Pipeline::dataflow("p").task(map("amounts", plain()).named("all")).task(plain()).build().unwrap();
    assert!(pipeline.tasks.iter().all(|task| task.compensate.is_none()));
}

#[test]
fn a_step_says_what_is_done_otherwise() {
    let registry = TaskRegistry::default();
    let pipeline = Pipeline::chain("c")
        .call(TaskSpec::from(square).when("value > 1").otherwise(refund))
        .call(expression("value").when("value > 1").or_pass())
        .build_with(&registry)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let steps = &pipeline.source["steps"];
    same(&steps[0]["otherwise"], json!({"task": "refund"}));
    same(&steps[1]["otherwise"], json!("pass"));
    assert_eq!(registry.names(), ["refund", "square"]);
    assert_eq!(pipeline.tasks.len(), 6);
}

#[test]
fn a_map_that_goes_on_is_written_with_its_rule() {
    let rows = map("xs", expression("item")).named("rows").on_item_error(OnItemError::Collect);
    let pipeline = Pipeline::dataflow("p").task(rows.total_timeout(Duration::from_secs(60))).build().unwrap();
    same(&pipeline.source["tasks"][0]["map"]["on_item_error"], json!("collect"));
    same(&pipeline.source["tasks"][0]["total_timeout"], json!("1m"));
}

#[task(cache = "1h", cache_version = "2")]
async fn slow(n: i64) -> i64 {
    n
}

#[test]
fn what_is_cached_is_said_by_the_attribute_and_by_the_pipeline() {
    let pipeline = Pipeline::dataflow("p")
        .task(slow)
        .task(TaskSpec::from(slow).named("shorter").cache(Duration::from_secs(60)).cache_key("n % 10"))
        .task(map("list", slow).named("each"))
        .task(expr("plain", "n").inputs(["n"]).cache(None).cache_version("a"))
        .build()
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let said: Vec<_> = (0..4).map(|place| &pipeline.source["tasks"][place]["cache"]).collect();
    assert_eq!(*said[0], json!({"ttl": "1h", "version": "2"}));
    assert_eq!(*said[1], json!({"ttl": "1m", "version": "2", "key": "n % 10"}));
    assert_eq!((said[2], said[3]), (&json!({"ttl": "1h", "version": "2"}), &json!({"version": "a"})));
    assert_eq!(pipeline.tasks[1].cache.as_ref().and_then(|cache| cache.ttl), Some(Duration::from_secs(60)));
}

#[test]
fn items_come_in_chunks_where_it_is_said() {
    let pipeline = Pipeline::dataflow("p")
        .task(map("numbers", square).named("squares").chunk(100))
        .task(filter("squares", expression("item > 2")).named("big").chunk_auto())
        .task(reduce("big", 0, expression("acc + item")).named("sum").chunk(7))
        .build()
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let tasks = &pipeline.source["tasks"];
    let said = [&tasks[0]["map"]["chunk"], &tasks[1]["filter"]["chunk"], &tasks[2]["reduce"]["chunk"]];
    assert_eq!(said, [&json!(100), &json!("auto"), &json!(7)]);
}
