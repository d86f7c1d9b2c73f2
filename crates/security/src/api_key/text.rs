//! What a key looks like: `tqf_<id>_<secret>_<checksum>`.
//!
//! The parts are made of letters and digits (the id may have `-` too), so that a double click takes the whole key and
//! Base64 text does not look like one. The checksum is the CRC-32 (IEEE 802.3) of all that stands before its `_`, in
//! base 62 with the digits `0-9A-Za-z`, six of them: as GitHub's tokens have it, so that a scanner knows without
//! asking anybody whether what it found is a key.

use secrecy::SecretString;

/// What every generated key begins with, so that secret scanners find one that leaked.
pub const KEY_PREFIX: &str = "tqf_";

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 43 characters of 62 carry 256 bits.
const SECRET_CHARS: usize = 43;

/// Six characters of 62 hold any number of 32 bits.
const CHECKSUM_CHARS: usize = 6;

/// Longest id within a key; a longer one is cut.
const MAX_ID_PART: usize = 32;

/// Random characters of an id that nobody chose.
const NEW_ID_CHARS: usize = 10;

/// Makes a new key for the id: 256 bits from the operating system.
///
/// The key shows its id so that one that is found somewhere can be revoked; what is no letter, digit or `-` in the id
/// stands there as `-`.
///
/// # Errors
/// The operating system gave no random bytes.
pub fn generate(id: &str) -> Result<SecretString, getrandom::Error> {
    let id = id_part(id);
    let mut text = String::with_capacity(KEY_PREFIX.len() + id.len() + 1 + SECRET_CHARS + 1 + CHECKSUM_CHARS);
    text.push_str(KEY_PREFIX);
    text.push_str(&id);
    text.push('_');
    push_random(&mut text, SECRET_CHARS)?;
    let checksum = checksum(&text);
    text.push('_');
    text.push_str(&checksum);
    Ok(text.into())
}

/// An id for a key that was given none: `key-` and 10 random letters and digits.
///
/// # Errors
/// The operating system gave no random bytes.
pub fn new_id() -> Result<String, getrandom::Error> {
    let mut id = "key-".to_owned();
    push_random(&mut id, NEW_ID_CHARS)?;
    Ok(id)
}

/// Checks the shape of a key, without knowing whether any server accepts it. Gives the id that the key shows.
///
/// ```
/// use secrecy::ExposeSecret;
/// use taskiq_flow_security::api_key::{KeyShapeError, check_shape, generate};
///
/// let key = generate("ci").unwrap();
/// assert_eq!(check_shape(key.expose_secret()), Ok("ci"));
/// let mistyped = key.expose_secret().replacen("tqf_ci", "tqf_cl", 1);
/// assert_eq!(check_shape(&mistyped), Err(KeyShapeError::Checksum));
/// ```
///
/// # Errors
/// What is wrong with it; the error does not repeat the text.
pub fn check_shape(text: &str) -> Result<&str, KeyShapeError> {
    let rest = text.strip_prefix(KEY_PREFIX).ok_or(KeyShapeError::Foreign)?;
    let Some((body, given)) = text.rsplit_once('_') else { return Err(KeyShapeError::Foreign) };
    let mut parts = rest.split('_');
    let (Some(id), Some(secret), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let old = rest.len() == SECRET_CHARS && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return Err(if old { KeyShapeError::Unchecked } else { KeyShapeError::Parts });
    };
    let id_fits = !id.is_empty()
        && id.len() <= MAX_ID_PART
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let secret_fits = secret.len() == SECRET_CHARS && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !id_fits || !secret_fits || given.len() != CHECKSUM_CHARS {
        return Err(KeyShapeError::Parts);
    }
    if checksum(body) == given { Ok(id) } else { Err(KeyShapeError::Checksum) }
}

/// Why a text is no key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyShapeError {
    /// Nothing of ours.
    #[error("it does not begin with `{KEY_PREFIX}`: no key that this program made")]
    Foreign,
    /// Made before keys had a checksum.
    #[error("it is a key of an older version, which has no checksum: nothing can be said without a server")]
    Unchecked,
    /// A part is missing, too many or of the wrong length.
    #[error("it is cut off or mixed with something else: a key is `tqf_<id>_<43 characters>_<6 characters>`")]
    Parts,
    /// Mistyped.
    #[error("its checksum does not fit: a character is wrong, or it was made up")]
    Checksum,
}

