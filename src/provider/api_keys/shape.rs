//! What an API key looks like: `dwk_` and 64 hexadecimal digits, which are 32 random bytes.
//!
//! A key that has to look so cannot be a word somebody thought of. That is why a plain SHA-256 of it may stand in a file: nobody finds 256 random
//! bits by trying, however fast a trial is, so that a slow hash (as passwords need one) would only slow the gateway.

use crate::credential::API_KEY_PREFIX as PREFIX;
use crate::secret::sha256;

/// Hexadecimal digits after it.
const DIGITS: usize = 64;

/// The hash of a key, as it stands in the file.
pub(super) type KeyHash = [u8; 32];

/// The hash of what was shown.
///
/// # Errors
/// What is not as expected; never a part of it.
pub(super) fn hash_of(shown: &str) -> Result<KeyHash, &'static str> {
    let digits = shown.strip_prefix(PREFIX).ok_or("no key of ours: expected dwk_ and 64 hexadecimal digits")?;
    if digits.len() != DIGITS {
        return Err("not whole: expected 64 hexadecimal digits after dwk_");
    }
    if !digits.bytes().all(is_digit) {
        return Err("mistyped: expected digits and the letters a to f, in small letters, after dwk_");
    }
    Ok(sha256(shown.as_bytes()))
}

/// Reads what `sha256sum` prints, without the name after it.
///
/// # Errors
/// What was expected; never what was found, which may be a key.
pub(super) fn parse_hash(text: &str) -> Result<KeyHash, &'static str> {
    if text.starts_with(PREFIX) {
        return Err("is a key itself; its hash belongs here: printf %s KEY | sha256sum");
    }
    let wrong = "expected 64 hexadecimal digits, as sha256sum prints them";
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() {
        return Err(wrong);
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(wrong)?;
    }
    Ok(hash)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By `printf %s dwk_00…00 | sha256sum`.
    const OF_ZEROS: &str = "042dd1a66d0aaa69697145d672fb07c3ab59c96628ccd009cc2a5a7579233ef6";

    #[test]
    fn a_key_is_known_by_its_look_and_its_hash_is_that_of_sha256sum() {
        let key = format!("dwk_{}", "0".repeat(64));
        let hash = hash_of(&key).unwrap();
        assert_eq!(parse_hash(OF_ZEROS), Ok(hash));
        assert_eq!(parse_hash(&OF_ZEROS.to_uppercase()), Ok(hash));
        for wrong in [
            "",
            "dwk_",
            "hunter2",
            &key[..67],
            &format!("{key}0"),
            &format!(" {key}"),
            &key.to_uppercase(),
            &key.replace("dwk_", "dwk-"),
            &format!("dwk_{}", "A".repeat(64)),
            &format!("dwk_{}", "g".repeat(64)),
            &format!("dwk_{}", "ä".repeat(32)),
        ] {
            assert!(hash_of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_in_place_of_its_hash_is_told_as_such() {
        assert!(parse_hash(&format!("dwk_{}", "0".repeat(64))).unwrap_err().contains("is a key itself"));
        for wrong in ["", "abc", &"0".repeat(63), &"0".repeat(65), &"+1".repeat(32), &"ä".repeat(32), &format!("{OF_ZEROS}  -")] {
            assert!(parse_hash(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_a_key_or_told_and_never_a_panic(shown: String, digits in "[0-9a-f]{64}") {
            let _ = hash_of(&shown);
            let _ = parse_hash(&shown);
            let key = format!("dwk_{digits}");
            prop_assert_eq!(hash_of(&key).unwrap(), sha256(key.as_bytes()));
            let written: String = sha256(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(parse_hash(&written), Ok(sha256(key.as_bytes())));
        }
    }
}
