//! One request to a webhook: signed, bounded in time, following no redirect.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::Sha256;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_outbound::causes;
use uuid::Uuid;

use super::definition::Webhook;

/// The id of the delivery, the same each time it is tried.
const DELIVERY: &str = "x-taskiq-flow-delivery";
/// The type of the event.
const EVENT: &str = "x-taskiq-flow-event";
/// When it was sent, and the signature.
const SIGNATURE: &str = "x-taskiq-flow-signature";

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read, so that its connection can be used again. They are looked at by nobody.
const READ: u64 = 16 << 10;

/// Why a delivery was not taken.
#[derive(Debug)]
pub(super) struct NotTaken {
    /// The status, where there was one.
    pub(super) status: Option<StatusCode>,
    /// Without address, headers and body of either side.
    pub(super) reason: String,
    /// How long the receiver asked to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// The client of a webhook.
pub(super) fn client(webhook: &Webhook) -> Result<Client, String> {
    let client = taskiq_flow_outbound::client(webhook.reach)
        .connect_timeout(CONNECT.min(webhook.timeout))
        .timeout(webhook.timeout)
        .pool_idle_timeout(Duration::from_secs(60));
    client.build().map_err(|error| causes(&error))
}

/// Sends an event. It has been taken when the receiver answers with a status from 200 to 299.
pub(super) async fn send(
    client: &Client,
    webhook: &Webhook,
    id: Uuid,
    event: &Value,
    now: Timestamp,
) -> Result<StatusCode, NotTaken> {
    let body = json!({ "id": id, "webhook": webhook.name, "event": event }).to_string();
    let mut headers = webhook.headers.clone();
    own_headers(&mut headers, webhook, id, event, now, &body);
    let request = client.post(webhook.url.clone()).headers(headers).body(body);
    let response = request.send().await.map_err(|error| NotTaken {
        status: None,
        reason: format!("the request failed: {}", causes(&error)),
        retry_after: None,
    })?;
    let status = response.status();
    if status.is_success() {
        discard(response).await;
        return Ok(status);
    }
    let follows = if status.is_redirection() { "; redirects are not followed" } else { "" };
    let retry_after = retry_after(response.headers());
    Err(NotTaken {
        status: Some(status),
        reason: format!("the receiver answered {status}{follows}"),
        retry_after,
    })
}

fn own_headers(
    headers: &mut HeaderMap,
    webhook: &Webhook,
    id: Uuid,
    event: &Value,
    now: Timestamp,
    body: &str,
) {
    let kind = event["type"].as_str().unwrap_or_default();
    let signature = sign(webhook.secret.expose_secret().as_bytes(), now, body);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("taskiq-flow"));
    for (name, value) in [(DELIVERY, id.to_string()), (EVENT, kind.to_owned()), (SIGNATURE, signature)] {
        // Ids, names of types and hexadecimal digits have no characters that a header may not have.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// `t=<unix seconds>,v1=<hex of HMAC-SHA256 over "t.body">`.
fn sign(secret: &[u8], now: Timestamp, body: &str) -> String {
    let seconds = now.as_millis().div_euclid(1000);
    let digest = match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mut mac) => {
            mac.update(format!("{seconds}.").as_bytes());
            mac.update(body.as_bytes());
            mac.finalize().into_bytes()
        }
        // HMAC takes keys of any length.
        Err(_) => return String::new(),
    };
    format!("t={seconds},v1={}", hex::encode(digest))
}

/// Reads a short answer to its end.
async fn discard(mut response: Response) {
    if response.content_length().is_some_and(|length| length <= READ) {
        while let Ok(Some(_)) = response.chunk().await {}
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf '1492774577.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    #[test]
    fn the_signature_is_that_of_other_tools() {
        let now = Timestamp::from_millis(1_492_774_577_999);
        let signature = sign(b"0123456789abcdef", now, r#"{"a":1}"#);
        assert_eq!(signature, SIGNED);
    }

    const SIGNED: &str = "t=1492774577,v1=eb010c8dacd6d9e8a36ec89f2afa2be5fddad82812adcf504e1bb65c57aa8080";
}
