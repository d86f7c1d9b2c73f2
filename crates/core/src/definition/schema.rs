//! The external parameters of a pipeline: the `inputs:` block.

mod describe;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use jsonschema::{PatternOptions, Validator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::describe::{describe, with_article};
use crate::diagnostic::nearest;

/// The most mistakes that one answer lists.
const MAX_ERRORS: usize = 100;

/// The largest program a `pattern` may compile to, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Words of JSON Schema 2020-12 that a parameter may use, and `required: false`, which is ours.
const KEYWORDS: &[&str] = &[
    "type",
    "items",
    "default",
    "minimum",
    "maximum",
    "enum",
    "pattern",
    "description",
    "required",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "else",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "examples",
    "format",
    "if",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "multipleOf",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "then",
    "title",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
    "$comment",
];

/// The declared parameters of a pipeline, each with a fragment of JSON Schema (draft 2020-12), or the statement that
/// nothing was declared. Cloning is cheap.
///
/// A parameter is required unless it has a `default` or says `required: false`. References (`$ref` and the like) are
/// refused, so nothing is ever fetched, and a `pattern` is matched in linear time (it has no look-around and no
/// back-references).
///
/// ```
/// use serde_json::json;
/// use taskiq_flow_core::definition::InputSchema;
///
/// let fields = vec![("path".to_owned(), json!({"type": "string"})), ("top".to_owned(), json!({"type": "integer", "default": 3}))];
/// let schema = InputSchema::from_fields(fields).unwrap();
/// let given = json!({"path": "README.md"}).as_object().cloned().unwrap();
/// let complete = schema.check(&[], &[], given).unwrap();
/// assert_eq!(complete["top"], 3);
/// ```
#[derive(Clone, Default)]
pub struct InputSchema(Option<Arc<IndexMap<String, Field>>>);

struct Field {
    /// As JSON Schema knows it: without `required`, unless it is a list of an object's properties.
    schema: Value,
    required: bool,
    default: Option<Value>,
    validator: Validator,
}

/// A mistake in the value of one parameter. It never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The parameter; within one, the way to the value at fault, such as `numbers.3`.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// A parameter whose schema is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{field}`: {message}")]
pub struct SchemaError {
    /// The parameter.
    pub field: String,
    /// The key within its schema, where one is at fault.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl InputSchema {
    /// No `inputs:` block: every name that no task outputs is a required parameter of any type.
    pub fn undeclared() -> Self {
        Self(None)
    }

    /// The parameters, each with its schema; `true`, `null` and `{}` allow any value.
    ///
    /// # Errors
    /// The first schema that is none, uses a reference, or whose default does not fit it.
    pub fn from_fields(fields: Vec<(String, Value)>) -> Result<Self, SchemaError> {
        Self::collect(fields).map_err(|mut errors| errors.swap_remove(0))
    }

    /// The same with all mistakes; the list is never empty.
    pub(crate) fn collect(fields: Vec<(String, Value)>) -> Result<Self, Vec<SchemaError>> {
        let mut errors = Vec::new();
        let mut declared = IndexMap::with_capacity(fields.len());
        for (name, schema) in fields {
            if declared.contains_key(&name) {
                errors.push(SchemaError::new(&name, None, "is declared twice"));
                continue;
            }
            match Field::new(&name, schema) {
                Ok(field) => drop(declared.insert(name, field)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self(Some(Arc::new(declared)))) } else { Err(errors) }
    }

    /// Whether there is an `inputs:` block.
    pub fn declared(&self) -> bool {
        self.0.is_some()
    }

    /// The names of the declared parameters, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|fields| fields.keys().map(String::as_str))
    }

    /// Whether a parameter of that name is declared.
    pub fn contains(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|fields| fields.contains_key(name))
    }

