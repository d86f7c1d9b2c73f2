//! Keys that an issuer publishes: rotation, outages, and answers that are none.

use std::time::{Duration, Instant};

use serde_json::json;
use taskiq_flow_testkit::signing::SigningKey;
use taskiq_flow_testkit::{Answer, Cli, EventStream, Issuer, Server, ServerBuilder, Socket, until, within};

use crate::support::*;

const SOON: Duration = Duration::from_secs(20);

fn of(issuer: &Issuer) -> ServerBuilder {
    server().env("TASKIQ_FLOW_AUTH_PROVIDER", "api_key").env("TASKIQ_FLOW_JWKS_URL", issuer.url())
}

async fn eventually(server: &Server, token: &str, expected: u16) {
    let seen = until(SOON, async || (status(server, token).await == expected).then_some(()));
    assert!(seen.await.is_some(), "never {expected}:\n{}", server.stderr());
}

async fn ready(server: &Server) -> (u16, String) {
    let reply = server.client().get("/ready").await;
    (reply.status, reply.text())
}

/// The socket is told that its token is no longer good, and closed.
async fn expect_expired(socket: &mut Socket) {
    let told = within(SOON, "the end of the socket", socket.expect("error")).await;
    assert_eq!(told["code"], "credential-expired");
    let (code, _) = socket.expect_close(SOON).await;
    assert_eq!(code, 1008);
}

#[tokio::test]
async fn tokens_of_every_published_key_pass() {
    let keys = ["RS256", "PS256", "ES256", "ES384", "EdDSA"].map(key);
    let issuer = Issuer::start(&keys).await;
    let server = of(&issuer).start().await;
    for key in keys {
        // The first waits for the keys that are on their way.
        assert_eq!(status(&server, &key.token(&claims())).await, 200, "{}", key.algorithm());
    }
    assert_eq!(issuer.asked(), 1);
    assert_eq!(ready(&server).await.0, 200);
    let config = server.client().key("k").get("/security/config").await.expect(200).json();
    assert_eq!(config["jwks_url"], issuer.url());
}

#[tokio::test]
async fn a_dead_issuer_does_not_hold_up_the_start_and_lets_nobody_in() {
    let issuer = Issuer::start(&[]).await;
    issuer.answer(Answer::Status(503, vec![]));
    let server = of(&issuer).start().await;
    let token = key("ES256").token(&claims());
    assert_eq!(status(&server, &token).await, 401);
    let (code, body) = ready(&server).await;
    assert!(code == 503 && body.contains("tokens"), "{code} {body}");
    assert_eq!(server.client().get("/health").await.status, 200);
    assert_eq!(server.client().key("k").get("/pipelines").await.status, 200, "keys need no issuer");
    issuer.publish(&[key("ES256")]);
    eventually(&server, &token, 200).await;
    assert_eq!(ready(&server).await.0, 200);
}

#[tokio::test]
async fn a_rotated_out_key_is_refused_and_its_streams_are_closed() {
    let (old, new) = (key("ES256"), SigningKey::generate("RS256", "new"));
    let issuer = Issuer::start(&[old]).await;
    let server = of(&issuer).start().await;
    let (old_token, new_token) = (old.token(&claims()), new.token(&claims()));
    let started = server.client().token(&old_token).post("/pipelines/waits/execute", &json!({})).await;
    let run = started.expect(202).json()["run_id"].as_str().unwrap().to_owned();
    let mut socket =
        server.socket("/ws", &[("Authorization", &format!("Bearer {old_token}"))]).await.unwrap();
    let mut by_key = server.socket("/ws", &[("X-API-Key", "k")]).await.unwrap();
    socket.expect("connected").await;
    by_key.expect("connected").await;
    let path = format!("/runs/{run}/events");
    let mut stream = EventStream::open(&server.client().token(&old_token), &path, None).await.unwrap();
    assert!(stream.next().await.is_some());

    issuer.publish(&[&new]);
    // The first token of the new key has the keys fetched.
    assert_eq!(status(&server, &new_token).await, 200);
    let began = Instant::now();
    expect_expired(&mut socket).await;
    while stream.next().await.is_some() {}
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(status(&server, &old_token).await, 401);
    by_key.send(&json!({ "type": "ping" })).await;
    by_key.expect("pong").await;
}

#[tokio::test]
async fn a_hundred_unknown_names_at_once_are_one_request() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let server = of(&issuer).start().await;
    assert_eq!(status(&server, &key("ES256").token(&claims())).await, 200);
    let Answer::Body(body, _) = Answer::keys(&[key("ES256")]) else { panic!("a body") };
    issuer.answer(Answer::Late(Duration::from_millis(300), body));
    let forger = SigningKey::generate("ES256", "forged");
    let requests = (0..100).map(|at| {
        let header = json!({ "alg": "ES256", "kid": format!("unknown-{at}") }).to_string();
        let client = server.client().token(&forger.signed(&header, &claims()));
        tokio::spawn(async move { client.get("/pipelines").await.status })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), 401);
    }
    assert_eq!(issuer.asked(), 2, "one at the start, one for all of these");
    // And for the next seconds none at all.
    for at in 0..20 {
        let header = json!({ "alg": "ES256", "kid": format!("more-{at}") }).to_string();
        assert_eq!(status(&server, &forger.signed(&header, &claims())).await, 401);
    }
    assert_eq!(issuer.asked(), 2);
    assert_eq!(status(&server, &key("ES256").token(&claims())).await, 200);
}

