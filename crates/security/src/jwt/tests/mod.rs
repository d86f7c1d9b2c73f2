//! Tokens good and bad, by an arbitrary "now".

mod asymmetric;
mod hostile;
mod issuers;
mod rfc8725;

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use jiff::{SignedDuration, Timestamp};

use super::key::KeyFamily;
use super::*;
use crate::principal::{PrincipalKind, Proof};

const SECRET: &str = "a secret of at least thirty-two bytes";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// 2030-01-01T00:00:00Z.
const NOW: i64 = 1_893_456_000;

fn secret() -> SecretString {
    SECRET.into()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn shared_key() -> VerifyingKey {
    VerifyingKey::hs256(&secret()).unwrap()
}

/// Trusts the shared secret.
fn trust() -> Trust {
    Trust::new(vec![shared_key()]).unwrap()
}

fn verifier() -> JwtVerifier {
    JwtVerifier::new(vec![trust()]).unwrap()
}

fn checking(keys: Vec<VerifyingKey>) -> JwtVerifier {
    JwtVerifier::new(vec![Trust::new(keys).unwrap()]).unwrap()
}

fn strict(issuer: &str, audience: &str) -> JwtVerifier {
    let trust = trust().with_issuers(vec![issuer.to_owned()]).with_audiences(vec![audience.to_owned()]);
    JwtVerifier::new(vec![trust]).unwrap()
}

fn claims() -> Value {
    json!({ "sub": "ada", "roles": ["viewer"], "exp": NOW + 600 })
}

/// Good claims with these members changed; `null` removes one.
fn with(changes: Value) -> String {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims.to_string()
}

fn signed(header: &str, claims: &str) -> String {
    sign(&secret(), header, claims).unwrap()
}

fn refused(token: &str) -> JwtError {
    verifier().verify(token, now()).unwrap_err()
}

#[test]
fn a_good_token_names_its_principal() {
    let principal = verifier().verify(&signed(HS256, &claims().to_string()), now()).unwrap();
    assert_eq!(principal.id(), "ada");
    assert_eq!(principal.kind(), PrincipalKind::Jwt);
    assert_eq!(principal.roles(), ["viewer"]);
    assert_eq!(principal.expires_at(), Some(Timestamp::from_second(NOW + 630).unwrap()));
    assert!(principal.permissions().is_empty());
}

#[test]
fn times_are_held_to_with_the_leeway_and_no_more() {
    for (changes, leeway, result) in [
        (json!({ "exp": NOW + 1 }), 0, Ok(())),
        (json!({ "exp": NOW }), 0, Err(JwtError::Expired)),
        (json!({ "exp": NOW - 29 }), 30, Ok(())),
        (json!({ "exp": NOW - 30 }), 30, Err(JwtError::Expired)),
        (json!({ "exp": NOW as f64 + 0.5 }), 0, Err(JwtError::Expired)),
        (json!({ "exp": NOW as f64 + 1.5 }), 0, Ok(())),
        (json!({ "nbf": NOW }), 0, Ok(())),
        (json!({ "nbf": NOW + 1 }), 0, Err(JwtError::NotYetValid)),
        (json!({ "nbf": NOW + 30 }), 30, Ok(())),
        (json!({ "nbf": NOW + 31 }), 30, Err(JwtError::NotYetValid)),
        (json!({ "iat": NOW + 30 }), 30, Ok(())),
        (json!({ "iat": NOW + 31 }), 30, Err(JwtError::NotYetValid)),
        (json!({ "iat": NOW + 31, "nbf": NOW }), 30, Err(JwtError::NotYetValid)),
        // Held to ten minutes, whatever is asked for.
        (json!({ "exp": NOW - 600 }), 1_000_000, Err(JwtError::Expired)),
    ] {
        let verifier = verifier().with_leeway(SignedDuration::from_secs(leeway));
        let verified = verifier.verify(&signed(HS256, &with(changes.clone())), now()).map(|_| ());
        assert_eq!(verified, result, "{changes} leeway {leeway}");
    }
}

#[test]
fn issuer_and_audience() {
    let strict = strict("idp", "flow");
    for (changes, error) in [
        (json!({ "iss": "idp", "aud": "flow" }), None),
        (json!({ "iss": "idp", "aud": ["other", "flow"] }), None),
        (json!({ "aud": "flow" }), Some(JwtError::Missing("iss"))),
        (json!({ "iss": "idp" }), Some(JwtError::Missing("aud"))),
        (json!({ "iss": "IDP", "aud": "flow" }), Some(JwtError::Issuer)),
        (json!({ "iss": "idp", "aud": "flow2" }), Some(JwtError::Audience)),
        (json!({ "iss": "idp", "aud": [] }), Some(JwtError::Audience)),
    ] {
        let token = signed(HS256, &with(changes.clone()));
        assert_eq!(strict.verify(&token, now()).err(), error, "{changes}");
    }
    assert!(verifier().verify(&signed(HS256, &with(json!({ "iss": "any" }))), now()).is_ok());
    assert_eq!(refused(&signed(HS256, &with(json!({ "aud": "flow" })))), JwtError::Audience);
}

#[test]
fn a_changed_key_issuer_audience_or_type_ends_the_trust() {
    let first = verifier();
    let principal = first.verify(&signed(HS256, &claims().to_string()), now()).unwrap();
    let Proof::Token(token) = &principal.proof else { panic!("a token's principal is marked") };
    assert!(first.still_trusts(token));
    assert!(verifier().still_trusts(token));
    for changed in [
        trust().with_issuers(vec!["idp".to_owned()]),
        trust().with_audiences(vec!["flow".to_owned()]),
        trust().with_required_type(Some("at+jwt")),
        Trust::new(vec![VerifyingKey::hs256(&"another secret of thirty-two bytes..".into()).unwrap()])
            .unwrap(),
    ] {
        assert!(!JwtVerifier::new(vec![changed]).unwrap().still_trusts(token));
    }
}

#[test]
fn minted_tokens_are_accepted_and_bad_ones_not_minted() {
    let mut claims = MintClaims::new("ada", ["viewer", "ops"], Duration::from_secs(60));
    claims.issuer = Some("idp".to_owned());
    claims.audience = Some("flow".to_owned());
    let token = mint(&secret(), &claims).unwrap();
    let verifier = strict("idp", "flow");
    let principal = verifier.verify(&token, Timestamp::now()).unwrap();
    assert_eq!((principal.id(), principal.roles().len()), ("ada", 2));

    let ttl = Duration::from_secs(60);
    for (secret, claims, error) in [
        ("", MintClaims::new("ada", ["r"], ttl), MintError::EmptySecret),
        (SECRET, MintClaims::new("", ["r"], ttl), MintError::Claims(JwtError::Claim("sub"))),
        (SECRET, MintClaims::new("a\nb", ["r"], ttl), MintError::Claims(JwtError::Claim("sub"))),
        (SECRET, MintClaims::new("ada", [""], ttl), MintError::Claims(JwtError::Claim("roles"))),
        (SECRET, MintClaims::new("ada", ["r"], Duration::from_millis(999)), MintError::Ttl),
        (SECRET, MintClaims::new("ada", ["r"], MAX_TTL + ttl), MintError::Ttl),
    ] {
        assert_eq!(mint(&secret.into(), &claims).unwrap_err(), error);
    }
}

#[test]
fn a_private_key_signs_what_its_public_key_verifies() {
    let mut claims = MintClaims::new("ada", ["viewer"], Duration::from_secs(60));
    claims.token_id = Some("t-1".to_owned());
    claims.not_before = Some(Timestamp::now());
    for key in asymmetric::keys() {
        let algorithm: JwtAlgorithm = key.algorithm().parse().unwrap();
        let pem = key.private_pem().as_str().into();
        let signing = MintKey::private(&pem, Some(algorithm), Some("k".to_owned())).unwrap();
        let verifier = checking(vec![asymmetric::verifying(key, Some("k"))]);
        let token = signing.mint(&claims).unwrap();
        assert!(verifier.verify(&token, Timestamp::now()).is_ok(), "{algorithm}");
        // Without a word about it: RS256 for every RSA key, else the only one possible.
        let guessed = MintKey::private(&pem, None, None).unwrap().mint(&claims).unwrap();
        let same = verifier.verify(&guessed, Timestamp::now()).is_ok();
        let first_choice = algorithm.family() != KeyFamily::Rsa || algorithm == JwtAlgorithm::RS256;
        assert_eq!(same, first_choice, "{algorithm}");
        for wrong in JwtAlgorithm::ALL.iter().filter(|wrong| wrong.family() != algorithm.family()) {
            let error = MintKey::private(&pem, Some(*wrong), None).unwrap_err();
            assert_eq!(error, MintError::Algorithm(*wrong));
        }
        let public = MintKey::private(&key.public_pem().as_str().into(), None, None).unwrap_err();
        assert_eq!(public, MintError::NotAPrivateKey, "{algorithm}");
        assert!(!format!("{signing:?}").contains("PRIVATE"));
    }
    let mut late = claims.clone();
    late.not_before = Some(Timestamp::now() + SignedDuration::from_hours(1));
    assert_eq!(mint(&secret(), &late).unwrap_err(), MintError::NeverValid);
    let mut access = claims;
    access.token_type = Some("at+jwt".to_owned());
    access.issuer = Some("idp".to_owned());
    access.audience = Some("flow".to_owned());
    let required = trust().with_audiences(vec!["flow".to_owned()]).with_required_type(Some("at+jwt"));
    let verifier = JwtVerifier::new(vec![required]).unwrap();
    assert!(verifier.verify(&mint(&secret(), &access).unwrap(), Timestamp::now()).is_ok());
}
