//! Answers have the fields that the OpenAPI document describes, and no others.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use taskiq_flow_selftest::client::Answer;

/// The document, and what has been made of it.
pub(crate) struct Shapes {
    document: Value,
    made: HashMap<String, jsonschema::Validator>,
}

impl Shapes {
    pub(crate) fn of(document: Value) -> Self {
        Self { document, made: HashMap::new() }
    }

    /// What is wrong with an answer to this route, if something is.
    pub(crate) fn fault(&mut self, method: &str, path: &str, answer: &Answer) -> Option<String> {
        if answer.body.is_empty() {
            return None;
        }
        let media_type = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let responses = &self.document["paths"][path][method.to_lowercase()]["responses"];
        let response = match &responses[answer.status.to_string()] {
            Value::Null if answer.status >= 400 => &responses["default"],
            Value::Null => return Some(format!("{} is not documented", answer.status)),
            response => response,
        };
        let content = self.resolved(response)["content"][&media_type].clone();
        if content.is_null() {
            return Some(format!("{} {media_type} is not documented", answer.status));
        }
        if !media_type.ends_with("json") {
            return None;
        }
        let name = format!("{method} {path} {} {media_type}", answer.status);
        if !self.made.contains_key(&name) {
            let schema = self.closed(&content["schema"], true);
            self.made.insert(name.clone(), jsonschema::validator_for(&schema).unwrap());
        }
        let body = answer.json();
        let errors: Vec<String> = self.made[&name]
            .iter_errors(&body)
            .map(|error| format!("{error} at `{}`", error.instance_path()))
            .collect();
        (!errors.is_empty())
            .then(|| format!("the answer does not fit its description: {}", errors.join("; ")))
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|place| place.strip_prefix('#')) {
            Some(place) => self.resolved(self.document.pointer(place).unwrap()),
            None => value,
        }
    }

    /// The schema with its references filled in, in which an object may have no field that is not described. `outer`:
    /// it is no part of an `allOf`, whose parts together describe an object.
    fn closed(&self, schema: &Value, outer: bool) -> Value {
        let Value::Object(schema) = self.resolved(schema) else { return self.resolved(schema).clone() };
        let mut closed = Map::new();
        for (name, value) in schema {
            let value = match (name.as_str(), value) {
                ("properties", Value::Object(fields)) => {
                    fields.iter().map(|(name, field)| (name.clone(), self.closed(field, true))).collect()
                }
                ("items" | "additionalProperties", value) => self.closed(value, true),
                ("allOf", Value::Array(parts)) => parts.iter().map(|part| self.closed(part, false)).collect(),
                ("oneOf" | "anyOf", Value::Array(kinds)) => {
                    kinds.iter().map(|kind| self.closed(kind, outer)).collect()
                }
                (_, value) => value.clone(),
            };
            closed.insert(name.clone(), value);
        }
        let described = closed.contains_key("properties") && !closed.contains_key("additionalProperties");
        if outer && (described || closed.contains_key("allOf")) {
            closed.insert("unevaluatedProperties".to_owned(), json!(false));
        }
        Value::Object(closed)
    }
}

#[test]
fn a_field_that_is_not_described_is_found_at_any_depth() {
    let document = json!({
        "paths": {"/a": {"get": {"responses": {"200": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/A"},
        }}}}}}},
        "components": {"schemas": {
            "A": {"allOf": [{"$ref": "#/components/schemas/B"}, {"type": "object", "properties": {"x": {"type": "array", "items": {"$ref": "#/components/schemas/B"}}}}]},
            "B": {"type": "object", "properties": {"y": {"type": "string"}, "free": {"type": "object"}}},
        }},
    });
    let mut shapes = Shapes::of(document);
    let mut fault = |body: Value| {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let (version, body) = (http::Version::HTTP_11, body.to_string().into_bytes());
        shapes.fault("GET", "/a", &Answer { status: 200, version, headers, body })
    };
    assert_eq!(fault(json!({"y": "", "x": [{"y": ""}], "free": {"any": 1}})), None);
    for bad in [json!({"z": 1}), json!({"x": [{"z": 1}]}), json!({"y": 1})] {
        assert!(fault(bad.clone()).is_some(), "{bad}");
    }
}
