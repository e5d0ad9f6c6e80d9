//! `[[route]]`, and `upstream` + `allow` at the top as short for one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::api_keys::{API_KEY, ApiKeys};
use super::assertion;
use super::idle;
use super::outbound::Outbounds;
use super::policies::{CERTIFICATE, Sources, read_allow, read_deny};
use super::providers::parse_id;
use super::reader::Section;
use super::route_answers;
use super::route_dry_run;
use super::route_parts::read_asks;
use super::token_issuers::TokenIssuer;
use super::token_places::{self, Bearer};
use super::users::SignInAt;
use super::{route_group, route_headers, route_leg};
use crate::authenticate::CertificateName;
use crate::credential::CredentialKind;
use crate::policy::{Policy, Rule};
use crate::provider::local::LOCAL;
use crate::provider::tls::TlsSettings;
use crate::route::{
    Accept, Access, EncodedSlash, HostPattern, PathPattern, PreflightRule, Route, RouteAudience, RouteTable, TokenPlace, UpstreamId,
};
use crate::upstream::{GroupSettings, UpstreamAddress};

/// The routes and what they name.
#[derive(Clone)]
pub struct Routes {
    /// Arranged for look-up.
    pub table: RouteTable,
    /// By [`UpstreamId`].
    pub upstreams: Vec<Upstream>,
    /// Named policies.
    pub policies: BTreeMap<String, Arc<Policy>>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its addresses, of one kind; at least one.
    pub entries: Vec<route_group::Entry>,
    /// Whom to trust there, and who we are; for https.
    pub tls: TlsSettings,
    /// How requests are spread over them.
    pub settings: GroupSettings,
}

impl Upstream {
    /// The first of its addresses: what they are is of one kind.
    #[must_use]
    pub fn address(&self) -> Option<&UpstreamAddress> {
        self.entries.first().map(|entry| &entry.address)
    }

    /// Whether requests to either may come to the same address.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.entries.iter().any(|entry| other.entries.iter().any(|known| known.address == entry.address))
    }
}

struct Known<'a> {
    providers: &'a [SignInAt],
    token_issuers: &'a [TokenIssuer],
    certificates: Option<CertificateName>,
    policies: &'a BTreeMap<String, Arc<Policy>>,
    api_keys: Option<&'a ApiKeys>,
    outbounds: &'a Outbounds,
    upstreams: std::cell::RefCell<Vec<Upstream>>,
}

pub(super) fn read(
    root: &Section<'_>,
    providers: &[SignInAt],
    token_issuers: &[TokenIssuer],
    policies: &BTreeMap<String, Arc<Policy>>,
    api_keys: Option<&ApiKeys>,
    outbounds: &Outbounds,
    certificates: Option<CertificateName>,
) -> Option<Routes> {
    let known = Known { providers, token_issuers, certificates, policies, api_keys, outbounds, upstreams: Default::default() };
    let sections = root.sections("route");
    let [upstream, allow] = ["upstream", "allow"].map(|key| root.has(key));
    let short = upstream || allow;
    let mut routes = Vec::new();
    let mut sound = true;
    if short && !sections.is_empty() {
        root.problem("upstream", "stands beside [[route]]: upstream and allow at the top are short for one route; move them into a route");
        sound = false;
    } else if short {
        match known.short_route(root) {
            Some(route) => routes.push(route),
            None => sound = false,
        }
    } else if sections.is_empty() {
        root.problem(
            "upstream",
            "is missing: the app behind the gateway, such as upstream = \"http://127.0.0.1:8080\" (or write [[route]])",
        );
        sound = false;
    }
    let mut ids = BTreeSet::new();
    for (index, section) in sections.iter().enumerate() {
        match known.route(section, index) {
            Some(route) => {
                if !ids.insert(route.id.clone()) {
                    section.problem("id", format!("{:?} names another route already", route.id));
                    sound = false;
                }
                routes.push(route);
            }
            None => sound = false,
        }
    }
    match RouteTable::new(routes) {
        Ok(table) if sound => {
            let upstreams = known.upstreams.into_inner();
            route_leg::refuse_open_doors(root, &table, &upstreams);
            route_group::refuse_two_limits(root, &table, &upstreams);
            route_answers::warn_of_static(root, table.routes(), &upstreams);
            Some(Routes { table, upstreams, policies: policies.clone() })
        }
        Ok(_) => None,
        Err(ties) => {
            for tie in ties {
                root.problem("route", format!("{tie}; give one of them other methods, other networks (client), another host or path"));
            }
            None
        }
    }
}

