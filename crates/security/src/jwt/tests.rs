//! The list of RFC 8725 and its successor, as hostile tokens: each is refused, for the right reason, without panic.

use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc;
use proptest::prelude::*;
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
        ("[]".to_owned(), JwtError::Claims),
        ("null".to_owned(), JwtError::Claims),
        ("\u{feff}{}".to_owned(), JwtError::Claims),
    ] {
        assert_eq!(refused(&signed(HS256, &text)), error, "{text}");
    }
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

struct Pair {
    algorithm: JwtAlgorithm,
    public_pem: String,
    signing: EncodingKey,
}

impl Pair {
    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signer =
            (aws_lc::DEFAULT_PROVIDER.signer_factory)(&self.algorithm.library(), &self.signing).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.try_sign(message.as_bytes()).unwrap()))
    }

    fn verifier(&self, kid: Option<&str>) -> VerifyingKey {
        VerifyingKey::public(self.algorithm, kid.map(str::to_owned), &self.public_pem).unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn pairs() -> &'static [Pair; 3] {
    static PAIRS: OnceLock<[Pair; 3]> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa_public =
            AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(rsa.public_key()).unwrap();
        let rsa_private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let ec_public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(ec.public_key()).unwrap();
        let ec_private = ec.to_pkcs8v1().unwrap();
        let ed = Ed25519KeyPair::generate().unwrap();
        let ed_public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(ed.public_key()).unwrap();
        let ed_private = ed.to_pkcs8v1().unwrap();
        [
            Pair {
                algorithm: JwtAlgorithm::RS256,
                public_pem: pem("PUBLIC KEY", rsa_public.as_ref()),
                signing: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", rsa_private.as_ref()).as_bytes())
                    .unwrap(),
            },
            Pair {
                algorithm: JwtAlgorithm::ES256,
                public_pem: pem("PUBLIC KEY", ec_public.as_ref()),
                signing: EncodingKey::from_ec_der(ec_private.as_ref()),
            },
            Pair {
                algorithm: JwtAlgorithm::EdDSA,
                public_pem: pem("PUBLIC KEY", ed_public.as_ref()),
                signing: EncodingKey::from_ed_der(ed_private.as_ref()),
            },
        ]
    })
}

