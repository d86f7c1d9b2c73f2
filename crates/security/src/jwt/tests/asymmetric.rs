//! Public keys: each for its own algorithm, none for another's, none as a secret.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc;

use super::*;

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
