//! A running server, for the commands that speak to one.

mod stream;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use taskiq_flow::client_identity;
use taskiq_flow::security::audit::escape_controls;
use taskiq_flow_selftest::client::{Client, cause};
use taskiq_flow_selftest::world::Credential;

pub(crate) use self::stream::StreamEnd;
use crate::args::{RemoteArgs, TlsArgs};
use crate::output::Failure;

/// The variable that holds the key.
pub(crate) const KEY_VARIABLE: &str = "TASKIQ_FLOW_API_KEY";
/// Where a client's certificate and its key are named: by options, or else by variables.
const PAIR_OPTIONS: [&str; 2] = ["--client-cert", "--client-key"];
const PAIR_VARIABLES: [&str; 2] = ["TASKIQ_FLOW_CLIENT_CERT", "TASKIQ_FLOW_CLIENT_KEY"];

/// How long a connection may take to be made, and a request to be answered.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
/// How much of a list is asked for at once: as much as there is.
const PAGE: usize = 500;
/// The status of a refusal because of a limit of requests.
const TOO_MANY: u16 = 429;
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
    identity: Option<Identity>,
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
    pub(crate) headers: HeaderMap,
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
        let certificates = args.tls.ca.as_deref().map(authorities).transpose()?;
        let identity = identity(&args.tls)?;
        if let (true, Some((name, _))) = (plain, &identity) {
            return Err(Failure::wrong(format!(
                "{name}: {base} is plain HTTP, where no certificate is shown; write https://, or name no certificate"
            )));
        }
        Ok(Self { base, headers, plain, certificates, identity: identity.map(|(_, identity)| identity) })
    }

    /// Refuses a certificate that makes whoever shows it somebody, for commands that also ask as nobody.
    pub(crate) async fn leads_nobody_in(&self, client: &Client) -> Result<(), Failure> {
        if self.identity.is_none() {
            return Ok(());
        }
        let me = client.ask(&Method::GET, "/me", &Credential::None, None, false).await;
        let me = me.map_err(Failure::failed)?.json();
        if me["type"] != "certificate" {
            return Ok(());
        }
        let id = escape_controls(me["id"].as_str().unwrap_or_default()).into_owned();
        Err(Failure::wrong(format!(
            "{}: the server takes this certificate for a credential of `{id}`, and this command also asks without one; \
             show a certificate that no entry of client_certificates names",
            PAIR_OPTIONS[0]
        )))
    }

    /// A client that keeps to it.
    pub(crate) fn builder(&self) -> reqwest::ClientBuilder {
        let mut builder = reqwest::Client::builder().redirect(Policy::none()).connect_timeout(CONNECT);
        if self.plain {
            // A proxy would see the key.
            builder = builder.no_proxy();
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        match &self.certificates {
            Some(certificates) => builder.tls_certs_only(certificates.iter().cloned()),
            None => builder,
        }
    }
}

impl TlsArgs {
    /// Refuses options where no server is asked. Variables are for whoever needs them.
    pub(crate) fn for_no_server(&self) -> Result<(), Failure> {
        let options =
            [("--ca", &self.ca), (PAIR_OPTIONS[0], &self.client_cert), (PAIR_OPTIONS[1], &self.client_key)];
        match options.into_iter().find(|(_, file)| file.is_some()) {
            Some((option, _)) => {
                Err(Failure::wrong(format!("{option}: no server is asked; name one with --url")))
            }
            None => Ok(()),
        }
    }
}

impl Remote {
    /// The server that was named, with the key of the environment.
    pub(crate) fn new(args: &RemoteArgs) -> Result<Self, Failure> {
        Self::with_key(args, &std::env::var(KEY_VARIABLE).unwrap_or_default())
    }

    /// The server that was named, with this key. An empty one is none: then the client's certificate speaks.
    pub(crate) fn with_key(args: &RemoteArgs, key: &str) -> Result<Self, Failure> {
        let way = Way::to(args)?;
        let mut headers = way.headers.clone();
        if !key.is_empty() {
            let mut value = HeaderValue::from_str(key).map_err(|_| {
                Failure::wrong(format!("{KEY_VARIABLE}: a key has only visible ASCII characters"))
            })?;
            value.set_sensitive(true);
            headers.insert("x-api-key", value);
        } else if way.identity.is_none() {
            return Err(Failure::wrong(format!(
                "{KEY_VARIABLE} is not set: put an API key there (not on the command line, where others can see it), or \
                 name a client certificate that the server takes for a credential (--client-cert, --client-key)"
            )));
        }
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
        self.first_entries(path, &[], field, usize::MAX).await
    }

