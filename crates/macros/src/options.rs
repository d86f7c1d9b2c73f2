//! What stands in the brackets of `#[task(...)]`.

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprArray, ExprLit, Lit, LitStr, Meta, Path, Result, Token};

use crate::duration::millis;

const KNOWN: [&str; 16] = [
    "name",
    "output",
    "outputs",
    "retries",
    "delay",
    "backoff",
    "jitter",
    "max_delay",
    "max_time",
    "retry_on",
    "not_on",
    "timeout",
    "cache",
    "cache_version",
    "on_error",
    "compensate",
];

/// The most attempts of a task, as the loader of pipelines has it.
const MAX_RETRIES: u32 = 999;

const MAX_BACKOFF: f64 = 1000.0;

/// The longest name, in bytes, as the loader of pipelines has it.
const MAX_NAME: usize = 128;

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) outputs: Option<Vec<LitStr>>,
    pub(crate) retries: u32,
    pub(crate) delay: Option<u64>,
    pub(crate) backoff: Option<f64>,
    pub(crate) jitter: Option<bool>,
    pub(crate) max_delay: Option<u64>,
    pub(crate) max_time: Option<u64>,
    pub(crate) retry_on: Option<Vec<LitStr>>,
    pub(crate) not_on: Option<Vec<LitStr>>,
    pub(crate) timeout: Option<u64>,
    pub(crate) cache: Option<u64>,
    pub(crate) cache_version: Option<LitStr>,
    pub(crate) on_error: Option<&'static str>,
    pub(crate) compensate: Option<Path>,
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut options = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let mut waits: Option<Span> = None;
        for meta in metas {
            let key = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
            if !KNOWN.contains(&key.as_str()) {
                let known = KNOWN.join("`, `");
                return Err(Error::new(
                    meta.path().span(),
                    format!("unknown option; the options of a task are `{known}`"),
                ));
            }
            let Meta::NameValue(pair) = &meta else {
                return Err(Error::new(meta.span(), format!("write `{key} = ...`")));
            };
            if seen.contains(&key) {
                return Err(Error::new(pair.path.span(), format!("`{key}` stands here twice")));
            }
            if matches!(
                key.as_str(),
                "delay" | "backoff" | "jitter" | "max_delay" | "max_time" | "retry_on" | "not_on"
            ) {
                waits = waits.or(Some(pair.path.span()));
            }
            options.set(&key, &pair.value)?;
            if (key == "output" && seen.contains(&"outputs".to_owned()))
                || (key == "outputs" && seen.contains(&"output".to_owned()))
            {
                return Err(Error::new(pair.path.span(), "a task has `output` or `outputs`, not both"));
            }
            seen.push(key);
        }
        if let (Some(version), None) = (&options.cache_version, options.cache) {
            let message = "this is about kept values: add `cache = \"1h\"` or another time";
            return Err(Error::new(version.span(), message));
        }
        match waits {
            Some(span) if options.retries == 0 => {
                Err(Error::new(span, "this is about further attempts: add `retries = 1` or more"))
            }
            _ => Ok(options),
        }
    }

    fn set(&mut self, key: &str, value: &Expr) -> Result<()> {
        match key {
            "name" => self.name = Some(name(value)?),
            "output" => self.outputs = Some(vec![name(value)?]),
            "outputs" => self.outputs = Some(names(value)?),
            "retries" => self.retries = retries(value)?,
            "delay" => self.delay = Some(duration(value, 0)?),
            "max_delay" => self.max_delay = Some(duration(value, 0)?),
            "max_time" => self.max_time = Some(duration(value, 1)?),
            "retry_on" => self.retry_on = Some(rules(value)?),
            "not_on" => self.not_on = Some(rules(value)?),
            "cache" => self.cache = Some(duration(value, 1)?),
            "cache_version" => self.cache_version = Some(name(value)?),
            "timeout" => self.timeout = Some(duration(value, 1)?),
            "backoff" => self.backoff = Some(backoff(value)?),
            "jitter" => self.jitter = Some(flag(value)?),
            "compensate" => self.compensate = Some(path(value)?),
            _ => self.on_error = Some(on_error(value)?),
        }
        Ok(())
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        // Values that a `macro_rules!` passes on come in a group without brackets.
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

fn text<'a>(value: &'a Expr, expected: &str) -> Result<&'a LitStr> {
    match literal(value) {
        Some(Lit::Str(text)) => Ok(text),
        _ => Err(Error::new(value.span(), format!("expected {expected}"))),
    }
}

