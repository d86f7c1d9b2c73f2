//! Filters that are other than the engine's.

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};

/// Percent-encodes everything but the unreserved characters of RFC 3986, section 2.3.
pub(super) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The engine's `format` without keys that are not ASCII: it reads them byte by byte and panics (minijinja 3.1.0).
pub(super) fn format(
    state: &mut State,
    text: &Value,
    arguments: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    if text.as_str().is_some_and(has_foreign_key) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a name within `%(...)` of a format text must be ASCII; join the parts with `~` instead",
        ));
    }
    minijinja::filters::format(state, text, arguments)
}

/// Whether a `%(key)` of the format text is not ASCII. `%%` is no place for a value.
fn has_foreign_key(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('(') {
            let (key, after) = behind.split_once(')').unwrap_or((behind, ""));
            if !key.is_ascii() {
                return true;
            }
            rest = after;
        }
    }
    false
}
