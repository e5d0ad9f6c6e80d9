//! Secrets: values that cannot be printed, random ones, and sealing.
//!
//! `seal` is authenticated encryption of records; `digest` holds hashes and keyed hashes.

mod digest;
mod process_tag;
mod seal;

use std::sync::Arc;

pub use digest::{HmacKey, hex, hmac_sha256, sha256};
pub use process_tag::ProcessTags;
pub use seal::{SealKey, SealRing};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// A text that must not be seen: no `Debug`, no `Display`, no `Serialize`; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    /// Fills it whole, spare room included: every request with a token makes one, and `zeroize` itself goes byte by byte.
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.resize(bytes.capacity(), 0);
        bytes.fill(0);
        zeroize::optimization_barrier(bytes.as_slice());
    }
}

/// Where a secret comes from each time it is needed: a value, or a file that may be rotated.
#[derive(Clone)]
pub struct SecretSource(Arc<dyn Fn() -> Secret + Send + Sync>);

impl SecretSource {
    /// Reads through `read` each time.
    #[must_use]
    pub fn new(read: Arc<dyn Fn() -> Secret + Send + Sync>) -> Self {
        Self(read)
    }

    /// Always this one.
    #[must_use]
    pub fn fixed(secret: Secret) -> Self {
        Self(Arc::new(move || secret.clone()))
    }

    /// The secret as it is now.
    #[must_use]
    pub fn get(&self) -> Secret {
        (self.0)()
    }
}

/// `N` bytes from the system's generator.
///
/// # Panics
/// When the system has no randomness; nothing can be done safely then.
#[must_use]
#[expect(clippy::expect_used, reason = "without randomness nothing may go on")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator answers");
    bytes
}

/// 32 random bytes as base64url: for `state`, `nonce` and `code_verifier` (43 characters, RFC 7636 §4.1).
#[must_use]
pub fn random_token() -> String {
    encode(&random::<32>())
}

/// base64url without padding (RFC 7515 §2).
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The opposite of [`encode`]; `None` for anything else, padding and stray bits included.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The same where the length is known: exactly `N` bytes.
#[must_use]
pub fn decode_exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // The buffer holds no more, so that nothing longer is read.
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == N).then_some(bytes)
}

/// Standard base64 with padding, for `Authorization: Basic` and data URIs.
#[must_use]
pub fn encode_standard(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The opposite of [`encode_standard`]; `None` for anything else.
#[must_use]
pub fn decode_standard(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Compares in a time that does not depend on where the first difference lies.
#[must_use]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    left.ct_eq(right).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_exactly_has_that_length() {
        assert_eq!(decode_exactly(&encode(&[7, 8])), Some([7, 8]));
        assert_eq!(decode_exactly(&encode(&[7, 8, 9])), Some([7, 8, 9]));
        assert_eq!(decode_exactly::<1>(&encode(&[7, 8])), None);
        assert_eq!(decode_exactly::<3>(&encode(&[7, 8])), None);
        // Padding, stray bits, another alphabet.
        for other in ["Bwg=", "Bwh", "B+g"] {
            assert_eq!(decode_exactly::<2>(other), None, "{other}");
        }
    }
}