fn name(value: &Expr) -> Result<LitStr> {
    let text = text(value, "a name in quotes")?;
    let name = text.value();
    if name.is_empty() || name.len() > MAX_NAME || name.trim() != name || name.chars().any(char::is_control) {
        let message =
            format!("a name has 1 to {MAX_NAME} bytes, no control characters, and no space around it");
        return Err(Error::new(text.span(), message));
    }
    Ok(text.clone())
}

fn names(value: &Expr) -> Result<Vec<LitStr>> {
    let Expr::Array(ExprArray { elems, .. }) = value else {
        return Err(Error::new(value.span(), "expected a list of names, such as `[\"lines\", \"words\"]`"));
    };
    let mut names: Vec<LitStr> = Vec::new();
    for element in elems {
        let name = name(element)?;
        if names.iter().any(|other| other.value() == name.value()) {
            return Err(Error::new(name.span(), format!("`{}` stands here twice", name.value())));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(Error::new(
            value.span(),
            "`outputs` has no names; leave it out, and the output is called as the task",
        ));
    }
    Ok(names)
}

/// Codes of errors. What one may look like, the loader of pipelines says.
fn rules(value: &Expr) -> Result<Vec<LitStr>> {
    let expected = "a list of errors, such as `[\"timeout\", \"message ~ try again\"]`";
    let Expr::Array(ExprArray { elems, .. }) = value else {
        return Err(Error::new(value.span(), format!("expected {expected}")));
    };
    if elems.is_empty() {
        return Err(Error::new(value.span(), "this names no error; leave it out, or name one"));
    }
    elems.iter().map(|element| text(element, "the code of an error in quotes").cloned()).collect()
}

fn retries(value: &Expr) -> Result<u32> {
    let number = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse::<u32>().ok(),
        _ => None,
    };
    let expected =
        || format!("expected how many further attempts there are, a whole number from 0 to {MAX_RETRIES}");
    number.filter(|number| *number <= MAX_RETRIES).ok_or_else(|| Error::new(value.span(), expected()))
}

fn duration(value: &Expr, least: u64) -> Result<u64> {
    let text = text(value, "a duration in quotes, such as \"30s\"")?;
    let message =
        "expected a number and a unit out of ms, s, m, h, d, such as \"500ms\", \"30s\" or \"1h30m\"";
    millis(&text.value()).filter(|millis| *millis >= least).ok_or_else(|| Error::new(text.span(), message))
}

fn backoff(value: &Expr) -> Result<f64> {
    let number = match literal(value) {
        Some(Lit::Float(number)) => number.base10_parse::<f64>().ok(),
        Some(Lit::Int(number)) => number.base10_parse::<f64>().ok(),
        _ => None,
    };
    let message = format!(
        "expected a number from 1 to {MAX_BACKOFF}; 1 keeps the wait the same, 2 doubles it each time"
    );
    number
        .filter(|number| (1.0..=MAX_BACKOFF).contains(number))
        .ok_or_else(|| Error::new(value.span(), message))
}

fn flag(value: &Expr) -> Result<bool> {
    match literal(value) {
        Some(Lit::Bool(flag)) => Ok(flag.value),
        _ => Err(Error::new(value.span(), "expected `true` or `false`")),
    }
}

fn path(value: &Expr) -> Result<Path> {
    match value {
        Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
        Expr::Group(group) => path(&group.expr),
        _ => Err(Error::new(value.span(), "expected the name of another task, without quotes")),
    }
}

fn on_error(value: &Expr) -> Result<&'static str> {
    const RULES: [&str; 4] = ["fail", "continue", "skip_dependants", "dead_letter"];
    let expected = "\"fail\", \"continue\", \"skip_dependants\" or \"dead_letter\"";
    let said = text(value, expected)?.value();
    let rule = RULES.into_iter().find(|rule| *rule == said);
    rule.ok_or_else(|| Error::new(value.span(), format!("expected {expected}")))
}
