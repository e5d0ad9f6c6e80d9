//! `[token]`, the endpoint where apps without a browser sign people in, and `[[foreign_token]]`, the tokens of others that it takes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::gateway::is_loopback;
use super::providers::{Provider, claim, parse_id, path, read_outgoing_tls};
use super::reader::Section;
use super::secret_file;
use super::users::Users;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification};
use crate::provider::direct::TokenIn;
use crate::provider::local::LOCAL;
use crate::request::CanonicalPath;
use crate::secret::{Secret, SecretSource};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a session token lives where nothing is said.
pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Parameters of a token request that are ours or those of OAuth 2.0: no foreign token stands in them.
const TAKEN: [&str; 8] = ["grant_type", "username", "password", "otp", "scope", "client_id", "client_secret", "refresh_token"];

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

/// A `[[foreign_token]]`.
#[derive(Clone)]
pub struct ForeignToken {
    /// Its name in routes and rules.
    pub id: String,
    /// Which parameter holds such a token.
    pub parameter: String,
    /// How it is checked.
    pub kind: ForeignKind,
    /// Which claims say what.
    pub mapping: ClaimMapping,
    /// A CA beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// `kind` of a `[[foreign_token]]`, with the keys that belong to it.
#[derive(Clone)]
pub enum ForeignKind {
    /// Facebook's Graph API.
    Facebook {
        /// Our application there.
        app_id: String,
        /// Its secret.
        app_secret: SecretSource,
        /// Where the API is.
        graph_url: Url,
    },
    /// A URL that says what it knows of a token.
    Check {
        /// Where.
        check_url: Url,
        /// Where the token stands in the question.
        token_in: TokenIn,
        /// Where the answer says for whom it was issued.
        audience_claim: ClaimPath,
        /// Our registrations.
        audience: Vec<String>,
        /// Where the answer says whose it is.
        sub_claim: ClaimPath,
        /// Where the answer says when it ends.
        expires_claim: Option<ClaimPath>,
    },
    /// Token exchange at a provider of ours (RFC 8693).
    Exchange {
        /// Its `id`.
        provider: String,
        /// `subject_token_type`.
        subject_token_type: String,
        /// What else it wants to be told.
        parameters: Vec<(String, String)>,
    },
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

impl ForeignToken {
    /// The issuer of its people; `None` for an exchange, whose people are the provider's.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        match &self.kind {
            ForeignKind::Facebook { graph_url: url, .. } | ForeignKind::Check { check_url: url, .. } => {
                Some(url.origin().ascii_serialization())
            }
            ForeignKind::Exchange { .. } => None,
        }
    }
}

/// Word by which `kind` is chosen; its own keys are read whichever it is, so that a key of another kind is told as that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Facebook,
    Check,
    Exchange,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Facebook => "facebook",
            Self::Check => "check",
            Self::Exchange => "exchange",
        }
    }

    /// The keys that only this kind has.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Facebook => &["app_id", "app_secret", "app_secret_file", "graph_url"],
            Self::Check => &["check_url", "token_in", "audience_claim", "audience", "sub_claim", "expires_claim"],
            Self::Exchange => &["provider", "subject_token_type", "parameters"],
        }
    }
}

