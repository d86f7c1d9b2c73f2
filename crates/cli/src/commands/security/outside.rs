//! Asking a running server what anybody outside could ask it.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use taskiq_flow::posture::outside::{FOREIGN_ORIGIN, Guesses, Outside, Seen, WHO};
use taskiq_flow::security::api_key;
use taskiq_flow::security::audit::escape_controls;
use taskiq_flow_selftest::client::{Answer, Client, Incoming};
use taskiq_flow_selftest::world::Credential;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::args::RemoteArgs;
use crate::output::{Failure, note};
use crate::remote::Way;

/// How many keys are tried: more than any sensible limit allows in the moment that it takes.
const TRIES: u32 = 60;
/// How long something may take that perhaps nobody answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a socket is listened to. One that is let in is told so at once.
const LISTEN: Duration = Duration::from_millis(500);
/// As much of a body as is looked at, in bytes.
const BODY: usize = 64 << 10;

/// What answers say whether this is such a server.
const HEALTH: &str = "/health";
/// What else is asked for: pages and answers of every kind, and paths that nobody has.
const PATHS: [&str; 7] =
    ["/me", "/ui/", "/docs", "/openapi.json", "/metrics", "/no-such-path", "/pipelines/%ff"];

/// Asks everything. The guesses come last: after them the server may refuse this address for a while.
pub(super) async fn look(args: &RemoteArgs, guess: bool) -> Result<Outside, Failure> {
    let way = Way::to(args)?;
    let client = client(&way, &way.headers)?;
    let mut seen = Outside::default();
    let health = ask(&client, &Method::GET, HEALTH)
        .await
        .map_err(|failure| Failure { message: format!("{}: {}", way.base, failure.message), ..failure })?;
    if health.json()["status"] != "healthy" {
        let what =
            format!("{}: {HEALTH} is answered {}; is this a TaskIQ-Flow server?", way.base, health.status);
        return Err(Failure::failed(what));
    }
    seen.answers.push(seen_of(&Method::GET, HEALTH, &health));
    way.leads_nobody_in(&client).await?;
    for (method, path) in PATHS.map(|path| (Method::GET, path)).into_iter().chain([(Method::TRACE, "/me")]) {
        let answer = ask(&client, &method, path).await?;
        if answer.status == 400 && path == "/me" && method == Method::GET {
            // Nothing is wrong with the question: it is the connection, such as a plain one to a port of TLS, and every
            // further answer would say the same.
            let detail = escape_controls(answer.json()["detail"].as_str().unwrap_or_default()).into_owned();
            return Err(Failure::wrong(format!("--url: {} answers {WHO} with 400: {detail}", way.base)));
        }
        seen.answers.push(seen_of(&method, path, &answer));
    }
    let mut foreign = way.headers.clone();
    foreign.insert("origin", HeaderValue::from_static(FOREIGN_ORIGIN));
    let answer = ask(&self::client(&way, &foreign)?, &Method::GET, HEALTH).await?;
    seen.foreign = Some(seen_of(&Method::GET, HEALTH, &answer));
    seen.plain = in_the_clear(&way.base).await;
    if way.base.scheme() == "https" {
        seen.old_tls = old_versions(&way.base).await;
    }
    seen.anonymous_socket = is_let_in(&client).await?;
    if guess {
        note(format!("trying up to {TRIES} made-up keys"));
        seen.guesses = guesses(&client).await?;
    }
    Ok(seen)
}

fn client(way: &Way, headers: &HeaderMap) -> Result<Client, Failure> {
    Client::new(way.base.as_str(), headers.clone(), || way.builder()).map_err(Failure::wrong)
}

async fn ask(client: &Client, method: &Method, path: &str) -> Result<Answer, Failure> {
    let answer = client.ask(method, path, &Credential::None, None, false).await.map_err(Failure::failed)?;
    match answer.retry_after() {
        Some(wait) => {
            let seconds = wait.as_secs();
            Err(Failure::failed(format!("the server limits requests from here; try again in {seconds} s")))
        }
        None => Ok(answer),
    }
}

