//! What a request brings: messages of sockets, bodies, queries, headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use taskiq_flow_api::fuzzing;

/// The first byte chooses.
pub fn request(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let text = std::str::from_utf8(rest).ok();
    match kind % 4 {
        0 => {
            if let Some(Err(said)) = text.map(fuzzing::client_message) {
                assert!(!said.is_empty());
            }
        }
        1 => {
            for problem in fuzzing::bodies(rest) {
                let status = problem.status().as_u16();
                assert!(status == 400 || status == 422, "{problem:?}");
            }
        }
        2 => {
            for problem in text.into_iter().flat_map(fuzzing::queries) {
                let status = problem.status().as_u16();
                assert!(status == 400 || status == 422, "{problem:?}");
            }
        }
        _ => {
            let mut headers = HeaderMap::new();
            let names =
                ["accept", "idempotency-key", "x-request-id", "upgrade", "content-type", "content-length"];
            for (at, line) in rest.split(|byte| *byte == b'\n').take(64).enumerate() {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append(HeaderName::from_static(names[at % names.len()]), value);
                }
            }
            let id = fuzzing::headers(&headers);
            assert!(id.bytes().all(|c| c.is_ascii_graphic() && !b"\"<>\\".contains(&c)), "{id:?}");
        }
    }
}
