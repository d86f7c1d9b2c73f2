//! What parameters a pipeline accepts, and what it says about those it does not.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use serde_json::{Map, Value, json};
use taskiq_flow_core::definition::{FieldError, InputSchema, SchemaError};

fn schema(fields: Value) -> InputSchema {
    try_schema(fields).unwrap_or_else(|error| panic!("{error}"))
}

fn try_schema(fields: Value) -> Result<InputSchema, SchemaError> {
    InputSchema::from_fields(object(fields).into_iter().collect())
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("an object") };
    object
}

fn check(schema: &InputSchema, given: Value) -> Result<Value, Vec<String>> {
    let checked = schema.check(&[], &[], object(given));
    checked.map(Value::Object).map_err(|errors| errors.iter().map(FieldError::to_string).collect())
}

#[test]
fn defaults_are_filled_in_and_optional_ones_may_be_absent() {
    let schema = schema(
        json!({"a": {"type": "integer", "default": 3}, "b": {"required": false}, "c": null, "d": true}),
    );
    assert_eq!(check(&schema, json!({"c": [1], "d": null})).unwrap(), json!({"c": [1], "d": null, "a": 3}));
    assert_eq!(schema.names().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    let expected = json!({
        "type": "object", "required": ["c", "d"], "additionalProperties": false,
        "properties": {"a": {"type": "integer", "default": 3}, "b": {}, "c": {}, "d": {}},
    });
    assert_eq!(schema.to_json_schema(), expected);
}

#[test]
fn all_mistakes_are_found_at_once_and_hold_no_value() {
    let schema = schema(json!({
        "path": {"type": "string", "pattern": "^/"},
        "top": {"type": "integer", "minimum": 1, "maximum": 5},
        "mode": {"enum": ["fast", "slow"]},
        "numbers": {"type": "array", "items": {"type": ["integer", "null"]}},
        "person": {"type": "object", "required": ["name"], "additionalProperties": false, "properties": {"name": {}}},
    }));
    let secret = "hunter2";
    let given = json!({"path": secret, "top": 9, "mode": secret, "numbers": [1, secret], "person": {secret: secret}, "tpo": secret});
    let errors = check(&schema, given).unwrap_err();
    let expected = [
        "path: expected text that matches the pattern ^/",
        "top: expected at most 5",
        "mode: expected one of \"fast\", \"slow\"",
        "numbers.1: expected null or an integer, found a string",
        "person: has properties that are not allowed",
        "person: expected an object with the property \"name\"",
        "tpo: is no parameter of this pipeline; did you mean `top`?",
    ];
    let mut sorted = (errors.clone(), expected.map(str::to_owned).to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
    assert_eq!(
        check(&schema, json!({})).unwrap_err()[..2],
        ["path: is missing: expected a string", "top: is missing: expected an integer"]
    );
}

#[test]
fn an_integer_is_one_by_its_value() {
    let schema = schema(json!({"a": {"type": "integer"}}));
    assert!(check(&schema, json!({"a": 3.0})).is_ok());
    assert_eq!(check(&schema, json!({"a": 3.5})).unwrap_err(), ["a: expected an integer, found a number"]);
    assert_eq!(check(&schema, json!({"a": "3"})).unwrap_err(), ["a: expected an integer, found a string"]);
}

#[test]
fn what_is_not_declared_is_what_the_tasks_need() {
    let schema = InputSchema::undeclared();
    assert!(!schema.declared());
    let known = ["a".to_owned(), "b".to_owned()];
    assert_eq!(
        schema.check(&known, &["a".to_owned()], object(json!({"a": 1}))).unwrap(),
        object(json!({"a": 1}))
    );
    let errors = schema.check(&known, &["a".to_owned()], object(json!({"c": 1}))).unwrap_err();
    let errors: Vec<_> = errors.iter().map(FieldError::to_string).collect();
    assert_eq!(errors[0], "a: is missing");
    assert!(errors[1].starts_with("c: is no parameter"));
}

#[test]
fn a_bad_schema_names_the_parameter_and_the_key() {
    let cases = [
        (json!({"a": {"type": "strnig"}}), "type", "`type` is one of string, integer"),
        (json!({"a": {"typ": "string"}}), "typ", "did you mean `type`"),
        (json!({"a": {"$ref": "https://example.org/s.json"}}), "$ref", "not supported"),
        (json!({"a": {"items": {"$ref": "file:///etc/passwd"}}}), "$ref", "not supported"),
        (json!({"a": {"type": "integer", "default": "x"}}), "default", "the default does not fit"),
        (json!({"a": {"default": 1, "required": true}}), "required", "never missing"),
        (json!({"a": {"pattern": "(a"}}), "pattern", "`pattern` is no JSON Schema"),
        (json!({"a": {"minimum": "x"}}), "minimum", "`minimum` is no JSON Schema"),
    ];
    for (fields, key, message) in cases {
        let error = try_schema(fields.clone()).expect_err(&fields.to_string());
        assert_eq!(error.field, "a");
        assert!(error.message.contains(message), "{error}");
        assert_eq!(error.key.as_deref(), Some(key), "{error}");
    }
    assert!(try_schema(json!({"a": "string"})).unwrap_err().message.contains("expected a schema"));
    assert!(try_schema(json!({"a": {"default": {"$ref": 1}}})).is_ok());
}

#[test]
fn a_pattern_takes_linear_time_or_is_refused() {
    assert!(try_schema(json!({"a": {"pattern": "(a)\\1"}})).is_err());
    assert!(try_schema(json!({"a": {"pattern": "(?=a)"}})).is_err());
    let schema = schema(json!({"a": {"pattern": "^(a+)+$"}}));
    let started = std::time::Instant::now();
    assert!(check(&schema, json!({"a": "a".repeat(100_000) + "b"})).is_err());
    assert!(started.elapsed().as_secs() < 10);
}
