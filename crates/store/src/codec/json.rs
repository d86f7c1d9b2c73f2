//! Values as JSON, of a size and a depth that can be read back.

#[cfg(any(test, feature = "sqlite"))]
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest document that is kept, in bytes: well below SQLite's own limit of 10^9.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// Deepest nesting that is kept: what the JSON parser builds on a stack of 2 MiB with room to spare, also when built
/// without optimisation. Values enter with at most 128 levels (the parser's limit) and can be wrapped on their way.
pub(crate) const MAX_DEPTH: usize = 256;

/// What was written cannot be read back, and what is known of it.
#[derive(Debug)]
pub(crate) struct Unreadable(pub(crate) String);

/// A value as JSON.
#[cfg(any(test, feature = "sqlite"))]
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(value)
}

/// Reads what [`to_json`] wrote. `what` names it should it be damaged.
pub(crate) fn from_json<T: DeserializeOwned>(
    json: &[u8],
    what: &dyn Fn() -> String,
) -> Result<T, Unreadable> {
    if is_too_deep(json) {
        return Err(Unreadable(format!("{} is nested more than {MAX_DEPTH} levels deep", what())));
    }
    let mut parser = serde_json::Deserializer::from_slice(json);
    // Its own limit is lower than what is written here.
    parser.disable_recursion_limit();
    let value = T::deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    // What the parser says may quote the value, which may be a secret.
    value.map_err(|error| Unreadable(format!("{} cannot be read from byte {} on", what(), error.column())))
}

/// Of what a document has too much, and how much is allowed.
pub(crate) fn excess(json: &[u8]) -> Option<(&'static str, usize)> {
    if json.len() > MAX_BYTES {
        Some(("bytes", MAX_BYTES))
    } else {
        is_too_deep(json).then_some(("levels", MAX_DEPTH))
    }
}

fn is_too_deep(json: &[u8]) -> bool {
    json.len() > MAX_DEPTH && depth(json) > MAX_DEPTH
}

/// How deeply arrays and objects are nested in well-formed JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_counts_brackets_outside_texts() {
        for (value, levels) in [
            (json!(1), 0),
            (json!("[[\"{{\\"), 0),
            (json!([[], {"[": [1]}, "\\\""]), 3),
            (json!({"a\\": []}), 2),
        ] {
            assert_eq!(depth(&to_json(&value).unwrap()), levels, "{value}");
        }
    }
}
