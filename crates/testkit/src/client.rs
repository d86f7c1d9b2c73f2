//! An HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::tls::Pair;

/// The longest a request may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends requests with the same headers to the same server. It follows no redirect and knows no proxy.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    headers: HeaderMap,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The version of HTTP it came by.
    pub version: http::Version,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8000`.
    pub fn new(base: impl Into<String>) -> Self {
        Self::build(base.into(), reqwest::Client::builder())
    }

    /// A client that trusts only this certificate (PEM) and reaches the host of `base` at `address`.
    pub fn tls(base: impl Into<String>, host: &str, address: SocketAddr, certificate: &str) -> Self {
        let certificate = reqwest::Certificate::from_pem(certificate.as_bytes());
        let certificate = certificate.unwrap_or_else(|error| panic!("no certificate: {error}"));
        let builder = reqwest::Client::builder().tls_certs_only([certificate]).resolve(host, address);
        Self::build(base.into(), builder)
    }

    /// As [`Client::tls`], showing a certificate of its own when it is asked for one.
    pub fn mutual_tls(
        base: impl Into<String>,
        address: SocketAddr,
        certificate: &str,
        identity: &Pair,
    ) -> Self {
        let root = reqwest::Certificate::from_pem(certificate.as_bytes());
        let root = root.unwrap_or_else(|error| panic!("no certificate: {error}"));
        let identity = reqwest::Identity::from_pem(identity.both().as_bytes());
        let identity = identity.unwrap_or_else(|error| panic!("no identity: {error}"));
        let builder = reqwest::Client::builder().tls_certs_only([root]).identity(identity);
        Self::build(base.into(), builder.resolve("localhost", address))
    }

    fn build(base: String, builder: reqwest::ClientBuilder) -> Self {
        let builder = builder.no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(LIMIT);
        let http = builder.build().unwrap_or_else(|error| panic!("no HTTP client: {error}"));
        Self { http, base, headers: HeaderMap::new() }
    }

    /// With a header, in place of one of this name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        let value = HeaderValue::try_from(value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
        self.headers.insert(name, value);
        self
    }

    /// With an API key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    /// With a token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// As if a proxy on this machine had passed it on for this address.
    #[must_use]
    pub fn from_ip(self, ip: &str) -> Self {
        self.header("X-Forwarded-For", ip)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    /// GET; none when nobody answers.
    pub async fn try_get(&self, path: &str) -> Option<Reply> {
        read(self.request(Method::GET, path).send().await.ok()?).await.ok()
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    /// POST of a JSON body; none when nobody answers.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Reply> {
        read(self.request(Method::POST, path).json(body).send().await.ok()?).await.ok()
    }

    /// PUT of a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// Any request with a JSON body or none.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let result = match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| panic!("{method} {}{path}: {error:?}", self.base))
    }

    /// Any request with a body of any type.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send_text(&self, method: Method, path: &str, media_type: &str, body: &str) -> Reply {
        let request =
            self.request(method.clone(), path).header("Content-Type", media_type).body(body.to_owned());
        let result = match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| panic!("{method} {}{path}: {error:?}", self.base))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).headers(self.headers.clone())
    }
}

async fn read(response: reqwest::Response) -> Result<Reply, reqwest::Error> {
    let (version, status, headers) =
        (response.version(), response.status().as_u16(), response.headers().clone());
    Ok(Reply { version, status, headers, body: response.bytes().await?.to_vec() })
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| {
            panic!("{} with a body that is no JSON: {error}\n{}", self.status, self.text())
        })
    }

    /// A header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// This answer, if its status is as expected.
    ///
    /// # Panics
    /// When it is another, showing the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}
