//! Expressions in the Jinja syntax over the inputs of a task, bounded in work and memory.
//!
//! ```
//! use taskiq_flow_core::expr::{Expr, Inputs};
//!
//! let expr = Expr::compile("'large' if amount > limit else 'small'").unwrap();
//! assert_eq!(expr.names(), ["amount", "limit"]);
//! let inputs = Inputs::from_iter([("amount", 1500.into()), ("limit", 1000.into())]);
//! assert_eq!(expr.evaluate(&inputs).unwrap(), "large");
//! ```
//!
//! Values are JSON, and so is the result: whole numbers stay whole numbers, `none` is `null`. A name without an input
//! is an error and never an empty text.
//!
//! - Operators: `+ - * / // % **`, `~` (joins as text), `== != < <= > >=`, `in`, `not in`, `and or not`,
//!   `a if c else b`, `x.key`, `x[0]`, `x[1:3]`, lists `[..]`, mappings `{'k': v}`.
//! - Filters, `x | name`: `abs attr batch bool capitalize chain count d default dictsort first float format groupby
//!   indent int items join last length lines list lower map max min product reject rejectattr replace reverse round select
//!   selectattr slice sort split string sum title tojson trim unique upper urlencode zip`.
//! - Tests, `x is name`: `boolean defined divisibleby endingwith even filter float in integer iterable lower mapping
//!   none number odd sameas sequence startingwith string test undefined upper` and the comparisons.
//! - Functions: `range`, `dict`.
//!
//! An expression has at most 8 KiB and 600 names, operators and values. One evaluation may use [`FUEL`] units: an
//! operation costs about one, 64 bytes of data one; so its memory is bounded too. A result holds at most a million values.

mod filters;
mod scan;
mod template;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, LazyLock};

use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

pub use template::{Piece, Template};

/// What one evaluation may use up. The engine counts one unit for an operation and for every 64 bytes it makes
/// or looks through (`minijinja::Environment::set_fuel`), so this is 64 MB and some tens of milliseconds.
pub const FUEL: u64 = 1_000_000;

/// The longest expression or template, in bytes.
pub const MAX_SOURCE: usize = 8 << 10;

/// A compiled expression. Cloning is cheap.
#[derive(Clone)]
pub struct Expr(Arc<Compiled>);

struct Compiled {
    source: String,
    names: Vec<String>,
    expression: minijinja::Expression<'static, 'static>,
}

/// What is wrong with an expression, or with its evaluation. Never holds a value of an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// For people.
    pub message: String,
    /// The bytes of the source at fault, where they are known.
    pub offset: Option<Range<usize>>,
}

/// Named values, in order. Cloning copies names and values by reference.
///
/// Its `Debug` shows the names only: values may be secrets.
#[derive(Clone, Default)]
pub struct Inputs {
    names: Names,
    /// In the order of the names.
    values: Vec<Arc<Value>>,
}

/// The names of inputs.
#[derive(Clone)]
enum Names {
    /// Those of a step of a plan, for all that is ever given to it.
    Shared(Arc<[Arc<str>]>),
    Own(Vec<Arc<str>>),
}

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(64);
    // Names and places in error messages; it costs nothing where there is no error.
    engine.set_debug(true);
    for (name, _) in Environment::new().globals() {
        if !scan::FUNCTIONS.contains(&name) {
            engine.remove_global(name);
        }
    }
    engine.add_filter("urlencode", |text: &str| filters::percent_encode(text));
    engine.add_filter("format", filters::format);
    engine.add_filter("product", filters::product);
    engine
});

impl Expr {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Bad syntax, an unknown filter or test, or an expression beyond the limits of this module.
    pub fn compile(source: &str) -> Result<Self, ExprError> {
        if source.len() > MAX_SOURCE {
            return Err(ExprError::new(format!("the expression is longer than {MAX_SOURCE} bytes")));
        }
        if source.trim().is_empty() {
            return Err(ExprError::new("the expression is empty".to_owned()));
        }
        scan::check(source)?;
        let expression = ENGINE.compile_expression_owned(source.to_owned());
        let expression = expression.map_err(|error| ExprError::of_engine(&error).within(source))?;
        let mut names: Vec<_> = expression.undeclared_variables(false).into_iter().collect();
        names.retain(|name| !scan::FUNCTIONS.contains(&name.as_str()));
        names.sort_unstable();
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), names, expression })))
    }

    /// The expression that is true where this one is not.
    ///
    /// # Errors
    /// It is beyond the limits that this one has just kept.
    pub fn negated(&self) -> Result<Self, ExprError> {
        Self::compile(&format!("not ({})", self.0.source))
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The names of the inputs it reads, sorted.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Where in the source `name` is first read.
    pub fn place_of(&self, name: &str) -> Option<Range<usize>> {
        scan::place_of(&self.0.source, name)
    }

    /// The value of the expression.
    ///
    /// # Errors
    /// A name that is no input, an operation that its operands do not have, too much work, a result that JSON cannot hold.
    pub fn evaluate(&self, inputs: &Inputs) -> Result<Value, ExprError> {
        let result = self.run(inputs)?;
        if result.is_undefined() {
            return Err(self.undefined(inputs));
        }
        value::to_json(&result)
    }

    /// Whether the value is true: anything but `false`, `none`, 0 and what is empty.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn is_true(&self, inputs: &Inputs) -> Result<bool, ExprError> {
        let result = self.run(inputs)?;
        if result.is_undefined() {
            return Err(self.undefined(inputs));
        }
        Ok(result.is_true())
    }

    fn run(&self, inputs: &Inputs) -> Result<minijinja::Value, ExprError> {
        let scope = minijinja::Value::from_object(value::Scope::new(inputs));
        self.0.expression.eval(scope).map_err(|error| {
            let mut told = ExprError::of_engine(&error).within(&self.0.source);
            if error.kind() == ErrorKind::UndefinedError {
                told.message.push_str(&self.nulls(inputs));
            }
            told
        })
    }

    fn undefined(&self, inputs: &Inputs) -> ExprError {
        match self.names().iter().find(|name| inputs.get(name).is_none()) {
            Some(name) => {
                ExprError { message: format!("`{name}` is not defined"), offset: self.place_of(name) }
            }
            None => {
                let nulls = self.nulls(inputs);
                ExprError::new(format!("the result is not defined: it has no such key or item{nulls}"))
            }
        }
    }

    /// Which of its inputs are null, where that is why something is not defined: a task without a result, say, or a signal
    /// that came without a value.
    fn nulls(&self, inputs: &Inputs) -> String {
        let is_null = |name: &&String| inputs.get(name).is_some_and(|value| value.is_null());
        let nulls: Vec<_> = self.names().iter().filter(is_null).map(|name| format!("`{name}`")).collect();
        match nulls.len() {
            0 => String::new(),
            1 => format!("; {} is null", nulls[0]),
            _ => format!("; {} are null", nulls.join(" and ")),
        }
    }
}