#[test]
fn each_asymmetric_algorithm_verifies_and_only_with_its_own_key() {
    let good = claims().to_string();
    for pair in pairs() {
        let verifier = JwtVerifier::new(vec![pair.verifier(None)]).unwrap();
        let header = format!(r#"{{"alg":"{}"}}"#, pair.algorithm);
        assert!(verifier.verify(&pair.sign(&header, &good), now()).is_ok(), "{header}");
        for other in pairs().iter().filter(|other| other.algorithm != pair.algorithm) {
            // The header lies about what made the signature.
            assert_eq!(verifier.verify(&other.sign(&header, &good), now()).unwrap_err(), JwtError::Signature);
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let good = claims().to_string();
    for pair in pairs() {
        let confused = sign(&pair.public_pem.as_str().into(), HS256, &good).unwrap();
        let alone = JwtVerifier::new(vec![pair.verifier(None)]).unwrap();
        assert_eq!(alone.verify(&confused, now()).unwrap_err(), JwtError::Algorithm);
        let both =
            JwtVerifier::new(vec![pair.verifier(None), VerifyingKey::hs256(&secret()).unwrap()]).unwrap();
        assert_eq!(both.verify(&confused, now()).unwrap_err(), JwtError::Signature);
        // And the other way: an HMAC signature under a header that names the public key's algorithm.
        let header = format!(r#"{{"alg":"{}"}}"#, pair.algorithm);
        assert_eq!(both.verify(&signed(&header, &good), now()).unwrap_err(), JwtError::Signature);
        assert_eq!(
            VerifyingKey::hs256(&pair.public_pem.as_str().into()).unwrap_err(),
            JwtKeyError::PemAsSecret
        );
    }
}

#[test]
fn the_kid_selects_the_key() {
    let [_, ec, ed] = pairs();
    let good = claims().to_string();
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let other_der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(other.public_key()).unwrap();
    let other_pem = pem("PUBLIC KEY", other_der.as_ref());
    let other = VerifyingKey::public(JwtAlgorithm::ES256, Some("new".to_owned()), &other_pem).unwrap();
    let verifier =
        JwtVerifier::new(vec![ec.verifier(Some("old")), other.clone(), ed.verifier(None)]).unwrap();
    for (header, result) in [
        (r#"{"alg":"ES256","kid":"old"}"#, Ok(())),
        (r#"{"alg":"ES256","kid":"new"}"#, Err(JwtError::Signature)),
        (r#"{"alg":"ES256","kid":"gone"}"#, Err(JwtError::UnknownKid)),
        (r#"{"alg":"ES256"}"#, Ok(())),
        // A kid of another algorithm's key does not lend it to this one.
        (r#"{"alg":"EdDSA","kid":"old"}"#, Err(JwtError::Signature)),
    ] {
        assert_eq!(verifier.verify(&ec.sign(header, &good), now()).map(|_| ()), result, "{header}");
    }
    let twice = JwtVerifier::new(vec![ec.verifier(Some("new")), other]).unwrap_err();
    assert_eq!(twice, JwtKeyError::SameKid("new".to_owned()));
    assert_eq!(JwtVerifier::new(Vec::new()).unwrap_err(), JwtKeyError::NoKey);
}

#[test]
fn a_key_in_the_token_is_not_used() {
    let [_, ec, _] = pairs();
    let attacker = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = attacker.public_key().as_ref();
    let header = json!({
        "alg": "ES256",
        "jwk": {
            "kty": "EC", "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        },
    });
    let private = attacker.to_pkcs8v1().unwrap();
    let signing = EncodingKey::from_ec_der(private.as_ref());
    let forged = Pair { algorithm: JwtAlgorithm::ES256, public_pem: String::new(), signing };
    let token = forged.sign(&header.to_string(), &claims().to_string());
    let verifier = JwtVerifier::new(vec![ec.verifier(None)]).unwrap();
    assert_eq!(verifier.verify(&token, now()).unwrap_err(), JwtError::Signature);
}

#[test]
fn keys_that_are_not_what_they_should_be_are_refused() {
    let [rsa, ec, ed] = pairs();
    use JwtAlgorithm::{ES256, EdDSA, HS256, RS256};
    for (algorithm, text, error) in [
        (HS256, rsa.public_pem.clone(), JwtKeyError::SymmetricPublicKey),
        (RS256, ec.public_pem.clone(), JwtKeyError::NotAPublicKey(RS256)),
        (ES256, ed.public_pem.clone(), JwtKeyError::NotAPublicKey(ES256)),
        (EdDSA, rsa.public_pem.clone(), JwtKeyError::NotAPublicKey(EdDSA)),
        (RS256, String::new(), JwtKeyError::NotAPublicKey(RS256)),
        (ES256, "hello".to_owned(), JwtKeyError::NotAPublicKey(ES256)),
        (RS256, rsa.public_pem.replace("PUBLIC", "PRIVATE"), JwtKeyError::PrivateKey),
        (ES256, pem("EC PRIVATE KEY", b"x"), JwtKeyError::PrivateKey),
        // Made once with openssl: a P-384 key, and an RSA key of 1024 bits.
        (ES256, pem("PUBLIC KEY", &hex::decode(P384).unwrap()), JwtKeyError::NotAPublicKey(ES256)),
        (RS256, pem("PUBLIC KEY", &hex::decode(RSA_1024).unwrap()), JwtKeyError::ShortRsa),
    ] {
        assert_eq!(VerifyingKey::public(algorithm, None, &text).unwrap_err(), error, "{algorithm}");
    }
    assert_eq!(VerifyingKey::hs256(&"".into()).unwrap_err(), JwtKeyError::EmptySecret);
    assert!(!format!("{:?}", VerifyingKey::hs256(&secret()).unwrap()).contains("secret of"));
}

#[test]
fn a_changed_key_issuer_or_audience_ends_the_trust() {
    let first = verifier();
    let principal = first.verify(&signed(HS256, &claims().to_string()), now()).unwrap();
    let Proof::Token(mark) = principal.proof else { panic!("a token's principal is marked") };
    assert!(first.still_trusts(&mark));
    assert!(verifier().still_trusts(&mark));
    assert!(!verifier().with_issuers(vec!["idp".to_owned()]).still_trusts(&mark));
    assert!(!verifier().with_audiences(vec!["flow".to_owned()]).still_trusts(&mark));
    let rotated = VerifyingKey::hs256(&"another secret of thirty-two bytes..".into()).unwrap();
    assert!(!JwtVerifier::new(vec![rotated]).unwrap().still_trusts(&mark));
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

const P384: &str = concat!(
    "3076301006072a8648ce3d020106052b8104002203620004313e5ea83f466dde079098bb0f8a18a95a630beb6aac2935",
    "fb000925bcb90405291cf1d49b2d71a10a7c5275fe86fb6e2fc46101b1c49a9e0c3db45ac65f2f130a8279d83885e49d",
    "a99b80f2b96602c777b36b8051c89c7bce5e283fd53f27a0",
);

const RSA_1024: &str = concat!(
    "30819f300d06092a864886f70d010101050003818d0030818902818100da2da829fa3d055823f9bc649da04d7d3b829d",
    "4de0f06da085d9d954d2e2c4d9bb609858a27d376fb2896e199bdf74243c0d1b6ef542e84586fda973ac024458dc63f9",
    "9648db639b7620fbb69dbd1a7d1186770cc68d14b6f1de1ef1e8d0bce1fac3d3024f832cd9ec00f942ee760411be4f5a",
    "924b7fb8f64f77bbdcced80b1d0203010001",
);
