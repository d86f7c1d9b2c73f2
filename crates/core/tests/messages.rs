//! What users are told about typical mistakes, word for word: the messages are a part of the product.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use taskiq_flow_core::document::Format;
use taskiq_flow_core::load::load_text;

fn check(text: &str, expected: &str) {
    let shown = load_text("p.yaml", text, Format::Yaml).expect_err(text).to_string();
    assert_eq!(shown, expected.trim_matches('\n'), "\n{shown}");
}

#[test]
fn an_unknown_kind() {
    check(
        r#"
id: p
tasks:
  - name: a
    lambda: x + 1
"#
        .trim_start(),
        r#"
error: unknown task kind `lambda`
 --> p.yaml:4:5
  |
4 |     lambda: x + 1
  |     ^^^^^^
  |
  = help: the kinds are `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`
"#,
    );
}

#[test]
fn a_misspelt_field() {
    check(
        r#"
id: p
tasks:
  - { name: a, imputs: [x] }
"#
        .trim_start(),
        r#"
error: task `a` says nothing to do
 --> p.yaml:3:5
  |
3 |   - { name: a, imputs: [x] }
  |     ^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: give it one kind; the kinds are `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`

error: unknown field `imputs` in task `a`
 --> p.yaml:3:16
  |
3 |   - { name: a, imputs: [x] }
  |                ^^^^^^ did you mean `inputs`?
"#,
    );
}

#[test]
fn a_misspelt_kind() {
    check(
        r#"
id: p
tasks:
  - { name: a, expresion: 1 }
"#
        .trim_start(),
        r#"
error: unknown task kind `expresion`
 --> p.yaml:3:16
  |
3 |   - { name: a, expresion: 1 }
  |                ^^^^^^^^^ did you mean `expression`?
  |
  = help: the kinds are `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`
"#,
    );
}

#[test]
fn an_unknown_field() {
    check(
        r#"
id: p
max_paralel: 3
tasks:
  - { name: a, expression: 1, colour: red }
"#
        .trim_start(),
        r#"
error: unknown field `max_paralel` in a pipeline
 --> p.yaml:2:1
  |
2 | max_paralel: 3
  | ^^^^^^^^^^^ did you mean `max_parallel`?

error: unknown field `colour` in task `a`
 --> p.yaml:4:31
  |
4 |   - { name: a, expression: 1, colour: red }
  |                               ^^^^^^
  |
  = help: its fields are `name`, `description`, `when`, `timeout`, `retry`, `on_error`, `with`, `inputs`, `optional_inputs`, `output`, `outputs`, `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`
"#,
    );
}

#[test]
fn two_kinds() {
    check(
        r#"
id: p
tasks:
  - name: a
    expression: 1
    command: [ls]
"#
        .trim_start(),
        r#"
error: task `a` has two kinds, `expression` and `command`
 --> p.yaml:5:5
  |
5 |     command: [ls]
  |     ^^^^^^^
  |
  = help: make two tasks of it
"#,
    );
}

#[test]
fn nothing_to_do() {
    check(
        r#"
id: p
tasks:
  - name: a
    inputs: [x]
"#
        .trim_start(),
        r#"
error: task `a` says nothing to do
 --> p.yaml:3:5
  |
3 |   - name: a
  |     ^^^^^^^
  |
  = help: give it one kind; the kinds are `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`
"#,
    );
}

#[test]
fn a_missing_field() {
    check(
        r#"
tasks:
  - expression: 1
"#
        .trim_start(),
        r#"
error: missing field `id`
 --> p.yaml:1:1
  |
1 | tasks:
  | ^^^^^^
  |
  = help: add `id:` with the name under which the pipeline is executed

error: missing field `name`
 --> p.yaml:2:5
  |
2 |   - expression: 1
  |     ^^^^^^^^^^^^^
  |
  = help: every task has a name of its own
"#,
    );
}

#[test]
fn a_wrong_type() {
    check(
        r#"
id: 7
tasks: { a: 1 }
"#
        .trim_start(),
        r#"
error: expected text, found a number
 --> p.yaml:1:5
  |
1 | id: 7
  |     ^
  |
  = help: write it in quotes

error: expected a list, found a mapping
 --> p.yaml:2:8
  |
2 | tasks: { a: 1 }
  |        ^^^^^^^^
  |
  = help: start each entry with `- `
"#,
    );
}

