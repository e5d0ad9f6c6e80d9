//! `[outbound.NAME]`: tokens that the gateway obtains for upstreams.

use std::cell::Cell;

use http::HeaderName;
use http::header::AUTHORIZATION;
use url::Url;

use super::client_auth::read_client_auth;
use super::gateway::is_loopback;
use super::idle;
use super::outgoing::read_outgoing_tls;
use super::providers::{Provider, parse_id, parse_scope, read_issuer};
use super::reader::Section;
use super::route_parts::reserved;
use crate::credential::CredentialKind;
use crate::header::HeaderRule;
use crate::provider::ClientAuthentication;
use crate::provider::tls::TlsSettings;
use crate::route::{Access, InNameOf, OutboundId, ProofFate, RouteOutbound};

/// One table.
#[derive(Clone)]
pub struct Outbound {
    /// NAME.
    pub name: String,
    /// Whose token it is.
    pub in_name_of: InNameOf,
    /// Who gives it.
    pub place: OutboundPlace,
    /// Our registration there.
    pub client_id: String,
    /// How we prove ourselves.
    pub client_auth: ClientAuthentication,
    /// `scope`.
    pub scope: Vec<String>,
    /// `audience`.
    pub audience: Vec<String>,
    /// `resource`.
    pub resource: Vec<String>,
    /// The header it goes into.
    pub header: HeaderName,
    /// The TLS of the call; with a provider, the provider's.
    pub tls: TlsSettings,
}

/// Who gives a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundPlace {
    /// The `[provider]` of this id.
    Provider(String),
    /// The issuer whose document says where.
    Issuer(String),
    /// This token endpoint.
    Url(Url),
}

/// All tables, as routes and listeners name them.
pub(super) struct Outbounds {
    pub(super) all: Vec<Outbound>,
    /// Which of them something names.
    used: Vec<Cell<bool>>,
}

pub(super) fn read(root: &Section<'_>, providers: &[Provider]) -> Outbounds {
    let all: Vec<Outbound> =
        root.named_sections("outbound").iter().filter_map(|(name, section)| read_one(name, section, providers)).collect();
    Outbounds { used: all.iter().map(|_| Cell::new(false)).collect(), all }
}

impl Outbounds {
    /// The table that `outbound` of `section` names.
    pub(super) fn named(&self, section: &Section<'_>) -> Option<(usize, &Outbound)> {
        let name = section.text("outbound")?;
        let found = self.all.iter().position(|outbound| outbound.name == name);
        let Some((index, outbound)) = found.and_then(|index| Some((index, self.all.get(index)?))) else {
            let names = self.all.iter().map(|outbound| outbound.name.as_str()).collect::<Vec<_>>().join(", ");
            section.problem(
                "outbound",
                format!("{name:?} names no [outbound.NAME]; there is {}", if names.is_empty() { "none" } else { &names }),
            );
            return None;
        };
        if let Some(used) = self.used.get(index) {
            used.set(true);
        }
        Some((index, outbound))
    }

    /// `outbound`, held against what else the route says.
    pub(super) fn of_route(&self, section: &Section<'_>, access: Option<&Access>, headers: &[HeaderRule]) -> Option<RouteOutbound> {
        let (index, outbound) = self.named(section)?;
        if headers.iter().any(|rule| rule.name == outbound.header) {
            section.problem("headers", format!("sets {}, and so does outbound; remove one of them", outbound.header));
        }
        let accept = match access {
            Some(Access::Optional(accept) | Access::Protected(accept, _)) => Some(accept),
            Some(Access::Public) | None => None,
        };
        if outbound.header == AUTHORIZATION && accept.is_some_and(|accept| accept.binding.proof == ProofFate::Forwarded) {
            section.problem(
                "dpop_proof",
                "sends the caller's token on in Authorization, and outbound puts another one there; remove one of them",
            );
        }
        match (outbound.in_name_of, access) {
            (InNameOf::Caller, Some(Access::Public)) => {
                section.problem("outbound", "is a token_exchange, and a public route reads no token to exchange; take another outbound, or let the route accept something");
            }
            (InNameOf::Caller, Some(Access::Optional(accept) | Access::Protected(accept, _)))
                if !accept.takes(CredentialKind::Session) && !accept.takes(CredentialKind::Bearer) =>
            {
                section.problem(
                    "outbound",
                    "is a token_exchange, and nothing that the route accepts is a token: add \"session\" or \"bearer\" to accept",
                );
            }
            (InNameOf::Gateway, Some(Access::Public)) => {
                section.warning("outbound", "is added to everybody's requests here: the route is public");
            }
            (InNameOf::Gateway, Some(Access::Optional(_))) => {
                section.warning("outbound", "is added to everybody's requests here: a credential is optional");
            }
            _ => {}
        }
        Some(RouteOutbound { id: OutboundId(index), in_name_of: outbound.in_name_of })
    }

    /// A table that nothing names does nothing: whoever wrote it meant something.
    pub(super) fn warn_of_unused(&self, root: &Section<'_>) {
        for (outbound, _) in self.all.iter().zip(&self.used).filter(|(_, used)| !used.get()) {
            root.warning(
                "outbound",
                format!("{:?} is named by no [[route]] and no [[outgoing]]: its token is never obtained", outbound.name),
            );
        }
    }
}

