//! What `Authorization` holds, by its scheme (RFC 9110 §11.4). A scheme that the route does not read is the app's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::credential::{Credential, CredentialKind, PresentedPassword, PresentedToken, TokenScheme};
use crate::fault::Fault;
use crate::header::after_scheme;
use crate::reason::Reason;
use crate::route::Accept;
use crate::secret::Secret;

/// The credential in an `Authorization` value; `None`: none that this route reads.
pub(super) fn credential(value: &[u8], accept: &Accept, token_bytes: usize) -> Option<Credential> {
    let scheme = |name, kind| if accept.takes_in_authorization(kind) { after_scheme(value, name) } else { None };
    if let Some(rest) = scheme("bearer", CredentialKind::Bearer) {
        return Some(token(rest, TokenScheme::Bearer, token_bytes));
    }
    if let Some(rest) = scheme("dpop", CredentialKind::Bearer) {
        return Some(token(rest, TokenScheme::Dpop, token_bytes));
    }
    if let Some(rest) = scheme("basic", CredentialKind::Basic) {
        return Some(password(rest));
    }
    None
}

/// One space and a `b64token` (RFC 6750 §2.1), which is what RFC 9449 §7.1 calls `token68`.
fn token(rest: &[u8], scheme: TokenScheme, token_bytes: usize) -> Credential {
    let token = std::str::from_utf8(rest).unwrap_or_default().trim_start_matches(' ');
    if !rest.starts_with(b" ") || !is_b64token(token) {
        return unreadable("expected the scheme, one space and a token (RFC 6750 section 2.1)");
    }
    presented(token, scheme, token_bytes)
}

/// A token of bounded length.
pub(super) fn presented(token: &str, scheme: TokenScheme, token_bytes: usize) -> Credential {
    if token.len() > token_bytes {
        return unreadable(&format!("a token of {} bytes, the limit is {token_bytes}", token.len()));
    }
    Credential::Token(PresentedToken { token: Secret::new(token), scheme })
}

/// `b64token` (RFC 6750 §2.1).
pub(super) fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    // Without a way out half-way, so that it is done many bytes at a time: tokens are long, and come with every request.
    !body.is_empty() && body.bytes().fold(true, |sound, byte| sound & is_b64token_byte(byte))
}

fn is_b64token_byte(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // `-`, `.`, `/` and the digits stand in a row.
    let digit_or_near = byte.wrapping_sub(b'-') < 13;
    letter | digit_or_near | (byte == b'_') | (byte == b'~') | (byte == b'+')
}

/// base64 of a name, a colon and a password, in UTF-8 and without control characters (RFC 7617 §2, §2.1).
fn password(rest: &[u8]) -> Credential {
    let decode = || {
        let encoded = std::str::from_utf8(rest.strip_prefix(b" ")?).ok()?.trim_matches(' ');
        let text = Secret::new(String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?);
        let (name, password) = text.expose().split_once(':')?;
        let sound = !text.expose().chars().any(char::is_control);
        sound.then(|| PresentedPassword { name: name.to_owned(), password: Secret::new(password) })
    };
    decode().map_or_else(
        || unreadable("expected Basic, one space and base64 of a name, a colon and a password (RFC 7617 section 2)"),
        Credential::Password,
    )
}

fn unreadable(detail: &str) -> Credential {
    Credential::Unreadable(Fault::new(Reason::AuthorizationMalformed, detail))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_colon_ends_the_name(name in "[^:\\p{Cc}]{0,20}", password in "\\PC{0,20}", noise: Vec<u8>) {
            let accept = Accept::of(vec![CredentialKind::Basic]);
            let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            let Some(Credential::Password(read)) = credential(value.as_bytes(), &accept, 64) else { panic!("{value}") };
            prop_assert_eq!((read.name, read.password.expose()), (name, password.as_str()));
            // Whatever else comes is refused or another's, and never a panic.
            let noise = [b"basic ".as_slice(), &noise].concat();
            let read = credential(&noise, &accept, 64);
            prop_assert!(matches!(read, Some(Credential::Unreadable(_) | Credential::Password(_))));
        }
    }

    #[test]
    fn basic_is_a_name_and_a_password_of_text() {
        let accept = Accept::of(vec![CredentialKind::Basic]);
        let read = |text: &str| match credential(text.as_bytes(), &accept, 64) {
            Some(Credential::Password(PresentedPassword { name, password })) => format!("{name}|{}", password.expose()),
            Some(Credential::Unreadable(fault)) => fault.reason.to_string(),
            _ => "none".to_owned(),
        };
        let basic = |text: &str| read(&format!("basic {}", STANDARD.encode(text)));
        assert_eq!(basic("ann:secret:with:colons"), "ann|secret:with:colons");
        assert_eq!(basic("zoë:pässword"), "zoë|pässword");
        assert_eq!(basic(":"), "|");
        for broken in ["nocolon", "ann:pass\nword", "ann\u{7f}:x", "an\0n:x"] {
            assert_eq!(basic(broken), "authorization-malformed", "{broken:?}");
        }
        for broken in ["Basic", "Basic !", "Basic\tYTpi", "Basic YTpi YTpi", "Basic YTpi,"] {
            assert_eq!(read(broken), "authorization-malformed", "{broken}");
        }
        assert_eq!(read("Bearer YTpi"), "none");
        assert_eq!(read("Basically YTpi"), "none");
    }
}
