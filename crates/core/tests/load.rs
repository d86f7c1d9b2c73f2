//! Pipelines out of files: the examples, what each kind becomes, and that a stored definition is the same again.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use taskiq_flow_core::definition::{
    Argument, Chunk, HttpMethod, HttpResponse, Input, OnError, OnFull, Pipeline, Style, TaskKind, Timing,
    WaitFor,
};
use taskiq_flow_core::document::{Document, Format};
use taskiq_flow_core::load::{MAX_TASKS, load_json, load_text};
use taskiq_flow_core::plan::Plan;

fn load(text: &str) -> Pipeline {
    let mut pipelines = load_text("p.yaml", text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(pipelines.len(), 1);
    pipelines.remove(0)
}

fn mistakes(text: &str) -> String {
    load_text("p.yaml", text, Format::Yaml).expect_err(text).to_string()
}

fn examples() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(path).unwrap());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).map(read).collect()
}

/// Everything of a pipeline, as text: definitions compare by it.
fn shown(pipeline: &Pipeline) -> String {
    format!("{pipeline:#?}")
}

#[test]
fn every_example_loads_and_loads_again_from_what_is_stored() {
    let examples = examples();
    assert!(examples.len() >= 5);
    for (name, text) in examples {
        let loaded = load_text(&name, &text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}"));
        for pipeline in loaded {
            Plan::new(Arc::new(pipeline.clone())).unwrap();
            let again = load_json(pipeline.source.clone()).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(shown(&again[0]), shown(&pipeline), "{name}");
            let json = serde_json::to_string_pretty(&pipeline.source).unwrap();
            let from_text = load_text("p.json", &json, Format::Json).unwrap();
            assert_eq!(shown(&from_text[0]), shown(&pipeline), "{name}");
        }
    }
}

#[test]
fn a_toml_file_is_the_same_pipeline() {
    let toml = r#"
id = "squares"
max_parallel = 3
[inputs.numbers]
type = "array"
[[tasks]]
name = "square"
map = { over = "numbers", as = "n", expression = "n * n" }
[[tasks]]
name = "total"
inputs = ["square"]
expression = "square | sum"
[[schedule]]
at = 2030-01-01T00:00:00Z
parameters = { numbers = [1] }
"#;
    let yaml = "
id: squares
max_parallel: 3
inputs: { numbers: { type: array } }
tasks:
  - { name: square, map: { over: numbers, as: n, expression: n * n } }
  - { name: total, inputs: [square], expression: square | sum }
schedule: [ { at: 2030-01-01T00:00:00Z, parameters: { numbers: [1] } } ]
";
    let toml = load_text("p.toml", toml, Format::Toml).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(shown(&toml[0]), shown(&load(yaml)));
}

#[test]
fn the_chained_example_is_a_chain_of_values() {
    let text = examples().into_iter().find(|(name, _)| name.ends_with("sequential.yaml")).unwrap().1;
    let pipeline = load(&text);
    assert_eq!(pipeline.style, Style::Chained);
    let names: Vec<_> = pipeline.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["step-1", "step-2", "step-3", "step-4", "step-5"]);
    assert_eq!(pipeline.tasks[0].inputs, [Input::required("value")]);
    assert_eq!(pipeline.tasks[1].inputs, [Input::required("step-1").named("value")]);
    assert_eq!(pipeline.tasks[1].body.with["times"], 4);
    let TaskKind::Map(map) = &pipeline.tasks[2].body.kind else { panic!("{pipeline:?}") };
    assert_eq!((map.over.as_str(), map.item.as_str()), ("value", "value"));
    let TaskKind::Group(members) = &pipeline.tasks[4].body.kind else { panic!("{pipeline:?}") };
    assert_eq!(
        members.iter().map(|member| member.name.as_deref()).collect::<Vec<_>>(),
        [Some("sum"), Some("length")]
    );
}

