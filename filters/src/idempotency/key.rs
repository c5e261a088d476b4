//! The key: read from a request, or made for one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::request_id::uuid;

/// The longest key that is taken, in bytes, without its quotes.
const LONGEST: usize = 256;

/// A key that cannot be read, or is not one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a key: a string as structured fields have it (RFC 9651, section 3.3.3), as the draft wants it, or the bare word that
/// most clients send. Both are the same key.
pub(super) fn read(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    let value = value.trim_ascii();
    let key = match value.strip_prefix(b"\"") {
        Some(rest) => unquote(rest)?,
        // A comma may be where two lines were made one.
        None if value
            .iter()
            .all(|byte| matches!(byte, b'!'..=b'~') && !b"\",".contains(byte)) =>
        {
            value.to_vec()
        }
        None => return Err(Malformed),
    };
    if (1..=LONGEST).contains(&key.len()) {
        Ok(key)
    } else {
        Err(Malformed)
    }
}

/// What is between the quotes, the first of which is gone. Parameters mean nothing and are passed over.
fn unquote(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut key = Vec::with_capacity(text.len().min(LONGEST + 1));
    let mut bytes = text.iter();
    loop {
        match bytes.next() {
            Some(b'"') => break,
            Some(b'\\') => match bytes.next() {
                Some(&byte @ (b'"' | b'\\')) => key.push(byte),
                _ => return Err(Malformed),
            },
            Some(&byte @ b' '..=b'~') => key.push(byte),
            _ => return Err(Malformed),
        }
    }
    match bytes.as_slice().trim_ascii_start().first() {
        None | Some(b';') => Ok(key),
        Some(_) => Err(Malformed),
    }
}

/// A key that no other request has.
pub(super) fn random() -> u128 {
    // Unique within the process by the count, among processes by the secret: keys that collide would lose a request, so they
    // are not left to a small generator's luck.
    static SECRET: LazyLock<[u64; 4]> = LazyLock::new(|| [(); 4].map(|()| RandomState::new().build_hasher().finish()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hash = Sha256::new();
    for word in *SECRET {
        hash.update(word.to_le_bytes());
    }
    hash.update(COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    bits(&hash.finalize().into())
}

/// The beginning of a hash.
pub(super) fn bits(hash: &[u8; 32]) -> u128 {
    let (first, _) = hash.split_at(16);
    first.iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

/// An added key as it is read, and as it is written: a UUID of that version (RFC 9562).
pub(super) fn written(bits: u128, version: u8, quoted: bool) -> (Vec<u8>, Option<HeaderValue>) {
    let text = uuid(bits, version).to_vec();
    let value = if quoted {
        HeaderValue::from_bytes(&[b"\"", &*text, b"\""].concat())
    } else {
        HeaderValue::from_bytes(&text)
    };
    // Hexadecimal digits, hyphens and quotes always make a header value.
    (text, value.ok())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_a_key() {
        for (value, key) in [
            (
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
            ),
            ("\"8e03978e\"", "8e03978e"),
            (" 8e03978e ", "8e03978e"),
            ("\"a b\"", "a b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("\"a\";v=1", "a"),
            ("\"a\" ;v=1", "a"),
            ("order:1/2?x={y}", "order:1/2?x={y}"),
        ] {
            assert_eq!(read(value.as_bytes()), Ok(key.as_bytes().to_vec()), "{value}");
        }
    }

    #[test]
    fn what_is_none() {
        for value in [
            "",
            " ",
            "\"\"",
            "\"",
            "\"a",
            "a\"",
            "a b",
            "a,b",
            "a, b",
            "\"a\", \"b\"",
            "\"a\"b",
            r#""a\b""#,
            r#""a\"#,
            "\"a\tb\"",
            "ä",
            "\"ä\"",
            "a\x7f",
        ] {
            assert_eq!(read(value.as_bytes()), Err(Malformed), "{value}");
        }
    }

    #[test]
    fn the_length_is_bounded_without_the_quotes() {
        let longest = "x".repeat(LONGEST);
        assert!(read(longest.as_bytes()).is_ok());
        assert!(read(format!("\"{longest}\"").as_bytes()).is_ok());
        assert!(read(format!("{longest}x").as_bytes()).is_err());
        assert!(read(format!("\"{longest}x\"").as_bytes()).is_err());
    }

    #[test]
    fn whatever_is_read_is_read_again_from_quotes() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut keys = 0;
        for _ in 0..100_000 {
            let length = random.usize(..12);
            let value: Vec<u8> = (0..length)
                .map(|_| *random.choice(b"ab \"\\;,\t\x7f\xe4").unwrap())
                .collect();
            let Ok(key) = read(&value) else { continue };
            keys += 1;
            let mut quoted = vec![b'"'];
            for byte in &key {
                quoted.extend(b"\"\\".contains(byte).then_some(b'\\'));
                quoted.push(*byte);
            }
            quoted.push(b'"');
            assert_eq!(read(&quoted), Ok(key), "{value:?}");
        }
        assert!(keys > 1000, "{keys}");
    }

    #[test]
    fn random_keys_differ_and_read_as_they_are_written() {
        let keys: HashSet<u128> = (0..1000).map(|_| random()).collect();
        assert_eq!(keys.len(), 1000);
        for quoted in [false, true] {
            let (key, value) = written(random(), 4, quoted);
            let value = value.unwrap();
            assert_eq!(value.as_bytes().starts_with(b"\""), quoted);
            assert_eq!(read(value.as_bytes()), Ok(key));
        }
    }
}
