//! Between the values of the expression engine and JSON.

use std::sync::{Arc, OnceLock};

use minijinja::value::{Object, Serde, Value as Engine, ValueKind};
use serde_json::{Map, Number, Value};

use super::{ExprError, Inputs};

/// The most values that a result may hold, lists and mappings included.
pub(super) const MAX_VALUES: usize = 1_000_000;

/// The most bytes of text that a result may hold.
pub(super) const MAX_TEXT: usize = 64 << 20;

/// How deep the lists and mappings of a result may nest: as deep as `serde_json` reads.
const MAX_NESTING: usize = 127;

/// The inputs as the engine sees them. An input is converted when an expression first asks for it: the body of a map
/// has the whole list among its inputs and seldom looks at it.
#[derive(Debug)]
pub(super) struct Scope {
    inputs: Inputs,
    converted: Vec<OnceLock<Engine>>,
}

impl Scope {
    pub(super) fn new(inputs: &Inputs) -> Self {
        Self { inputs: inputs.clone(), converted: inputs.values.iter().map(|_| OnceLock::new()).collect() }
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Engine) -> Option<Engine> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Engine> {
        let place = self.inputs.position(key)?;
        let value = self.inputs.values.get(place)?;
        let value = self.converted.get(place)?.get_or_init(|| Engine::from(Serde(&**value)));
        Some(value.clone())
    }
}

/// The result as JSON.
pub(super) fn to_json(value: &Engine) -> Result<Value, ExprError> {
    Converter { values: MAX_VALUES, text: MAX_TEXT }.convert(value, 0)
}

/// What of the limits is left.
struct Converter {
    values: usize,
    text: usize,
}

impl Converter {
    fn convert(&mut self, value: &Engine, depth: usize) -> Result<Value, ExprError> {
        self.values = self.values.checked_sub(1).ok_or_else(|| too_large("values", MAX_VALUES))?;
        if depth > MAX_NESTING {
            return Err(ExprError::new(format!("the result nests deeper than {MAX_NESTING} levels")));
        }
        match value.kind() {
            ValueKind::None => Ok(Value::Null),
            ValueKind::Bool => Ok(Value::Bool(value.is_true())),
            ValueKind::Number => number(value).map(Value::Number),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()).map(Value::String),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut items = Vec::new();
                for item in value.try_iter().map_err(|error| ExprError::of_engine(&error))? {
                    items.push(self.convert(&item, depth + 1)?);
                }
                Ok(Value::Array(items))
            }
            ValueKind::Map => {
                let mut entries = Map::new();
                for key in value.try_iter().map_err(|error| ExprError::of_engine(&error))? {
                    let item = value.get_item(&key).map_err(|error| ExprError::of_engine(&error))?;
                    let key = self.key(&key)?;
                    entries.insert(key, self.convert(&item, depth + 1)?);
                }
                Ok(Value::Object(entries))
            }
            ValueKind::Undefined => {
                Err(ExprError::new("the result has a value that is not defined".to_owned()))
            }
            ValueKind::Invalid => match value.try_iter() {
                Err(error) => Err(ExprError::of_engine(&error)),
                Ok(_) => Err(no_json("invalid value")),
            },
            kind => Err(no_json(&kind.to_string())),
        }
    }

    fn key(&mut self, key: &Engine) -> Result<String, ExprError> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::Number if key.is_integer() => self.string(&key.to_string()),
            kind => Err(ExprError::new(format!(
                "a mapping of the result has a key that is a {kind}: keys are text"
            ))),
        }
    }

    fn string(&mut self, text: &str) -> Result<String, ExprError> {
        self.text = self.text.checked_sub(text.len()).ok_or_else(|| too_large("bytes of text", MAX_TEXT))?;
        Ok(text.to_owned())
    }
}

fn number(value: &Engine) -> Result<Number, ExprError> {
    if value.is_integer() {
        let small = value.as_i64().map(Number::from);
        let number = small.or_else(|| u64::try_from(value.clone()).ok().map(Number::from));
        return number
            .ok_or_else(|| ExprError::new("the result has a whole number of more than 64 bits".to_owned()));
    }
    let number = f64::try_from(value.clone()).ok().and_then(Number::from_f64);
    number.ok_or_else(|| ExprError::new("the result has a number that is not finite".to_owned()))
}

fn too_large(what: &str, limit: usize) -> ExprError {
    ExprError::new(format!("the result is too large: more than {limit} {what}"))
}

fn no_json(kind: &str) -> ExprError {
    ExprError::new(format!("the result has a {kind}, which is no JSON value"))
}