#[test]
fn a_chain_starts_with_the_parameters() {
    let pipeline = load(
        "id: c\ninputs: { a: {}, b: { default: 1 } }\nsteps:\n  - expression: a + b\n  - { name: x, reduce: { initial: 0, expression: acc + value } }\n",
    );
    assert_eq!(pipeline.tasks[0].inputs, [Input::required("a"), Input::required("b")]);
    let TaskKind::Reduce(reduce) = &pipeline.tasks[1].body.kind else { panic!("{pipeline:?}") };
    assert_eq!(
        (reduce.over.as_str(), reduce.item.as_str(), reduce.accumulator.as_str()),
        ("value", "value", "acc")
    );
    let undeclared = load("id: c\nsteps: [ { expression: value + 1 } ]\n");
    assert_eq!(undeclared.tasks[0].inputs, [Input::required("value")]);
    let over_one = load("id: c\ninputs: { rows: {} }\nsteps: [ { map: { as: row, expression: row.x } } ]\n");
    let TaskKind::Map(map) = &over_one.tasks[0].body.kind else { panic!("{over_one:?}") };
    assert_eq!((map.over.as_str(), map.item.as_str()), ("rows", "row"));
}

#[test]
fn every_field_of_a_pipeline_and_a_task_is_read() {
    let pipeline = load(
        r#"
id: all
description: everything
inputs:
  rows: { type: array }
  limit: { type: integer, required: false }
outputs: [found, extra]
on_error: continue
max_parallel: 4
priority: 7
concurrency:
  - { max: 1, key: "rows | length", on_full: skip }
  - 3
timeout: 1h30m
schedule:
  - { id: often, interval: 5m, enabled: false, parameters: { rows: [] } }
  - { cron: "*/5 * * * *", timezone: Europe/Paris, parameters: { rows: [1] } }
tasks:
  - name: find
    description: looks
    when: "not limit or limit > 3"
    http:
      method: POST
      url: "https://example.org/{{ rows | length }}"
      query: { q: "{{ limit }}", tag: [a, b], n: 5 }
      headers: { X-Trace: "{{ limit }}" }
      json: "{'rows': rows}"
      response: full
    inputs: { rows: rows }
    optional_inputs: [limit]
    outputs: [found, extra]
    timeout: 30s
    retry: { max_attempts: 5, delay: 200ms, backoff: 1.5, jitter: false, max_delay: 1m }
    on_error: fail
  - name: work
    command: { argv: [prog, -n, 5], env: { LANG: C }, pass_env: [HOME], cwd: /tmp }
    with: { mode: fast }
    inputs: [found]
  - { name: send, taskiq: { task: "m:f", args: [found, 3, { value: text }], kwargs: { a: found, b: { value: { x: 1 } }, c: { y: 2 } } }, inputs: [found] }
  - { name: sub, pipeline: other, inputs: { p: found } }
  - { name: rust, task: my.task, inputs: [found], resources: { cpu: 0.5, memory: 512MiB, gpu: 1 } }
  - { name: pause, wait: { duration: 10s } }
  - { name: ask, wait: { signal: yes please, timeout: 1d } }
"#,
    );
    assert_eq!(pipeline.description.as_deref(), Some("everything"));
    assert_eq!(pipeline.outputs.as_deref(), Some(&["found".to_owned(), "extra".to_owned()][..]));
    assert_eq!((pipeline.on_error, pipeline.max_parallel.unwrap().get()), (OnError::Continue, 4));
    assert_eq!(pipeline.priority.get(), 7);
    let [keyed, shared] = &pipeline.concurrency[..] else { panic!("{pipeline:?}") };
    assert_eq!((keyed.max.get(), keyed.on_full), (1, OnFull::Skip));
    assert_eq!(keyed.key.as_ref().unwrap().names(), ["rows"]);
    assert_eq!((shared.max.get(), shared.on_full, shared.key.is_none()), (3, OnFull::Queue, true));
    assert_eq!(pipeline.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(pipeline.schedules[0].timing, Timing::Interval(Duration::from_secs(300)));
    assert_eq!(
        (pipeline.schedules[1].id.as_str(), pipeline.schedules[1].timezone.as_str()),
        ("schedule-2", "Europe/Paris")
    );
    assert!(!pipeline.schedules[0].enabled && pipeline.schedules[1].enabled);
    let find = &pipeline.tasks[0];
    assert_eq!(find.inputs, [Input::required("rows"), Input::optional("limit")]);
    assert_eq!(find.outputs, ["found", "extra"]);
    assert_eq!(
        (find.retry.max_attempts.get(), find.retry.delay, find.retry.jitter),
        (5, Duration::from_millis(200), false)
    );
    assert_eq!((find.retry.backoff, find.retry.max_delay), (1.5, Duration::from_secs(60)));
    assert_eq!((find.timeout, find.on_error), (Some(Duration::from_secs(30)), Some(OnError::Fail)));
    assert_eq!(find.when.as_ref().unwrap().names(), ["limit"]);
    let TaskKind::Http(http) = &find.body.kind else { panic!() };
    assert_eq!((http.method, http.response), (HttpMethod::Post, HttpResponse::Full));
    let query: Vec<_> = http.query.iter().map(|(name, text)| (name.as_str(), text.source())).collect();
    assert_eq!(query, [("q", "{{ limit }}"), ("tag", "a"), ("tag", "b"), ("n", "5")]);
    let TaskKind::Command(command) = &pipeline.tasks[1].body.kind else { panic!() };
    assert_eq!(command.argv, ["prog", "-n", "5"]);
    assert_eq!((command.env["LANG"].as_str(), command.pass_env[0].as_str()), ("C", "HOME"));
    let resources: Vec<_> =
        pipeline.tasks[4].resources.iter().map(|(name, amount)| (&**name, amount.0)).collect();
    assert_eq!(resources, [("cpu", 500), ("memory", 512 << 20), ("gpu", 1000)]);
    assert_eq!(pipeline.tasks[1].body.with["mode"], "fast");
    let TaskKind::Taskiq(taskiq) = &pipeline.tasks[2].body.kind else { panic!() };
    assert_eq!(
        taskiq.args,
        [Argument::Input("found".into()), Argument::Constant(json!(3)), Argument::Constant(json!("text"))]
    );
    assert_eq!(taskiq.kwargs[1].1, Argument::Constant(json!({"x": 1})));
    assert_eq!(taskiq.kwargs[2].1, Argument::Constant(json!({"y": 2})));
    let TaskKind::Wait(wait) = &pipeline.tasks[6].body.kind else { panic!() };
    assert_eq!(
        (&wait.until, wait.timeout),
        (&WaitFor::Signal("yes please".into()), Some(Duration::from_secs(86_400)))
    );
    assert_eq!(shown(&load_json(pipeline.source.clone()).unwrap()[0]), shown(&pipeline));
}

#[test]
fn maps_nest_and_the_list_is_an_input_by_itself() {
    let pipeline = load(
        "
id: nest
tasks:
  - name: cells
    inputs: [factor]
    map:
      over: rows
      as: row
      map: { over: row, as: cell, expression: cell * factor + shift, with: { shift: 1 } }
  - name: both
    group:
      - filter: { over: cells, expression: item }
      - reduce: { over: cells, as: c, initial: null, command: [prog] }
",
    );
    assert_eq!(pipeline.tasks[0].inputs, [Input::required("factor"), Input::required("rows")]);
    assert_eq!(pipeline.tasks[1].inputs, [Input::required("cells")]);
    assert!(!pipeline.inputs.declared());
}

#[test]
fn a_list_of_pipelines_and_several_yaml_documents_load() {
    let one = "id: a\ntasks: [ { name: t, expression: 1 } ]\n";
    let two = one.replace("id: a", "id: b");
    let both = load_text("p.yaml", &format!("{one}---\n{two}"), Format::Yaml).unwrap();
    assert_eq!(both.len(), 2);
    let list = Value::Array(both.iter().map(|pipeline| pipeline.source.clone()).collect());
    assert_eq!(load_json(list).unwrap().len(), 2);
    assert!(mistakes(&format!("{one}---\n{one}")).contains("two pipelines are called `a`"));
}

#[test]
fn limits_hold() {
    let tasks: Vec<_> = (0..=MAX_TASKS).map(|n| json!({"name": n.to_string(), "expression": "1"})).collect();
    let errors = load_json(json!({"id": "x", "tasks": tasks})).unwrap_err().to_string();
    assert!(errors.contains("at most 100000 tasks, this one has 100001"), "{errors}");
    let deep = "id: a\ntasks: ".to_owned() + &"[".repeat(10_000) + &"]".repeat(10_000);
    assert!(load_text("p.yaml", &deep, Format::Yaml).is_err());
    let wrong: String = (0..5000).map(|n| format!("  - {{ name: t{n}, expresion: 1 }}\n")).collect();
    let errors = load_text("p.yaml", &format!("id: a\ntasks:\n{wrong}"), Format::Yaml).unwrap_err();
    assert_eq!(errors.iter().count(), 100);
    let nested = (0..46).fold(json!({"expression": "1"}), |body, _| json!({"group": [body]}));
    assert!(load_json(json!({"id": "x", "tasks": [nested]})).is_err());
}

#[test]
fn a_thousand_tasks_load() {
    let mut text = "id: big\ninputs: { n: { type: integer } }\ntasks:\n".to_owned();
    for n in 0..1000 {
        let input = if n == 0 { "n".to_owned() } else { format!("t{}", (n - 1) / 2) };
        text.push_str(&format!("  - name: t{n}\n    expression: \"{input} + 1\"\n    inputs: [{input}]\n    retry: {{ max_attempts: 3 }}\n    timeout: 10s\n"));
    }
    assert_eq!(load(&text).tasks.len(), 1000);
}

#[test]
fn of_many_mistakes_the_first_hundred_are_told() {
    let mut text = "id: big\ninputs: {}\ntasks:\n".to_owned();
    for n in 0..3000 {
        text.push_str(&format!("  - {{ name: task_{n}, expression: other_{n}, inputs: [other_{n}] }}\n"));
    }
    let errors = load_text("p.yaml", &text, Format::Yaml).unwrap_err();
    assert_eq!(errors.iter().count(), 100);
}

/// A comparison looks at every name of the pipeline: for all mistakes of a large one it would take minutes.
#[test]
fn only_the_first_hundred_mistakes_of_the_wiring_are_compared_with_the_known_names() {
    let tasks: Vec<_> = (0..1000).map(|n| json!({"name": format!("task_{n}"), "expression": "1"})).collect();
    let mut pipeline = load_json(json!({"id": "big", "inputs": {}, "tasks": tasks})).unwrap().remove(0);
    for task in &mut pipeline.tasks {
        Arc::make_mut(task).inputs = vec![Input::required(format!("{}x", task.name))];
    }
    pipeline.outputs = Some((0..1000).map(|n| format!("task_{n}y")).collect());
    let errors = Plan::new(Arc::new(pipeline)).unwrap_err();
    let compared = errors.iter().filter(|error| error.help.starts_with("did you mean")).count();
    assert_eq!((errors.len(), compared), (2000, 100));
}

fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<_> = examples().into_iter().map(|(_, text)| text).collect();
    let pieces = vec![
        "map:", "over", ": ", "- ", "\n", "{", "}", "[", "]", "\"", "'", "|", "with", "null", "1", "&a ",
        "*a", "é",
    ];
    (
        prop::sample::select(texts),
        prop::collection::vec(
            (any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(pieces)),
            1..6,
        ),
    )
        .prop_map(|(mut text, edits)| {
            for (at, cut, piece) in edits {
                let characters: Vec<_> = text.chars().collect();
                let at = at.index(characters.len() + 1);
                let rest = characters[(at + cut).min(characters.len())..].iter();
                text = characters[..at]
                    .iter()
                    .chain(piece.chars().collect::<Vec<_>>().iter())
                    .chain(rest)
                    .collect();
            }
            text
        })
}