#[test]
fn a_duration_without_unit() {
    check(
        r#"
id: p
timeout: 10
tasks:
  - { name: a, expression: 1, timeout: 10 seconds }
"#
        .trim_start(),
        r#"
error: a duration needs a unit
 --> p.yaml:2:10
  |
2 | timeout: 10
  |          ^^
  |
  = help: write `10s` for seconds; units are ms, s, m, h, d

error: `10 seconds` is not a duration: write a number and a unit out of ms, s, m, h, d, such as 500ms, 30s or 1h30m
 --> p.yaml:4:40
  |
4 |   - { name: a, expression: 1, timeout: 10 seconds }
  |                                        ^^^^^^^^^^
"#,
    );
}

#[test]
fn a_command_as_text() {
    check(
        r#"
id: p
tasks:
  - { name: a, command: echo hi }
"#
        .trim_start(),
        r#"
error: a command is a list: no shell takes it apart
 --> p.yaml:3:25
  |
3 |   - { name: a, command: echo hi }
  |                         ^^^^^^^
  |
  = help: write the program and its arguments as a list, `["echo", "hi"]`; if a shell is meant, `["sh", "-c", "..."]`
"#,
    );
}

#[test]
fn a_bad_expression() {
    check(
        r#"
id: p
tasks:
  - { name: a, expression: "x + (y", inputs: [x, y] }
  - { name: b, expression: "x | lenght", inputs: [x] }
"#
        .trim_start(),
        r#"
error: bad expression: syntax error: unexpected end of input, expected `)`
 --> p.yaml:3:34
  |
3 |   - { name: a, expression: "x + (y", inputs: [x, y] }
  |                                  ^
  |
  = help: expressions are written as in Jinja: `a + 1`, `rows | length`, `x if ready else y`

error: bad expression: there is no filter `lenght`; did you mean `length`?
 --> p.yaml:4:33
  |
4 |   - { name: b, expression: "x | lenght", inputs: [x] }
  |                                 ^^^^^^
"#,
    );
}

#[test]
fn a_name_that_is_no_input() {
    check(
        r#"
id: p
tasks:
  - { name: load, expression: "[1]", output: rows }
  - { name: count, expression: rows | length + offset, inputs: [rows] }
  - { name: show, expression: rosw, inputs: [rows] }
"#
        .trim_start(),
        r#"
error: `offset` is no input of task `count`
 --> p.yaml:4:48
  |
4 |   - { name: count, expression: rows | length + offset, inputs: [rows] }
  |                                                ^^^^^^
  |
  = help: add `offset` to the task's `inputs:`, or to its `with:` if it is a constant

error: `rosw` is no input of task `show`
 --> p.yaml:5:31
  |
5 |   - { name: show, expression: rosw, inputs: [rows] }
  |                               ^^^^ did you mean `rows`?
"#,
    );
}

#[test]
fn a_cycle() {
    check(
        r#"
id: p
tasks:
  - { name: a, expression: c, inputs: [c] }
  - { name: b, expression: a, inputs: [a] }
  - { name: c, expression: b, inputs: [b] }
"#
        .trim_start(),
        r#"
error: the tasks need each other in a circle: `a` -> `b` -> `c` -> `a`
 --> p.yaml:3:39
  |
3 |   - { name: a, expression: c, inputs: [c] }
  |                                       ^^^
  |
  = help: remove one of these inputs: a task can only use what was made before it
"#,
    );
}

#[test]
fn two_producers() {
    check(
        r#"
id: p
tasks:
  - { name: a, expression: 1, output: x }
  - { name: b, expression: 2, output: x }
"#
        .trim_start(),
        r#"
error: output `x` is made by two tasks: `a` and `b`
 --> p.yaml:4:39
  |
4 |   - { name: b, expression: 2, output: x }
  |                                       ^
  |
  = help: give one of them another output name
"#,
    );
}

#[test]
fn two_tasks_of_one_name() {
    check(
        r#"
id: p
tasks:
  - { name: a, expression: 1, output: x }
  - { name: a, expression: 2, output: y }
"#
        .trim_start(),
        r#"
error: two tasks are called `a`
 --> p.yaml:4:13
  |
4 |   - { name: a, expression: 2, output: y }
  |             ^
  |
  = help: give one of them another name
"#,
    );
}

#[test]
fn an_undeclared_parameter() {
    check(
        r#"
id: p
inputs: { path: { type: string } }
tasks:
  - { name: a, expression: paht, inputs: [paht] }
  - { name: b, map: { over: rows, expression: item } }
"#
        .trim_start(),
        r#"
error: task `a` needs `paht`, which is neither a declared parameter nor the output of a task
 --> p.yaml:4:43
  |
4 |   - { name: a, expression: paht, inputs: [paht] }
  |                                           ^^^^
  |
  = help: did you mean `path`? Otherwise declare `paht` under the pipeline's `inputs:`

error: task `b` needs `rows`, which is neither a declared parameter nor the output of a task
 --> p.yaml:5:29
  |
5 |   - { name: b, map: { over: rows, expression: item } }
  |                             ^^^^
  |
  = help: declare `rows` under the pipeline's `inputs:`, or let a task output it
"#,
    );
}

