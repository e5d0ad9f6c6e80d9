//! Codes of an authenticator app: TOTP (RFC 6238) with SHA-1, six digits and steps of 30 seconds, which is what every app understands.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::secret::{Secret, random, same};

/// Seconds (RFC 6238 §5.2).
pub(super) const STEP: u64 = 30;
/// RFC 4226 §4, R6: a shared secret has at least 128 bits.
const LEAST_BYTES: usize = 16;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an authenticator app and we both know.
pub struct TotpKey(Zeroizing<Vec<u8>>);

impl TotpKey {
    /// Reads base32 (RFC 4648 §6) as apps show it: any case, blanks and padding do not count.
    ///
    /// # Errors
    /// What was expected; never a part of the secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(64));
        let (mut held, mut bits) = (0_u32, 0_u32);
        for letter in text.trim_end_matches('=').bytes().filter(|byte| !matches!(byte, b' ' | b'-')) {
            let value = ALPHABET.iter().position(|known| *known == letter.to_ascii_uppercase());
            let value = value.and_then(|value| u32::try_from(value).ok()).ok_or("is no base32: expected letters and the digits 2 to 7")?;
            held = held << 5 | value;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(u8::try_from(held >> bits & 0xff).unwrap_or_default());
                held &= (1 << bits) - 1;
            }
        }
        if bytes.len() < LEAST_BYTES {
            return Err(
                "is too short: at least 26 characters of base32 are needed (128 bits); make one with `doorward hash-password --totp NAME`",
            );
        }
        Ok(Self(bytes))
    }

    /// A new one in base32: 160 bits, as RFC 4226 §4 recommends.
    #[must_use]
    pub fn make() -> Secret {
        // A step of the alphabet has 5 bits: the upper three of each byte are not needed, and what is left is even.
        Secret::new(
            random::<32>().iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31))).map(|c| char::from(*c)).collect::<String>(),
        )
    }

    /// The step that this code is of: now's, or one to either side, since clocks differ and people type slowly (RFC 6238 §5.2). All three are
    /// compared, whichever fits.
    #[must_use]
    pub fn step_of(&self, code: &str, now: UnixTime) -> Option<u64> {
        let step = now.0 / STEP;
        let mut found = None;
        for step in [step.saturating_sub(1), step, step.saturating_add(1)] {
            if same(self.code_at(step).as_bytes(), code.as_bytes()) {
                found = Some(step);
            }
        }
        found
    }

    /// RFC 4226 §5.3, with the step for the counter (RFC 6238 §4.2).
    pub(super) fn code_at(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
        let piece: [u8; 4] = tag.get(offset..offset + 4).and_then(|piece| piece.try_into().ok()).unwrap_or_default();
        format!("{:06}", (u32::from_be_bytes(piece) & 0x7fff_ffff) % 1_000_000)
    }
}

/// What an authenticator app reads, usually as a QR code.
#[must_use]
pub fn otpauth(name: &str, secret: &Secret) -> Secret {
    let escape = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    Secret::new(format!("otpauth://totp/Doorward:{}?secret={}&issuer=Doorward", escape(name), secret.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `12345678901234567890`, the secret of RFC 6238's appendix B, in base32.
    const KEY: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    #[test]
    fn the_codes_of_rfc_6238_appendix_b() {
        let key = TotpKey::parse(KEY).ok().unwrap();
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(key.code_at(time / STEP), code);
            assert_eq!(key.step_of(code, UnixTime(time)), Some(time / STEP));
        }
    }

    #[test]
    fn a_code_counts_one_step_early_and_late_and_no_longer() {
        let key = TotpKey::parse(KEY).ok().unwrap();
        let step = 1_111_111_109 / STEP;
        let at = |step: u64| UnixTime(step * STEP + 7);
        for (now, expected) in [(step - 2, None), (step - 1, Some(step)), (step, Some(step)), (step + 1, Some(step)), (step + 2, None)] {
            assert_eq!(key.step_of("081804", at(now)), expected);
        }
        for code in ["", "081805", "81804", "0818040", "08180４"] {
            assert_eq!(key.step_of(code, at(step)), None, "{code}");
        }
    }

    #[test]
    fn secrets_are_read_as_apps_show_them_and_short_ones_are_refused() {
        let bytes = |text: &str| TotpKey::parse(text).ok().map(|key| key.0.to_vec());
        assert_eq!(bytes(KEY).unwrap(), b"12345678901234567890");
        assert_eq!(bytes("gezd gnbv gy3t qojq gezd gnbv gy3t qojq"), bytes(KEY));
        assert_eq!(bytes(&format!("{KEY}====")), bytes(KEY));
        for text in ["", "GEZDGNBVGY3TQOJQ", "0EZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ=Q"] {
            assert!(bytes(text).is_none(), "{text}");
        }
        let made = TotpKey::make();
        assert_eq!(bytes(made.expose()).unwrap().len(), 20);
        assert!(made != TotpKey::make());
    }

    #[test]
    fn the_address_for_an_app_escapes_the_name() {
        let address = otpauth("ann b@x", &Secret::new(KEY));
        assert_eq!(address.expose(), format!("otpauth://totp/Doorward:ann%20b%40x?secret={KEY}&issuer=Doorward"));
    }
}