proptest! {
    #[test]
    fn no_text_panics_and_what_loads_loads_again(text in mutated()) {
        match load_text("p.yaml", &text, Format::Yaml) {
            Ok(pipelines) => for pipeline in pipelines {
                let again = load_json(pipeline.source.clone());
                prop_assert!(again.is_ok(), "{}", again.unwrap_err());
                prop_assert_eq!(shown(&again.unwrap()[0]), shown(&pipeline));
            },
            Err(errors) => {
                prop_assert!(!errors.to_string().is_empty());
                let document = Document::parse("p.yaml", &text, Format::Yaml);
                if let Ok(document) = document {
                    for error in &errors {
                        prop_assert!(error.line().is_some(), "{error}");
                        prop_assert!(document.root().to_json().pointer(error.field()).is_some(), "{}", error.field());
                    }
                }
            }
        }
    }
}

#[test]
fn a_pipeline_says_for_its_tasks_what_they_do_not_say() {
    let text = "
id: p
retry: { max_attempts: 4, max_time: 5m, retry_on: [timeout, 'http:5*'], not_on: ['message ~ gone'] }
step_timeout: 30s
tasks:
  - { name: plain, expression: 1 }
  - { name: own, expression: 1, retry: { max_attempts: 2 }, timeout: 1m }
  - { name: approve, wait: { signal: go } }
  - { name: items, map: { over: xs, wait: { duration: 1m } } }
";
    let pipeline = load_text("p.yaml", text, Format::Yaml).unwrap().remove(0);
    let [plain, own, approve, items] = pipeline.tasks.as_slice() else { panic!("four tasks") };
    assert_eq!((plain.retry.max_attempts.get(), plain.timeout), (4, Some(Duration::from_secs(30))));
    assert_eq!(plain.retry.max_time, Some(Duration::from_secs(300)));
    assert!(plain.retry.repeats("http:503", "", false) && !plain.retry.repeats("timeout", "gone", false));
    assert_eq!((own.retry.max_attempts.get(), own.timeout), (2, Some(Duration::from_secs(60))));
    assert_eq!(own.retry.retry_on, None, "a task's own policy replaces the whole of the pipeline's");
    assert_eq!((approve.timeout, items.timeout), (None, None), "a limit for work is none for waiting");
}

