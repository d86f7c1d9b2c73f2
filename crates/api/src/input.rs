//! Reading what a request brings: bodies, queries and headers, refused with the place of the mistake.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_security::{Admission, Permit};
use utoipa::openapi::{ObjectBuilder, Schema, Type};

use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;

/// The longest a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// The largest `limit` of a list.
pub(crate) const MAX_LIMIT: usize = 500;
/// What a list gives when it is not told how much.
pub(crate) const DEFAULT_LIMIT: usize = 100;

/// A body that is a JSON object. An unknown field or bad JSON is 400, a value of the wrong type 422, another media type
/// 415.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

/// As [`Body`], but no body at all is the default.
#[derive(Debug)]
pub(crate) struct OptionalBody<T>(pub(crate) T);

/// Any JSON value; no body at all is null.
#[derive(Debug)]
pub(crate) struct AnyBody(pub(crate) Value);

/// A query. An unknown or repeated name is 400.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        let bytes = read(request, state).await?;
        parse_object(&bytes).map(Body)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        match read_optional(request, state).await? {
            Some(bytes) => parse_object(&bytes).map(OptionalBody),
            None => Ok(OptionalBody(T::default())),
        }
    }
}

impl FromRequest<AppState> for AnyBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        match read_optional(request, state).await? {
            Some(bytes) => parse(&bytes).map(AnyBody),
            None => Ok(AnyBody(Value::Null)),
        }
    }
}

impl<T: DeserializeOwned> FromRequestParts<AppState> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        query(&parts.uri).map(Params)
    }
}

/// The query of an address.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => {
            let cause = std::error::Error::source(&rejection).map(ToString::to_string).unwrap_or_default();
            Err(Problem::bad_request(format!("The query cannot be read: {cause}.")))
        }
    }
}

/// Whether the headers announce a body that is larger than may be.
pub(crate) fn announces_too_much(headers: &HeaderMap, limit: usize) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > limit as u64)
}

pub(crate) fn too_large(limit: usize) -> Problem {
    let detail = format!("The body may have at most {limit} bytes.");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Content too large", detail)
}

/// The value of a field of a query; what is wrong with it is 422.
pub(crate) fn field<T, E: std::fmt::Display>(
    name: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    let parsed = text.map(parse).transpose();
    parsed.map_err(|error| Problem::invalid_field(name, error.to_string()))
}

/// The schema of a text that is one of these names.
pub(crate) fn one_of<'a>(description: &str, names: impl IntoIterator<Item = &'a str>) -> Schema {
    let names: Vec<&str> = names.into_iter().collect();
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.enum_values(Some(names)).build().into()
}

/// The `limit` of a list.
pub(crate) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let parsed = field("limit", text, |text| match text.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(format!("expected a whole number from 1 to {MAX_LIMIT}")),
    });
    Ok(parsed?.unwrap_or(DEFAULT_LIMIT))
}

/// A time.
pub(crate) fn time(field: &'static str, text: &str) -> Result<Timestamp, Problem> {
    let expected = "expected a time such as 2027-01-31T09:00:00Z";
    text.parse().map_err(|_| Problem::invalid_field(field, expected))
}

/// A number of an event.
pub(crate) fn seq(name: &'static str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    field(name, text, |text| text.parse::<u64>().map_err(|_| "expected a whole number from 0"))
}

pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut media_types = headers.get_all(CONTENT_TYPE).iter();
    let media_type = media_types.next().and_then(|value| value.to_str().ok()).unwrap_or("");
    // Of several, somebody before us may have gone by another.
    let media_type = if media_types.next().is_none() { media_type } else { "" };
    let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json {
        return Ok(());
    }
    let detail = "Send JSON, with Content-Type: application/json.";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Unsupported media type", detail))
}

/// A body can take its time, and what its sender may do can be taken away meanwhile: whoever holds a request back until
/// its key is revoked must not have it carried out all the same.
async fn read(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    let limit = state.options().max_body_bytes;
    let admitted = request.extensions().get::<Admission>().cloned();
    let permit = request.extensions().get::<Permit>().cloned();
    let bytes = collect(request, limit).await?;
    if let (Some(caller), Some(permit)) = (admitted, permit) {
        state.guard().still_permits(&caller, permit.permission(), permit.resource())?;
    }
    Ok(bytes)
}