fn id_part(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let part: String = id.chars().take(MAX_ID_PART).map(plain).collect();
    if part.is_empty() { "key".to_owned() } else { part }
}

fn push_random(text: &mut String, chars: usize) -> Result<(), getrandom::Error> {
    let end = text.len() + chars;
    let mut bytes = [0_u8; 64];
    while text.len() < end {
        getrandom::fill(&mut bytes)?;
        // 248 is the greatest multiple of 62 in a byte: what is above it would favour the first letters.
        let random = bytes.iter().filter(|byte| **byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(random.take(end - text.len()).map(char::from));
    }
    Ok(())
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [ALPHABET[0]; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::api_key::KeyDigest;

    #[test]
    fn generated_keys_are_long_sendable_distinct_and_of_one_shape() {
        let keys: Vec<String> =
            (0..50).map(|_| generate("ci-1").unwrap().expose_secret().to_owned()).collect();
        for key in &keys {
            let parts: Vec<&str> = key.split('_').collect();
            assert_eq!(parts.len(), 4, "{key}");
            assert_eq!((parts[0], parts[1], parts[2].len(), parts[3].len()), ("tqf", "ci-1", 43, 6));
            assert!(KeyDigest::from_config(key).is_ok());
            assert_eq!(check_shape(key), Ok("ci-1"));
        }
        let secrets: HashSet<&str> = keys.iter().map(|key| key.split('_').nth(2).unwrap()).collect();
        assert_eq!(secrets.len(), 50);
        // All letters are used: a mistake in the choice of bytes would leave some out.
        let used: HashSet<char> = secrets.iter().flat_map(|secret| secret.chars()).collect();
        assert_eq!(used.len(), 62);
    }

    #[test]
    fn the_checksum_is_the_crc_32_in_base_62() {
        // The check value of CRC-32/ISO-HDLC: 0xcbf43926 is 3421780262, in base 62 3jZQ0s with these digits.
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        let value = checksum("123456789").bytes().fold(0_u64, |value, byte| {
            value * 62 + ALPHABET.iter().position(|digit| *digit == byte).unwrap() as u64
        });
        assert_eq!((checksum("123456789").len(), value), (6, 0xcbf4_3926));
        assert_eq!(checksum(""), "000000");
    }

    #[test]
    fn any_single_wrong_character_shows() {
        let key = generate("a").unwrap().expose_secret().to_owned();
        for at in KEY_PREFIX.len()..key.len() {
            let mut bytes = key.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let text = String::from_utf8(bytes).unwrap();
            assert!(check_shape(&text).is_err(), "{at}");
        }
        for cut in 0..key.len() {
            assert!(check_shape(&key[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_why() {
        let secret = "0".repeat(43);
        for (text, expected) in [
            ("admin-key".to_owned(), KeyShapeError::Foreign),
            (String::new(), KeyShapeError::Foreign),
            ("TQF_a".to_owned(), KeyShapeError::Foreign),
            (format!("tqf_{secret}"), KeyShapeError::Unchecked),
            ("tqf_".to_owned(), KeyShapeError::Parts),
            (format!("tqf__{secret}_000000"), KeyShapeError::Parts),
            (format!("tqf_a_{secret}_00000"), KeyShapeError::Parts),
            (format!("tqf_a_b_{secret}_000000"), KeyShapeError::Parts),
            (format!("tqf_é_{secret}_000000"), KeyShapeError::Parts),
            (format!("tqf_a_{secret}_000000"), KeyShapeError::Checksum),
        ] {
            assert_eq!(check_shape(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn an_id_is_shown_in_letters_that_a_key_may_have() {
        for (id, part) in [
            ("ops", "ops"),
            ("ci_deploy", "ci-deploy"),
            ("é/x", "--x"),
            ("", "key"),
            (&"a".repeat(99), &"a".repeat(32)),
        ] {
            let key = generate(id).unwrap();
            assert_eq!(check_shape(key.expose_secret()), Ok(part), "{id}");
        }
        let id = new_id().unwrap();
        assert!(id.starts_with("key-") && id.len() == 14 && id != new_id().unwrap());
    }
}