    /// The parameters as the JSON Schema of an object. Undeclared, it allows any object.
    pub fn to_json_schema(&self) -> Value {
        let Some(fields) = &self.0 else { return json!({"type": "object"}) };
        let properties: Map<_, _> =
            fields.iter().map(|(name, field)| (name.clone(), field.schema.clone())).collect();
        let required: Vec<_> =
            fields.iter().filter(|(_, field)| field.required).map(|(name, _)| name).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    /// Checks the parameters of a run and fills in defaults. Where nothing is declared, `known` are the names that
    /// may be given and `required` those that must; else the declaration says both.
    ///
    /// # Errors
    /// Every missing, unknown and ill-typed parameter, at most 100 of them.
    pub fn check(
        &self,
        known: &[String],
        required: &[String],
        mut given: Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<FieldError>> {
        let mut errors = Vec::new();
        match &self.0 {
            None => {
                let missing = required.iter().filter(|name| !given.contains_key(*name));
                errors.extend(missing.map(|name| FieldError::new(name, "is missing")));
                let known = known.iter().chain(required).map(String::as_str);
                errors.extend(unknown_of(&given, known));
            }
            Some(fields) => {
                for (name, field) in &**fields {
                    match (given.get(name), &field.default) {
                        (Some(value), _) => field.check(name, value, &mut errors),
                        (None, Some(default)) => {
                            given.insert(name.clone(), default.clone());
                        }
                        (None, None) if field.required => errors.push(FieldError::new(name, field.missing())),
                        (None, None) => {}
                    }
                }
                errors.extend(unknown_of(&given, fields.keys().map(String::as_str)));
            }
        }
        errors.truncate(MAX_ERRORS);
        if errors.is_empty() { Ok(given) } else { Err(errors) }
    }
}

impl Field {
    fn new(name: &str, schema: Value) -> Result<Self, SchemaError> {
        let mut schema = match schema {
            Value::Null | Value::Bool(true) => Map::new(),
            Value::Object(schema) => schema,
            _ => return Err(SchemaError::new(name, None, "expected a schema such as `{ type: string }`")),
        };
        for key in schema.keys().filter(|key| !key.starts_with("x-") && !REFERENCES.contains(&key.as_str())) {
            if !KEYWORDS.contains(&key.as_str()) {
                let message = match nearest(key, KEYWORDS.iter().copied()) {
                    Some(near) => format!("`{key}` is no keyword of JSON Schema; did you mean `{near}`?"),
                    None => format!("`{key}` is no keyword of JSON Schema"),
                };
                return Err(SchemaError::new(name, Some(key), message));
            }
        }
        let default = schema.get("default").cloned();
        let mut required = default.is_none();
        if let Some(Value::Bool(said)) = schema.get("required") {
            if *said && default.is_some() {
                let message = "a parameter with a default is never missing: remove `required` or `default`";
                return Err(SchemaError::new(name, Some("required"), message));
            }
            required = *said;
            schema.shift_remove("required");
        }
        let schema = Value::Object(schema);
        if let Some(key) = reference_in(&schema) {
            let message = format!("`{key}` is not supported: write the schema in full");
            return Err(SchemaError::new(name, Some(&key), message));
        }
        let options =
            jsonschema::draft202012::options().offline().should_validate_formats(true).with_pattern_options(
                PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN),
            );
        let validator = options.build(&schema).map_err(|error| {
            let key =
                error.instance_path().as_str().trim_start_matches('/').split('/').next().map(str::to_owned);
            let key = key.filter(|key| !key.is_empty());
            let message = match key.as_deref() {
                Some("type") => {
                    "`type` is one of string, integer, number, boolean, array, object, null".to_owned()
                }
                Some(key) => format!("`{key}` is no JSON Schema: {}", describe(&error)),
                None => format!("this is no JSON Schema: {}", describe(&error)),
            };
            SchemaError { field: name.to_owned(), key, message }
        })?;
        if let Some(error) = default.as_ref().and_then(|default| validator.iter_errors(default).next()) {
            let message = format!("the default does not fit the schema: {}", describe(&error));
            return Err(SchemaError::new(name, Some("default"), message));
        }
        Ok(Self { schema, required, default, validator })
    }

    fn check(&self, name: &str, value: &Value, errors: &mut Vec<FieldError>) {
        for error in self.validator.iter_errors(value) {
            if errors.len() >= MAX_ERRORS {
                return;
            }
            let path = error.instance_path().as_str().replace('/', ".");
            errors.push(FieldError { field: format!("{name}{path}"), message: describe(&error) });
        }
    }

    fn missing(&self) -> String {
        match self.schema.get("type") {
            Some(Value::String(kind)) => format!("is missing: expected {}", with_article(kind)),
            _ => "is missing".to_owned(),
        }
    }
}

impl FieldError {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

impl SchemaError {
    fn new(field: &str, key: Option<&str>, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), key: key.map(str::to_owned), message: message.into() }
    }
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("InputSchema(undeclared)"),
            Some(fields) => {
                f.debug_map().entries(fields.iter().map(|(name, field)| (name, &field.schema))).finish()
            }
        }
    }
}

const REFERENCES: [&str; 8] =
    ["$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema", "$anchor", "$dynamicAnchor", "$vocabulary"];

/// The first keyword that names another schema. Constants are data and may hold any key.
fn reference_in(schema: &Value) -> Option<String> {
    match schema {
        Value::Object(entries) => entries.iter().find_map(|(key, value)| match key.as_str() {
            key if REFERENCES.contains(&key) => Some(key.to_owned()),
            "default" | "enum" | "const" | "examples" => None,
            _ => reference_in(value),
        }),
        Value::Array(items) => items.iter().find_map(reference_in),
        _ => None,
    }
}

/// What was given and is not known, each with a hint.
fn unknown_of<'a>(given: &Map<String, Value>, known: impl Iterator<Item = &'a str>) -> Vec<FieldError> {
    if given.is_empty() {
        return Vec::new();
    }
    let known = known.collect();
    given.keys().filter_map(|name| unknown(name, &known)).take(MAX_ERRORS).collect()
}

fn unknown(name: &str, known: &HashSet<&str>) -> Option<FieldError> {
    if known.contains(name) {
        return None;
    }
    let message = match nearest(name, known.iter().copied()) {
        Some(near) => format!("is no parameter of this pipeline; did you mean `{near}`?"),
        None if known.is_empty() => "is no parameter of this pipeline, which has none".to_owned(),
        None => {
            let mut names: Vec<_> = known.iter().take(20).map(|name| format!("`{name}`")).collect();
            names.sort_unstable();
            format!("is no parameter of this pipeline; it has {}", names.join(", "))
        }
    };
    Some(FieldError::new(name, message))
}
