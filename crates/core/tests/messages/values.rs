//! Values that cannot be.

use super::check;

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
fn rules_about_errors_that_can_never_hold() {
    check(
        r#"
id: p
retry: { max_attempts: 2, retry_on: [] }
step_timeout: 0s
tasks:
  - { name: a, expression: 1, retry: { max_attempts: 2, retry_on: timeout } }
  - { name: b, expression: 1, retry: { max_attempts: 2, retry_on: ["http:5xx"], not_on: [busy now] } }
  - { name: c, expression: 1, retry: { max_attempts: 2, max_tiem: 1m } }
"#
        .trim_start(),
        r#"
error: `retry_on` names no error
 --> p.yaml:2:37
  |
2 | retry: { max_attempts: 2, retry_on: [] }
  |                                     ^^
  |
  = help: leave it out, or name one

error: expected a duration of at least 1ms
 --> p.yaml:3:15
  |
3 | step_timeout: 0s
  |               ^^
  |
  = help: leave the field out for no limit

error: expected a list of errors, found text
 --> p.yaml:5:67
  |
5 |   - { name: a, expression: 1, retry: { max_attempts: 2, retry_on: timeout } }
  |                                                                   ^^^^^^^
  |
  = help: write `retry_on: [timeout, "http:5*", "message ~ try again"]`

error: no error has the code `http:5xx`
 --> p.yaml:6:68
  |
6 |   - { name: b, expression: 1, retry: { max_attempts: 2, retry_on: ["http:5xx"], not_on: [busy now] } }
  |                                                                    ^^^^^^^^^^
  |
  = help: write a status such as `http:503`, `http:5*` for all that begin with 5, or `http:request` where no answer came

error: `busy now` is no code of an error
 --> p.yaml:6:90
  |
6 |   - { name: b, expression: 1, retry: { max_attempts: 2, retry_on: ["http:5xx"], not_on: [busy now] } }
  |                                                                                          ^^^^^^^^
  |
  = help: write a code such as `exit:3`, `http:5*`, `timeout` or `panic`, or `message ~ some text`

error: unknown field `max_tiem` in a retry policy
 --> p.yaml:7:57
  |
7 |   - { name: c, expression: 1, retry: { max_attempts: 2, max_tiem: 1m } }
  |                                                         ^^^^^^^^ did you mean `max_time`?
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
fn the_rules_of_a_schedule() {
    check(
        r#"
id: p
schedule:
  - { cron: "0 2 * * *", catch_up: none, overlap: cancel-previous }
  - { interval: 500ms, jitter: 30 }
  - { at: 2030-01-01T00:00:00Z, until: 2031-01-01T00:00:00Z }
  - { interval: 1h, from: 2030-02-01T00:00:00Z, until: 2030-01-01T00:00:00Z }
  - { interval: 1h, catch_up: skip, overlap: queue }
  - { cron: "0 2 * * *", catchup: all }
  - { cron: "0 25 * * *" }
tasks:
  - { name: a, expression: 1 }
"#
        .trim_start(),
        r#"
error: expected one of `skip`, `one`, `all`
 --> p.yaml:3:36
  |
3 |   - { cron: "0 2 * * *", catch_up: none, overlap: cancel-previous }
  |                                    ^^^^
  |
  = help: did you mean `one`?

error: expected one of `allow`, `skip`, `queue`, `cancel_previous`
 --> p.yaml:3:51
  |
3 |   - { cron: "0 2 * * *", catch_up: none, overlap: cancel-previous }
  |                                                   ^^^^^^^^^^^^^^^
  |
  = help: did you mean `cancel_previous`?

error: expected a duration of at least 1s
 --> p.yaml:4:17
  |
4 |   - { interval: 500ms, jitter: 30 }
  |                 ^^^^^

error: a duration needs a unit
 --> p.yaml:4:32
  |
4 |   - { interval: 500ms, jitter: 30 }
  |                                ^^
  |
  = help: write `30s` for seconds; units are ms, s, m, h, d

error: a schedule that fires once has only its `at`
 --> p.yaml:5:40
  |
5 |   - { at: 2030-01-01T00:00:00Z, until: 2031-01-01T00:00:00Z }
  |                                        ^^^^^^^^^^^^^^^^^^^^
  |
  = help: leave it out

error: it is before `from`
 --> p.yaml:6:56
  |
6 |   - { interval: 1h, from: 2030-02-01T00:00:00Z, until: 2030-01-01T00:00:00Z }
  |                                                        ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write a later time

error: `queue` makes times wait that `catch_up: skip` then leaves out
 --> p.yaml:7:46
  |
7 |   - { interval: 1h, catch_up: skip, overlap: queue }
  |                                              ^^^^^
  |
  = help: use `overlap: skip`, or `catch_up: one` or `all`

error: unknown field `catchup` in a schedule
 --> p.yaml:8:26
  |
8 |   - { cron: "0 2 * * *", catchup: all }
  |                          ^^^^^^^ did you mean `catch_up`?

error: `0 25 * * *`: Component error: Number out of bounds.
 --> p.yaml:9:13
  |
9 |   - { cron: "0 25 * * *" }
  |             ^^^^^^^^^^^^
  |
  = help: write 5 fields (minute hour day month weekday) or 6 (second first), such as `0 2 * * *`
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
fn limits_and_rules_that_a_step_cannot_have() {
    check(
        r#"
id: p
inputs: { xs: {} }
tasks:
  - { name: a, wait: { duration: 1h }, timeout: 5m }
  - { name: b, filter: { over: xs, expression: item, on_item_error: collect } }
  - { name: c, map: { over: xs, expression: item, on_item_error: sikp } }
"#
        .trim_start(),
        r#"
error: the wait takes 1h, which is longer
 --> p.yaml:4:49
  |
4 |   - { name: a, wait: { duration: 1h }, timeout: 5m }
  |                                                 ^^
  |
  = help: leave the limit out: a wait for a duration ends by itself

error: expected one of `fail`, `skip`
 --> p.yaml:5:69
  |
5 |   - { name: b, filter: { over: xs, expression: item, on_item_error: collect } }
  |                                                                     ^^^^^^^

error: expected one of `fail`, `skip`, `collect`
 --> p.yaml:6:66
  |
6 |   - { name: c, map: { over: xs, expression: item, on_item_error: sikp } }
  |                                                                  ^^^^
  |
  = help: did you mean `skip`?
"#,
    );
}

#[test]
fn limits_that_cannot_be() {
    check(
        r#"
id: p
inputs: { customer: {} }
priority: 10
concurrency:
  - 0
  - { max: 1, key: costumer, on_full: wait }
  - { key: customer, maximum: 2 }
tasks:
  - { name: a, expression: 1 }
"#
        .trim_start(),
        r#"
error: a priority is a whole number from 0 to 9, the higher the sooner
 --> p.yaml:3:11
  |
3 | priority: 10
  |           ^^
  |
  = help: leave it out for 5, the middle

error: expected a whole number from 1 to 1000000
 --> p.yaml:5:5
  |
5 |   - 0
  |     ^

error: `costumer` is no parameter of the pipeline
 --> p.yaml:6:20
  |
6 |   - { max: 1, key: costumer, on_full: wait }
  |                    ^^^^^^^^
  |
  = help: the key of a limit is made of parameters: declare it under the pipeline's `inputs:`

error: expected one of `queue`, `skip`, `cancel_oldest`
 --> p.yaml:6:39
  |
6 |   - { max: 1, key: costumer, on_full: wait }
  |                                       ^^^^

error: missing field `max`
 --> p.yaml:7:5
  |
7 |   - { key: customer, maximum: 2 }
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: say how many runs may be under way at once

error: unknown field `maximum` in a concurrency limit
 --> p.yaml:7:22
  |
7 |   - { key: customer, maximum: 2 }
  |                      ^^^^^^^
  |
  = help: its fields are `max`, `key`, `on_full`
"#,
    );
}

#[test]
fn resources_that_cannot_be() {
    check(
        r#"
id: p
tasks:
  - { name: a, command: [x], resources: { cpu: 0, memory: plenty, gpu: "1", "": 1 } }
  - { name: b, expression: 1, resources: { cpu: 1 } }
  - { name: c, task: x, resources: 2 }
"#
        .trim_start(),
        r#"
error: expected a number from 0.001 to 1000000, such as `0.5` or `1`
 --> p.yaml:3:48
  |
3 |   - { name: a, command: [x], resources: { cpu: 0, memory: plenty, gpu: "1", "": 1 } }
  |                                                ^

error: expected an amount of memory such as `512MiB`, `2GiB` or a number of bytes
 --> p.yaml:3:59
  |
3 |   - { name: a, command: [x], resources: { cpu: 0, memory: plenty, gpu: "1", "": 1 } }
  |                                                           ^^^^^^

error: a name cannot be empty
 --> p.yaml:3:77
  |
3 |   - { name: a, command: [x], resources: { cpu: 0, memory: plenty, gpu: "1", "": 1 } }
  |                                                                             ^^

error: a task of the kind `expression` takes nothing of the machine
 --> p.yaml:4:42
  |
4 |   - { name: b, expression: 1, resources: { cpu: 1 } }
  |                                          ^^^^^^^^^^
  |
  = help: leave `resources` out; a process, a request and a Rust task take something

error: expected resources and their amounts (a mapping), found a number
 --> p.yaml:5:36
  |
5 |   - { name: c, task: x, resources: 2 }
  |                                    ^
  |
  = help: write `{ cpu: 0.5, memory: 512MiB }`
"#,
    );
}

#[test]
fn a_cache_that_cannot_be() {
    check(
        r#"
id: p
tasks:
  - { name: a, wait: { signal: go }, cache: { ttl: 1h } }
  - { name: b, expression: 1, cache: { ttl: 1h }, compensate: { expression: 2 } }
  - { name: c, map: { over: xs, as: x, expression: x }, cache: { key: xs, version: 2, tll: 1h } }
  - { name: d, expression: 1, cache: yes please }
"#
        .trim_start(),
        r#"
error: task `a` waits, and what ends a wait is not kept
 --> p.yaml:3:45
  |
3 |   - { name: a, wait: { signal: go }, cache: { ttl: 1h } }
  |                                             ^^^^^^^^^^^
  |
  = help: leave `cache` out, or make a task of its own of the wait

error: task `b` does something that `compensate` undoes, and has a `cache`
 --> p.yaml:4:38
  |
4 |   - { name: b, expression: 1, cache: { ttl: 1h }, compensate: { expression: 2 } }
  |                                      ^^^^^^^^^^^
  |
  = help: where a kept value is taken nothing is done: leave one of them out

error: what is cached of task `c` is not given `xs`
 --> p.yaml:5:71
  |
5 |   - { name: c, map: { over: xs, as: x, expression: x }, cache: { key: xs, version: 2, tll: 1h } }
  |                                                                       ^^
  |
  = help: write what tells one item from another; an item has the list where it reads it itself

error: expected text, found a number
 --> p.yaml:5:84
  |
5 |   - { name: c, map: { over: xs, as: x, expression: x }, cache: { key: xs, version: 2, tll: 1h } }
  |                                                                                    ^
  |
  = help: write it in quotes

error: unknown field `tll` in a cache
 --> p.yaml:5:87
  |
5 |   - { name: c, map: { over: xs, as: x, expression: x }, cache: { key: xs, version: 2, tll: 1h } }
  |                                                                                       ^^^ did you mean `ttl`?

error: expected how values are kept (a mapping), found text
 --> p.yaml:6:38
  |
6 |   - { name: d, expression: 1, cache: yes please }
  |                                      ^^^^^^^^^^
  |
  = help: write `cache: { ttl: 1h }`
"#,
    );
}

#[test]
fn chunks_that_cannot_be() {
    check(
        r#"
id: p
tasks:
  - { name: a, map: { over: xs, as: x, chunk: all, expression: x } }
  - { name: b, map: { over: xs, as: x, chunk: 2, pipeline: q } }
  - { name: c, reduce: { over: xs, as: x, initial: 0, chunk: auto, expression: x } }
  - { name: d, filter: { over: xs, as: x, chunk: 0, expression: x } }
  - { name: e, map: { over: xs, as: x, chunk: 2, expression: x }, cache: {} }
"#
        .trim_start(),
        r#"
error: expected a whole number from 1 to 10000, or `auto`
 --> p.yaml:3:47
  |
3 |   - { name: a, map: { over: xs, as: x, chunk: all, expression: x } }
  |                                               ^^^

error: a chunk is carried out by one worker, and a `pipeline` is not
 --> p.yaml:4:47
  |
4 |   - { name: b, map: { over: xs, as: x, chunk: 2, pipeline: q } }
  |                                               ^
  |
  = help: leave `chunk` out

error: expected a whole number from 1 to 10000
 --> p.yaml:5:62
  |
5 |   - { name: c, reduce: { over: xs, as: x, initial: 0, chunk: auto, expression: x } }
  |                                                              ^^^^

error: expected a whole number from 1 to 10000
 --> p.yaml:6:50
  |
6 |   - { name: d, filter: { over: xs, as: x, chunk: 0, expression: x } }
  |                                                  ^

error: task `e` has `chunk`, and values are cached item by item
 --> p.yaml:7:74
  |
7 |   - { name: e, map: { over: xs, as: x, chunk: 2, expression: x }, cache: {} }
  |                                                                          ^^
  |
  = help: leave one of them out
"#,
    );
}
