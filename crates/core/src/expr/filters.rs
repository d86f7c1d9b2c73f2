//! Filters that are other than the engine's.

use std::collections::BTreeMap;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
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

/// The most combinations of a product: as many as one run may have items.
const MAX_PRODUCT: usize = 100_000;

/// Every combination of one item of each list, the last list's items changing first: of a list of lists as lists, of a
/// mapping of lists as mappings with the same keys.
///
/// The engine does not see what a filter does within, so that it says itself what it uses up: as much for each list as four
/// operations, for each item read as one, for each one chosen as two.
pub(super) fn product(state: &State, lists: &Value) -> Result<Value, Error> {
    let wrong = |message: &str| Error::new(ErrorKind::InvalidOperation, message.to_owned());
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    let named = lists.kind() == ValueKind::Map;
    let expected = "`product` takes a list of lists, or a mapping of lists";
    if !named && !is_list(lists) {
        return Err(wrong(expected));
    }
    let (mut keys, mut items): (Vec<Value>, Vec<Vec<Value>>) = (Vec::new(), Vec::new());
    let mut count = 1_usize;
    for key in lists.try_iter()?.checked() {
        let key = key?;
        state.consume_fuel(4)?;
        let list = if named { lists.get_item(&key)? } else { key.clone() };
        if !is_list(&list) {
            return Err(wrong(expected));
        }
        let read = |item: Result<Value, Error>| state.consume_fuel(1).and(item);
        let list = list.try_iter()?.checked().take(MAX_PRODUCT + 1).map(read);
        let list = list.collect::<Result<Vec<Value>, Error>>()?;
        let too_many = || wrong(&format!("`product` makes more than {MAX_PRODUCT} combinations"));
        count = count.checked_mul(list.len()).filter(|count| *count <= MAX_PRODUCT).ok_or_else(too_many)?;
        keys.push(key);
        items.push(list);
    }
    let chosen = count.saturating_mul(items.len()).saturating_mul(2);
    state.consume_fuel(u64::try_from(chosen).unwrap_or(u64::MAX))?;
    let combination = |place: usize| {
        let mut rest = place;
        let mut chosen: Vec<Value> = Vec::with_capacity(items.len());
        for list in items.iter().rev() {
            // Where a list is empty there is no place.
            chosen.push(list[rest % list.len()].clone());
            rest /= list.len();
        }
        chosen.reverse();
        match named {
            true => Value::from_object(keys.iter().cloned().zip(chosen).collect::<BTreeMap<Value, Value>>()),
            false => Value::from(chosen),
        }
    };
    Ok((0..count).map(combination).collect())
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