async fn collect(request: Request, limit: usize) -> Result<Bytes, Problem> {
    if announces_too_much(request.headers(), limit) {
        return Err(too_large(limit));
    }
    let body = Limited::new(request.into_body(), limit);
    match tokio::time::timeout(BODY_DEADLINE, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(Problem::bad_request("The body did not arrive whole.")),
        Err(_) => Err(Problem::of_status(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// The bytes of a body, if there is one.
async fn read_optional(request: Request, state: &AppState) -> Result<Option<Bytes>, Problem> {
    let media_type = check_media_type(request.headers());
    let bytes = read(request, state).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    media_type?;
    Ok(Some(bytes))
}

/// A list would be taken for an object whose names are left out, and only after it the mistakes be found.
pub(crate) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return parse(bytes);
    }
    let _value: Value = parse(bytes)?;
    Err(Problem::bad_request("The body must be a JSON object."))
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json);
    let error = match parsed {
        Ok(value) => match json.end() {
            Ok(()) => return Ok(value),
            Err(error) => return Err(unreadable(&error)),
        },
        Err(error) => error,
    };
    let path = error.path().to_string();
    let inner = error.into_inner();
    let message = without_place(&inner);
    let unknown = message.starts_with("unknown field") || message.starts_with("duplicate field");
    if inner.classify() != Category::Data || unknown {
        return Err(unreadable(&inner));
    }
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    Err(match (missing, path.as_str()) {
        (Some(name), ".") => Problem::invalid_field(name, "is missing"),
        (Some(name), path) => Problem::invalid_field(format!("{path}.{name}"), "is missing"),
        (None, ".") => unreadable(&inner),
        (None, path) => Problem::invalid(vec![FieldProblem::new(path, message)]),
    })
}

fn unreadable(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    Problem::bad_request(format!("Line {line}, column {column}: {}.", without_place(error)))
}

/// The message without the ` at line 1 column 2` that the library adds.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the mistakes are looked at")]
    struct Sample {
        wait: bool,
        numbers: Vec<u8>,
    }

    fn refused(text: &str) -> (u16, String, Vec<String>) {
        let problem = parse_object::<Sample>(text.as_bytes()).unwrap_err();
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r")).unwrap();
        let fields = body["errors"].as_array().cloned().unwrap_or_default();
        let fields = fields.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect();
        (problem.status().as_u16(), problem.detail().to_owned(), fields)
    }

    #[test]
    fn mistakes_in_a_body_are_told_apart_and_placed() {
        assert_eq!(refused("{\n  \"wait\": tru }").0, 400);
        assert!(refused("{\n  \"wait\": tru }").1.starts_with("Line 2, column "));
        assert_eq!(refused("").0, 400);
        assert_eq!(refused("{\"wait\": true, \"numbers\": []} x").0, 400);
        let (status, detail, _) = refused("{\"wiat\": true}");
        assert_eq!(status, 400);
        assert!(detail.contains("wiat") && detail.contains("`wait`"), "{detail}");
        assert_eq!(refused("{\"wait\": true, \"wait\": true}").0, 400);
        assert_eq!(refused("{\"wait\": \"yes\", \"numbers\": []}"), {
            let detail = "wait: invalid type: string \"yes\", expected a boolean".to_owned();
            (422, detail, vec!["wait".to_owned()])
        });
        assert_eq!(refused("{\"wait\": true, \"numbers\": [1, 300]}").2, ["numbers[1]"]);
        assert_eq!(refused("{\"wait\": true}").2, ["numbers"]);
        for no_object in ["[]", "[true, []]", "7", "null", "\"text\""] {
            assert_eq!(refused(no_object).0, 400, "{no_object}");
        }
        assert_eq!(refused(&"[".repeat(100_000)).0, 400);
        assert_eq!(refused(&"{\"wait\":".repeat(100_000)).0, 422);
    }

    #[test]
    fn a_limit_is_a_number_within_bounds() {
        assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(Some("500")).unwrap(), 500);
        for bad in ["0", "501", "-1", "x", "", "1e2", "99999999999999999999"] {
            assert_eq!(limit(Some(bad)).unwrap_err().status(), 422, "{bad}");
        }
    }
}
