//! `/.well-known/oauth-protected-resource`: what a resource says of itself (RFC 9728), so that a program that knows nothing but the resource finds whom to
//! ask for a token. Public. Only for paths that a route with bearer tokens reaches; everywhere else the path is the app's own.
//!
//! The resource that a challenge names is the route's path, not the request's: it is what a program tells the provider when it asks for a token
//! (RFC 8707), and must be the same for all that the token is good for. The metadata of a deeper path names that path, as RFC 9728 §3.3 wants it.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, HeaderName, HeaderValue,
};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Served, Visit};
use crate::credential::CredentialKind;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::request::{CanonicalPath, Preflight, RequestFacts};
use crate::respond::bare;
use crate::route::{Accept, Access, Bound, PathPattern, Route, TokenPlace};
use crate::token::Algorithm;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The answer, where the request is for metadata that is ours to give.
pub(super) fn answered(visit: &Visit<'_>) -> Option<Served> {
    let facts = visit.facts;
    let rest = facts.path.under(WELL_KNOWN)?;
    let resource = CanonicalPath::parse(if rest.is_empty() { "/" } else { rest }).ok()?;
    let route =
        visit.gateway.routes.reached(&facts.host, &resource, facts.known_address).find(|route| route.takes(CredentialKind::Bearer))?;
    // An app that says it itself has a route of its own for it.
    let own = visit.gateway.routes.reached(&facts.host, &facts.path, facts.known_address).next();
    if own.is_some_and(|route| matches!(&route.path, PathPattern::Prefix(prefix) if prefix.starts_with(WELL_KNOWN))) {
        return None;
    }
    Some(answer(visit, route, rest))
}

fn answer(visit: &Visit<'_>, route: &Route, rest: &str) -> Served {
    let facts = visit.facts;
    let mut served = match facts.method {
        Method::GET | Method::HEAD => match document(visit, route, rest) {
            Some(document) => Served::new(visit.reply().json(&document), Reason::Endpoint),
            None => visit.refuse(&Fault::new(Reason::HostUnknown, "the host has no outside URL")),
        },
        // A browser asks first when a script adds a header of its own, such as `MCP-Protocol-Version`.
        Method::OPTIONS if facts.preflight == Preflight::Yes => {
            let mut served = Served::new(bare(StatusCode::NO_CONTENT), Reason::Endpoint);
            let headers = served.response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
            served
        }
        _ => {
            let fault = Fault::new(Reason::MethodNotAllowed, format!("{} is not taken here", facts.method));
            let mut served = visit.refuse(&fault);
            served.response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            served
        }
    };
    // It holds nothing that is not public, and nobody's credential has a part in it.
    let headers = served.response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    served
}

/// RFC 9728 §2. Members without a value are left out (§3.2).
fn document(visit: &Visit<'_>, route: &Route, rest: &str) -> Option<Value> {
    let accept = route.accept()?;
    // §3.3: what the client put the well-known part into, to the last byte.
    let query = visit.facts.query.iter().map(|query| format!("?{query}")).collect::<String>();
    let mut document = Map::new();
    document.insert("resource".to_owned(), json!(format!("{}{rest}{query}", origin(visit.gateway, visit.facts)?)));
    let mut list = |name: &str, items: Vec<&str>| {
        if !items.is_empty() {
            document.insert(name.to_owned(), json!(items));
        }
    };
    list("authorization_servers", issuers(visit, route, accept));
    if let Access::Protected(_, policy) = &route.access {
        list("scopes_supported", policy.scopes().into_iter().collect());
    }
    list("bearer_methods_supported", methods(accept));
    // A token that is bound is held to that everywhere; here is told what has to be.
    if accept.binding.dpop == Bound::Required {
        list("dpop_signing_alg_values_supported", Algorithm::DEFAULT.map(Algorithm::as_str).to_vec());
        document.insert("dpop_bound_access_tokens_required".to_owned(), json!(true));
    }
    if accept.binding.certificate == Bound::Required {
        document.insert("tls_client_certificate_bound_access_tokens".to_owned(), json!(true));
    }
    Some(Value::Object(document))
}

/// The issuers whose tokens can count here, in the order of the config.
fn issuers<'a>(visit: &Visit<'a>, route: &Route, accept: &Accept) -> Vec<&'a str> {
    let allowed = |issuer: &str| match &route.access {
        Access::Protected(_, policy) => policy.may_hold_for(issuer),
        Access::Public | Access::Optional(_) => true,
    };
    let issuers = visit.gateway.settings.token_issuers.iter().map(String::as_str);
    issuers.filter(|issuer| accept.takes_provider(issuer) && allowed(issuer)).collect()
}

/// RFC 9728 §2, `bearer_methods_supported`: it has words for these three only.
fn methods(accept: &Accept) -> Vec<&'static str> {
    let known = [(TokenPlace::Authorization, "header"), (TokenPlace::Body, "body"), (TokenPlace::Query, "query")];
    known.into_iter().filter(|(place, _)| accept.reads_tokens_in(place)).map(|(_, word)| word).collect()
}

/// Where the resource that this request is for says so, for `resource_metadata` of a challenge (§5.1). `None` where it takes no bearer tokens, or
/// where nobody is named who issues them.
pub(super) fn url(visit: &Visit<'_>, route: Option<&Route>) -> Option<String> {
    let route = route.filter(|route| route.takes(CredentialKind::Bearer))?;
    if issuers(visit, route, route.accept()?).is_empty() {
        return None;
    }
    let path = match &route.path {
        PathPattern::Prefix(prefix) => prefix.as_str(),
        // There is no path that all its requests share.
        PathPattern::Regex(_) => visit.facts.path.as_str(),
    };
    Some(format!("{}{WELL_KNOWN}{path}", origin(visit.gateway, visit.facts)?))
}

/// The outside URL of the request's host, without the slash at its end.
fn origin(gateway: &super::Gateway, facts: &RequestFacts) -> Option<String> {
    let base = gateway.settings.sites.base(&facts.host)?;
    Some(base.as_str().trim_end_matches('/').to_owned())
}
