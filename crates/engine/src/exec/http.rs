//! HTTP requests.
//!
//! Redirects are not followed, so that a service cannot send the server where the pipeline's author did not. Link-
//! local addresses, where clouds keep the credentials of a machine, are never reached.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Map, Value, json};
use taskiq_flow_core::definition::{HttpMethod, HttpResponse, HttpSpec};
use taskiq_flow_core::expr::Piece;
use taskiq_flow_core::run::{Failure, Work};
use taskiq_flow_outbound::{Reach, causes};

use super::address;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take whose task has no `timeout`.
const TOTAL: Duration = Duration::from_secs(300);

/// Sends requests.
#[derive(Debug)]
pub(super) struct HttpExecutor {
    client: Client,
    max_body: usize,
}

impl HttpExecutor {
    pub(super) fn new(max_body: usize) -> Result<Self, String> {
        let client = taskiq_flow_outbound::client(Reach::Internal).connect_timeout(CONNECT).build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, max_body })
    }

    pub(super) async fn execute(&self, spec: &HttpSpec, work: &Work) -> Result<Value, Failure> {
        let request = self.request(spec, work)?;
        let failed = |error: reqwest::Error| {
            let code = if error.is_timeout() { "timeout" } else { "http:request" };
            Failure::error(format!("the request failed: {}", causes(&error))).code(code)
        };
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let status = response.status();
        let headers = response.headers().clone();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > self.max_body {
                let message = format!("the answer is longer than {} bytes", self.max_body);
                return Err(Failure::permanent(message).code("output"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = body_of(&headers, &bytes);
        if spec.response == HttpResponse::Full {
            let named = headers.iter().map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()),
                )
            });
            let headers: Map<String, Value> = named.collect();
            return Ok(json!({ "status": status.as_u16(), "headers": headers, "body": body }));
        }
        if status.is_success() { Ok(body) } else { Err(refused(status)) }
    }

    fn request(&self, spec: &HttpSpec, work: &Work) -> Result<reqwest::Request, Failure> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            Failure::permanent(format!("{what}: {error}")).code("input")
        };
        let pieces = spec.url.render_pieces(&work.inputs).map_err(|error| wrong("url", &error))?;
        address::check(&pieces).map_err(|error| wrong("url", &error))?;
        let text: String = pieces.iter().map(Piece::as_str).collect();
        let mut url = Url::parse(&text).map_err(|error| wrong("url", &error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::permanent("url: only http:// and https:// are possible").code("input"));
        }
        Reach::Internal.check(&url).map_err(|error| wrong("url", &error))?;
        for (name, template) in &spec.query {
            let value = template.render(&work.inputs).map_err(|error| wrong(name, &error))?;
            url.query_pairs_mut().append_pair(name, &value);
        }
        let mut request = self.client.request(method(spec.method), url);
        request = request.timeout(work.timeout().unwrap_or(TOTAL));
        for (name, template) in &spec.headers {
            let value = template.render(&work.inputs).map_err(|error| wrong(name, &error))?;
            request = request.header(name, value);
        }
        if let Some(expr) = &spec.json {
            let value = expr.evaluate(&work.inputs).map_err(|error| wrong("json", &error))?;
            request = request.json(&value);
        }
        request.build().map_err(|error| wrong("the request cannot be made", &causes(&error)))
    }
}

/// The body as a value: parsed when it says that it is JSON, else its text; none is null.
fn body_of(headers: &reqwest::header::HeaderMap, bytes: &[u8]) -> Value {
    let kind =
        headers.get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if bytes.is_empty() {
        return Value::Null;
    }
    let json = media == "application/json" || media.ends_with("+json");
    let parsed = json.then(|| serde_json::from_slice(bytes).ok()).flatten();
    parsed.unwrap_or_else(|| Value::from(String::from_utf8_lossy(bytes).into_owned()))
}

/// Answers that say «later» are worth another attempt, those that say «wrong» are not.
fn refused(status: StatusCode) -> Failure {
    let message = format!("the service answered {status}");
    let later = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let failure = if later { Failure::error(message) } else { Failure::permanent(message) };
    failure.code(format!("http:{}", status.as_u16()))
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}
