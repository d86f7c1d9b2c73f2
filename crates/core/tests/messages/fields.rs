//! Fields that are unknown, missing or too many.

use super::check;

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
  = help: its fields are `name`, `description`, `when`, `timeout`, `total_timeout`, `retry`, `resources`, `cache`, `on_error`, `compensate`, `with`, `inputs`, `optional_inputs`, `after`, `output`, `outputs`, `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`
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

#[test]
fn what_undoes_a_task_is_checked_like_what_does_it() {
    check(
        r#"
id: p
inputs: { n: {}, result: {} }
tasks:
  - { name: a, expression: n, inputs: [n], compensate: { expression: "reslut" } }
  - { name: b, expression: result, inputs: [result], compensate: { expression: "1" } }
  - { name: c, expression: n, inputs: [n], compensate: { expression: "1", on_error: fail } }
"#
        .trim_start(),
        r#"
error: `reslut` is no input of task `a`
 --> p.yaml:4:71
  |
4 |   - { name: a, expression: n, inputs: [n], compensate: { expression: "reslut" } }
  |                                                                       ^^^^^^ did you mean `result`?

error: `result` is an input of task `b`, and what its `compensate` sees its value as
 --> p.yaml:5:66
  |
5 |   - { name: b, expression: result, inputs: [result], compensate: { expression: "1" } }
  |                                                                  ^^^^^^^^^^^^^^^^^^^
  |
  = help: rename the input: `inputs: { other_name: result }`

error: unknown field `on_error` in what undoes task `c`
 --> p.yaml:6:75
  |
6 |   - { name: c, expression: n, inputs: [n], compensate: { expression: "1", on_error: fail } }
  |                                                                           ^^^^^^^^
  |
  = help: its fields are `timeout`, `retry`, `with`, `expression`, `command`, `http`, `task`, `taskiq`, `pipeline`, `wait`, `map`, `filter`, `reduce`, `group`
"#,
    );
}

#[test]
fn a_flag_about_undoing_where_nothing_can_be_undone() {
    check(
        r#"
id: p
compensate_on_cancel: true
tasks: [ { name: a, expression: 1 } ]
"#
        .trim_start(),
        r#"
error: no task of this pipeline can be undone
 --> p.yaml:2:23
  |
2 | compensate_on_cancel: true
  |                       ^^^^
  |
  = help: give a task a `compensate:`, or leave this out
"#,
    );
}
