//! What the operator's own headers say: text, and what is known of somebody put into it.
//!
//! `parse` reads a template, `source` says what can be put in, `form` in which form it stands there, `file` is for secrets that lie in
//! files.

mod file;
mod form;
mod parse;
mod source;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderName;

pub use file::HeaderFile;
pub use form::encode_value;
pub(super) use form::{Comma, encode};
pub use parse::OpenFile;
pub(super) use source::sound_email;

use crate::clock::UnixTime;
use crate::fault::Fault;
use crate::identity::{ClaimPath, Identity};
use crate::reason::Reason;
use crate::secret::{Secret, encode_standard};
use crate::session::Session;
use form::Form;
use source::{Found, Source};

/// A header of the operator's own naming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// Its name; stripped from requests on all routes, `Authorization` on those that set it.
    pub name: HeaderName,
    /// What it says.
    pub template: HeaderTemplate,
}

/// Literal text, and what stands in braces: `{user}`, `{claims.PATH|join(;)}`, `{file:/run/secrets/key}`,
/// `{basic:{user}:/run/secrets/password}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value(Source, Form),
    /// `Basic` and the credentials (RFC 7617 §2): a name, and the password that a file holds.
    Basic(Vec<Piece>, HeaderFile),
}

/// What a session holds beside an identity, or the token that a caller showed, for templates that tell it.
#[derive(Clone, Copy, Default)]
pub struct TokensToTell<'a> {
    /// `{access_token}`.
    pub access_token: Option<&'a Secret>,
    /// `{id_token}`.
    pub id_token: Option<&'a str>,
    /// `{session.expires_at}`.
    pub session_ends_at: Option<UnixTime>,
}

impl<'a> TokensToTell<'a> {
    /// Those that a session holds.
    #[must_use]
    pub fn of(session: &'a Session) -> Self {
        Self {
            access_token: session.tokens.as_ref().map(|tokens| &tokens.access_token),
            id_token: Some(&session.id_token),
            session_ends_at: Some(session.ends_at),
        }
    }

    /// Of a caller without a session: the token that they showed.
    #[must_use]
    pub const fn shown(token: Option<&'a Secret>) -> Self {
        Self { access_token: token, id_token: None, session_ends_at: None }
    }
}

impl HeaderTemplate {
    /// Whether it tells a token of the provider's.
    #[must_use]
    pub fn tells_tokens(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::AccessToken | Source::IdToken))
    }

    /// Whether it tells the access token.
    #[must_use]
    pub fn tells_access_token(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::AccessToken))
    }

    /// Whether what it says is nobody's to see but the upstream's.
    #[must_use]
    pub(super) fn tells_secrets(&self) -> bool {
        self.tells_tokens() || self.files().next().is_some()
    }

    /// The files that it tells of.
    pub(super) fn files(&self) -> impl Iterator<Item = &HeaderFile> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(Source::File(file), _) | Piece::Basic(_, file) => Some(file),
            Piece::Value(..) | Piece::Literal(_) => None,
        })
    }

    /// The claims that it tells.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.sources().filter_map(|source| if let Source::Claim(path) = source { Some(path) } else { None })
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter_map(|piece| if let Piece::Value(source, _) = piece { Some(source) } else { None })
    }

    /// The value for somebody, printable ASCII; `None` when something is missing, so that no half-filled header is sent.
    ///
    /// # Errors
    /// [`Reason::HeaderFileUnreadable`], [`Reason::BasicNameUnfit`].
    pub(super) fn render(&self, identity: &Identity, tokens: TokensToTell<'_>) -> Result<Option<String>, Fault> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Value(source, form) => match source.find(identity, tokens)? {
                    Some(found) => form.put(&found, &mut out)?,
                    None => return Ok(None),
                },
                Piece::Basic(name, password) => match basic(name, password, identity, tokens)? {
                    Some(credentials) => {
                        out.push_str("Basic ");
                        out.push_str(&credentials);
                    }
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(out))
    }
}

fn basic(name: &[Piece], password: &HeaderFile, identity: &Identity, tokens: TokensToTell<'_>) -> Result<Option<String>, Fault> {
    let mut user = String::new();
    for piece in name {
        match piece {
            Piece::Literal(text) => user.push_str(text),
            Piece::Value(source, _) => match source.find(identity, tokens)? {
                Some(Found::List(items)) if items.len() != 1 => return Err(unfit("is a list of several")),
                Some(found) => user.push_str(&found.raw()),
                None => return Ok(None),
            },
            Piece::Basic(..) => {}
        }
    }
    // The app would read another name and another password out of it (RFC 7617 §2).
    if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        return Err(unfit("is empty, or holds a colon or a control character"));
    }
    let password: Arc<Secret> = password.text()?;
    let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
    Ok(Some(encode_standard(pair.as_bytes())))
}

fn unfit(why: &str) -> Fault {
    Fault::new(Reason::BasicNameUnfit, format!("the name {why}, which Basic cannot carry"))
}
