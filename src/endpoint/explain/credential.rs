//! Which credential counts, in words: nothing of it is opened, and nothing of it is told.

use crate::credential::{Authentication, Credential, CredentialKind, TokenScheme};
use crate::header::cookies::CookieStyle;
use crate::identity::{Groups, Identity};
use crate::route::{Accept, Bound, Route};

use super::told::{Shown, Who};

/// What is said where a credential was given and nobody was supposed.
pub(super) const NOT_OPENED: &str =
    "nothing is opened here: --as says whose it is. A bad one is 401, a cookie that opens nothing counts as none";

/// Who is supposed to be there.
pub struct Supposed<'a> {
    /// By what they are known; `None`: by what the request shows, else by the first that the route takes.
    pub kind: Option<CredentialKind>,
    /// Who that is on a route, known by this. An error says what was expected instead.
    pub who: &'a dyn Fn(&Route, CredentialKind) -> Result<Authentication, String>,
}

/// What is there, by its word in `accept`.
pub(super) fn described(credential: &Credential, accept: &Accept, style: &CookieStyle) -> Shown {
    let (kind, found) = match credential {
        Credential::None => (None, "none that this route reads".to_owned()),
        Credential::Unreadable(_) => (None, "one that cannot be read".to_owned()),
        Credential::Session(cookies) if cookies.len() > 1 => {
            (Some(CredentialKind::Session), format!("{} cookies {}", cookies.len(), style.session))
        }
        Credential::Session(_) => (Some(CredentialKind::Session), format!("the cookie {}", style.session)),
        Credential::Token(shown) => {
            let scheme = if shown.scheme == TokenScheme::Dpop { "a DPoP token" } else { "a bearer token" };
            (Some(CredentialKind::Bearer), scheme.to_owned())
        }
        Credential::Password(_) => (Some(CredentialKind::Basic), "a name and a password in Authorization".to_owned()),
        Credential::ApiKey(_) => (Some(CredentialKind::ApiKey), format!("an API key in {}", accept.api_key_header)),
        Credential::Certificate => (Some(CredentialKind::Certificate), "the certificate of whoever connects".to_owned()),
    };
    Shown { kind: kind.map(CredentialKind::as_str), found }
}

/// By what the supposed one is known.
///
/// # Errors
/// Where the request shows something else, or the route does not take it.
pub(super) fn supposed_kind(credential: &Credential, accept: &Accept, supposed: &Supposed<'_>) -> Result<CredentialKind, String> {
    let shown = match credential {
        Credential::None | Credential::Unreadable(_) => None,
        Credential::Session(_) => Some(CredentialKind::Session),
        Credential::Token(_) => Some(CredentialKind::Bearer),
        Credential::Password(_) => Some(CredentialKind::Basic),
        Credential::ApiKey(_) => Some(CredentialKind::ApiKey),
        Credential::Certificate => Some(CredentialKind::Certificate),
    };
    let session = accept.takes(CredentialKind::Session).then_some(CredentialKind::Session);
    let kind = match (shown, supposed.kind) {
        (Some(shown), Some(wanted)) if shown != wanted => {
            return Err(format!(
                "--kind {}: the headers show a credential of kind {}, and that one counts",
                wanted.as_str(),
                shown.as_str()
            ));
        }
        (Some(kind), _) | (None, Some(kind)) => Some(kind),
        (None, None) => session.or(accept.kinds.first().copied()),
    };
    let kind = kind.filter(|kind| accept.takes(*kind));
    let takes = || accept.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    kind.ok_or_else(|| format!("--kind: expected one that the route accepts ({})", takes()))
}

/// What a token has to be bound to beside its claims.
pub(super) fn binding_note(kind: CredentialKind, accept: &Accept) -> Option<String> {
    let bound = match (accept.binding.dpop, accept.binding.certificate) {
        (Bound::Required, Bound::Required) => "a DPoP key and a certificate",
        (Bound::Required, _) => "a DPoP key",
        (_, Bound::Required) => "a certificate",
        _ => return None,
    };
    (kind == CredentialKind::Bearer)
        .then(|| format!("the route takes tokens alone that are bound to {bound}; that the proof is there is supposed too"))
}

/// Somebody, as their claims are read.
pub(super) fn who(identity: &Identity) -> Who {
    use crate::identity::Email;
    let email = match &identity.email {
        Email::Absent => None,
        Email::Verified(address) | Email::Unverified(address) => Some(address.to_string()),
    };
    Who {
        provider: identity.source.id().to_owned(),
        issuer: identity.issuer.to_string(),
        sub: identity.sub.to_string(),
        user: identity.user.to_string(),
        email,
        email_verified: identity.email.verified().is_some(),
        groups: match &identity.groups {
            Groups::Listed(groups) => Some(groups.iter().map(ToString::to_string).collect()),
            Groups::Overage => None,
        },
        scopes: identity.scopes.iter().map(str::to_owned).collect(),
    }
}