impl Known<'_> {
    const fn sources(&self) -> Sources<'_> {
        Sources::new(self.providers, self.token_issuers, self.api_keys, self.certificates)
    }

    fn accept(&self, kinds: Vec<CredentialKind>) -> Accept {
        let accept = Accept::of(kinds);
        match self.api_keys {
            Some(keys) => Accept { api_key_header: keys.header.clone(), ..accept },
            None => accept,
        }
    }

    fn short_route(&self, root: &Section<'_>) -> Option<Route> {
        let upstream = self.upstream(root);
        let kinds = self.default_kinds(root);
        let sources = self.sources().on_route(Some(&kinds), None);
        if !root.has("allow") {
            root.problem("allow", "is missing: nobody is allowed by silence; write who, such as [allow] email_domains = [\"example.com\"], or allow = \"any-authenticated\" when that is meant");
        }
        let policy = if root.has("allow") { read_allow(root, "app", &sources) } else { None };
        if !root.has("upstream") {
            root.problem("upstream", "is missing: the app behind the gateway, such as \"http://127.0.0.1:8080\"");
        }
        let accept = self.accept(kinds);
        Some(Route { upstream: Some(upstream?), ..Route::new("app", 0, Access::Protected(accept, policy?)) })
    }

    fn route(&self, section: &Section<'_>, index: usize) -> Option<Route> {
        let id = section.parsed("id", parse_id).unwrap_or_else(|| format!("route-{index}"));
        let host = if section.has("host") { section.parsed("host", HostPattern::parse) } else { Some(HostPattern::Any) };
        let path = match (section.has("path"), section.has("path_regex")) {
            (true, true) => {
                section.problem("path_regex", "stands beside path; give one of them");
                None
            }
            (_, true) => section.parsed("path_regex", PathPattern::regex),
            (true, false) => section.parsed("path", PathPattern::prefix),
            (false, false) => Some(PathPattern::Prefix(String::new())),
        };
        let methods = section.parsed_list("methods", |text| {
            let method = Method::from_bytes(text.as_bytes()).ok().filter(|method| method.as_str() == method.as_str().to_ascii_uppercase());
            method.ok_or_else(|| format!("expected methods in capitals, such as [\"GET\", \"POST\"]; found {text:?}"))
        });
        let upstream = self.upstream(section);
        let access = self.access(section, &id);
        let asks = read_asks(section);
        let origins = section.parsed_list("origins", route_answers::parse_origin);
        let preflight =
            section.choice("preflight", PreflightRule::Judge, &[("judge", PreflightRule::Judge), ("pass", PreflightRule::Pass)]);
        let encoded_slash =
            section.choice("encoded_slash", EncodedSlash::Refuse, &[("refuse", EncodedSlash::Refuse), ("keep", EncodedSlash::Keep)]);
        let headers = route_headers::read(section, access.as_ref());
        let identity_headers = route_headers::read_identity(section, access.as_ref());
        let networks = super::route_client::read_networks(section);
        let (login, scopes) = super::route_login::read(section, access.as_ref());
        let deny = self.deny(section, &id, access.as_ref());
        let dry_run = route_dry_run::read(section, access.as_ref(), deny.as_deref());
        let (cors_origins, denied) = (route_answers::read_cors_origins(section), route_answers::read_denied(section));
        let permit_lines = route_answers::read_log(section);
        let outbound = self.outbounds.of_route(section, access.as_ref(), &headers);
        let assertion = assertion::of_route(section, &id);
        let addresses = upstream.and_then(|at| self.upstreams.borrow().get(at.0).map(|upstream| upstream.entries.clone()));
        let address = addresses.as_deref().and_then(|entries| entries.first()).map(|entry| &entry.address);
        super::route_http2::refuse_websockets(section, address);
        let leg = route_leg::read(section, path.as_ref(), addresses.as_deref(), access.as_ref());
        let timeouts = route_group::read_timeouts(section, address);
        idle::of_route(section, access.as_ref());
        section.finish();
        Some(Route {
            host: host?,
            path: path?,
            methods,
            networks,
            upstream,
            deny,
            asks,
            login,
            scopes,
            cors_origins,
            denied,
            permit_lines,
            preflight,
            encoded_slash,
            origins: origins.unwrap_or_default().into_iter().collect(),
            identity_headers,
            headers,
            dry_run,
            outbound,
            assertion,
            leg,
            timeouts,
            ..Route::new(id, index, access?)
        })
    }

    /// `deny`: a table as for `allow`, judged before it.
    fn deny(&self, section: &Section<'_>, id: &str, access: Option<&Access>) -> Option<Arc<Policy>> {
        let accept = match access {
            Some(Access::Protected(accept, _)) => Some(accept),
            Some(Access::Public | Access::Optional(_)) if section.has("deny") => {
                section.problem("deny", "stands beside access, which lets everybody in who shows nothing; write allow instead of access");
                None
            }
            _ => None,
        };
        let kinds = accept.map(|accept| accept.kinds.as_slice());
        let sources = self.sources().on_route(kinds, accept.and_then(|accept| accept.providers.as_deref()));
        read_deny(section, id, &sources)
    }

    fn upstream(&self, section: &Section<'_>) -> Option<UpstreamId> {
        let upstream = route_group::read(section, !section.path().is_empty())?;
        let mut upstreams = self.upstreams.borrow_mut();
        let at = upstreams.iter().position(|known| *known == upstream).unwrap_or_else(|| {
            upstreams.push(upstream);
            upstreams.len() - 1
        });
        Some(UpstreamId(at))
    }

    fn access(&self, section: &Section<'_>, id: &str) -> Option<Access> {
        let word = section.text("access");
        let providers = section.list("provider");
        let providers = providers.map(|names| self.vouching(section, names));
        let tokens_of = |names: &Vec<String>| {
            let of_place = |place: &SignInAt| place.shows.contains(&CredentialKind::Bearer) && names.contains(&place.id);
            self.token_issuers.iter().any(|issuer| names.contains(&issuer.issuer)) || self.providers.iter().any(of_place)
        };
        let takes_tokens = section.list("accept").is_some_and(|kinds| kinds.iter().any(|kind| kind == "bearer"));
        if takes_tokens && providers.as_ref().is_some_and(|names| !tokens_of(names)) {
            section.problem(
                "provider",
                "names no issuer of tokens, and the route accepts \"bearer\": add the issuer, or take \"bearer\" out of accept",
            );
        }
        for (kind, id) in [("basic", LOCAL), (API_KEY, API_KEY)] {
            let takes = section.list("accept").is_some_and(|kinds| kinds.iter().any(|taken| taken == kind));
            if takes && providers.as_ref().is_some_and(|names| !names.iter().any(|name| name == id)) {
                section
                    .problem("provider", format!("lacks {id:?}, and the route accepts {kind:?}: add it, or take {kind:?} out of accept"));
            }
        }
        let audience = section.list("audience").map_or(RouteAudience::OfIssuer, |names| RouteAudience::AnyOf(names.into()));
        let named = ["accept", "allow", "policy", "bearer_in"].into_iter().filter(|key| section.has(key)).collect::<Vec<_>>();
        let kinds = self.kinds(section);
        let public = word.as_deref() == Some("public");
        let bearer = if !public && kinds.as_ref().is_some_and(|kinds| !kinds.contains(&CredentialKind::Bearer)) {
            Bearer::NotTaken
        } else {
            Bearer::Taken
        };
        let keys_in =
            self.api_keys.map(|keys| &keys.header).filter(|_| kinds.as_ref().is_some_and(|kinds| kinds.contains(&CredentialKind::ApiKey)));
        let bearer_in = token_places::read(section, bearer, keys_in).unwrap_or_else(|| vec![TokenPlace::Authorization]);
        let binding = super::binding::read(section, kinds.as_deref());
        let sources = self.sources().on_route(kinds.as_deref(), providers.as_deref());
        let allow = if section.has("allow") { read_allow(section, id, &sources) } else { None };
        let policy = section.text("policy").and_then(|name| {
            let found = self.policies.get(&name).cloned();
            if found.is_none() {
                let names = self.policies.keys().cloned().collect::<Vec<_>>().join(", ");
                section.problem(
                    "policy",
                    format!("{name:?} names no [policy.NAME]; there is {}", if names.is_empty() { "none" } else { &names }),
                );
            }
            found
        });
        match word.as_deref() {
            Some("public") => {
                if let Some(key) = named.first() {
                    section.problem(key, "stands beside access = \"public\", which reads no credential; remove one of them");
                }
                Some(Access::Public)
            }
            Some("optional") => {
                if let Some(key) = named.iter().find(|key| !matches!(**key, "accept" | "bearer_in")) {
                    section.problem(key, "stands beside access = \"optional\", which lets everybody in; remove one of them");
                }
                Some(Access::Optional(Accept { audience, providers, bearer_in, binding, ..self.accept(kinds?) }))
            }
            Some(other) => {
                section.problem("access", format!("expected \"public\" or \"optional\" (or allow instead); found {other:?}"));
                None
            }
            None => {
                let policy = match (allow, policy) {
                    (Some(allow), Some(named)) => {
                        let rule = Rule::All(vec![named.rule.clone(), allow.rule.clone()]);
                        Some(Arc::new(Policy { id: format!("{} and {id}", named.id), rule }))
                    }
                    (allow, named) => allow.or(named),
                };
                if policy.is_none() && !section.has("allow") && !section.has("policy") {
                    section.problem("allow", "is missing: nobody is allowed by silence; write who, allow = \"any-authenticated\" when that is meant, or access = \"public\"");
                }
                Some(Access::Protected(Accept { audience, providers, bearer_in, binding, ..self.accept(kinds?) }, policy?))
            }
        }
    }

    /// `provider` of a route: ids of providers and issuers of tokens. A provider that issues tokens as well vouches for both.
    fn vouching(&self, section: &Section<'_>, mut names: Vec<String>) -> Vec<String> {
        let issuers = || self.token_issuers.iter().map(|issuer| issuer.issuer.as_str());
        let ours = self.api_keys.map(|_| API_KEY).into_iter().chain(self.certificates.map(|_| CERTIFICATE));
        let known: Vec<&str> = self.providers.iter().map(|provider| provider.id.as_str()).chain(issuers()).chain(ours).collect();
        for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
            section.problem("provider", format!("expected one of {}; found {name:?}", known.join(", ")));
        }
        let also = self.providers.iter().filter(|provider| names.contains(&provider.id)).map(|provider| provider.issuer.clone());
        let also: Vec<String> = also.filter(|issuer| issuers().any(|known| known == issuer)).collect();
        names.extend(also);
        names
    }

    fn kinds(&self, section: &Section<'_>) -> Option<Vec<CredentialKind>> {
        if !section.has("accept") {
            return Some(self.default_kinds(section));
        }
        let kinds = section.parsed_list("accept", |word| match word {
            "session" => Ok(CredentialKind::Session),
            "bearer" => Ok(CredentialKind::Bearer),
            "basic" => Ok(CredentialKind::Basic),
            API_KEY => Ok(CredentialKind::ApiKey),
            CERTIFICATE => Ok(CredentialKind::Certificate),
            other => Err(format!("expected \"session\", \"bearer\", \"basic\", \"api_key\" or \"certificate\"; found {other:?}")),
        })?;
        if kinds.contains(&CredentialKind::Session) && !self.shows(CredentialKind::Session) {
            section.problem("accept", "takes \"session\", but there is no [provider] to sign in at, and no [[user]] or users_file");
        }
        if kinds.contains(&CredentialKind::Bearer) && self.token_issuers.is_empty() && !self.shows(CredentialKind::Bearer) {
            section.problem(
                "accept",
                "takes \"bearer\", but there is no [[token_issuer]] whose tokens could be checked, and no [token] that gives out its own",
            );
        }
        if kinds.contains(&CredentialKind::Basic) && !self.providers.iter().any(|provider| provider.id == LOCAL) {
            section.problem("accept", "takes \"basic\", but there is no [[user]] and no users_file whose passwords could be checked");
        }
        if kinds.contains(&CredentialKind::ApiKey) && self.api_keys.is_none() {
            section.problem("accept", "takes \"api_key\", but there is no [api_keys] with a file of keys");
        }
        Some(kinds)
    }

    /// Whether people of some place have this to show.
    fn shows(&self, kind: CredentialKind) -> bool {
        self.providers.iter().any(|place| place.shows.contains(&kind))
    }

    /// Sessions where people can sign in; bearer tokens, or else API keys, where that is all there is.
    fn default_kinds(&self, section: &Section<'_>) -> Vec<CredentialKind> {
        if self.shows(CredentialKind::Session) {
            vec![CredentialKind::Session]
        } else if !self.token_issuers.is_empty() || self.shows(CredentialKind::Bearer) {
            vec![CredentialKind::Bearer]
        } else if self.api_keys.is_some() {
            vec![CredentialKind::ApiKey]
        } else {
            if section.path().is_empty() || !section.has("access") {
                section.problem(
                    "accept",
                    "there is neither a [provider], nor [[user]] or users_file, nor a [[token_issuer]]: nobody could be let in",
                );
            }
            vec![CredentialKind::Session]
        }
    }
}