#[test]
fn an_output_nobody_makes() {
    check(
        r#"
id: p
outputs: [sum, b]
tasks:
  - { name: total, expression: 1 }
"#
        .trim_start(),
        r#"
error: no task makes the output `sum`
 --> p.yaml:2:11
  |
2 | outputs: [sum, b]
  |           ^^^
  |
  = help: name an output of one of the tasks

error: no task makes the output `b`
 --> p.yaml:2:16
  |
2 | outputs: [sum, b]
  |                ^
  |
  = help: name an output of one of the tasks
"#,
    );
}

#[test]
fn retry_out_of_bounds() {
    check(
        r#"
id: p
tasks:
  - { name: a, expression: 1, retry: 3 }
  - { name: b, expression: 1, retry: { max_attempts: 0, backoff: 0.5 } }
  - { name: c, expression: 1, retry: { max_attempts: 2, backoff: 0.5 } }
"#
        .trim_start(),
        r#"
error: expected a retry policy (a mapping), found a number
 --> p.yaml:3:38
  |
3 |   - { name: a, expression: 1, retry: 3 }
  |                                      ^
  |
  = help: write `retry: { max_attempts: 3 }`; the first attempt counts

error: expected a whole number from 1 to 1000
 --> p.yaml:4:54
  |
4 |   - { name: b, expression: 1, retry: { max_attempts: 0, backoff: 0.5 } }
  |                                                      ^

error: expected a number from 1 to 1000
 --> p.yaml:4:66
  |
4 |   - { name: b, expression: 1, retry: { max_attempts: 0, backoff: 0.5 } }
  |                                                                  ^^^
  |
  = help: 1 keeps the delay the same, 2 doubles it each time

error: expected a number from 1 to 1000
 --> p.yaml:5:66
  |
5 |   - { name: c, expression: 1, retry: { max_attempts: 2, backoff: 0.5 } }
  |                                                                  ^^^
  |
  = help: 1 keeps the delay the same, 2 doubles it each time
"#,
    );
}

#[test]
fn a_bad_schema() {
    check(
        r#"
id: p
inputs:
  a: string
  b: { typ: string }
  c: { type: text }
  d: { type: integer, default: x }
tasks:
  - { name: t, expression: 1 }
"#
        .trim_start(),
        r#"
error: bad schema of parameter `a`: expected a schema such as `{ type: string }`
 --> p.yaml:3:6
  |
3 |   a: string
  |      ^^^^^^

error: bad schema of parameter `b`: `typ` is no keyword of JSON Schema; did you mean `type`?
 --> p.yaml:4:8
  |
4 |   b: { typ: string }
  |        ^^^

error: bad schema of parameter `c`: `type` is one of string, integer, number, boolean, array, object, null
 --> p.yaml:5:8
  |
5 |   c: { type: text }
  |        ^^^^

error: bad schema of parameter `d`: the default does not fit the schema: expected an integer, found a string
 --> p.yaml:6:23
  |
6 |   d: { type: integer, default: x }
  |                       ^^^^^^^
"#,
    );
}

#[test]
fn an_address_without_scheme() {
    check(
        r#"
id: p
tasks:
  - { name: a, http: { url: example.org, method: FETCH } }
"#
        .trim_start(),
        r#"
error: the address does not start with `http://` or `https://`
 --> p.yaml:3:29
  |
3 |   - { name: a, http: { url: example.org, method: FETCH } }
  |                             ^^^^^^^^^^^
  |
  = help: write the scheme in front

error: expected one of `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`
 --> p.yaml:3:50
  |
3 |   - { name: a, http: { url: example.org, method: FETCH } }
  |                                                  ^^^^^
"#,
    );
}

