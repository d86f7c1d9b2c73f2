//! Published keys, by a real server on this machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use taskiq_flow_testkit::signing::SigningKey;
use taskiq_flow_testkit::{Answer, Issuer, until};

use super::document::read;
use super::*;
use crate::jwt::{JwtAlgorithm, JwtError, JwtVerifier, Trust, VerifyingKey};
use crate::principal::Proof;

const SOON: Duration = Duration::from_secs(30);

fn key(algorithm: &str) -> &'static SigningKey {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        ["RS256", "ES256", "ES384", "EdDSA", "PS256"]
            .iter()
            .map(|algorithm| SigningKey::generate(algorithm, &format!("{algorithm}-1")))
            .collect()
    });
    keys.iter().find(|key| key.algorithm() == algorithm).unwrap()
}

fn published() -> Vec<JwtAlgorithm> {
    JwtAlgorithm::ALL.into_iter().filter(|algorithm| *algorithm != JwtAlgorithm::HS256).collect()
}

fn changed(jwk: Value, changes: Value) -> Value {
    let mut jwk = jwk;
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => jwk.as_object_mut().unwrap().remove(name),
            value => jwk.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    jwk
}

fn options(url: &str, refresh: Duration, max_age: Duration) -> SourceOptions {
    let shown = JwksUrl::from(url);
    let (url, reach) = shown.check(false).unwrap();
    let min_interval = Duration::from_millis(300);
    SourceOptions { shown, url, reach, accepted: published(), refresh, max_age, min_interval }
}

/// A source, what counts its changes, and a verifier of it.
struct Stage {
    source: KeySource,
    changes: Arc<AtomicUsize>,
    verifier: JwtVerifier,
}

