//! A running server, for the commands that speak to one.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, Url};
use serde_json::Value;
use taskiq_flow::security::audit::escape_controls;
use taskiq_flow_selftest::client::cause;

use crate::args::RemoteArgs;
use crate::output::Failure;

/// The variable that holds the key.
pub(crate) const KEY_VARIABLE: &str = "TASKIQ_FLOW_API_KEY";

/// How long a connection may take to be made, and a request to be answered.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
/// How much of a list is asked for at once: as much as there is.
const PAGE: &str = "500";
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// The way to a server, on which a key may go.
#[derive(Debug)]
pub(crate) struct Way {
    /// Its address.
    pub(crate) base: Url,
    /// What every request carries.
    pub(crate) headers: HeaderMap,
    plain: bool,
    certificates: Option<Vec<Certificate>>,
}

/// Sends requests with a key to one server. It follows no redirect.
#[derive(Debug)]
pub(crate) struct Remote {
    http: reqwest::Client,
    base: Url,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body; null when there is none.
    pub(crate) body: Value,
}

impl Way {
    /// To the server that was named.
    pub(crate) fn to(args: &RemoteArgs) -> Result<Self, Failure> {
        let base = base(&args.url)?;
        let here = is_loopback(&base);
        let plain = base.scheme() == "http";
        if plain && !here && !args.allow_plain_http {
            return Err(Failure::wrong(format!(
                "--url: {base} is plain HTTP to another machine, on which anybody could read the key; write https://, or \
                 --allow-plain-http where the network is yours alone"
            )));
        }
        let mut headers = HeaderMap::new();
        if plain && here {
            // Nothing leaves this machine: what a proxy that ends TLS here would say, and the server takes from the
            // loopback unless its `trusted_proxies` say otherwise.
            headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        }
        let certificates = match &args.ca {
            Some(file) => {
                let place = file.display();
                let pem =
                    std::fs::read(file).map_err(|error| Failure::wrong(format!("--ca {place}: {error}")))?;
                let wrong = |error| Failure::wrong(format!("--ca {place}: no certificates in PEM: {error}"));
                let certificates = Certificate::from_pem_bundle(&pem).map_err(wrong)?;
                if certificates.is_empty() {
                    return Err(Failure::wrong(format!(
                        "--ca {place}: it has no certificate (`-----BEGIN CERTIFICATE-----`); name a PEM file of the \
                         authority's, or of a self-signed one itself"
                    )));
                }
                Some(certificates)
            }
            None => None,
        };
        Ok(Self { base, headers, plain, certificates })
    }

    /// A client that keeps to it.
    pub(crate) fn builder(&self) -> reqwest::ClientBuilder {
        let mut builder = reqwest::Client::builder().redirect(Policy::none()).connect_timeout(CONNECT);
        if self.plain {
            // A proxy would see the key.
            builder = builder.no_proxy();
        }
        match &self.certificates {
            Some(certificates) => builder.tls_certs_only(certificates.iter().cloned()),
            None => builder,
        }
    }
}

impl Remote {
    /// The server that was named, with the key of the environment.
    pub(crate) fn new(args: &RemoteArgs) -> Result<Self, Failure> {
        let key = std::env::var(KEY_VARIABLE).unwrap_or_default();
        if key.is_empty() {
            return Err(Failure::wrong(format!(
                "{KEY_VARIABLE} is not set: put an API key there (not on the command line, where others can see it)"
            )));
        }
        Self::with_key(args, &key)
    }

    /// The server that was named, with this key.
    pub(crate) fn with_key(args: &RemoteArgs, key: &str) -> Result<Self, Failure> {
        let way = Way::to(args)?;
        let mut headers = way.headers.clone();
        let mut value = HeaderValue::from_str(key).map_err(|_| {
            Failure::wrong(format!("{KEY_VARIABLE}: a key has only visible ASCII characters"))
        })?;
        value.set_sensitive(true);
        headers.insert("x-api-key", value);
        let http = way.builder().default_headers(headers).timeout(ANSWER).build().map_err(Failure::failed)?;
        Ok(Self { http, base: way.base })
    }

