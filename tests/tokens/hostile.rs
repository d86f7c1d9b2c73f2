//! Every hostile token is answered 401, all of them alike, and hurts nobody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use taskiq_flow_testkit::signing::SigningKey;
use taskiq_flow_testkit::{Issuer, Reply, Server, jwt};

use crate::support::*;

const ISSUER: &str = "https://idp.example";

/// A server that trusts a shared secret, a public key and an issuer that publishes its keys.
async fn target() -> (Server, Issuer) {
    let issuer = Issuer::start(&[key("RS256"), key("EdDSA")]).await;
    let public = json!([{ "algorithm": "ES256", "kid": "ES256", "pem": key("ES256").public_pem() }]);
    let issuers = json!([{ "issuer": ISSUER, "audiences": ["flow"], "jwks_url": issuer.url() }]);
    let server = server()
        .env("TASKIQ_FLOW_JWT_SECRET", SECRET)
        .env("TASKIQ_FLOW_JWT_PUBLIC_KEYS", public.to_string())
        .env("TASKIQ_FLOW_JWT_ISSUERS", issuers.to_string())
        .start()
        .await;
    (server, issuer)
}

fn named(kid: &str, alg: &str) -> Value {
    json!({ "alg": alg, "kid": kid })
}

/// What is wrong with each, and the token.
fn hostile() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| all.push((what.to_owned(), token));
    let good = jwt::hs256(SECRET, &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let issued = with(json!({ "iss": ISSUER, "aud": "flow" }));

    for alg in
        ["none", "None", "nOnE", "NONE", "", "hs256", "HS384", "HS512", "ES512", "ES256K", "RSA1_5", "dir"]
    {
        let header = json!({ "alg": alg, "typ": "JWT" });
        add(&format!("alg {alg}, unsigned"), jwt::unsigned(&header, &claims()));
        add(&format!("alg {alg}, signed"), jwt::signed(SECRET, &header, &claims()));
    }
    for name in ["RS256", "ES256", "EdDSA"] {
        let public = key(name);
        for secret in [public.public_pem(), public.jwk().to_string()] {
            let header = json!({ "alg": "HS256", "kid": name });
            add(&format!("{name}: public key as secret"), jwt::signed(&secret, &header, &claims()));
        }
        add(&format!("{name}: HMAC under its name"), jwt::signed(SECRET, &named(name, name), &issued));
        let forger = SigningKey::generate(name, name);
        add(&format!("{name}: another key under its name"), forger.token(&issued));
        let embedded = json!({ "alg": name, "kid": name, "jwk": forger.jwk() });
        add(&format!("{name}: key in the token"), forger.signed(&embedded.to_string(), &issued));
        let remote = json!({ "alg": name, "kid": name, "jku": "http://127.0.0.1:9/jwks.json", "x5u": "file:///etc/passwd" });
        add(&format!("{name}: key elsewhere"), forger.signed(&remote.to_string(), &issued));
        let (message, signature) =
            public.token(&issued).rsplit_once('.').map(|(m, s)| (m.to_owned(), s.to_owned())).unwrap();
        let zeros = URL_SAFE_NO_PAD.encode(vec![0; URL_SAFE_NO_PAD.decode(signature).unwrap().len()]);
        add(&format!("{name}: a signature of zeros"), format!("{message}.{zeros}"));
        add(&format!("{name}: no signature"), format!("{message}."));
    }
    add("RS256 as PS256", key("RS256").signed(&named("RS256", "PS256").to_string(), &issued));
    add("RS256 as RS512", key("RS256").signed(&named("RS256", "RS512").to_string(), &issued));
    add("an issuer's name with the shared secret", jwt::hs256(SECRET, &issued));
    add("an issuer's name with another key", key("ES256").token(&issued));
    add("an issuer's key without its name", key("RS256").token(&with(json!({ "aud": "flow" }))));
    add(
        "an issuer's key for another audience",
        key("RS256").token(&with(json!({ "iss": ISSUER, "aud": "x" }))),
    );
    add("an issuer's key without audience", key("RS256").token(&with(json!({ "iss": ISSUER }))));
    add("an audience that nobody configured", jwt::hs256(SECRET, &with(json!({ "aud": "flow" }))));

    for kid in
        ["../../../etc/passwd", "' OR 1=1 --", "http://169.254.169.254/", "${jndi:ldap://x}", "\u{0}", "k\nk"]
    {
        add(&format!("kid {kid:?}"), key("RS256").signed(&named(kid, "RS256").to_string(), &issued));
    }
    let header_texts = [
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#.to_owned(),
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#.to_owned(),
        r#"{"alg":"HS256","zip":"DEF"}"#.to_owned(),
        r#"{"alg":"HS256","enc":"A256GCM"}"#.to_owned(),
        r#"{"alg":"HS256","typ":"logout+jwt"}"#.to_owned(),
        r#"{"alg":"HS256","typ":"dpop+jwt"}"#.to_owned(),
        r#"{"alg":"none","alg":"HS256"}"#.to_owned(),
        r#"{"alg":["HS256"]}"#.to_owned(),
        r#"{"alg":"HS256","kid":{}}"#.to_owned(),
        r#"{"typ":"JWT"}"#.to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(400), "]".repeat(400)),
        format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(1000)),
    ];
    for text in header_texts {
        add(&format!("header {text:.60}"), jwt::signed_text(SECRET, &text, &claims().to_string()));
    }
    let exp = claims()["exp"].clone();
    for changes in [
        json!({ "exp": null }),
        json!({ "exp": 0 }),
        json!({ "exp": -1 }),
        json!({ "exp": exp.to_string() }),
        json!({ "exp": 1e300 }),
        json!({ "exp": u64::MAX }),
        json!({ "exp": [exp] }),
        json!({ "exp": true }),
        json!({ "nbf": exp }),
        json!({ "nbf": "0" }),
        json!({ "iat": exp }),
        json!({ "iat": -1 }),
        json!({ "iat": {} }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": 7 }),
        json!({ "sub": "a\r\nX-Evil: 1" }),
        json!({ "sub": "a".repeat(300) }),
        json!({ "roles": null }),
        json!({ "roles": "admin" }),
        json!({ "roles": [7] }),
        json!({ "roles": [["admin"]] }),
        json!({ "roles": {"admin": true} }),
        json!({ "iss": ["a"] }),
        json!({ "aud": 7 }),
        json!({ "jti": 7 }),
    ] {
        add(&format!("claims {changes:.60}"), jwt::hs256(SECRET, &with(changes)));
    }
    let head = r#"{"alg":"HS256"}"#;
    for text in [
        format!(r#"{{"sub":"ada","sub":"root","roles":["admin"],"exp":{exp}}}"#),
        format!(r#"{{"sub":"ada","roles":[],"roles":["admin"],"exp":{exp}}}"#),
        format!(r#"{{"sub":"ada","roles":["admin"],"exp":1,"exp":{exp}}}"#),
        format!(r#"{{"sub":"ada","roles":["admin"],"exp":{exp}}}x"#),
        r#"{"sub":"ada","roles":["admin"],"exp":NaN}"#.to_owned(),
        "null".to_owned(),
        "\u{feff}{}".to_owned(),
        format!(r#"{{"sub":"ada","roles":{}{},"exp":{exp}}}"#, "[".repeat(400), "]".repeat(400)),
    ] {
        add(&format!("claims {text:.60}"), jwt::signed_text(SECRET, head, &text));
    }

    for token in [
        "x".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        format!("{message}."),
        message.to_owned(),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!("{header}.{body}.{}", &signature[..10]),
        format!("{header}.{body}.{signature}A"),
        format!(
            "{header}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(with(json!({ "sub": "root" })).to_string())
        ),
        format!("{header}+/.{body}.{signature}"),
        format!(r#"{{"protected":"{header}","payload":"{body}","signature":"{signature}"}}"#),
        good.replace('.', ":"),
        jwt::hs256("another secret of thirty-two bytes..", &claims()),
        jwt::hs256(SECRET, &with(json!({ "x": "y".repeat(9000) }))),
        format!("{}.{}.{}.{}.{}", header, body, signature, body, signature),
        jwt::hs256(SECRET, &json!(good)),
    ] {
        add(&format!("form {token:.50}"), token);
    }
    all
}

/// What a client may know of a refusal, without what differs from request to request.
fn face(reply: &Reply) -> Value {
    let mut body = reply.json();
    let id = body.as_object_mut().unwrap().remove("request_id");
    assert!(id.is_some_and(|id| id.is_string()), "{}", reply.text());
    let mut headers: Vec<&str> = reply.headers.keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    json!({ "body": body, "headers": headers, "challenge": reply.header("WWW-Authenticate"), "type": reply.header("Content-Type") })
}

#[tokio::test]
async fn every_hostile_token_is_answered_alike_and_hurts_nobody() {
    let (server, issuer) = target().await;
    // The good ones pass, so that the bad ones are bad for what is wrong with them.
    let issued = with(json!({ "iss": ISSUER, "aud": "flow" }));
    let good = [
        jwt::hs256(SECRET, &claims()),
        key("ES256").token(&claims()),
        key("RS256").token(&issued),
        key("EdDSA").token(&issued),
    ];
    for token in &good {
        assert_eq!(status(&server, token).await, 200, "{token}");
    }
    let tokens = hostile();
    assert!(tokens.len() > 100, "{}", tokens.len());
    let mut faces = Vec::new();
    for (what, token) in &tokens {
        let reply = server.client().token(token).get("/pipelines").await;
        assert_eq!(reply.status, 401, "{what}: {}", reply.text());
        assert!(
            reply.header("WWW-Authenticate").contains("Bearer")
                && reply.header("WWW-Authenticate").contains("error=\"invalid_token\""),
            "{what}"
        );
        let face = face(&reply);
        assert!(faces.is_empty() || faces[0] == face, "{what}: {face:#} is not {:#}", faces[0]);
        faces.push(face);
    }
    // In the first message of a socket they are refused too; there, what does not look like a token is an unknown key.
    for (what, token) in tokens.iter().step_by(9) {
        let mut socket = server.socket("/ws", &[]).await.unwrap();
        socket.send(&json!({ "type": "connect", "auth": token })).await;
        let answer = socket.recv().await;
        assert_eq!(answer["type"], "error", "{what}: {answer}");
        assert!(
            ["invalid-token", "invalid-key"].contains(&answer["code"].as_str().unwrap()),
            "{what}: {answer}"
        );
    }
    for token in &good {
        assert_eq!(status(&server, token).await, 200, "{token}");
    }
    assert!(issuer.asked() <= 4, "the issuer was asked {} times", issuer.asked());
    assert!(issuer.paths().iter().all(|path| path == "/jwks.json"), "{:?}", issuer.paths());
    let (stderr, audit) = (server.stderr(), server.audit());
    assert!(!stderr.contains("panicked"), "{stderr}");
    for (what, token) in tokens.iter().filter(|(_, token)| token.len() > 40) {
        assert!(!stderr.contains(token.as_str()) && !audit.contains(token.as_str()), "{what} was logged");
    }
}