fn stage(options: SourceOptions) -> Stage {
    let source = KeySource::new(options);
    let changes = Arc::new(AtomicUsize::new(0));
    let counted = changes.clone();
    source.start(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let trust = Trust::new(Vec::<VerifyingKey>::new()).unwrap().with_source(Some(source.clone()));
    Stage { source, changes, verifier: JwtVerifier::new(vec![trust]).unwrap() }
}

/// An hour is longer than any test.
fn lasting(issuer: &Issuer) -> Stage {
    stage(options(&issuer.url(), Duration::from_secs(3600), Duration::from_secs(7200)))
}

fn claims() -> Value {
    json!({ "sub": "ada", "roles": ["viewer"], "exp": Timestamp::now().as_second() + 600 })
}

impl Stage {
    async fn loaded(&self) {
        let loaded = until(SOON, async || self.source.is_ready().then_some(()));
        assert!(loaded.await.is_some(), "the keys never came");
    }

    async fn verify(&self, key: &SigningKey) -> Result<(), JwtError> {
        self.verifier.verify_or_fetch(&key.token(&claims()), Timestamp::now()).await.map(|_| ())
    }
}

async fn is_asked(issuer: &Issuer) {
    let asked = until(SOON, async || (issuer.asked() > 0).then_some(()));
    assert!(asked.await.is_some(), "nobody asks the issuer");
}

/// What it gives, which must not be waited for longer than for an issuer. From here on the runtime's clock goes on only
/// when everything waits for it: a busy machine takes none of that time.
async fn within_patience<T>(verify: impl Future<Output = T>) -> T {
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let outcome = verify.await;
    // The timer counts whole milliseconds.
    assert!(began.elapsed() <= PATIENCE + Duration::from_millis(1), "{:?}", began.elapsed());
    outcome
}

#[test]
fn what_is_published_for_checking_signatures_is_taken() {
    for name in ["RS256", "ES256", "ES384", "EdDSA", "PS256"] {
        let jwk = key(name).jwk();
        let without = |member: &str| changed(jwk.clone(), json!({ member: null }));
        let verify_only = changed(jwk.clone(), json!({ "use": null, "key_ops": ["verify"] }));
        for jwk in
            [jwk.clone(), without("use"), verify_only, changed(jwk.clone(), json!({ "x5c": ["MIIB"] }))]
        {
            let set = read(json!({ "keys": [jwk], "more": 1 }).to_string().as_bytes(), &published()).unwrap();
            assert_eq!(set.keys.len(), 1, "{name}: {:?}", set.left_out);
            assert_eq!(
                (set.keys[0].algorithm().as_str(), set.keys[0].kid()),
                (name, Some(&*format!("{name}-1")))
            );
        }
    }
    let ed25519 = changed(key("EdDSA").jwk(), json!({ "alg": "Ed25519" }));
    assert_eq!(
        read(json!({ "keys": [ed25519] }).to_string().as_bytes(), &published()).unwrap().keys.len(),
        1
    );
}

#[test]
fn a_key_without_algorithm_gets_the_only_one_possible() {
    use JwtAlgorithm::{ES256, PS256, RS256};
    let bare = |name: &str| changed(key(name).jwk(), json!({ "alg": null }));
    for (jwk, accepted, result) in [
        (bare("ES256"), published(), Ok(ES256)),
        (bare("EdDSA"), published(), Ok(JwtAlgorithm::EdDSA)),
        (bare("RS256"), published(), Err(JwksError::Ambiguous)),
        (bare("RS256"), vec![RS256, ES256], Ok(RS256)),
        (bare("RS256"), vec![PS256], Ok(PS256)),
        (bare("RS256"), vec![ES256], Err(JwksError::Unsupported)),
    ] {
        let mut set = read(json!({ "keys": [jwk] }).to_string().as_bytes(), &accepted).unwrap();
        let read = set.keys.pop().map(|key| key.algorithm()).ok_or_else(|| set.left_out.remove(0).1);
        assert_eq!(read, result, "{accepted:?}");
    }
}

#[test]
fn what_is_not_is_left_out_and_spoils_nothing() {
    let rsa = key("RS256").jwk();
    let ec = key("ES256").jwk();
    let short = "A".repeat(171);
    for (jwk, error) in [
        (json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }), JwksError::Symmetric),
        (changed(rsa.clone(), json!({ "k": "c2VjcmV0" })), JwksError::Symmetric),
        (changed(ec.clone(), json!({ "d": "AAAA" })), JwksError::Private),
        (changed(rsa.clone(), json!({ "p": "AAAA" })), JwksError::Private),
        (changed(rsa.clone(), json!({ "use": "enc" })), JwksError::Purpose),
        (changed(rsa.clone(), json!({ "key_ops": ["encrypt"] })), JwksError::Purpose),
        (changed(rsa.clone(), json!({ "key_ops": [] })), JwksError::Purpose),
        (changed(rsa.clone(), json!({ "key_ops": "verify" })), JwksError::Member("key_ops")),
        (changed(rsa.clone(), json!({ "alg": "RSA-OAEP" })), JwksError::Unsupported),
        (changed(rsa.clone(), json!({ "alg": "ES256" })), JwksError::Unsupported),
        (changed(rsa.clone(), json!({ "alg": "HS256" })), JwksError::Unsupported),
        (changed(rsa.clone(), json!({ "alg": "none" })), JwksError::Unsupported),
        (changed(rsa.clone(), json!({ "alg": "RS384" })), JwksError::NotAccepted(JwtAlgorithm::RS384)),
        (changed(rsa.clone(), json!({ "alg": ["RS256"] })), JwksError::Member("alg")),
        (changed(rsa.clone(), json!({ "n": null })), JwksError::Missing("n")),
        (changed(rsa.clone(), json!({ "n": "+/==" })), JwksError::Member("n")),
        (changed(rsa.clone(), json!({ "n": short })), JwksError::Key(crate::jwt::JwtKeyError::ShortRsa)),
        (changed(ec.clone(), json!({ "crv": "P-521" })), JwksError::Unsupported),
        (changed(ec.clone(), json!({ "crv": "secp256k1" })), JwksError::Unsupported),
        (changed(ec.clone(), json!({ "crv": null })), JwksError::Missing("crv")),
        (changed(ec.clone(), json!({ "kid": 7 })), JwksError::Member("kid")),
        (changed(ec.clone(), json!({ "kid": "a\nb" })), JwksError::Member("kid")),
        (changed(ec.clone(), json!({ "kty": "ec" })), JwksError::Unsupported),
        (json!({}), JwksError::Missing("kty")),
    ] {
        let accepted = [JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA];
        let document = json!({ "keys": [jwk, key("EdDSA").jwk()] }).to_string();
        let set = read(document.as_bytes(), &accepted).unwrap();
        assert_eq!(set.left_out.iter().map(|(_, error)| error).collect::<Vec<_>>(), [&error], "{jwk}");
        assert_eq!(set.keys.len(), 1, "the other key is as good as before");
    }
    // A point that is on no curve, an even exponent.
    for jwk in [changed(ec.clone(), json!({ "y": ec["x"] })), changed(rsa.clone(), json!({ "e": "Ag" }))] {
        let set = read(json!({ "keys": [jwk] }).to_string().as_bytes(), &published()).unwrap();
        assert!(set.keys.is_empty() && matches!(set.left_out[0].1, JwksError::Key(_)), "{jwk}");
    }
}

