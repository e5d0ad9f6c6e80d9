//! Parts of a `[[route]]` that stand by themselves: what its logins have to be worth, and which headers nobody may set.

use http::HeaderName;

use super::reader::Section;
use crate::login::Asked;

/// `acr` and `max_age`.
pub(super) fn read_asks(section: &Section<'_>) -> Asked {
    let acr = section.list("acr");
    if acr.as_ref().is_some_and(|names| names.is_empty() || names.iter().any(|name| !sound_acr(name))) {
        section.problem("acr", "expected names of what a login is worth, such as [\"mfa\"]: one at least, without spaces or quotes");
    }
    let age = section.has("max_age").then(|| section.number_of("max_age", "seconds as a whole number", 0, 0..=MAX_AGE));
    for (key, there) in [("acr", acr.is_some()), ("max_age", age.is_some())] {
        if there && section.has("access") {
            section.problem(key, "stands beside access, which lets people in who did not sign in at all; remove one of them");
        }
    }
    Asked { acr: acr.unwrap_or_default(), max_age: age }
}

/// The longest `max_age`: a year.
const MAX_AGE: u64 = 366 * 24 * 60 * 60;

/// `acr_values` is a list with spaces between (OpenID Connect Core §3.1.2.1), and it stands in quotes in a challenge (RFC 9470 §3).
fn sound_acr(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// Headers that frame or route a message: no claim may write them.
pub(super) fn reserved(name: &HeaderName) -> bool {
    use http::header as h;
    let fixed =
        [h::HOST, h::CONTENT_LENGTH, h::TRANSFER_ENCODING, h::CONNECTION, h::UPGRADE, h::TE, h::TRAILER, h::COOKIE, h::EXPECT, h::ORIGIN];
    fixed.contains(name) || name.as_str().contains('_')
}
