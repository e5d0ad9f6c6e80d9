//! `[[foreign_token]]`: tokens of others that the token endpoint takes.

use std::collections::BTreeSet;

use url::Url;

use super::gateway::is_loopback;
use super::idle;
use super::outgoing::read_outgoing_tls;
use super::provider_claims::read_groups;
use super::providers::{Provider, claim, parse_id, path};
use super::reader::Section;
use super::secret_file;
use super::users::Users;
use crate::identity::{ClaimMapping, ClaimPath, EmailVerification};
use crate::provider::direct::TokenIn;
use crate::provider::local::LOCAL;
use crate::provider::tls::TlsSettings;
use crate::secret::{Secret, SecretSource};

/// Parameters of a token request that are ours or those of OAuth 2.0: no foreign token stands in them.
const TAKEN: [&str; 8] = ["grant_type", "username", "password", "otp", "scope", "client_id", "client_secret", "refresh_token"];

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
    /// The TLS of the calls.
    pub tls: TlsSettings,
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

pub(super) fn read(root: &Section<'_>, providers: &[Provider], users: Option<&Users>) -> Vec<ForeignToken> {
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
        groups: read_groups(section),
        email_verification: section.choice(
            "email_verified",
            EmailVerification::Required,
            &[("required", EmailVerification::Required), ("if-present", EmailVerification::IfPresent)],
        ),
    };
    idle::warn_of_email_claim(section, Some(mapping.email_verification));
    if is(Word::Exchange) {
        for key in ["user_claim", "email_claim", "groups_claim", "email_verified", "tls"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "is that of the provider, whose people these are; remove it");
        }
    }
    let tls = read_outgoing_tls(section);
    let called = [("check_url", Word::Check), ("graph_url", Word::Facebook)].into_iter().filter(|(_, word)| is(*word));
    let called: Vec<String> = called.filter(|(key, _)| section.has(key)).filter_map(|(key, _)| section.secret_text(key)).collect();
    idle::tls_beside_http(section, called.iter().map(String::as_str));
    section.finish();
    let id = id?;
    let kind = match kind? {
        Word::Facebook => facebook?,
        Word::Check => check?,
        Word::Exchange => exchange?,
    };
    let parameter = parameter.unwrap_or_else(|| format!("{id}_token"));
    Some(ForeignToken { parameter, id, kind, mapping, tls })
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
