//! Public keys: each for its own algorithm, none for another's, none as a secret.

use std::sync::OnceLock;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use taskiq_flow_testkit::signing::{SigningKey, pem};

use super::*;

/// A key for each algorithm that has a public one.
pub(super) fn keys() -> &'static [SigningKey] {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let public = JwtAlgorithm::ALL.iter().filter(|algorithm| **algorithm != JwtAlgorithm::HS256);
        public.map(|algorithm| SigningKey::generate(algorithm.as_str(), "k")).collect()
    })
}

pub(super) fn key(algorithm: &str) -> &'static SigningKey {
    keys().iter().find(|key| key.algorithm() == algorithm).unwrap()
}

pub(super) fn verifying(key: &SigningKey, kid: Option<&str>) -> VerifyingKey {
    let algorithm = key.algorithm().parse().unwrap();
    VerifyingKey::public(algorithm, kid.map(str::to_owned), &key.public_pem()).unwrap()
}

fn header(algorithm: &str) -> String {
    json!({ "alg": algorithm }).to_string()
}

#[test]
fn each_asymmetric_algorithm_verifies_and_only_with_its_own_key() {
    for key in keys() {
        let verifier = checking(vec![verifying(key, None)]);
        let named = header(key.algorithm());
        assert!(verifier.verify(&key.signed(&named, &claims()), now()).is_ok(), "{named}");
        for other in keys().iter().filter(|other| other.algorithm() != key.algorithm()) {
            // The header lies about what made the signature.
            let lie = verifier.verify(&other.signed(&named, &claims()), now()).unwrap_err();
            assert_eq!(lie, JwtError::Signature, "{} as {named}", other.algorithm());
        }
    }
}

#[test]
fn one_key_has_one_algorithm() {
    // An RSA key could serve six; the one it is configured for is the only one.
    let rsa = key("RS256");
    let verifier = checking(vec![verifying(rsa, None), verifying(key("PS256"), None)]);
    for other in ["RS384", "RS512", "PS384", "PS512"] {
        let token = rsa.signed(&header(other), &claims());
        assert_eq!(verifier.verify(&token, now()).unwrap_err(), JwtError::Algorithm, "{other}");
    }
    let as_pss = rsa.signed(&header("PS256"), &claims());
    assert_eq!(verifier.verify(&as_pss, now()).unwrap_err(), JwtError::Signature);
}