#[test]
fn a_cache_says_how_long_values_are_good_and_what_they_depend_on() {
    let text = "
id: p
tasks:
  - { name: plain, expression: x + y, inputs: [x, y], cache: {} }
  - { name: all, expression: x + y, inputs: [x, y], cache: { ttl: 1h, key: 'x ~ y', version: '2' } }
  - { name: items, map: { over: rows, as: row, expression: row }, cache: { key: row.id } }
  - { name: sum, reduce: { over: rows, as: row, initial: 0, expression: acc + row }, cache: { key: '[acc, row]' } }
  - { name: both, map: { over: rows, as: row, group: [ { map: { over: row, as: cell, expression: 'row[0] + cell' }, with: { a: 1 } }, { expression: row, with: { a: 2 } } ] }, cache: { key: '[row, a]' } }
  - { name: called, task: f, inputs: [x], with: { k: 1 }, cache: { key: k } }
";
    let pipeline = load(text);
    let caches: Vec<_> = pipeline.tasks.iter().map(|task| task.cache.as_deref().unwrap()).collect();
    assert_eq!((caches[0].ttl, caches[0].key.is_none(), &caches[0].version), (None, true, &None));
    assert_eq!((caches[1].ttl, caches[1].version.as_deref()), (Some(Duration::from_secs(3600)), Some("2")));
    assert_eq!(caches[1].key.as_ref().unwrap().source(), "x ~ y");
    let chained = load(
        "id: c\nsteps: [ { call: { expression: value, with: { k: 1 } }, cache: { key: '[value, k]' } } ]\n",
    );
    assert!(chained.tasks[0].cache.is_some());
}

