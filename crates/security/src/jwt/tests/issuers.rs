//! Several issuers: each is bound to its own keys, and their subjects are kept apart.

use taskiq_flow_testkit::signing::SigningKey;

use super::asymmetric::{key, verifying};
use super::*;

const ONE: &str = "https://one.example";
const TWO: &str = "https://two.example";

/// `ONE` has the key of ES256, `TWO` that of EdDSA; whoever has the shared secret may be anybody else.
fn three() -> JwtVerifier {
    let issuer = |name: &str, key: &SigningKey, audiences: &[&str]| {
        let trust = Trust::new(vec![verifying(key, Some("k"))]).unwrap();
        let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        trust.with_issuers(vec![name.to_owned()]).with_audiences(audiences)
    };
    let one = issuer(ONE, key("ES256"), &["flow"]);
    let two = issuer(TWO, key("EdDSA"), &[]);
    JwtVerifier::new(vec![trust(), one, two]).unwrap()
}

fn token(key: &SigningKey, changes: Value) -> String {
    key.token(&serde_json::from_str(&with(changes)).unwrap())
}

#[test]
fn an_issuer_is_bound_to_its_own_keys() {
    let (es, ed) = (key("ES256"), key("EdDSA"));
    for (token, result) in [
        (token(es, json!({ "iss": ONE, "aud": "flow" })), Ok(())),
        (token(ed, json!({ "iss": TWO })), Ok(())),
        // Signed by the other.
        (token(ed, json!({ "iss": ONE, "aud": "flow" })), Err(JwtError::Issuer)),
        (token(es, json!({ "iss": TWO })), Err(JwtError::Issuer)),
        (token(es, json!({ "aud": "flow" })), Err(JwtError::Missing("iss"))),
        // Each has its own audiences.
        (token(es, json!({ "iss": ONE })), Err(JwtError::Missing("aud"))),
        (token(es, json!({ "iss": ONE, "aud": "other" })), Err(JwtError::Audience)),
        (token(ed, json!({ "iss": TWO, "aud": "flow" })), Err(JwtError::Audience)),
        // The shared secret is good for any issuer but those that have keys of their own.
        (signed(HS256, &with(json!({ "iss": "https://three.example" }))), Ok(())),
        (signed(HS256, &claims().to_string()), Ok(())),
        (signed(HS256, &with(json!({ "iss": ONE, "aud": "flow" }))), Err(JwtError::Issuer)),
        (signed(HS256, &with(json!({ "iss": TWO }))), Err(JwtError::Issuer)),
    ] {
        assert_eq!(three().verify(&token, now()).map(|_| ()), result, "{token}");
    }
}

#[test]
fn issuers_that_publish_the_same_key_are_told_apart_by_their_name() {
    let shared = |name: &str| {
        let trust = Trust::new(vec![verifying(key("ES256"), Some("k"))]).unwrap();
        trust.with_issuers(vec![name.to_owned()]).with_audiences(vec![name.to_owned()])
    };
    let verifier = JwtVerifier::new(vec![shared(ONE), shared(TWO)]).unwrap();
    for (issuer, audience, good) in
        [(ONE, ONE, true), (TWO, TWO, true), (ONE, TWO, false), (TWO, ONE, false), ("x", ONE, false)]
    {
        let token = token(key("ES256"), json!({ "iss": issuer, "aud": audience }));
        assert_eq!(verifier.verify(&token, now()).is_ok(), good, "{issuer} for {audience}");
    }
    assert_eq!(
        JwtVerifier::new(vec![shared(ONE), shared(ONE)]).unwrap_err(),
        JwtKeyError::SameIssuer(ONE.to_owned())
    );
}

#[test]
fn subjects_of_several_issuers_are_several_principals() {
    let verifier = three();
    let principal = |token: &str| verifier.verify(token, now()).unwrap();
    let one = principal(&token(key("ES256"), json!({ "iss": ONE, "aud": "flow" })));
    let two = principal(&token(key("EdDSA"), json!({ "iss": TWO })));
    let nobody = principal(&signed(HS256, &claims().to_string()));
    // A subject made up to look like another issuer's.
    let forged = format!("{}:{ONE}:ada", ONE.len());
    let forged = principal(&signed(HS256, &with(json!({ "sub": forged }))));
    let names: std::collections::BTreeSet<String> =
        [&one, &two, &nobody, &forged].iter().map(|principal| principal.unique_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!((one.id(), two.id()), ("ada", "ada"));
    assert_eq!((one.issuer(), two.issuer(), nobody.issuer()), (Some(ONE), Some(TWO), None));
    assert_eq!(crate::audit::AuditSubject::names(&*one).issuer, Some(ONE));
    // Where one issuer alone is accepted, nothing need be told apart.
    let alone = JwtVerifier::new(vec![trust().with_issuers(vec![ONE.to_owned()])]).unwrap();
    let only = alone.verify(&signed(HS256, &with(json!({ "iss": ONE }))), now()).unwrap();
    assert_eq!((only.issuer(), only.unique_name().as_str()), (None, "jwt:ada"));
}
