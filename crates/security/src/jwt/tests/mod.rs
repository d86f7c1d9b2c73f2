//! Tokens good and bad, by an arbitrary "now".

mod asymmetric;
mod hostile;

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::mint::sign;
use super::*;

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

fn verifier() -> JwtVerifier {
    JwtVerifier::new(vec![VerifyingKey::hs256(&secret()).unwrap()]).unwrap()
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
    let strict = verifier().with_issuers(vec!["idp".to_owned()]).with_audiences(vec!["flow".to_owned()]);
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
fn a_changed_key_issuer_or_audience_ends_the_trust() {
    let first = verifier();
    let principal = first.verify(&signed(HS256, &claims().to_string()), now()).unwrap();
    let Proof::Token(token) = &principal.proof else { panic!("a token's principal is marked") };
    let mark = &token.mark;
    assert!(first.still_trusts(mark));
    assert!(verifier().still_trusts(mark));
    assert!(!verifier().with_issuers(vec!["idp".to_owned()]).still_trusts(mark));
    assert!(!verifier().with_audiences(vec!["flow".to_owned()]).still_trusts(mark));
    let rotated = VerifyingKey::hs256(&"another secret of thirty-two bytes..".into()).unwrap();
    assert!(!JwtVerifier::new(vec![rotated]).unwrap().still_trusts(mark));
}

#[test]
fn minted_tokens_are_accepted_and_bad_ones_not_minted() {
    let mut claims = MintClaims::new("ada", ["viewer", "ops"], Duration::from_secs(60));
    claims.issuer = Some("idp".to_owned());
    claims.audience = Some("flow".to_owned());
    let token = mint(&secret(), &claims).unwrap();
    let verifier = verifier().with_issuers(vec!["idp".into()]).with_audiences(vec!["flow".into()]);
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