#[test]
fn items_may_come_in_chunks() {
    let pipeline = load(
        "id: p\ntasks:\n  - { name: a, map: { over: xs, as: x, chunk: 100, command: [f] } }\n  \
         - { name: b, filter: { over: xs, as: x, chunk: auto, expression: x } }\n  \
         - { name: c, reduce: { over: xs, as: x, initial: 0, chunk: 7, expression: acc + x } }\n",
    );
    let TaskKind::Map(map) = &pipeline.tasks[0].body.kind else { panic!("{pipeline:?}") };
    let TaskKind::Filter(filter) = &pipeline.tasks[1].body.kind else { panic!("{pipeline:?}") };
    let TaskKind::Reduce(reduce) = &pipeline.tasks[2].body.kind else { panic!("{pipeline:?}") };
    assert_eq!((map.chunk.map(|chunk| chunk.size(5, None)), filter.chunk), (Some(100), Some(Chunk::Auto)));
    assert_eq!(reduce.chunk.map(NonZeroU32::get), Some(7));
    assert_eq!(shown(&load_json(pipeline.source.clone()).unwrap()[0]), shown(&pipeline));
}

#[test]
fn what_undoes_a_task_brings_its_list_and_has_the_limit_of_the_pipeline() {
    let pipeline = load(
        "id: p\nstep_timeout: 30s\ntasks:\n  - { name: ids, expression: '[1]' }\n  - name: book\n    expression: 1\n    \
         compensate: { map: { over: ids, as: id, expression: id } }\n  - name: mail\n    expression: 1\n    \
         compensate: { expression: 1, timeout: 5s }\n  - name: asks\n    expression: 1\n    compensate: { wait: { signal: s } }\n",
    );
    assert_eq!(pipeline.tasks[1].inputs, [Input::required("ids")]);
    let limits = pipeline.tasks.iter().map(|task| task.compensate.as_ref().and_then(|undo| undo.timeout));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        limits.collect::<Vec<_>>(),
        [None, seconds(30), seconds(5), None],
        "a wait has none but its own"
    );
}