fn seen_of(method: &Method, path: &str, answer: &Answer) -> Seen {
    Seen {
        request: format!("{method} {path}"),
        status: answer.status,
        headers: texts(&answer.headers),
        body: String::from_utf8_lossy(&answer.body[..answer.body.len().min(BODY)]).into_owned(),
    }
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The answer of whoever answers in the clear: on port 80 beside a server on 443, else on the same port.
async fn in_the_clear(base: &Url) -> Option<Seen> {
    let mut url = base.clone();
    // An address without a port has that of its scheme, and now the other's.
    url.set_scheme("http").ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().push("me");
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let http = http.connect_timeout(PATIENCE).timeout(PATIENCE).build().ok()?;
    let answer = http.get(url).send().await.ok()?;
    Some(Seen {
        request: WHO.to_owned(),
        status: answer.status().as_u16(),
        headers: texts(answer.headers()),
        body: String::new(),
    })
}

/// Whether a socket is let in without a credential.
async fn is_let_in(client: &Client) -> Result<bool, Failure> {
    match client.open("/ws", &Credential::None).await.map_err(Failure::failed)? {
        Ok(mut socket) => {
            let said = socket.next(LISTEN).await;
            socket.close().await;
            Ok(matches!(said, Incoming::Message(message) if message["type"] == "connected"))
        }
        Err(_) => Ok(false),
    }
}

/// Tries made-up keys until the server looks at no more.
async fn guesses(client: &Client) -> Result<Guesses, Failure> {
    for tries in 0..TRIES {
        let key = api_key::generate("guess").map_err(Failure::failed)?;
        let key = Credential::Key(key.expose_secret().to_owned());
        let answer = client.ask(&Method::GET, "/me", &key, None, false).await.map_err(Failure::failed)?;
        if answer.status == 429 {
            return Ok(Guesses::LimitedAfter(tries));
        }
    }
    Ok(Guesses::Unlimited(TRIES))
}

/// Which versions before TLS 1.2 the server goes on with. No library here speaks them; the first message of one does.
async fn old_versions(base: &Url) -> Vec<&'static str> {
    let mut spoken = Vec::new();
    for (name, version) in [("TLS 1.0", 0x0301_u16), ("TLS 1.1", 0x0302)] {
        for address in addresses(base).await {
            // Whoever hangs up or says nothing does not go on either.
            if let Ok(Ok(goes_on)) = tokio::time::timeout(PATIENCE, goes_on(address, version)).await {
                if goes_on {
                    spoken.push(name);
                }
                break;
            }
        }
    }
    spoken
}

async fn addresses(base: &Url) -> Vec<SocketAddr> {
    let host = base.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = base.port_or_known_default().unwrap_or(443);
    tokio::net::lookup_host((host, port)).await.map_or_else(|_| Vec::new(), Iterator::collect)
}

/// Whether the server answers a hello of this version, and no later one, with a hello of its own.
async fn goes_on(address: SocketAddr, version: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&hello(version)).await?;
    // Type, version and length of the record; then the type of the message: a handshake's ServerHello, or an alert.
    let mut start = [0; 6];
    stream.read_exact(&mut start).await?;
    Ok((start[0], start[5]) == (22, 2))
}

/// A ClientHello (RFC 4346 section 7.4.1.2), with what servers of those days spoke.
fn hello(version: u16) -> Vec<u8> {
    let suites: [u16; 8] = [0xc009, 0xc00a, 0xc013, 0xc014, 0x0033, 0x0039, 0x002f, 0x0035];
    // Groups secp256r1, secp384r1 and x25519; uncompressed points.
    let extensions = [0, 10, 0, 8, 0, 6, 0, 23, 0, 24, 0, 29, 0, 11, 0, 2, 1, 0];
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(counted(&suites.map(u16::to_be_bytes).concat()));
    body.extend([1, 0]);
    body.extend(counted(&extensions));
    let mut message = vec![1, 0];
    message.extend(counted(&body));
    let mut record = vec![22];
    record.extend(version.to_be_bytes());
    record.extend(counted(&message));
    record
}

/// The bytes behind their number, which is far below 65,536 here.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one hello with these bytes; gives what came of it, and the hello.
    async fn answering(bytes: &'static [u8], version: u16) -> (std::io::Result<bool>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut came = vec![0; hello(version).len()];
            stream.read_exact(&mut came).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            came
        });
        (goes_on(address, version).await, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_hello_is_told_from_an_alert() {
        let (spoken, came) = answering(&[22, 3, 2, 0, 90, 2, 0, 0, 86], 0x0302).await;
        assert!(spoken.unwrap());
        assert_eq!((&came[..3], came.len()), (&[22, 3, 2][..], usize::from(came[4]) + 5));
        let (spoken, _) = answering(&[21, 3, 1, 0, 2, 2, 70], 0x0301).await;
        assert!(!spoken.unwrap());
        assert!(answering(&[], 0x0301).await.0.is_err(), "who hangs up says nothing");
    }
}
