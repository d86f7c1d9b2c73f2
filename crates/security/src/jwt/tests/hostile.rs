//! The list of RFC 8725 and its successor, as hostile tokens: each is refused, for the right reason, without panic.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

/// A thumbprint in the right form.
const THUMBPRINT: &str = "LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE";

#[test]
fn hostile_headers() {
    let good = claims().to_string();
    let deep = format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    for (header, error) in [
        (r#"{"alg":"none"}"#, JwtError::Algorithm),
        (r#"{"alg":"nOnE"}"#, JwtError::Algorithm),
        (r#"{"alg":"NONE"}"#, JwtError::Algorithm),
        (r#"{"alg":"hs256"}"#, JwtError::Algorithm),
        (r#"{"alg":"HS256 "}"#, JwtError::Algorithm),
        (r#"{"alg":"HS384"}"#, JwtError::Algorithm),
        (r#"{"alg":"HS512"}"#, JwtError::Algorithm),
        (r#"{"alg":"RS256"}"#, JwtError::Algorithm),
        (r#"{"alg":"ES256"}"#, JwtError::Algorithm),
        (r#"{"alg":""}"#, JwtError::Algorithm),
        (r#"{"alg":["HS256"]}"#, JwtError::Header),
        (r#"{"alg":null}"#, JwtError::Header),
        (r#"{"typ":"JWT"}"#, JwtError::Header),
        (r#"{"alg":"none","alg":"HS256"}"#, JwtError::Header),
        (r#"{"alg":"HS256","alg":"HS256"}"#, JwtError::Header),
        (r#"{"alg":"HS256","x":1,"x":2}"#, JwtError::Header),
        (r#"{"alg":"HS256","crit":["exp"]}"#, JwtError::Extension),
        (r#"{"alg":"HS256","crit":[]}"#, JwtError::Extension),
        (r#"{"alg":"HS256","crit":null}"#, JwtError::Extension),
        (r#"{"alg":"HS256","b64":false}"#, JwtError::Extension),
        (r#"{"alg":"HS256","zip":"DEF"}"#, JwtError::Extension),
        (r#"{"alg":"HS256","enc":"A256GCM"}"#, JwtError::Extension),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, JwtError::Type),
        (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, JwtError::Type),
        (r#"{"alg":"HS256","typ":1}"#, JwtError::Header),
        (r#"{"alg":"HS256","kid":1}"#, JwtError::Header),
        (r#"["HS256"]"#, JwtError::Header),
        (r#""HS256""#, JwtError::Header),
        ("", JwtError::Form),
        ("{", JwtError::Header),
        (&deep, JwtError::Header),
    ] {
        assert_eq!(refused(&signed(header, &good)), error, "{header}");
    }
    let long_kid = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(300));
    assert_eq!(refused(&signed(&long_kid, &good)), JwtError::Header);
    for header in [
        HS256,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":"application/AT+JWT"}"#,
        // A name for a key that has none; and places to fetch keys from, which nobody does.
        r#"{"alg":"HS256","kid":"../../etc/passwd' OR 1=1"}"#,
        r#"{"alg":"HS256","jku":"http://169.254.169.254/","x5u":"file:///etc/passwd"}"#,
    ] {
        assert!(verifier().verify(&signed(header, &good), now()).is_ok(), "{header}");
    }
}

#[test]
fn hostile_claims() {
    for (changes, error) in [
        (json!({ "sub": null }), JwtError::Missing("sub")),
        (json!({ "sub": "" }), JwtError::Claim("sub")),
        (json!({ "sub": 7 }), JwtError::Claim("sub")),
        (json!({ "sub": ["ada"] }), JwtError::Claim("sub")),
        (json!({ "sub": "a\nb" }), JwtError::Claim("sub")),
        (json!({ "sub": "s".repeat(257) }), JwtError::Claim("sub")),
        (json!({ "roles": null }), JwtError::Missing("roles")),
        (json!({ "roles": "admin" }), JwtError::Claim("roles")),
        (json!({ "roles": {"admin": true} }), JwtError::Claim("roles")),
        (json!({ "roles": ["viewer", 1] }), JwtError::Claim("roles")),
        (json!({ "roles": [["admin"]] }), JwtError::Claim("roles")),
        (json!({ "roles": [""] }), JwtError::Claim("roles")),
        (json!({ "roles": vec!["r"; 65] }), JwtError::Claim("roles")),
        (json!({ "exp": null }), JwtError::Missing("exp")),
        (json!({ "exp": (NOW + 600).to_string() }), JwtError::Claim("exp")),
        (json!({ "exp": true }), JwtError::Claim("exp")),
        (json!({ "exp": [NOW + 600] }), JwtError::Claim("exp")),
        (json!({ "exp": -1 }), JwtError::Time("exp")),
        (json!({ "exp": i64::MIN }), JwtError::Time("exp")),
        (json!({ "exp": 1e300 }), JwtError::Time("exp")),
        (json!({ "exp": u64::MAX }), JwtError::Time("exp")),
        (json!({ "exp": i64::MAX }), JwtError::Time("exp")),
        (json!({ "exp": 253_402_300_799_i64 }), JwtError::Time("exp")),
        (json!({ "exp": 0 }), JwtError::Expired),
        (json!({ "nbf": "0" }), JwtError::Claim("nbf")),
        (json!({ "nbf": -1 }), JwtError::Time("nbf")),
        (json!({ "nbf": 1e300 }), JwtError::Time("nbf")),
        (json!({ "iat": "yesterday" }), JwtError::Claim("iat")),
        (json!({ "iat": 1e300 }), JwtError::Time("iat")),
        (json!({ "iss": 1 }), JwtError::Claim("iss")),
        (json!({ "aud": 1 }), JwtError::Claim("aud")),
        (json!({ "aud": ["flow", 1] }), JwtError::Claim("aud")),
    ] {
        assert_eq!(refused(&signed(HS256, &with(changes.clone()))), error, "{changes}");
    }
    let exp = NOW + 600;
    for (text, error) in [
        (format!(r#"{{"sub":"ada","sub":"root","roles":[],"exp":{exp}}}"#), JwtError::Claims),
        (format!(r#"{{"sub":"ada","roles":["viewer"],"roles":["admin"],"exp":{exp}}}"#), JwtError::Claims),
        (format!(r#"{{"sub":"ada","roles":[],"exp":1,"exp":{exp}}}"#), JwtError::Claims),
        (format!(r#"{{"sub":"ada","roles":[],"exp":{exp}}} "#).replace("} ", "}x"), JwtError::Claims),
        (r#"{"sub":"ada","roles":[],"exp":NaN}"#.to_owned(), JwtError::Claims),
        (r#"{"sub":"ada","roles":[],"exp":1e999}"#.to_owned(), JwtError::Claims),
        (
            format!(r#"{{"sub":"ada","roles":{}{},"exp":{exp}}}"#, "[".repeat(500), "]".repeat(500)),
            JwtError::Claims,
        ),
        (r#"{"sub":"ada","roles":[],"exp":null}"#.to_owned(), JwtError::Claim("exp")),
        (format!(r#"{{"sub":null,"roles":[],"exp":{exp}}}"#), JwtError::Claim("sub")),
        (format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":"x"}}"#), JwtError::Claim("cnf")),
        (format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":null}}"#), JwtError::Claim("cnf")),
        // Bound to its sender by DPoP (RFC 9449) or by nothing that is known: it is no bearer token.
        (format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":{{}}}}"#), JwtError::Confirmation),
        (format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":{{"jkt":"x"}}}}"#), JwtError::Confirmation),
        (
            format!(
                r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":{{"x5t#S256":"{THUMBPRINT}","jkt":"x"}}}}"#
            ),
            JwtError::Confirmation,
        ),
        (format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":{{"x5t#S256":1}}}}"#), JwtError::Claim("cnf")),
        (
            format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":{{"x5t#S256":""}}}}"#),
            JwtError::Claim("cnf"),
        ),
        (
            format!(r#"{{"sub":"ada","roles":[],"exp":{exp},"cnf":{{"x5t#S256":"{THUMBPRINT}A"}}}}"#),
            JwtError::Claim("cnf"),
        ),
        ("[]".to_owned(), JwtError::Claims),
        ("null".to_owned(), JwtError::Claims),
        ("\u{feff}{}".to_owned(), JwtError::Claims),
    ] {
        assert_eq!(refused(&signed(HS256, &text)), error, "{text}");
    }
}

#[test]
fn hostile_forms_and_signatures() {
    let good = signed(HS256, &claims().to_string());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode(with(json!({ "roles": ["admin"] })));
    let wrong = sign(&"another secret of thirty-two bytes..".into(), HS256, &claims().to_string()).unwrap();
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[0] ^= 1;
    for (token, error) in [
        (String::new(), JwtError::Form),
        (".".to_owned(), JwtError::Form),
        ("..".to_owned(), JwtError::Form),
        ("a".to_owned(), JwtError::Form),
        (format!("{message}."), JwtError::Form),
        (message.to_owned(), JwtError::Form),
        (format!("{good}.{signature}"), JwtError::Form),
        (format!("{good}."), JwtError::Form),
        (format!(".{good}"), JwtError::Form),
        (format!("{good}="), JwtError::Form),
        (format!("{good} "), JwtError::Form),
        (format!("{good}\0"), JwtError::Form),
        (good.replace('.', "%2e"), JwtError::Form),
        (format!("{header}+.{body}.{signature}"), JwtError::Form),
        (
            format!(r#"{{"protected":"{header}","payload":"{body}","signature":"{signature}"}}"#),
            JwtError::Form,
        ),
        ("é.é.é".to_owned(), JwtError::Form),
        (format!("{header}.{body}.a"), JwtError::Form),
        (format!("{header}.{body}.AA"), JwtError::Signature),
        (format!("{message}.{}", &signature[..signature.len() - 4]), JwtError::Form),
        (format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped)), JwtError::Signature),
        (format!("{message}.{signature}AAAA"), JwtError::Form),
        (format!("{header}.{forged}.{signature}"), JwtError::Signature),
        (wrong, JwtError::Signature),
        (signed(HS256, &with(json!({ "x": "y".repeat(MAX_TOKEN_BYTES) }))), JwtError::TooLong),
    ] {
        let found = refused(&token);
        // Whether a lengthened or shortened part still decodes depends on the length; what counts is that none of it passes.
        assert!(
            found == error || (error == JwtError::Form && found == JwtError::Signature),
            "{token}: {found}"
        );
    }
    // Unsigned and truncated claims never get as far as being read.
    assert_eq!(refused(&format!("{header}.{}.{signature}", &body[..4])), JwtError::Signature);
}

proptest! {
    #[test]
    fn nothing_at_all_panics_or_passes(token in "\\PC{0,200}") {
        prop_assert!(verifier().verify(&token, now()).is_err());
    }

    #[test]
    fn signed_nonsense_does_not_panic(header in "\\PC{0,60}", claims in "\\PC{0,120}") {
        let token = signed(&header, &claims);
        prop_assert!(verifier().verify(&token, now()).is_err());
    }

    #[test]
    fn any_changed_character_is_noticed(at in 0_usize..400, to in "[A-Za-z0-9_-]") {
        let good = signed(HS256, &claims().to_string());
        let at = at % good.len();
        prop_assume!(good.as_bytes()[at] != b'.' && good[at..=at] != to);
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assert!(verifier().verify(&changed, now()).is_err());
    }
}
