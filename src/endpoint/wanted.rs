//! What is said where nobody can sign in: nobody is asked to.

use crate::credential::CredentialKind;
use crate::respond::Words;
use crate::route::Route;

/// What this route takes, for whoever came with nothing.
pub(super) fn words(route: &Route) -> Words {
    match route.accept() {
        Some(accept) if accept.takes(CredentialKind::Bearer) => TOKEN_WANTED,
        Some(accept) if accept.kinds == [CredentialKind::Certificate] => CERTIFICATE_WANTED,
        _ => SECRET_WANTED,
    }
}

const TOKEN_WANTED: Words = Words {
    headline: "For programs only",
    text: "This address takes a Bearer token. There is nothing to sign in to here.",
    error: "token_required",
};

/// The same where passwords or keys are taken and no tokens.
const SECRET_WANTED: Words = Words {
    headline: "For programs only",
    text: "This address takes a password or a key with each request. There is no page to sign in on.",
    error: "credential_required",
};

/// The same where certificates are all there is.
const CERTIFICATE_WANTED: Words = Words {
    headline: "With a certificate only",
    text: "This address takes a client certificate, which is shown as the connection begins. There is nothing to sign in to here.",
    error: "certificate_required",
};