    /// The first entries of a list, at most `most` of them, page after page.
    pub(crate) async fn first_entries(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        field: &str,
        most: usize,
    ) -> Result<Vec<Value>, Failure> {
        let (mut entries, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let limit = PAGE.min(most - entries.len()).to_string();
            let mut asked = query.to_vec();
            asked.push(("limit", &limit));
            asked.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page = self.send(Method::GET, path, &asked, None).await?.accepted()?;
            if let Value::Array(more) = page[field].take() {
                entries.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(_) if entries.len() >= most => break,
                None => break,
                Some(next) if cursor.as_deref() == Some(next) => {
                    return Err(Failure::failed(format!("{}: the list goes round in circles", self.base)));
                }
                Some(next) => cursor = Some(next.to_owned()),
            }
        }
        entries.truncate(most);
        Ok(entries)
    }

    /// Sends any request; gives whatever the answer is.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut request = self.request(method, path, query);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    /// A request that is yet to be sent.
    pub(crate) fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url)
    }

    /// Sends a request; gives whatever the answer is.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.read(response).await
    }

    /// Reads an answer to its end.
    async fn read(&self, mut response: Response) -> Result<Answer, Failure> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::failed(format!("{}: the answer is too large", self.base)));
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.is_empty() {
            return Ok(Answer { status, headers, body: Value::Null });
        }
        let body = serde_json::from_slice(&bytes).map_err(|_| {
            let what =
                format!("{}: the answer ({status}) is no JSON; is this a TaskIQ-Flow server?", self.base);
            Failure::failed(what)
        })?;
        Ok(Answer { status, headers, body })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let hint = match error.is_connect() {
            true => "; is the server running there? --url names another",
            false => "",
        };
        Failure::failed(format!("{}: no answer: {}{hint}", self.base, cause(error)))
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
        if let Some(help) = self.help() {
            message.push_str(&format!("\n  help: {help}"));
        }
        if let Some(wait) = self.limited() {
            message.push_str(&format!(" ({} s)", wait.as_secs()));
        }
        Err(match self.status {
            400 | 422 => Failure::wrong(message),
            _ => Failure::failed(message),
        })
    }
}

impl Answer {
    /// How long to wait before the same is asked again, where the server limits how often it is asked.
    pub(crate) fn limited(&self) -> Option<Duration> {
        let said = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        (self.status == TOO_MANY).then(|| Duration::from_secs(said.unwrap_or(1)))
    }

    /// What somebody at a command line can do about a refusal: the detail speaks to those who send requests.
    fn help(&self) -> Option<String> {
        let kind = self.body["type"].as_str()?.rsplit('/').next()?;
        match kind {
            "missing-credential" | "invalid-key" => Some(format!(
                "put a key of this server into {KEY_VARIABLE}; `taskiq-flow key create` makes one, for an administrator"
            )),
            "forbidden" => Some(
                "`taskiq-flow security explain --key-id ID --permission … --pipeline … --url …` tells an administrator why"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, Failure> {
    let place = file.display();
    let pem = std::fs::read(file).map_err(|error| Failure::wrong(format!("--ca {place}: {error}")))?;
    let wrong = |error| Failure::wrong(format!("--ca {place}: no certificates in PEM: {error}"));
    let certificates = Certificate::from_pem_bundle(&pem).map_err(wrong)?;
    if certificates.is_empty() {
        return Err(Failure::wrong(format!(
            "--ca {place}: it has no certificate (`-----BEGIN CERTIFICATE-----`); name a PEM file of the authority's, or \
             of a self-signed one itself"
        )));
    }
    Ok(certificates)
}

/// The certificate that options or else variables name, and what names it.
fn identity(args: &TlsArgs) -> Result<Option<(&'static str, Identity)>, Failure> {
    let (names, files) = match (&args.client_cert, &args.client_key) {
        (None, None) => (PAIR_VARIABLES, PAIR_VARIABLES.map(variable)),
        (certificate, key) => (PAIR_OPTIONS, [certificate.clone(), key.clone()]),
    };
    let [certificate, key] = match files {
        [Some(certificate), Some(key)] => [certificate, key],
        [None, None] => return Ok(None),
        [certificate, _] => {
            let [there, missing] = if certificate.is_some() { names } else { [names[1], names[0]] };
            let what = format!("{there} is set and {missing} is not: name the certificate and its key");
            return Err(Failure::wrong(what));
        }
    };
    let pem = client_identity(names, &certificate, &key).map_err(Failure::wrong)?;
    let wrong = |error| Failure::wrong(format!("{} {}: {error}", names[0], certificate.display()));
    Ok(Some((names[0], Identity::from_pem(pem.expose_secret()).map_err(wrong)?)))
}

/// What a variable names; an empty one names nothing.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
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
        RemoteArgs { url: url.to_owned(), allow_plain_http: false, tls: TlsArgs::default() }
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
        assert!(Remote::with_key(&args("https://flow.example.com"), "").is_err(), "no credential at all");
        let shown = format!("{:?}", Remote::with_key(&args("http://127.0.0.1"), "secret-key").unwrap());
        assert!(!shown.contains("secret-key"), "{shown}");
    }

    #[test]
    fn a_problem_is_told_with_its_fields() {
        let answer = |status: u16, body: Value| Answer { status, headers: HeaderMap::new(), body }.accepted();
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