/// Both tables.
pub(super) fn read(root: &Section<'_>, prefix: Option<&str>, providers: &[Provider], users: Option<&Users>) -> Option<TokenEndpoint> {
    let foreign = read_foreign(root, providers, users);
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
    let error_status = match section.number("error_status", 401, 400..=401) {
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

fn read_foreign(root: &Section<'_>, providers: &[Provider], users: Option<&Users>) -> Vec<ForeignToken> {
    let (mut ids, mut parameters) = (BTreeSet::new(), BTreeSet::new());
    let mut all = Vec::new();
    for section in &root.sections("foreign_token") {
        let Some(one) = read_one(section, providers) else { continue };
        let known = providers.iter().any(|provider| provider.id == one.id) || (users.is_some() && one.id == LOCAL);
        if known || !ids.insert(one.id.clone()) {
            section.problem("id", format!("{:?} names a provider or another foreign_token already", one.id));
        }
        if !parameters.insert(one.parameter.clone()) {
            section.problem("parameter", format!("{:?} is that of another foreign_token already", one.parameter));
        }
        all.push(one);
    }
    all
}

fn read_one(section: &Section<'_>, providers: &[Provider]) -> Option<ForeignToken> {
    let words = [Word::Facebook, Word::Check, Word::Exchange];
    if !section.has("kind") {
        section
            .problem("kind", "is missing: \"facebook\", \"check\" (a URL that says what it knows of a token) or \"exchange\" (RFC 8693)");
    }
    let kind = section.parsed("kind", |text| {
        let found = words.into_iter().find(|word| word.as_str() == text);
        found.ok_or_else(|| format!("expected \"facebook\", \"check\" or \"exchange\"; found {text:?}"))
    });
    for word in words {
        for key in word.keys() {
            if section.has(key) && kind.is_some_and(|kind| kind != word) {
                section.problem(key, format!("belongs to kind = {:?}; remove it", word.as_str()));
            }
        }
    }
    let id = section.required_text("id", "facebook").and_then(|_| section.parsed("id", parse_id));
    let parameter = section.parsed("parameter", |text| {
        let sound = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if !sound {
            return Err(format!("expected a parameter's name such as \"facebook_token\"; found {text:?}"));
        }
        if TAKEN.contains(&text) {
            Err(format!("{text:?} has a meaning of its own in a token request; choose another"))
        } else {
            Ok(text.to_owned())
        }
    });
    let is = |word| kind == Some(word);
    let facebook = read_facebook(section, is(Word::Facebook));
    let check = read_check(section, is(Word::Check));
    let exchange = read_exchange(section, is(Word::Exchange), providers);
    let mapping = ClaimMapping {
        user: claim(section, "user_claim").unwrap_or_else(|| path("sub")),
        email: Some(claim(section, "email_claim").unwrap_or_else(|| path("email"))),
        groups: claim(section, "groups_claim"),
        email_verification: section.choice(
            "email_verified",
            EmailVerification::Required,
            &[("required", EmailVerification::Required), ("if-present", EmailVerification::IfPresent)],
        ),
    };
    if is(Word::Exchange) {
        for key in ["user_claim", "email_claim", "groups_claim", "email_verified", "tls"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "is that of the provider, whose people these are; remove it");
        }
    }
    let ca_file = read_outgoing_tls(section);
    section.finish();
    let id = id?;
    let kind = match kind? {
        Word::Facebook => facebook?,
        Word::Check => check?,
        Word::Exchange => exchange?,
    };
    let parameter = parameter.unwrap_or_else(|| format!("{id}_token"));
    Some(ForeignToken { parameter, id, kind, mapping, ca_file })
}

fn read_facebook(section: &Section<'_>, needed: bool) -> Option<ForeignKind> {
    let app_id = if needed { section.required_text("app_id", "138483919580948") } else { section.text("app_id") };
    let app_secret = secret_file::read(section, "app_secret", 16);
    if needed && app_secret.is_none() && !section.has("app_secret") && !section.has("app_secret_file") {
        section.problem("app_secret_file", "is missing; for example: app_secret_file = \"/run/secrets/facebook_app_secret\"");
    }
    let graph_url = section.parsed("graph_url", parse_url);
    if app_id.as_ref().is_some_and(|id| id.contains('|')) {
        section.problem("app_id", "expected the number that Facebook gave your app");
    }
    let standard = || Url::parse("https://graph.facebook.com").ok();
    let graph_url = if section.has("graph_url") { graph_url } else { standard() };
    let app_secret = app_secret.unwrap_or_else(|| SecretSource::fixed(Secret::new(String::new())));
    Some(ForeignKind::Facebook { app_id: app_id?, app_secret, graph_url: graph_url? })
}

fn read_check(section: &Section<'_>, needed: bool) -> Option<ForeignKind> {
    if needed {
        section.required_text("check_url", "https://login.example.com/tokeninfo");
        section.required_text("token_in", "query:id_token");
        if !section.has("audience") {
            section.problem("audience", "is missing: what the answer calls your application, such as audience = [\"my-app\"]; a token that was issued for another one would else be as good");
        }
    }
    let check_url = section.parsed("check_url", parse_url);
    let token_in = section.parsed("token_in", TokenIn::parse);
    let audience = section.list("audience");
    let audience_claim = claim(section, "audience_claim").unwrap_or_else(|| path("aud"));
    let sub_claim = claim(section, "sub_claim").unwrap_or_else(|| path("sub"));
    let expires_claim = claim(section, "expires_claim");
    Some(ForeignKind::Check { check_url: check_url?, token_in: token_in?, audience_claim, audience: audience?, sub_claim, expires_claim })
}

fn read_exchange(section: &Section<'_>, needed: bool, providers: &[Provider]) -> Option<ForeignKind> {
    let type_of_access_tokens = "urn:ietf:params:oauth:token-type:access_token";
    if needed {
        section.required_text("provider", "corp");
        section.required_text("subject_token_type", type_of_access_tokens);
    }
    let provider = section.parsed("provider", |id| {
        let known = providers.iter().any(|provider| provider.id == id);
        let ids = || providers.iter().map(|provider| provider.id.as_str()).collect::<Vec<_>>().join(", ");
        if known { Ok(id.to_owned()) } else { Err(format!("expected the id of a provider, one of {}; found {id:?}", ids())) }
    });
    let subject_token_type = section.parsed("subject_token_type", |text| {
        // RFC 8693 §3: token type identifiers are URIs.
        if Url::parse(text).is_ok() {
            Ok(text.to_owned())
        } else {
            Err(format!("expected a URI such as {type_of_access_tokens:?}; found {text:?}"))
        }
    });
    let parameters = section.texts("parameters");
    for (name, _) in &parameters {
        let own = ["grant_type", "subject_token", "subject_token_type", "scope", "client_id", "client_secret"];
        if own.contains(&name.as_str()) {
            section.problem("parameters", format!("holds {name:?}, which the exchange sets itself"));
        }
    }
    Some(ForeignKind::Exchange { provider: provider?, subject_token_type: subject_token_type?, parameters })
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

/// Tokens and secrets are sent there.
fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("expected a URL such as \"https://graph.facebook.com\"; found {text:?}"))?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without fragment and credentials".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("expected https: tokens would be sent in the clear".to_owned()),
        other => Err(format!("expected https; found {other}")),
    }
}

#[cfg(test)]
mod tests;
