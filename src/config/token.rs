//! `[token]`, the endpoint where apps without a browser sign people in. What `[[foreign_token]]` adds to it stands in `foreign_tokens`.

use std::time::Duration;

use super::foreign_tokens::{self, ForeignKind, ForeignToken};
use super::providers::Provider;
use super::reader::Section;
use super::users::Users;
use crate::provider::Binding;
use crate::provider::local::LOCAL;
use crate::request::CanonicalPath;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a session token lives where nothing is said.
pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `[token]`.
#[derive(Clone)]
pub struct TokenEndpoint {
    /// A path of its own beside `{prefix}/token`.
    pub path: Option<String>,
    /// Who checks passwords; `None`: nobody does.
    pub passwords: Option<PasswordsAt>,
    /// Whose tokens are taken.
    pub foreign: Vec<ForeignToken>,
    /// What is given out.
    pub issue: Issue,
    /// Status of `invalid_grant`.
    pub error_status: ErrorStatus,
    /// How long a session token lives.
    pub lifetime: Duration,
}

/// `token.provider`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordsAt {
    /// The accounts in `user` and `users_file`.
    Local,
    /// The provider of this `id`.
    Provider(String),
}

/// `token.issue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// A session token of ours.
    Session,
    /// The provider's own.
    Provider,
}

/// `token.error_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStatus {
    /// 400, as RFC 6749 §5.2 has it.
    BadRequest,
    /// 401, as clients of this kind know it.
    Unauthorized,
}

impl TokenEndpoint {
    /// Whether it gives out sessions of this place's people.
    pub(super) fn gives_sessions_of(&self, id: &str) -> bool {
        let by_password = match &self.passwords {
            Some(PasswordsAt::Local) => id == LOCAL,
            Some(PasswordsAt::Provider(provider)) => id == provider,
            None => false,
        };
        let exchanged = |one: &ForeignToken| matches!(&one.kind, ForeignKind::Exchange { provider, .. } if provider == id);
        self.issue == Issue::Session && (by_password || self.foreign.iter().any(exchanged))
    }
}

/// Both tables.
pub(super) fn read(root: &Section<'_>, prefix: Option<&str>, providers: &[Provider], users: Option<&Users>) -> Option<TokenEndpoint> {
    let foreign = foreign_tokens::read(root, providers, users);
    let there = root.has("token");
    let section = root.section("token");
    let own_path = section.parsed("path", |text| parse_path(text, prefix));
    let provider = section.text("provider");
    let grants = section.parsed_list("grants", |word| match word {
        "password" | "foreign_token" => Ok(word.to_owned()),
        other => Err(format!("expected \"password\" or \"foreign_token\"; found {other:?}")),
    });
    let issue = section.choice("issue", Issue::Session, &[("session", Issue::Session), ("provider", Issue::Provider)]);
    let lifetime = section.duration("lifetime", LIFETIME, MINUTE..=366 * DAY);
    let error_status = match section.number_of("error_status", "a status", 401, 400..=401) {
        400 => ErrorStatus::BadRequest,
        _ => ErrorStatus::Unauthorized,
    };
    section.finish();
    if !there {
        if root.has("foreign_token") {
            root.problem("foreign_token", "is taken at the token endpoint only, and there is none: write [token]");
        }
        return None;
    }
    let named = |grant: &str| grants.as_ref().is_some_and(|grants| grants.iter().any(|one| one == grant));
    let wants_passwords = grants.is_none() || named("password");
    let passwords = if wants_passwords { passwords_at(&section, provider.as_deref(), providers, users) } else { None };
    if !wants_passwords && provider.is_some() {
        section.problem("provider", "says who checks passwords, and grants leaves \"password\" out; remove one of them");
    }
    if named("password") && passwords.is_none() && provider.is_none() {
        section.problem("grants", "names \"password\", and nobody could check one: there is no [[user]] and no users_file; a provider that has the password grant is named by provider = \"ID\"");
    }
    let wants_foreign = grants.is_none() || named("foreign_token");
    if named("foreign_token") && foreign.is_empty() && !root.has("foreign_token") {
        section.problem("grants", "names \"foreign_token\", and there is no [[foreign_token]]");
    }
    if !wants_foreign && root.has("foreign_token") {
        section.problem("grants", "leaves \"foreign_token\" out, and there is a [[foreign_token]]; remove one of them");
    }
    if passwords.is_none() && foreign.is_empty() && !root.has("foreign_token") && provider.is_none() && grants.is_none() {
        section.problem("", "has nothing to sign in with: write [[user]], users_file, provider = \"ID\" (a provider that has the password grant), or [[foreign_token]]");
    }
    if issue == Issue::Provider {
        if section.has("lifetime") {
            section.problem("lifetime", "is that of session tokens, and issue = \"provider\" gives out the provider's; remove one of them");
        }
        if passwords == Some(PasswordsAt::Local) {
            section.problem(
                "issue",
                "is \"provider\", and local accounts have no tokens to pass on; name the provider, provider = \"ID\", or leave issue out",
            );
        }
        if let Some(provider) = providers.iter().filter(|provider| provider.binding == Binding::Dpop).find(|provider| {
            let exchanged = |one: &ForeignToken| matches!(&one.kind, ForeignKind::Exchange { provider: id, .. } if *id == provider.id);
            passwords == Some(PasswordsAt::Provider(provider.id.clone())) || foreign.iter().any(exchanged)
        }) {
            section.problem(
                "issue",
                format!("is \"provider\", and dpop = true of provider {:?} binds its tokens to a key that only the gateway has; remove one of them", provider.id),
            );
        }
        if let Some(one) = foreign.iter().find(|one| one.issuer().is_some()) {
            section.problem(
                "issue",
                format!(
                    "is \"provider\", and foreign_token {:?} has no token of a provider to pass on; only kind = \"exchange\" has",
                    one.id
                ),
            );
        }
    }
    Some(TokenEndpoint { path: own_path, passwords, foreign, issue, error_status, lifetime })
}

fn passwords_at(section: &Section<'_>, named: Option<&str>, providers: &[Provider], users: Option<&Users>) -> Option<PasswordsAt> {
    match named {
        None => users.map(|_| PasswordsAt::Local),
        Some(LOCAL) if users.is_some() => Some(PasswordsAt::Local),
        Some(id) if providers.iter().any(|provider| provider.id == id) => Some(PasswordsAt::Provider(id.to_owned())),
        Some(id) => {
            let ids = providers.iter().map(|provider| provider.id.as_str()).chain(users.map(|_| LOCAL)).collect::<Vec<_>>();
            section.problem("provider", format!("expected one of {}; found {id:?}", ids.join(", ")));
            None
        }
    }
}

fn parse_path(text: &str, prefix: Option<&str>) -> Result<String, String> {
    let expected = || format!("expected a path such as \"/oauth/token\", written as it is asked for; found {text:?}");
    let canonical = CanonicalPath::parse(text).map_err(|_| expected())?;
    if !text.starts_with('/') || text == "/" || canonical.as_str() != text {
        return Err(expected());
    }
    match prefix {
        Some(prefix) if canonical.under(prefix).is_some() => {
            Err(format!("lies under prefix {prefix:?}, where {prefix}/token is already; leave it out, or choose another place"))
        }
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
