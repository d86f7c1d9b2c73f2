//! What a value may do to the address of an `http` task.
//!
//! Whoever starts a run chooses its parameters, and the task's headers may hold its author's secrets: a value must not
//! send them to another host, nor out of the path that the author wrote. An address that begins with a placeholder, or
//! whose host does, is the starter's to choose: its author said so.

use taskiq_flow_core::expr::Piece;

/// Why a value cannot stand where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    /// It would end the host, or stand for another.
    #[error("a value within the host may only have letters, digits, `-`, `_` and `.`")]
    Host,
    /// It stands at the end of the host, which it could make another.
    #[error(
        "a value at the end of the host could lead to another one: write `/` between host and placeholder"
    )]
    HostEnd,
    /// `..` or the like.
    #[error("a value leads out of the path: it has `.` or `..` between slashes")]
    Path,
}

/// Whether every value leaves host and path as the author wrote them.
pub(super) fn check(pieces: &[Piece<'_>]) -> Result<(), AddressError> {
    let Some(Piece::Text(first)) = pieces.first() else { return Ok(()) };
    let Some((_, first)) = first.split_once("://") else { return Ok(()) };
    check_host(first, &pieces[1..])?;
    let written: String =
        pieces.iter().filter(|piece| matches!(piece, Piece::Text(_))).map(Piece::as_str).collect();
    let rendered: String = pieces.iter().map(Piece::as_str).collect();
    match dots(&rendered) > dots(&written) {
        true => Err(AddressError::Path),
        false => Ok(()),
    }
}

/// `host` is what was written after the scheme.
fn check_host(first: &str, rest: &[Piece<'_>]) -> Result<(), AddressError> {
    let mut host = first.to_owned();
    for (at, piece) in rest.iter().enumerate() {
        if host.is_empty() || ends_host(&host) {
            return Ok(());
        }
        if let Piece::Value(value) = piece {
            let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !value.chars().all(harmless) {
                return Err(AddressError::Host);
            }
            let followed = matches!(rest.get(at + 1), Some(Piece::Text(text)) if text.starts_with(harmless));
            let one_label = !host.contains('.') && !value.contains('.');
            if !followed && !one_label && !host.ends_with([':', '.']) {
                return Err(AddressError::HostEnd);
            }
        }
        host.push_str(piece.as_str());
    }
    Ok(())
}

fn ends_host(text: &str) -> bool {
    text.contains(['/', '\\', '?', '#'])
}

/// How many segments of the path are `.` or `..`, however they are written.
fn dots(address: &str) -> usize {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    // What parsers of addresses leave out (https://url.spec.whatwg.org/#concept-basic-url-parser).
    let path: String = path.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    path.split(['/', '\\']).filter(|segment| matches!(*segment, "." | "..")).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use taskiq_flow_core::expr::{Inputs, Template};

    fn checked(template: &str, value: &str) -> Result<(), AddressError> {
        let template = Template::compile(template).unwrap();
        let inputs = Inputs::from_iter([("v", json!(value))]);
        check(&template.render_pieces(&inputs).unwrap())
    }

    #[test]
    fn no_value_makes_another_host() {
        for (template, value, expected) in [
            ("https://api.example.com/{{ v }}", "a/b?c#d@evil.example", Ok(())),
            ("https://api.example.com{{ v }}", ".evil.example", Err(AddressError::HostEnd)),
            ("https://api.example.com{{ v }}", "pany", Err(AddressError::HostEnd)),
            ("https://api.example.com{{ v }}", "@evil.example/", Err(AddressError::Host)),
            ("https://api.example.com{{ v }}", "/users", Err(AddressError::Host)),
            ("http://localhost:{{ v }}/", "8000", Ok(())),
            ("http://localhost:{{ v }}/", "80@evil.example", Err(AddressError::Host)),
            ("http://localhost:{{ v }}", "80/x", Err(AddressError::Host)),
            ("http://worker{{ v }}:80/", "7", Ok(())),
            ("http://worker{{ v }}/", ".evil.example", Err(AddressError::HostEnd)),
            ("https://{{ v }}.example.com/", "evil.example/", Ok(())),
            ("https://api-{{ v }}.example.com/", "eu", Ok(())),
            ("https://api-{{ v }}.example.com/", "x.evil.example/", Err(AddressError::Host)),
            ("https://api.{{ v }}/", "example.com", Ok(())),
            ("{{ v }}/x", "https://anything.example/../", Ok(())),
            ("https://api.example.com\\{{ v }}", "x", Ok(())),
        ] {
            assert_eq!(checked(template, value), expected, "{template} {value}");
        }
    }

    #[test]
    fn no_value_leads_out_of_the_path() {
        let users = "https://api.example.com/users/{{ v }}";
        for value in [
            "..",
            "../admin",
            "a/../../admin",
            "%2e%2E/admin",
            ".%2e",
            "..\\x",
            ".\t.",
            "a/..",
            "..%2fx",
            ".",
        ] {
            assert_eq!(checked(users, value), Err(AddressError::Path), "{value}");
        }
        for value in ["a", "a.b", "..a", "a..b", "...", "a/b", "x?y=../z"] {
            assert_eq!(checked(users, value), Ok(()), "{value}");
        }
        let own = "https://api.example.com/a/../{{ v }}";
        assert_eq!((checked(own, "b"), checked(own, "..")), (Ok(()), Err(AddressError::Path)));
        let two = Template::compile("https://api.example.com/a/{{ v }}{{ v }}").unwrap();
        let inputs = Inputs::from_iter([("v", json!("."))]);
        assert_eq!(check(&two.render_pieces(&inputs).unwrap()), Err(AddressError::Path));
    }
}