#[test]
fn ed25519_has_two_names() {
    let key = key("EdDSA");
    let verifier = checking(vec![verifying(key, None)]);
    for name in ["EdDSA", "Ed25519"] {
        assert!(verifier.verify(&key.signed(&header(name), &claims()), now()).is_ok(), "{name}");
        assert_eq!(name.parse(), Ok(JwtAlgorithm::EdDSA));
        assert_eq!(serde_json::from_value::<JwtAlgorithm>(json!(name)).unwrap(), JwtAlgorithm::EdDSA);
    }
    for name in ["Ed448", "eddsa", "ed25519"] {
        let token = key.signed(&header(name), &claims());
        assert_eq!(verifier.verify(&token, now()).unwrap_err(), JwtError::Algorithm, "{name}");
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    for key in keys() {
        let secrets = [key.public_pem(), key.public_pem().trim_end().to_owned(), key.jwk().to_string()];
        for secret in secrets {
            let confused = sign(&secret.as_str().into(), HS256, &claims().to_string()).unwrap();
            let alone = checking(vec![verifying(key, None)]);
            assert_eq!(alone.verify(&confused, now()).unwrap_err(), JwtError::Algorithm);
            let both = checking(vec![verifying(key, None), shared_key()]);
            assert_eq!(both.verify(&confused, now()).unwrap_err(), JwtError::Signature);
        }
        // And the other way: an HMAC signature under a header that names the public key's algorithm.
        let both = checking(vec![verifying(key, None), shared_key()]);
        let token = signed(&header(key.algorithm()), &claims().to_string());
        assert_eq!(both.verify(&token, now()).unwrap_err(), JwtError::Signature);
        let as_secret = VerifyingKey::hs256(&key.public_pem().as_str().into()).unwrap_err();
        assert_eq!(as_secret, JwtKeyError::PemAsSecret);
    }
}

#[test]
fn the_kid_selects_the_key() {
    let (ec, ed) = (key("ES256"), key("EdDSA"));
    let other = verifying(&SigningKey::generate("ES256", "new"), Some("new"));
    let verifier = checking(vec![verifying(ec, Some("old")), other.clone(), verifying(ed, None)]);
    for (header, result) in [
        (r#"{"alg":"ES256","kid":"old"}"#, Ok(())),
        (r#"{"alg":"ES256","kid":"new"}"#, Err(JwtError::Signature)),
        (r#"{"alg":"ES256","kid":"gone"}"#, Err(JwtError::UnknownKid)),
        (r#"{"alg":"ES256"}"#, Ok(())),
        // A kid of another algorithm's key does not lend it to this one.
        (r#"{"alg":"EdDSA","kid":"old"}"#, Err(JwtError::Signature)),
    ] {
        assert_eq!(verifier.verify(&ec.signed(header, &claims()), now()).map(|_| ()), result, "{header}");
    }
    let twice = Trust::new(vec![verifying(ec, Some("new")), other]).unwrap_err();
    assert_eq!(twice, JwtKeyError::SameKid("new".to_owned()));
    assert_eq!(JwtVerifier::new(vec![Trust::new(Vec::new()).unwrap()]).unwrap_err(), JwtKeyError::NoKey);
}

#[test]
fn a_key_in_the_token_is_not_used() {
    let attacker = SigningKey::generate("ES256", "k");
    let verifier = checking(vec![verifying(key("ES256"), None)]);
    for header in [
        json!({ "alg": "ES256", "jwk": attacker.jwk() }),
        json!({ "alg": "ES256", "kid": "k", "jwk": attacker.jwk() }),
        json!({ "alg": "ES256", "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/x" }),
        json!({ "alg": "ES256", "x5c": ["MIIB"], "x5t": "x" }),
    ] {
        let token = attacker.signed(&header.to_string(), &claims());
        assert_eq!(verifier.verify(&token, now()).unwrap_err(), JwtError::Signature, "{header}");
    }
}

#[test]
fn keys_that_are_not_what_they_should_be_are_refused() {
    use JwtAlgorithm::{ES256, ES384, EdDSA, HS256, PS512, RS256};
    let (rsa, ec, ed) = (key("RS256").public_pem(), key("ES256").public_pem(), key("EdDSA").public_pem());
    for (algorithm, text, error) in [
        (HS256, rsa.clone(), JwtKeyError::SymmetricPublicKey),
        (RS256, ec.clone(), JwtKeyError::NotAPublicKey(RS256)),
        (ES256, ed.clone(), JwtKeyError::NotAPublicKey(ES256)),
        (EdDSA, rsa.clone(), JwtKeyError::NotAPublicKey(EdDSA)),
        (RS256, String::new(), JwtKeyError::NotAPublicKey(RS256)),
        (ES256, "hello".to_owned(), JwtKeyError::NotAPublicKey(ES256)),
        (RS256, rsa.replace("PUBLIC", "PRIVATE"), JwtKeyError::PrivateKey),
        (ES256, pem("EC PRIVATE KEY", b"x"), JwtKeyError::PrivateKey),
        // Made once with openssl: a P-384 key, and an RSA key of 1024 bits.
        (ES256, pem("PUBLIC KEY", &hex::decode(P384).unwrap()), JwtKeyError::NotAPublicKey(ES256)),
        (RS256, pem("PUBLIC KEY", &hex::decode(RSA_1024).unwrap()), JwtKeyError::ShortRsa),
        (PS512, pem("PUBLIC KEY", &hex::decode(RSA_1024).unwrap()), JwtKeyError::ShortRsa),
        (ES384, ec.clone(), JwtKeyError::NotAPublicKey(ES384)),
        // As long as a key of P-256, and a point of another curve (secp256k1's generator).
        (ES256, pem("PUBLIC KEY", &hex::decode(SECP256K1).unwrap()), JwtKeyError::NotAPublicKey(ES256)),
    ] {
        assert_eq!(VerifyingKey::public(algorithm, None, &text).unwrap_err(), error, "{algorithm}");
    }
    assert_eq!(VerifyingKey::hs256(&"".into()).unwrap_err(), JwtKeyError::EmptySecret);
    assert!(!format!("{:?}", VerifyingKey::hs256(&secret()).unwrap()).contains("secret of"));
}

#[test]
fn a_point_that_is_not_on_its_curve_is_refused() {
    let good = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let good = good.public_key().as_ref().to_vec();
    assert!(VerifyingKey::point(JwtAlgorithm::ES256, None, &good).is_ok());
    let mut off = good.clone();
    off[64] ^= 1;
    let compressed = [&[2], &good[1..33]].concat();
    for point in [off, compressed, vec![0], vec![4; 65], [&good[..], &[0]].concat(), Vec::new()] {
        let refused = VerifyingKey::point(JwtAlgorithm::ES256, None, &point).unwrap_err();
        assert_eq!(refused, JwtKeyError::NotAPublicKey(JwtAlgorithm::ES256), "{point:?}");
    }
}

#[test]
fn signatures_that_are_almost_right_are_none() {
    for key in keys() {
        let verifier = checking(vec![verifying(key, None)]);
        let token = key.signed(&header(key.algorithm()), &claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let zeros = vec![0; bytes.len()];
        // r = s = 0 passed in Java for a while (CVE-2022-21449); DER is how others write ECDSA signatures.
        for forged in [
            zeros,
            bytes[..bytes.len() - 1].to_vec(),
            [&bytes[..], &[0]].concat(),
            [&[0x30, 0x44, 0x02, 0x20], &bytes[..]].concat(),
        ] {
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(forged));
            assert_eq!(verifier.verify(&forged, now()).unwrap_err(), JwtError::Signature, "{forged}");
        }
    }
}

const SECP256K1: &str = concat!(
    "3056301006072a8648ce3d020106052b8104000a0342000479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d9",
    "59f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
);

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