    /// Asks for something; gives the body of an answer that is no error. `path` is a list of segments, of any characters.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.send(method, path, &[], body).await?.accepted()
    }

    /// All entries of a list, page after page; `field` is what the list is called in the answers.
    pub(crate) async fn entries(&self, path: &[&str], field: &str) -> Result<Vec<Value>, Failure> {
        let (mut entries, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let query = [("limit", PAGE), ("cursor", cursor.as_deref().unwrap_or_default())];
            let query = if cursor.is_some() { &query[..] } else { &query[..1] };
            let mut page = self.send(Method::GET, path, query, None).await?.accepted()?;
            if let Value::Array(more) = page[field].take() {
                entries.extend(more);
            }
            match page["next_cursor"].as_str() {
                None => return Ok(entries),
                Some(next) if cursor.as_deref() == Some(next) => {
                    return Err(Failure::failed(format!("{}: the list goes round in circles", self.base)));
                }
                Some(next) => cursor = Some(next.to_owned()),
            }
        }
    }

    /// Sends any request; gives whatever the answer is.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::failed(format!("{}: the answer is too large", self.base)));
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.is_empty() {
            return Ok(Answer { status, body: Value::Null });
        }
        let body = serde_json::from_slice(&bytes).map_err(|_| {
            let what =
                format!("{}: the answer ({status}) is no JSON; is this a TaskIQ-Flow server?", self.base);
            Failure::failed(what)
        })?;
        Ok(Answer { status, body })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::failed(format!("{}: no answer: {}", self.base, cause(error)))
    }
}

impl Answer {
    /// The body, or what the problem says.
    pub(crate) fn accepted(self) -> Result<Value, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let text = |field: &str| escape_controls(self.body[field].as_str().unwrap_or_default()).into_owned();
        let mut message =
            format!("the server answered {} {}: {}", self.status, text("title"), text("detail"));
        for error in self.body["errors"].as_array().into_iter().flatten() {
            let part = |field: &str| escape_controls(error[field].as_str().unwrap_or_default()).into_owned();
            let told = format!("{}: {}", part("field"), part("message"));
            // One mistake alone is the detail already.
            if told != text("detail") {
                message.push_str(&format!("\n  {told}"));
            }
            if error["help"].is_string() {
                message.push_str(&format!("\n  help: {}", part("help")));
            }
        }
        Err(match self.status {
            400 | 422 => Failure::wrong(message),
            _ => Failure::failed(message),
        })
    }
}

fn base(text: &str) -> Result<Url, Failure> {
    let wrong =
        |what: &str| Failure::wrong(format!("--url: {what}; write one such as https://flow.example.com"));
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it is no http(s) address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a password stands in it, where it would be shown"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str) -> RemoteArgs {
        RemoteArgs { url: url.to_owned(), allow_plain_http: false, ca: None }
    }

    #[test]
    fn a_key_leaves_this_machine_by_tls_alone() {
        for (url, allowed) in [
            ("http://127.0.0.1:8000", true),
            ("http://[::1]:8000/base/", true),
            ("http://localhost", true),
            ("https://flow.example.com", true),
            ("http://flow.example.com", false),
            ("http://192.0.2.1", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("https://user:pass@flow.example.com", false),
            ("ftp://flow.example.com", false),
            ("flow.example.com", false),
            ("https://flow.example.com?x=1", false),
        ] {
            let remote = Remote::with_key(&args(url), "k");
            assert_eq!(remote.is_ok(), allowed, "{url}");
            if let Err(failure) = remote {
                assert!(!failure.message.contains("pass@"), "{}", failure.message);
            }
        }
        let openly = RemoteArgs { allow_plain_http: true, ..args("http://flow.example.com") };
        assert!(Remote::with_key(&openly, "k").is_ok());
        assert!(Remote::with_key(&args("http://127.0.0.1"), "k\n").is_err());
        let shown = format!("{:?}", Remote::with_key(&args("http://127.0.0.1"), "secret-key").unwrap());
        assert!(!shown.contains("secret-key"), "{shown}");
    }

    #[test]
    fn a_problem_is_told_with_its_fields() {
        let answer = |status: u16, body: Value| Answer { status, body }.accepted();
        assert_eq!(answer(200, Value::from(1)).unwrap(), Value::from(1));
        let problem = serde_json::json!({
            "title": "Invalid request", "detail": "2 fields\u{1b}[2J",
            "errors": [{"field": "id", "message": "is taken"}],
        });
        let failure = answer(422, problem).unwrap_err();
        assert!(failure.message.contains("422 Invalid request") && failure.message.contains("id: is taken"));
        assert!(!failure.message.contains('\u{1b}'), "{}", failure.message);
        assert_eq!(format!("{:?}", failure.code), format!("{:?}", std::process::ExitCode::from(2)));
        let alone = serde_json::json!({
            "title": "Invalid request", "detail": "id: is taken",
            "errors": [{"field": "id", "message": "is taken", "help": "choose another"}],
        });
        assert_eq!(
            answer(422, alone).unwrap_err().message,
            "the server answered 422 Invalid request: id: is taken\n  help: choose another"
        );
        let denied = answer(403, Value::Null).unwrap_err();
        assert_eq!(format!("{:?}", denied.code), format!("{:?}", std::process::ExitCode::from(1)));
    }
}