#[test]
fn a_schedule() {
    check(
        r#"
id: p
schedule:
  - { cron: "0 2 * * *", interval: 5m }
  - { timezone: Mars/Olympus }
  - { cron: daily }
  - { at: tomorrow }
tasks:
  - { name: a, expression: 1 }
"#
        .trim_start(),
        r#"
error: a schedule has only one of `cron`, `interval`, `at`
 --> p.yaml:3:36
  |
3 |   - { cron: "0 2 * * *", interval: 5m }
  |                                    ^^
  |
  = help: make two entries

error: a schedule needs one of `cron`, `interval`, `at`
 --> p.yaml:4:5
  |
4 |   - { timezone: Mars/Olympus }
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: add `cron: "0 2 * * *"`, `interval: 5m` or `at: 2030-01-01T00:00:00Z`

error: unknown time zone `Mars/Olympus`
 --> p.yaml:4:17
  |
4 |   - { timezone: Mars/Olympus }
  |                 ^^^^^^^^^^^^
  |
  = help: use a name of the IANA time zone database, such as `Europe/Paris` or `UTC`

error: a cron expression has 5 or 6 fields
 --> p.yaml:5:13
  |
5 |   - { cron: daily }
  |             ^^^^^
  |
  = help: such as `0 2 * * *`: minute, hour, day of month, month, day of week; seconds may stand first

error: this is no point in time (RFC 3339)
 --> p.yaml:6:11
  |
6 |   - { at: tomorrow }
  |           ^^^^^^^^
  |
  = help: write date, time and offset, such as `2030-01-01T12:00:00Z`
"#,
    );
}

#[test]
fn schedule_parameters() {
    check(
        r#"
id: p
inputs: { n: { type: integer } }
schedule:
  - { id: s, interval: 5m, parameters: { n: x } }
tasks:
  - { name: a, expression: n, inputs: [n] }
"#
        .trim_start(),
        r#"
error: the parameters of schedule `s` do not fit: n: expected an integer, found a string
 --> p.yaml:4:45
  |
4 |   - { id: s, interval: 5m, parameters: { n: x } }
  |                                             ^
"#,
    );
}

#[test]
fn a_chain_with_inputs() {
    check(
        r#"
id: p
steps:
  - { expression: value, inputs: [x] }
  - call: { expression: valeu }
  - map: { over: rows, expression: value }
"#
        .trim_start(),
        r#"
error: a step has no `inputs`
 --> p.yaml:3:26
  |
3 |   - { expression: value, inputs: [x] }
  |                          ^^^^^^
  |
  = help: a step is given what the step before it made, as `value`; use `tasks:` to join by names

error: `valeu` is no input of step `step-2`
 --> p.yaml:4:25
  |
4 |   - call: { expression: valeu }
  |                         ^^^^^ did you mean `value`?

error: `rows` is no input of step `step-3`
 --> p.yaml:5:18
  |
5 |   - map: { over: rows, expression: value }
  |                  ^^^^
  |
  = help: leave `over:` out: it is then the value of the step before
"#,
    );
}

#[test]
fn a_taskiq_text() {
    check(
        r#"
id: p
tasks:
  - { name: a, taskiq: { task: "m:f", args: [hello] } }
"#
        .trim_start(),
        r#"
error: `hello` is no input of task `a`
 --> p.yaml:3:46
  |
3 |   - { name: a, taskiq: { task: "m:f", args: [hello] } }
  |                                              ^^^^^
  |
  = help: add `hello` to the task's `inputs:`; for the text itself write `{ value: "hello" }`
"#,
    );
}

#[test]
fn a_group_half_named() {
    check(
        r#"
id: p
tasks:
  - name: a
    group: [ { name: x, expression: 1 }, { expression: 2 } ]
"#
        .trim_start(),
        r#"
error: a group names all of its members or none, and this one has no name
 --> p.yaml:4:42
  |
4 |     group: [ { name: x, expression: 1 }, { expression: 2 } ]
  |                                          ^^^^^^^^^^^^^^^^^
  |
  = help: named members make a mapping, unnamed ones a list; add a `name:`, or remove the others
"#,
    );
}

#[test]
fn bad_yaml() {
    check(
        r#"
id: p
tasks:
  - name: a
   expression: 1
"#
        .trim_start(),
        r#"
error: this is not YAML: while parsing a block collection, did not find expected '-' indicator
 --> p.yaml:4:4
  |
4 |    expression: 1
  |    ^
  |
  = help: look here and above for a bracket or quote that is not closed, or a line that is indented otherwise
"#,
    );
}

#[test]
fn a_reduce_without_start() {
    check(
        r#"
id: p
tasks:
  - { name: a, reduce: { over: xs, as: acc, expression: acc } }
"#
        .trim_start(),
        r#"
error: missing field `initial`
 --> p.yaml:3:24
  |
3 |   - { name: a, reduce: { over: xs, as: acc, expression: acc } }
  |                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: it is what the first item is put together with, and the value for an empty list

error: the item and what is made of the items before it have the same name
 --> p.yaml:3:40
  |
3 |   - { name: a, reduce: { over: xs, as: acc, expression: acc } }
  |                                        ^^^
  |
  = help: give `as:` and `into:` different names
"#,
    );
}
