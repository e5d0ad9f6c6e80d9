//! What can be put into a header.

use std::sync::Arc;

use super::{HeaderFile, TokensToTell};
use crate::fault::Fault;
use crate::identity::{ClaimPath, Groups, Identity, texts};
use crate::secret::Secret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `{user}`, as `X-Forwarded-User` tells it.
    User,
    /// `{email}`, where it counts.
    Email,
    /// `{groups}`.
    Groups,
    /// `{claims.PATH}`.
    Claim(ClaimPath),
    /// `{access_token}`.
    AccessToken,
    /// `{id_token}`.
    IdToken,
    /// `{session.expires_at}`, in Unix seconds.
    SessionEnd,
    /// `{file:PATH}`.
    File(HeaderFile),
}

/// What was found there.
pub(super) enum Found {
    Text(String),
    List(Vec<String>),
    /// Of a file: it stands in the header as it is, or not at all.
    Verbatim(Arc<Secret>),
}

impl Found {
    /// As one text, for what is encoded as a whole.
    pub(super) fn raw(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
            Self::Verbatim(secret) => secret.expose().to_owned(),
        }
    }
}

impl Source {
    /// `None`: there is nothing of it.
    pub(super) fn find(&self, identity: &Identity, tokens: TokensToTell<'_>) -> Result<Option<Found>, Fault> {
        Ok(match self {
            Self::User => Some(Found::Text(identity.user.to_string())),
            Self::Email => sound_email(identity).map(|address| Found::Text(address.to_owned())),
            Self::Groups => match &identity.groups {
                Groups::Listed(list) if !list.is_empty() => Some(Found::List(list.iter().map(ToString::to_string).collect())),
                Groups::Listed(_) | Groups::Overage => None,
            },
            Self::Claim(path) => path.find(&identity.claims).map(texts).filter(|items| !items.is_empty()).map(Found::List),
            Self::AccessToken => tokens.access_token.map(|token| Found::Text(token.expose().to_owned())),
            Self::IdToken => tokens.id_token.filter(|token| !token.is_empty()).map(|token| Found::Text(token.to_owned())),
            Self::SessionEnd => tokens.session_ends_at.map(|at| Found::Text(at.0.to_string())),
            Self::File(file) => Some(Found::Verbatim(file.text()?)),
        })
    }
}

/// What no policy would take for an address is not told as one (GHSA-c5c4).
pub(in crate::header) fn sound_email(identity: &Identity) -> Option<&str> {
    identity.email.verified().filter(|address| address.matches('@').count() == 1 && !address.contains(char::is_whitespace))
}
