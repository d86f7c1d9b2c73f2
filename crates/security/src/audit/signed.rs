//! Signed checkpoints: what a log was at some time, in a form that others can keep and check.
//!
//! A checkpoint is a signed note in the sense of C2SP (<https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>):
//! origin, size and root of the tree (RFC 9162), and further lines with number and hash of the last record, the
//! number of the first, the time, and, when the key is about to change, the key that comes after. It is signed with
//! Ed25519. Files and requests carry it as one JSON object a line; [`SignedCheckpoint::to_note`] gives the note itself.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::Checkpoint;
use super::merkle::Hash;

/// The byte for Ed25519 before a key, in C2SP signed notes.
const ED25519_NOTE: u8 = 1;
/// What DER says before the 32 bytes of an Ed25519 public key (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// A longer line is no checkpoint.
pub(crate) const MAX_CHECKPOINT_LINE: usize = 4096;
/// Most bytes of an origin.
const MAX_ORIGIN: usize = 256;

/// The key that signs checkpoints. Its `Debug` shows the public half's id.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifyKey,
}

/// The public half of a [`SigningKey`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyKey([u8; 32]);

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is no PEM of a private key.
    #[error(
        "this is no Ed25519 key; expected PEM with `BEGIN PRIVATE KEY` (PKCS#8), as `taskiq-flow audit keygen` makes it"
    )]
    Private,
    /// The text is no PEM of a public key.
    #[error(
        "this is no Ed25519 public key; expected PEM with `BEGIN PUBLIC KEY`, as `taskiq-flow audit keygen` prints it"
    )]
    Public,
    /// The system gave no randomness, or refused to sign.
    #[error("the cryptographic library refused")]
    Library,
}

/// What a log was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The log's name: one line without spaces around it.
    pub origin: String,
    /// How many records the tree has.
    pub size: u64,
    /// The root of the tree.
    pub root: Hash,
    /// Number of the first record of the tree: 1, unless checkpoints began later than the log.
    pub first: u64,
    /// Number and hash of the last record.
    pub head: Checkpoint,
    /// When it was signed.
    pub time: Timestamp,
    /// The key that signs from here on.
    pub successor: Option<VerifyKey>,
    /// Who signed: the beginning of a hash of origin and key.
    pub key_id: [u8; 4],
    /// The Ed25519 signature of the note's text.
    pub signature: [u8; 64],
}

/// Why a text is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no signed checkpoint: {0}")]
pub struct SignedCheckpointError(String);

/// A checkpoint as one line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    origin: String,
    size: u64,
    root: String,
    first: u64,
    seq: u64,
    head: String,
    time: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<String>,
    key_id: String,
    signature: String,
}

impl SigningKey {
    /// A new key, and its PEM (PKCS#8).
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate() -> Result<(Self, secrecy::SecretString), KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Library)?;
        // Version 1, which every tool reads.
        let der = pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
        let text = pem::encode_config(&pem::Pem::new("PRIVATE KEY", der.as_ref().to_vec()), unix_lines());
        Ok((Self::of(pair)?, text.into()))
    }

    /// Reads PEM (PKCS#8).
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::Private)?;
        if block.tag() != "PRIVATE KEY" {
            return Err(KeyError::Private);
        }
        // Version 1 has no public half to check the private one against; it is computed.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(block.contents());
        Self::of(pair.map_err(|_| KeyError::Private)?)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Library)?;
        Ok(Self { pair, public: VerifyKey(public) })
    }

    /// The public half.
    pub fn verify_key(&self) -> VerifyKey {
        self.public
    }

    /// Signs what the checkpoint says; its key id and signature are replaced.
    pub(crate) fn sign(&self, mut checkpoint: SignedCheckpoint) -> Result<SignedCheckpoint, KeyError> {
        checkpoint.key_id = self.public.id(&checkpoint.origin);
        let signature = self.pair.try_sign(checkpoint.text().as_bytes()).map_err(|_| KeyError::Library)?;
        checkpoint.signature = signature.as_ref().try_into().map_err(|_| KeyError::Library)?;
        Ok(checkpoint)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl VerifyKey {
    /// Reads PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// [`KeyError::Public`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::Public)?;
        let key = block.contents().strip_prefix(&SPKI).filter(|_| block.tag() == "PUBLIC KEY");
        key.and_then(|key| key.try_into().ok()).map(Self).ok_or(KeyError::Public)
    }

    /// As PEM (SubjectPublicKeyInfo).
    pub fn to_pem(&self) -> String {
        pem::encode_config(&pem::Pem::new("PUBLIC KEY", [&SPKI[..], &self.0].concat()), unix_lines())
    }

    /// The id under which the key signs for a log of this name (C2SP signed-note).
    pub fn id(&self, origin: &str) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(origin.as_bytes());
        hasher.update([b'\n', ED25519_NOTE]);
        hasher.update(self.0);
        let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
        [a, b, c, d]
    }

    /// As C2SP writes a verifier's key: name, id and key.
    pub fn to_note_key(&self, origin: &str) -> String {
        format!("{origin}+{}+{}", hex::encode(self.id(origin)), self.encoded())
    }

    fn encoded(&self) -> String {
        STANDARD.encode([&[ED25519_NOTE][..], &self.0].concat())
    }

    fn decode(text: &str) -> Option<Self> {
        match STANDARD.decode(text).ok()?.split_first()? {
            (&ED25519_NOTE, key) => key.try_into().ok().map(Self),
            _ => None,
        }
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyKey({})", self.encoded())
    }
}

impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encoded())
    }
}

impl SignedCheckpoint {
    /// Whether it was signed by this key.
    pub fn is_signed_by(&self, key: &VerifyKey) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, &key.0);
        self.key_id == key.id(&self.origin) && public.verify(self.text().as_bytes(), &self.signature).is_ok()
    }

    /// The signed note, for those who keep notes of transparency logs.
    pub fn to_note(&self) -> String {
        let signature = STANDARD.encode([&self.key_id[..], &self.signature].concat());
        format!("{}\n\u{2014} {} {signature}\n", self.text(), self.origin)
    }

    /// One line of JSON, without its end.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            origin: self.origin.clone(),
            size: self.size,
            root: STANDARD.encode(self.root),
            first: self.first,
            seq: self.head.seq,
            head: hex::encode(self.head.hash),
            time: self.time,
            successor: self.successor.map(|key| key.encoded()),
            key_id: hex::encode(self.key_id),
            signature: STANDARD.encode(self.signature),
        };
        // Texts and numbers have a JSON form.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Reads a line of JSON. The signature is not checked yet.
    ///
    /// # Errors
    /// [`SignedCheckpointError`] says what is wrong.
    pub fn from_json(line: &str) -> Result<Self, SignedCheckpointError> {
        let wrong = |what: &str| SignedCheckpointError(what.to_owned());
        if line.len() > MAX_CHECKPOINT_LINE {
            return Err(wrong("the line is too long"));
        }
        let wire: Wire =
            serde_json::from_str(line).map_err(|error| SignedCheckpointError(error.to_string()))?;
        if !is_origin(&wire.origin) {
            return Err(wrong("`origin` must be a name on one line"));
        }
        let bytes = |text: &str| STANDARD.decode(text).ok();
        let mut head = [0; 32];
        hex::decode_to_slice(&wire.head, &mut head)
            .map_err(|_| wrong("`head` must have 64 hexadecimal digits"))?;
        let mut key_id = [0; 4];
        hex::decode_to_slice(&wire.key_id, &mut key_id)
            .map_err(|_| wrong("`key_id` must have 8 hexadecimal digits"))?;
        let successor = wire.successor.as_deref().map(|text| {
            VerifyKey::decode(text).ok_or_else(|| wrong("`successor` must be an Ed25519 key in base64"))
        });
        Ok(Self {
            origin: wire.origin,
            size: wire.size,
            root: bytes(&wire.root)
                .and_then(|root| root.try_into().ok())
                .ok_or_else(|| wrong("`root` must be 32 bytes in base64"))?,
            first: wire.first,
            head: Checkpoint { seq: wire.seq, hash: head },
            time: wire.time,
            successor: successor.transpose()?,
            key_id,
            signature: bytes(&wire.signature)
                .and_then(|signature| signature.try_into().ok())
                .ok_or_else(|| wrong("`signature` must be 64 bytes in base64"))?,
        })
    }

    /// What is signed: the text of the note.
    fn text(&self) -> String {
        let Self { origin, size, root, first, head, time, successor, .. } = self;
        let root = STANDARD.encode(root);
        let Checkpoint { seq, hash } = head;
        let hash = hex::encode(hash);
        let mut text =
            format!("{origin}\n{size}\n{root}\nfirst {first}\nseq {seq}\nhead {hash}\ntime {time}\n");
        if let Some(key) = successor {
            text.push_str(&format!("successor {key}\n"));
        }
        text
    }
}

/// Whether a text can name a log: one line of visible characters without `+`, which C2SP keeps for itself.
pub fn is_origin(text: &str) -> bool {
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && c != '+';
    !text.is_empty() && text.len() <= MAX_ORIGIN && text.chars().all(fits)
}

