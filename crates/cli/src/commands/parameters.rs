//! The parameters of a run, as options give them.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::output::Failure;

/// Those of a file (`-`: standard input) and over them the `NAME=VALUE` of `-p`. `schema` is the JSON Schema of the
/// pipeline's parameters: what it declares a string is taken as it stands, everything else is read as JSON if it is.
pub(crate) fn parameters(
    input: Option<&Path>,
    params: &[String],
    schema: &Value,
) -> Result<Map<String, Value>, Failure> {
    let mut parameters = input.map(from_file).transpose()?.unwrap_or_default();
    for param in params {
        let (name, text) = split("-p", param)?;
        let is_text = schema["properties"][name]["type"] == "string";
        let value = match serde_json::from_str(text) {
            Ok(value) if !is_text => value,
            _ => Value::from(text),
        };
        parameters.insert(name.to_owned(), value);
    }
    Ok(parameters)
}

/// A `NAME=JSON` of an option.
pub(crate) fn named_json(flag: &str, text: &str) -> Result<(String, Value), Failure> {
    let (name, value) = split(flag, text)?;
    let value = serde_json::from_str(value)
        .map_err(|error| Failure::wrong(format!("{flag} {name}: no JSON: {error}")))?;
    Ok((name.to_owned(), value))
}

fn split<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| Failure::wrong(format!("{flag} {text}: write it as NAME=VALUE")))
}

fn from_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| Failure::wrong(format!("--input {}: {error}", path.display())))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::wrong(format!(
            "--input {}: a JSON object with the parameters is expected: {error}",
            path.display()
        ))
    })
}