fn read_one(name: &str, section: &Section<'_>, providers: &[Provider]) -> Option<Outbound> {
    if let Err(wrong) = parse_id(name) {
        section.problem("", wrong);
    }
    let kinds = [("client_credentials", InNameOf::Gateway), ("token_exchange", InNameOf::Caller)];
    let in_name_of = section.choice("kind", InNameOf::Gateway, &kinds);
    let provider = section.text("provider");
    let issuer = if section.has("issuer") { read_issuer(section) } else { None };
    let url = section.parsed("token_endpoint", parse_endpoint);
    let named = ["provider", "issuer", "token_endpoint"].into_iter().filter(|key| section.has(key)).collect::<Vec<_>>();
    match named.as_slice() {
        [_] => {}
        [] => section.problem(
            "provider",
            "is missing: who gives the token, as the id of a [provider], or issuer = \"https://login.example.com\", or token_endpoint = \"https://login.example.com/token\"",
        ),
        [_, more, ..] => section.problem(more, "stands beside another way to say who gives the token; give one of provider, issuer and token_endpoint"),
    }
    let of = provider.as_ref().and_then(|id| {
        let found = providers.iter().find(|provider| provider.id == *id);
        if found.is_none() {
            let ids = providers.iter().map(|provider| provider.id.as_str()).collect::<Vec<_>>().join(", ");
            let there = if ids.is_empty() { "none" } else { &ids };
            section.problem("provider", format!("{id:?} is the id of no [provider]; there is {there}"));
        }
        found
    });
    let tls = read_outgoing_tls(section);
    if section.has("tls") && provider.is_some() {
        section.problem("tls", "stands beside provider, whose own tls counts; remove it here");
    }
    if provider.is_none() {
        idle::tls_beside_http(section, issuer.as_deref().or(url.as_ref().map(Url::as_str)));
    }
    let tls = of.map_or(tls, |provider| provider.tls.clone());
    let at = issuer.as_deref().or(of.map(|provider| provider.issuer.as_str())).or(url.as_ref().map(Url::as_str));
    let registration = read_registration(section, provider.is_some(), of, &tls, at);
    let scope = section.parsed_list("scope", parse_scope).unwrap_or_default();
    let audience = section.list("audience").unwrap_or_default();
    let resource = section.parsed_list("resource", parse_resource).unwrap_or_default();
    if in_name_of == InNameOf::Caller && !section.has("audience") && !section.has("resource") {
        section.problem("audience", "is missing: for whom the caller's token is exchanged, such as audience = \"orders\" (or resource = \"https://orders.example.com\")");
    }
    let header = section.parsed("header", |text| match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if !reserved(&name) => Ok(name),
        _ => Err(format!("expected a header's name that frames nothing, such as \"Authorization\"; found {text:?}")),
    });
    section.finish();
    let place = match (provider, issuer, url) {
        (Some(id), None, None) => OutboundPlace::Provider(id),
        (None, Some(issuer), None) => OutboundPlace::Issuer(issuer),
        (None, None, Some(url)) => OutboundPlace::Url(url),
        _ => return None,
    };
    let (client_id, client_auth) = registration?;
    Some(Outbound {
        name: name.to_owned(),
        in_name_of,
        place,
        client_id,
        client_auth,
        scope,
        audience,
        resource,
        header: header.unwrap_or(AUTHORIZATION),
        tls,
    })
}

/// As whom we ask: as the provider knows us for logins, unless the table says otherwise.
fn read_registration(
    section: &Section<'_>,
    by_provider: bool,
    of: Option<&Provider>,
    tls: &TlsSettings,
    at: Option<&str>,
) -> Option<(String, ClientAuthentication)> {
    const PROOF: [&str; 7] =
        ["client_auth", "client_secret", "client_secret_file", "key_file", "key_id", "key_algorithm", "assertion_audience"];
    // All are asked for, so that none is taken for a stranger.
    let there = PROOF.into_iter().filter(|key| section.has(key)).collect::<Vec<_>>();
    let proof = there.first().copied();
    match (section.text("client_id"), proof) {
        (None, None) if by_provider => of.map(|provider| (provider.client_id.clone(), provider.client_auth.clone())),
        (Some(client_id), _) => Some((client_id, read_client_auth(section, tls, at))),
        (None, Some(_)) if section.has("client_id") => None,
        (None, Some(key)) => {
            section.problem("client_id", format!("is missing beside {key}; for example: client_id = \"gateway\""));
            None
        }
        (None, None) if section.has("client_id") => None,
        (None, None) => {
            section.problem("client_id", "is missing; for example: client_id = \"gateway\" (with provider, the provider's own counts)");
            None
        }
    }
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("expected a URL such as \"https://login.example.com/token\"; found {text:?}"))?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without fragment and credentials (RFC 6749 §3.2)".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("expected https: secret and token would cross the network in the clear".to_owned()),
        other => Err(format!("expected https; found {other}")),
    }
}

/// RFC 8707 §2: an absolute URI without a fragment.
fn parse_resource(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if url.fragment().is_none() => Ok(text.to_owned()),
        _ => Err(format!("expected an absolute URI without a fragment, such as \"https://orders.example.com\"; found {text:?}")),
    }
}