fn unix_lines() -> pem::EncodeConfig {
    pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn checkpoint(key: &SigningKey, successor: Option<VerifyKey>) -> SignedCheckpoint {
        let unsigned = SignedCheckpoint {
            origin: "example.com/audit".into(),
            size: 7,
            root: [3; 32],
            first: 1,
            head: Checkpoint { seq: 9, hash: [5; 32] },
            time: Timestamp::UNIX_EPOCH,
            successor,
            key_id: [0; 4],
            signature: [0; 64],
        };
        key.sign(unsigned).unwrap()
    }

    #[test]
    fn keys_are_written_and_read() {
        let (key, text) = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(text.expose_secret()).unwrap();
        assert_eq!(again.verify_key(), key.verify_key());
        let public = key.verify_key().to_pem();
        assert_eq!(VerifyKey::from_pem(&public).unwrap(), key.verify_key());
        assert_eq!(SigningKey::from_pem(&public).unwrap_err(), KeyError::Private);
        assert_eq!(VerifyKey::from_pem(text.expose_secret()).unwrap_err(), KeyError::Public);
        assert!(SigningKey::from_pem("").is_err() && VerifyKey::from_pem("x").is_err());
        assert!(!format!("{key:?}").contains(text.expose_secret().lines().nth(1).unwrap()));
    }

    /// RFC 8032, 7.1, test 1: the key as OpenSSL would write it.
    #[test]
    fn the_key_of_the_rfc_has_its_public_half() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let der = [&hex::decode("302e020100300506032b657004220420").unwrap()[..], &seed].concat();
        let text = pem::encode(&pem::Pem::new("PRIVATE KEY", der));
        let key = SigningKey::from_pem(&text).unwrap().verify_key();
        assert_eq!(hex::encode(key.0), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn what_is_signed_is_what_was_said() {
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        for successor in [None, Some(other.verify_key())] {
            let signed = checkpoint(&key, successor);
            let read = SignedCheckpoint::from_json(&signed.to_json()).unwrap();
            assert_eq!(read, signed);
            assert!(read.is_signed_by(&key.verify_key()));
            assert!(!read.is_signed_by(&other.verify_key()));
            let changes: [fn(&mut SignedCheckpoint); 8] = [
                |c| c.origin.push('x'),
                |c| c.size += 1,
                |c| c.root[0] ^= 1,
                |c| c.first += 1,
                |c| c.head.seq += 1,
                |c| c.head.hash[31] ^= 1,
                |c| c.time = Timestamp::from_second(1).unwrap(),
                |c| c.signature[0] ^= 1,
            ];
            for change in changes {
                let mut changed = signed.clone();
                change(&mut changed);
                assert!(!changed.is_signed_by(&key.verify_key()), "{changed:?}");
            }
            let changed = SignedCheckpoint { successor: Some(key.verify_key()), ..signed.clone() };
            assert!(!changed.is_signed_by(&key.verify_key()));
            assert!(
                !SignedCheckpoint { successor: None, ..changed }.is_signed_by(&key.verify_key())
                    || successor.is_none()
            );
        }
    }

    #[test]
    fn the_note_is_one_of_c2sp() {
        let (key, _) = SigningKey::generate().unwrap();
        let note = checkpoint(&key, None).to_note();
        let (text, signatures) = note.split_once("\n\n").unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(&lines[..2], ["example.com/audit", "7"]);
        assert_eq!(STANDARD.decode(lines[2]).unwrap(), [3; 32]);
        let signature = signatures.strip_prefix("\u{2014} example.com/audit ").unwrap().trim_end();
        let bytes = STANDARD.decode(signature).unwrap();
        let name = key.verify_key().to_note_key("example.com/audit");
        let [origin, id, public] = name.splitn(3, '+').collect::<Vec<_>>()[..] else { panic!("{name}") };
        assert_eq!((origin, id), ("example.com/audit", hex::encode(&bytes[..4]).as_str()));
        assert!(name.contains(&key.verify_key().to_string()) && public.len() == 44);
        let public = UnparsedPublicKey::new(&ED25519, key.verify_key().0);
        public.verify(format!("{text}\n").as_bytes(), &bytes[4..]).unwrap();
    }

    #[test]
    fn other_lines_are_refused_by_name() {
        let (key, _) = SigningKey::generate().unwrap();
        let good = checkpoint(&key, None).to_json();
        for (from, to, word) in [
            ("\"size\":7", "\"size\":-7", "expected"),
            ("\"root\":\"", "\"root\":\"!", "root"),
            ("\"head\":\"05", "\"head\":\"", "head"),
            ("example.com/audit", "two\\nlines", "origin"),
            ("\"first\"", "\"fist\"", "fist"),
            ("{", "[", "expected"),
        ] {
            let bad = good.replacen(from, to, 1);
            let error = SignedCheckpoint::from_json(&bad).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(SignedCheckpoint::from_json(&" ".repeat(10_000)).is_err());
        assert!(is_origin("host.example/audit") && !is_origin("") && !is_origin("a b") && !is_origin("a+b"));
    }
}