#[tokio::test]
async fn keys_last_through_an_outage_until_they_are_too_old() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let server = of(&issuer)
        .env("TASKIQ_FLOW_JWKS_REFRESH_SECONDS", "1")
        .env("TASKIQ_FLOW_JWKS_MAX_AGE_SECONDS", "5")
        .start()
        .await;
    let token = key("ES256").token(&claims());
    assert_eq!(status(&server, &token).await, 200);
    let mut socket = server.socket("/ws", &[("Authorization", &format!("Bearer {token}"))]).await.unwrap();
    socket.expect("connected").await;
    issuer.answer(Answer::Nothing);
    let asked = issuer.asked();
    let tried = until(SOON, async || (issuer.asked() > asked + 1).then_some(()));
    assert!(tried.await.is_some());
    assert_eq!(status(&server, &token).await, 200, "the last keys stay for a while");
    eventually(&server, &token, 401).await;
    expect_expired(&mut socket).await;
    assert_eq!(ready(&server).await.0, 503);
    issuer.publish(&[key("ES256")]);
    let back = until(Duration::from_secs(60), async || (status(&server, &token).await == 200).then_some(()));
    assert!(back.await.is_some(), "{}", server.stderr());
}

#[tokio::test]
async fn answers_that_are_none_let_nobody_in_and_hurt_nobody() {
    let elsewhere = Issuer::start(&[key("ES256")]).await;
    for bad in [
        Answer::Status(302, vec![format!("Location: {}", elsewhere.url())]),
        Answer::Status(500, vec![]),
        Answer::Endless,
        Answer::Late(Duration::from_secs(3600), String::new()),
        Answer::Body("<html>".to_owned(), vec![]),
        Answer::Body(
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"ES256","alg":"HS256"}]}"#.to_owned(),
            vec![],
        ),
    ] {
        let issuer = Issuer::start(&[]).await;
        issuer.answer(bad.clone());
        let server = of(&issuer).start().await;
        let began = Instant::now();
        assert_eq!(status(&server, &key("ES256").token(&claims())).await, 401, "{bad:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{bad:?}");
        assert_eq!(server.client().key("k").get("/pipelines").await.status, 200, "{bad:?}");
        assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
}

#[tokio::test]
async fn keys_survive_a_reload_that_leaves_their_place_alone() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let keys = r#"api_keys."k" = { role = "admin", permissions = ["read", "admin"] }"#;
    let text =
        |leeway: u32| format!("jwks_url = \"{}\"\njwt_leeway_seconds = {leeway}\n{keys}\n", issuer.url());
    let builder = server().without_env("TASKIQ_FLOW_API_KEYS").config_toml(&text(30));
    let file = builder.dir().join("taskiq-flow.test.toml");
    let server = builder.start().await;
    let token = key("ES256").token(&claims());
    assert_eq!(status(&server, &token).await, 200);
    issuer.answer(Answer::Nothing);
    std::fs::write(&file, text(31)).unwrap();
    server.hangup();
    let reloaded = until(SOON, async || {
        let config = server.client().key("k").get("/security/config").await.json();
        (config["jwt_leeway_seconds"] == 31).then_some(())
    });
    assert!(reloaded.await.is_some(), "{}", server.stderr());
    assert_eq!(status(&server, &token).await, 200);
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn addresses_that_must_not_be_reached_are_refused_at_the_start() {
    let cli = Cli::new(PROGRAM);
    for (url, says) in [
        ("http://idp.example.com/jwks.json", "https://"),
        ("https://10.0.0.7/jwks.json", "allow_private_jwks"),
        ("https://169.254.169.254/jwks.json", "link-local"),
        ("https://user:hunter2@idp.example.com/jwks.json", "password"),
        ("file:///etc/passwd", "address"),
    ] {
        let file = cli.file("bad.json", &json!({ "jwks_url": url }).to_string());
        let exit = cli.run(["check", file.to_str().unwrap()]).await;
        assert_eq!(exit.code, Some(2), "{url}: {}", exit.output());
        assert!(
            exit.output().contains("jwks_url") && exit.output().contains(says),
            "{url}: {}",
            exit.output()
        );
        assert!(!exit.output().contains("hunter2"), "{}", exit.output());
    }
    let private = json!({ "jwks_url": "https://10.0.0.7/jwks.json", "allow_private_jwks": true });
    let file = cli.file("good.json", &private.to_string());
    let exit = cli.run(["check", file.to_str().unwrap()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
}