#[test]
fn one_name_is_one_key() {
    let set = json!({ "keys": [
        changed(key("RS256").jwk(), json!({ "kid": "a" })),
        changed(key("ES256").jwk(), json!({ "kid": "a" })),
        changed(key("EdDSA").jwk(), json!({ "kid": "b" })),
    ] });
    let set = read(set.to_string().as_bytes(), &published()).unwrap();
    assert_eq!(set.keys.iter().map(|key| key.kid()).collect::<Vec<_>>(), [Some("b")]);
    let twice: Vec<_> = set.left_out.iter().map(|(kid, error)| (kid.as_deref(), error)).collect();
    assert_eq!(twice, [(Some("a"), &JwksError::SameKid), (Some("a"), &JwksError::SameKid)]);
    let many: Vec<Value> =
        (0..100).map(|at| changed(key("ES256").jwk(), json!({ "kid": at.to_string() }))).collect();
    let set = read(json!({ "keys": many }).to_string().as_bytes(), &published()).unwrap();
    assert_eq!((set.keys.len(), set.left_out.len()), (MAX_KEYS, 100 - MAX_KEYS));
}

#[test]
fn what_is_no_set_is_refused_whole() {
    let ec = key("ES256").jwk().to_string();
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "<html></html>",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        &format!(r#"{{"keys":[{ec}]}}x"#),
        &format!(r#"{{"keys":[{}]}}"#, ec.replacen('{', r#"{"kty":"RSA","#, 1)),
        &format!(r#"{{"keys":[{{"kty":{}{}}}]}}"#, "[".repeat(500), "]".repeat(500)),
    ] {
        assert_eq!(read(text.as_bytes(), &published()).unwrap_err(), JwksError::NotASet, "{text}");
    }
    assert!(read(br#"{"keys":[]}"#, &published()).unwrap().keys.is_empty());
}

#[tokio::test]
async fn tokens_pass_once_the_keys_are_there() {
    let issuer = Issuer::start(&[key("RS256"), key("ES256"), key("EdDSA")]).await;
    let stage = lasting(&issuer);
    // The first asks for a fetch that is under way, and waits for it.
    for name in ["RS256", "ES256", "EdDSA"] {
        assert_eq!(stage.verify(key(name)).await, Ok(()), "{name}");
    }
    assert_eq!(issuer.asked(), 1);
    // The name of one key with the signature of another.
    let header = json!({ "alg": "ES256", "kid": "ES256-1" }).to_string();
    let forged = SigningKey::generate("ES256", "ES256-1").signed(&header, &claims());
    let refused = stage.verifier.verify_or_fetch(&forged, Timestamp::now()).await;
    assert_eq!(refused.unwrap_err(), JwtError::Signature);
    // An algorithm that no key of the set has, though one could: the issuer is not asked for it again and again.
    for _ in 0..20 {
        assert_eq!(stage.verify(key("PS256")).await, Err(JwtError::UnknownKid));
    }
    assert!(issuer.asked() <= 2, "{}", issuer.asked());
}

#[tokio::test]
async fn a_new_key_is_found_and_one_that_left_is_refused() {
    let (old, new) = (key("ES256"), SigningKey::generate("ES256", "new"));
    let issuer = Issuer::start(&[old]).await;
    let stage = lasting(&issuer);
    let principal = stage.verifier.verify_or_fetch(&old.token(&claims()), Timestamp::now()).await.unwrap();
    let Proof::Token(proof) = &principal.proof else { panic!("a token's principal is marked") };
    assert!(stage.verifier.still_trusts(proof));
    assert_eq!(stage.changes.load(Ordering::SeqCst), 1);

    issuer.publish(&[&new]);
    assert_eq!(stage.verify(&new).await, Ok(()), "an unknown name has the keys fetched");
    assert_eq!(stage.verify(old).await, Err(JwtError::UnknownKid), "it was rotated out");
    assert!(!stage.verifier.still_trusts(proof), "its sockets are to be closed");
    assert_eq!(stage.changes.load(Ordering::SeqCst), 2, "and somebody is told");
}

#[tokio::test]
async fn a_configured_key_without_name_does_not_hide_a_published_one() {
    let (one, new) = (SigningKey::generate("ES256", "one"), SigningKey::generate("ES256", "new"));
    let issuer = Issuer::start(&[]).await;
    let stage = lasting(&issuer);
    let nameless = VerifyingKey::public(JwtAlgorithm::ES256, None, &one.public_pem()).unwrap();
    let trust = Trust::new(vec![nameless]).unwrap().with_source(Some(stage.source.clone()));
    let stage = Stage { verifier: JwtVerifier::new(vec![trust]).unwrap(), ..stage };
    // Before the first load has ended its keys are not there, and the other's name is none of them.
    let loaded = until(SOON, async || (issuer.asked() > 0 && stage.source.held().is_some()).then_some(()));
    assert!(loaded.await.is_some());
    issuer.publish(&[&new]);
    assert_eq!(stage.verify(&new).await, Ok(()));
    assert_eq!(stage.verify(&one).await, Ok(()), "the configured key is good under any name");
}

#[tokio::test]
async fn a_hundred_unknown_names_at_once_are_one_request() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let stage = Arc::new(lasting(&issuer));
    stage.loaded().await;
    let Answer::Body(body, _) = Answer::keys(&[key("ES256")]) else { panic!("a body") };
    issuer.answer(Answer::Late(Duration::from_millis(200), body));
    let forger = SigningKey::generate("ES256", "x");
    let tokens = (0..100).map(|at| {
        let header = json!({ "alg": "ES256", "kid": format!("unknown-{at}") }).to_string();
        let (token, stage) = (forger.signed(&header, &claims()), stage.clone());
        tokio::spawn(async move { stage.verifier.verify_or_fetch(&token, Timestamp::now()).await.err() })
    });
    for refused in tokens.collect::<Vec<_>>() {
        assert_eq!(refused.await.unwrap(), Some(JwtError::UnknownKid));
    }
    assert_eq!(issuer.asked(), 2, "the first one, and one for all of these");
    assert_eq!(stage.changes.load(Ordering::SeqCst), 1, "the same keys are no change");
    // A name that the issuer does not have is remembered beyond the shortest interval.
    tokio::time::sleep(Duration::from_millis(350)).await;
    let again = forger.signed(r#"{"alg":"ES256","kid":"unknown-7"}"#, &claims());
    assert!(stage.verifier.verify_or_fetch(&again, Timestamp::now()).await.is_err());
    assert_eq!(issuer.asked(), 2);
    let other = forger.signed(r#"{"alg":"ES256","kid":"unknown-x"}"#, &claims());
    assert!(stage.verifier.verify_or_fetch(&other, Timestamp::now()).await.is_err());
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn whoever_asked_may_go_away_and_the_answer_still_comes() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let stage = lasting(&issuer);
    stage.loaded().await;
    let new = SigningKey::generate("EdDSA", "new");
    let Answer::Body(body, _) = Answer::keys(&[&new]) else { panic!("a body") };
    issuer.answer(Answer::Late(Duration::from_millis(200), body));
    let abandoned = tokio::time::timeout(Duration::from_millis(50), stage.verify(&new)).await;
    assert!(abandoned.is_err());
    assert_eq!(stage.verify(&new).await, Ok(()));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn answers_that_are_none_change_nothing_and_are_tried_again() {
    let bad = [
        Answer::Status(500, vec![]),
        Answer::Status(204, vec![]),
        Answer::Status(302, vec!["Location: /elsewhere.json".to_owned()]),
        Answer::Status(301, vec!["Location: http://169.254.169.254/".to_owned()]),
        Answer::Endless,
        Answer::Nothing,
        Answer::Body("{".to_owned(), vec![]),
        Answer::Body(format!("{{\"keys\":[]{}}}", " ".repeat(MAX_BYTES)), vec![]),
    ];
    // At once: each waits for seconds until it is tried again.
    let here = tokio::task::LocalSet::new();
    let cases = bad.map(|bad| here.spawn_local(changes_nothing(bad)));
    let all = async {
        for case in cases {
            case.await.unwrap();
        }
    };
    here.run_until(all).await;
}

async fn changes_nothing(bad: Answer) {
    let ec = key("ES256");
    let issuer = Issuer::start(&[ec]).await;
    let stage = stage(options(&issuer.url(), Duration::from_millis(100), Duration::from_secs(3600)));
    stage.loaded().await;
    issuer.answer(bad.clone());
    let asked = issuer.asked();
    // A request that was under way may still have met the old answer.
    let tried = until(SOON, async || (issuer.asked() > asked + 1).then_some(()));
    assert!(tried.await.is_some(), "{bad:?}");
    assert_eq!(stage.verify(ec).await, Ok(()), "the last keys stay: {bad:?}");
    assert!(issuer.paths().iter().all(|path| path == "/jwks.json"), "{:?}", issuer.paths());
    issuer.publish(&[]);
    let gone = until(SOON, async || stage.verify(ec).await.is_err().then_some(()));
    assert!(gone.await.is_some(), "an empty set withdraws them: {bad:?}");
    assert!(!stage.source.is_ready());
}

#[tokio::test]
async fn a_dead_issuer_holds_up_nothing_and_lets_nobody_in() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let url = issuer.url();
    drop(issuer);
    let stage = stage(options(&url, Duration::from_secs(60), Duration::from_secs(60)));
    let verify = within_patience(stage.verify(key("ES256")));
    assert_eq!(verify.await, Err(JwtError::UnknownKid));
    assert!(!stage.source.is_ready());
}

#[tokio::test]
async fn a_silent_issuer_holds_up_a_token_only_for_a_moment() {
    let issuer = Issuer::start(&[]).await;
    issuer.answer(Answer::Late(Duration::from_secs(3600), String::new()));
    let stage = lasting(&issuer);
    is_asked(&issuer).await;
    let verify = within_patience(stage.verify(key("ES256")));
    assert_eq!(verify.await, Err(JwtError::UnknownKid));
}

#[tokio::test]
async fn keys_last_through_an_outage_until_they_are_too_old() {
    let ec = key("ES256");
    let issuer = Issuer::start(&[ec]).await;
    let (refresh, max_age) = (Duration::from_millis(100), Duration::from_millis(1500));
    let stage = stage(options(&issuer.url(), refresh, max_age));
    stage.loaded().await;
    issuer.answer(Answer::Status(503, vec![]));
    assert_eq!(stage.verify(ec).await, Ok(()));
    let ended = until(SOON, async || stage.verify(ec).await.is_err().then_some(()));
    assert!(ended.await.is_some(), "they were used for ever");
    let told = until(SOON, async || (stage.changes.load(Ordering::SeqCst) == 2).then_some(()));
    assert!(told.await.is_some(), "open sockets must hear of it");
    issuer.publish(&[ec]);
    let back = until(SOON * 4, async || stage.verify(ec).await.is_ok().then_some(()));
    assert!(back.await.is_some(), "it answers again");
}

#[tokio::test]
async fn the_issuer_can_ask_for_a_sooner_refresh_within_bounds() {
    for (header, fresh_for) in [
        ("Cache-Control: max-age=90", 90),
        ("Cache-Control: max-age=1", 60),
        ("Cache-Control: no-store", 60),
        ("Cache-Control: max-age=100000", 300),
        ("X-Other: 1", 300),
    ] {
        let issuer = Issuer::start(&[]).await;
        let Answer::Body(body, _) = Answer::keys(&[key("ES256")]) else { panic!("a body") };
        issuer.answer(Answer::Body(body, vec![header.to_owned()]));
        let stage = stage(options(&issuer.url(), Duration::from_secs(300), Duration::from_secs(3600)));
        stage.loaded().await;
        assert_eq!(stage.source.held().unwrap().fresh_for(), Duration::from_secs(fresh_for), "{header}");
    }
}

#[tokio::test]
async fn changed_options_keep_the_keys_that_still_fit_until_new_ones_come() {
    let issuer = Issuer::start(&[key("ES256"), key("EdDSA")]).await;
    let earlier = lasting(&issuer);
    earlier.loaded().await;
    issuer.answer(Answer::Late(Duration::from_millis(500), json!({ "keys": [] }).to_string()));
    let mut changed = options(&issuer.url(), Duration::from_secs(60), Duration::from_secs(7200));
    changed.accepted = vec![JwtAlgorithm::ES256];
    let source = KeySource::new(changed);
    let trust = Trust::new(Vec::new()).unwrap().with_source(Some(source.clone()));
    let mut verifier = JwtVerifier::new(vec![trust]).unwrap();
    assert!(!source.is_like(&earlier.source));
    verifier.take_over_sources(&earlier.verifier);
    source.start(|| {});
    let verify = |name: &str| verifier.verify(&key(name).token(&claims()), Timestamp::now()).map(|_| ());
    assert_eq!(verify("ES256"), Ok(()));
    assert_eq!(verify("EdDSA"), Err(JwtError::Algorithm), "no longer accepted");
    let fetched = until(SOON, async || (!source.is_ready()).then_some(()));
    assert!(fetched.await.is_some(), "its own keys are fetched at once");
    // Another address has other keys.
    let elsewhere = Issuer::start(&[]).await;
    let other = KeySource::new(options(&elsewhere.url(), Duration::from_secs(60), Duration::from_secs(7200)));
    other.inherit(&earlier.source);
    assert!(other.held().is_none());
}

#[tokio::test]
async fn silent_issuers_hold_up_a_token_no_longer_together_than_one() {
    let silent = Answer::Late(Duration::from_secs(3600), String::new());
    let mut trusts = Vec::new();
    let mut issuers = Vec::new();
    for at in 0..4 {
        let issuer = Issuer::start(&[]).await;
        issuer.answer(silent.clone());
        let stage = lasting(&issuer);
        let trust = Trust::new(Vec::new()).unwrap().with_issuers(vec![at.to_string()]);
        trusts.push(trust.with_source(Some(stage.source)));
        issuers.push(issuer);
    }
    for issuer in &issuers {
        is_asked(issuer).await;
    }
    let verifier = JwtVerifier::new(trusts).unwrap();
    let token = key("ES256").token(&claims());
    let refused = within_patience(verifier.verify_or_fetch(&token, Timestamp::now())).await;
    assert_eq!(refused.unwrap_err(), JwtError::UnknownKid);
}

#[tokio::test]
async fn nothing_is_fetched_any_more_when_nobody_has_the_source() {
    let issuer = Issuer::start(&[key("ES256")]).await;
    let stage = stage(options(&issuer.url(), Duration::from_millis(50), Duration::from_secs(60)));
    stage.loaded().await;
    drop(stage);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = issuer.asked();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(issuer.asked(), asked);
}
