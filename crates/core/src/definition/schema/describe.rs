//! Violations of a schema in words.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

/// What was expected, from the schema alone: the value may be a secret.
pub(super) fn describe(error: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    let found = type_of(error.instance());
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(kind) } => {
            format!("expected {}, found {found}", with_article(&kind.to_string()))
        }
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            let kinds: Vec<_> = kinds.iter().map(|kind| with_article(&kind.to_string())).collect();
            format!("expected {}, found {found}", kinds.join(" or "))
        }
        Kind::Enum { options } => match &**options {
            Value::Array(options) => {
                let options: Vec<_> = options.iter().take(20).map(Value::to_string).collect();
                format!("expected one of {}", options.join(", "))
            }
            _ => "expected one of the listed values".to_owned(),
        },
        Kind::Constant { expected_value } => format!("expected {expected_value}"),
        Kind::Minimum { limit } => format!("expected at least {limit}"),
        Kind::Maximum { limit } => format!("expected at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("expected more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("expected less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("expected a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("expected at least {limit} characters"),
        Kind::MaxLength { limit } => format!("expected at most {limit} characters"),
        Kind::MinItems { limit } => format!("expected at least {limit} items"),
        Kind::MaxItems { limit } => format!("expected at most {limit} items"),
        Kind::MinProperties { limit } => format!("expected at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("expected at most {limit} properties"),
        Kind::UniqueItems => "expected items that differ from each other".to_owned(),
        Kind::Pattern { pattern } => format!("expected text that matches the pattern {pattern}"),
        Kind::Format { format } => format!("expected text in the format {format}"),
        Kind::Required { property } => format!("expected an object with the property {property}"),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => {
            "has properties that are not allowed".to_owned()
        }
        Kind::FalseSchema => "is not allowed".to_owned(),
        kind => format!("does not satisfy `{}` of its schema", kind.keyword()),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The name of a type with its article.
pub(super) fn with_article(kind: &str) -> String {
    match kind {
        "null" => "null".to_owned(),
        "integer" | "array" | "object" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}
