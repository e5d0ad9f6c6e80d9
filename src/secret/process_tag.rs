//! Tags that this process alone makes and sees.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::random;

/// Makes tags by which this process knows bytes again: a third of SHA-256's cost. AES-256-GMAC (NIST SP 800-38D §3) under a key that is made by
/// chance at the start and leaves no memory but this. The nonce is always the same, which is sound only because nobody ever sees a tag: it is
/// written, sent and stored nowhere.
pub struct ProcessTags(LessSafeKey);

impl ProcessTags {
    /// With a key of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::with_key(&random())
    }

    #[expect(clippy::expect_used, reason = "the length is AES-256's")]
    fn with_key(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes")))
    }

    /// The tag of these bytes; `None` if none could be made, and then nothing may be known by it.
    #[must_use]
    pub fn of(&self, bytes: &[u8]) -> Option<[u8; 16]> {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(bytes), &mut []).ok()?;
        tag.as_ref().try_into().ok()
    }
}

impl Default for ProcessTags {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_that_of_its_bytes_under_its_key() {
        // The Galois/Counter Mode of Operation (McGrew, Viega), appendix B, test case 13: AES-256, all zero, nothing to seal.
        let zero = ProcessTags::with_key(&[0; 32]);
        assert_eq!(zero.of(b"").unwrap(), [0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9, 0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b]);
        let tags = ProcessTags::new();
        assert_eq!(tags.of(b"token"), tags.of(b"token"));
        assert_ne!(tags.of(b"token"), tags.of(b"Token"));
        assert_ne!(tags.of(b"token"), tags.of(b"token\0"));
        assert_ne!(tags.of(b"token"), ProcessTags::new().of(b"token"));
    }
}