impl ExprError {
    fn new(message: String) -> Self {
        Self { message, offset: None }
    }

    fn of_engine(error: &minijinja::Error) -> Self {
        if let Some(name) = error.detail().and_then(undefined_name) {
            return Self { message: format!("{name} is not defined"), offset: error.range() };
        }
        let message = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => {
                "the expression does too much work or makes too much data".to_owned()
            }
            (ErrorKind::UndefinedError, _) => "a value is not defined".to_owned(),
            (kind, Some(detail)) => match detail {
                "template exceeds maximum recursion limits" => "the expression is nested too deep".to_owned(),
                detail => format!("{kind}: {detail}"),
            },
            (kind, None) => kind.to_string(),
        };
        Self { message, offset: error.range() }
    }

    /// Without a place that is not one of `source`.
    fn within(mut self, source: &str) -> Self {
        self.offset = self.offset.filter(|range| source.get(range.clone()).is_some());
        self
    }
}

impl Inputs {
    /// Inputs of these names, of which the caller knows that none comes twice, and as many values.
    pub(crate) fn of_unique(names: &Arc<[Arc<str>]>, values: impl Iterator<Item = Arc<Value>>) -> Self {
        Self { names: Names::Shared(Arc::clone(names)), values: values.collect() }
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Value>> {
        self.position(name).and_then(|place| self.values.get(place))
    }

    /// Sets a value; one of the same name is replaced in its place.
    pub fn insert(&mut self, name: Arc<str>, value: Arc<Value>) {
        match self.position(&name) {
            Some(place) => self.values[place] = value,
            None => {
                self.names.change(|names| names.push(name));
                self.values.push(value);
            }
        }
    }

    /// Takes a value away.
    pub fn remove(&mut self, name: &str) {
        if let Some(place) = self.position(name) {
            self.names.change(|names| drop(names.remove(place)));
            self.values.remove(place);
        }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Value>)> {
        self.names.iter().zip(&self.values)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One JSON object with all of them.
    pub fn to_json_object(&self) -> Map<String, Value> {
        self.iter().map(|(name, value)| (name.to_string(), Value::clone(value))).collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| &**known == name)
    }
}

impl Names {
    /// Changes them for these inputs only.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Arc<str>>)) {
        let mut own = match std::mem::take(self) {
            Self::Shared(names) => names.to_vec(),
            Self::Own(names) => names,
        };
        change(&mut own);
        *self = Self::Own(own);
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Deref for Names {
    type Target = [Arc<str>];

    fn deref(&self) -> &[Arc<str>] {
        match self {
            Self::Shared(names) => names,
            Self::Own(names) => names,
        }
    }
}

impl PartialEq for Inputs {
    fn eq(&self, other: &Self) -> bool {
        *self.names == *other.names && self.values == other.values
    }
}

impl FromIterator<(Arc<str>, Arc<Value>)> for Inputs {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<Value>)>>(list: I) -> Self {
        let mut inputs = Self::default();
        for (name, value) in list {
            inputs.insert(name, value);
        }
        inputs
    }
}

impl<'a> FromIterator<(&'a str, Value)> for Inputs {
    fn from_iter<I: IntoIterator<Item = (&'a str, Value)>>(list: I) -> Self {
        list.into_iter().map(|(name, value)| (Arc::from(name), Arc::new(value))).collect()
    }
}

impl From<Map<String, Value>> for Inputs {
    fn from(object: Map<String, Value>) -> Self {
        // The keys of an object are unique.
        let (own, values) =
            object.into_iter().map(|(name, value)| (Arc::from(name), Arc::new(value))).unzip();
        Self { names: Names::Own(own), values }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expr").field(&self.0.source).finish()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names.iter()).finish()
    }
}

/// The part in backticks of the engine's "`name` is undefined".
fn undefined_name(detail: &str) -> Option<&str> {
    let before = &detail[..detail.find("` is undefined")?];
    Some(&detail[before.rfind('`')?..=before.len()])
}
