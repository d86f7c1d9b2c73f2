//! Names that lead nowhere, to two places or in a circle.

use super::check;

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
fn the_errors_of_a_map_have_a_name_that_is_taken() {
    check(
        r#"
id: p
inputs: { xs: {}, a_errors: {} }
tasks:
  - { name: a, map: { over: xs, expression: item, on_item_error: skip } }
  - { name: b, map: { over: xs, expression: item, on_item_error: skip }, output: rows }
  - { name: c, expression: 1, output: rows_errors }
"#
        .trim_start(),
        r#"
error: output `a_errors` of task `a` has the name of a parameter
 --> p.yaml:4:13
  |
4 |   - { name: a, map: { over: xs, expression: item, on_item_error: skip } }
  |             ^
  |
  = help: rename the output, or remove `a_errors` from the pipeline's `inputs:`

error: output `rows_errors` is made by two tasks: `b` and `c`
 --> p.yaml:6:39
  |
6 |   - { name: c, expression: 1, output: rows_errors }
  |                                       ^^^^^^^^^^^
  |
  = help: give one of them another output name
"#,
    );
}

#[test]
fn what_is_to_come_before_is_not_there() {
    check(
        r#"
- id: p
  tasks:
    - { name: load, expression: 1 }
    - { name: tell, expression: 1, after: [laod] }
- id: q
  steps:
    - { expression: 1, keep: true }
    - { expression: 1, keep: true }
- id: r
  steps:
    - { expression: 1, after: [x] }
"#
        .trim_start(),
        r#"
error: task `tell` is to run after `laod`, and there is no such task
 --> p.yaml:4:44
  |
4 |     - { name: tell, expression: 1, after: [laod] }
  |                                            ^^^^
  |
  = help: did you mean `load`?

error: every step drops its value, so that there is no result
 --> p.yaml:8:30
  |
8 |     - { expression: 1, keep: true }
  |                              ^^^^
  |
  = help: remove one `keep`

error: a step has no `after`
  --> p.yaml:11:24
   |
11 |     - { expression: 1, after: [x] }
   |                        ^^^^^
   |
   = help: a step is given what the step before it made, as `value`; use `tasks:` to join by names
"#,
    );
}
