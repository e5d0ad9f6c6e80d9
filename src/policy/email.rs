//! E-mail addresses as policies compare them.

/// An address with exactly one `@`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

impl EmailAddress {
    /// `None` unless it has exactly one `@`, something before it, a domain of sound labels after it, and neither spaces, quotes nor control
    /// bytes (GHSA-c5c4: `a@evil.com@company.com`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (local, domain) = text.split_once('@')?;
        let plain = |byte: u8| byte > b' ' && byte != 0x7f && !matches!(byte, b'"' | b'\\' | b',' | b';' | b'<' | b'>' | b'(' | b')');
        let sound = !local.is_empty() && local.bytes().all(plain) && !domain.contains('@') && is_domain(domain) && text.len() <= 320;
        let at = local.len();
        sound.then_some(Self { text, at })
    }

    /// What follows the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// The whole address, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether `text` is a domain: labels of letters, digits, `-` and `_` (or beyond ASCII), none empty.
#[must_use]
pub(super) fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (!c.is_ascii() && c.is_alphanumeric()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_at_and_sound_labels() {
        assert_eq!(EmailAddress::parse("Ann@Company.COM").unwrap().domain(), "company.com");
        for text in [
            "a@evil.com@company.com",
            "a@company.com ",
            " a@company.com",
            "a@company.com\0.evil.com",
            "@company.com",
            "a@",
            "a",
            "",
            "a@company..com",
            "a@.company.com",
            "a@company.com.",
            "\"a@b\"@company.com",
            "a b@company.com",
            "a@comp any.com",
            "a@company.com\r\n",
            "a@company.com,b@company.com",
        ] {
            assert_eq!(EmailAddress::parse(text), None, "{text:?}");
        }
    }
}
