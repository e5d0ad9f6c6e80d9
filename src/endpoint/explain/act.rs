//! What a decision would do: the request as the upstream would get it, or the gateway's own answer.

use std::sync::Arc;

use http::header::{ALLOW, AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{Request, StatusCode};

use super::told::{Does, Leads, Line, Outcome, Sent};
use crate::decision::{Challenge, CookieFate, Decision, Permit};
use crate::endpoint::proxy::{self, explained};
use crate::endpoint::{Served, Visit, cors, first, login};
use crate::fault::{Fault, Trouble};
use crate::header::cookies::pairs;
use crate::provider::local::LOCAL;
use crate::reason::Reason;
use crate::route::{Route, TokenPlace};
use crate::server::{ConnectionInfo, RequestBody};
use crate::telemetry::Ids;
use crate::telemetry::trace::{TRACEPARENT, X_REQUEST_ID};

/// What is told of an answer; the rest is the same for every answer of ours.
const TELLING: [HeaderName; 5] = [LOCATION, WWW_AUTHENTICATE, SET_COOKIE, RETRY_AFTER, ALLOW];

pub(super) const fn unsettled() -> Outcome {
    Outcome {
        does: Does::Unsettled,
        reason: None,
        detail: String::new(),
        would_be: None,
        status: None,
        headers: Vec::new(),
        upstream: None,
    }
}

pub(super) fn endpoint(does: &str) -> Outcome {
    Outcome { does: Does::Endpoint, reason: Some(Reason::Endpoint.as_str()), detail: does.to_owned(), ..unsettled() }
}

/// An answer of ours, as it was made.
pub(super) fn answered(served: &Served) -> Outcome {
    let headers = served.response.headers();
    let telling = |name: &HeaderName| TELLING.contains(name) || name.as_str().starts_with("access-control-");
    let lines = headers
        .iter()
        .filter(|(name, _)| telling(name))
        .map(|(name, value)| Line { name: name.to_string(), value: if *name == SET_COOKIE { cookie_told(value) } else { text(value) } });
    Outcome {
        does: Does::Answer,
        reason: Some(served.reason.as_str()),
        detail: served.detail.clone(),
        status: Some(served.response.status().as_u16()),
        headers: lines.collect(),
        ..unsettled()
    }
}

/// An answer of ours on a route, which scripts of other origins may be let read.
pub(super) fn refused(route: &Route, headers: &HeaderMap, mut served: Served) -> Outcome {
    cors::allow(&mut served, route, cors::origin(route, headers));
    answered(&served)
}

/// `NAME=«…»` and what becomes of it.
fn cookie_told(value: &HeaderValue) -> String {
    let text = text(value);
    let (pair, rest) = text.split_once(';').unwrap_or((&text, ""));
    let name = pair.split('=').next().unwrap_or_default();
    format!("{name}=«…»;{rest}")
}

/// What becomes of a request that was decided.
pub(super) fn decided(
    visit: &Visit<'_>,
    upstreams: &[Leads],
    (route, decision): (&Arc<Route>, Decision),
    request: Request<RequestBody>,
    info: &ConnectionInfo,
    ids: &Ids,
) -> Outcome {
    match decision {
        Decision::Permit(permit) => permitted(visit, upstreams, &permit, request, info, ids),
        Decision::Challenge(challenge) => challenged(visit, route, request.headers(), &challenge),
        Decision::Deny(denial) => refused(route, request.headers(), proxy::denied(visit, route, denial)),
    }
}

fn permitted(
    visit: &Visit<'_>,
    upstreams: &[Leads],
    permit: &Permit,
    request: Request<RequestBody>,
    info: &ConnectionInfo,
    ids: &Ids,
) -> Outcome {
    let given = request.headers().clone();
    let method = request.method().to_string();
    let sent = match explained::sent(visit, permit, request, info, ids) {
        Ok(sent) => sent,
        Err(served) => return refused(permit.route(), &given, *served),
    };
    let outcome = Outcome {
        reason: Some(permit.reason().as_str()),
        would_be: permit.would_be().map(|fault| fault.reason.as_str()),
        detail: permit.would_be().map(|fault| fault.detail.clone()).unwrap_or_default(),
        ..unsettled()
    };
    let upstream = permit.route().upstream.and_then(|id| upstreams.get(id.0));
    let Some(leads) = upstream else {
        // As upstream::forward refuses it.
        let fault = Fault::new(Reason::UpstreamAbsent, "the route is for forward-auth only");
        return refused(permit.route(), &given, visit.trouble(&Trouble::Refused(fault)));
    };
    let to = match leads {
        Leads::Answer(status) => return Outcome { does: Does::Answer, status: Some(status.as_u16()), ..outcome },
        Leads::To(addresses) => addresses.clone(),
    };
    let target = sent.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let (set, passed, taken_out) = sorted(visit, permit.route(), &given, sent.headers());
    let upstream = Sent { to, method, target, set, passed, taken_out };
    Outcome { does: Does::Forward, upstream: Some(upstream), ..outcome }
}

/// Headers that the gateway sets, those that pass as they came, and names that go no further.
fn sorted(visit: &Visit<'_>, route: &Route, given: &HeaderMap, sent: &HeaderMap) -> (Vec<Line>, Vec<Line>, Vec<String>) {
    let mut set = Vec::new();
    let mut passed = Vec::new();
    for name in sent.keys() {
        let values: Vec<&HeaderValue> = sent.get_all(name).iter().collect();
        // A cookie line that lost a cookie is still the browser's.
        let as_given = *name == COOKIE || values == given.get_all(name).iter().collect::<Vec<_>>();
        // What we write whatever was there counts as ours though it may say the same.
        let ours = visit.gateway.family.holds(name) || *name == http::header::HOST;
        for value in values {
            if as_given && !ours {
                passed.push(Line { name: name.to_string(), value: given_told(visit, route, name, value) });
            } else {
                set.push(Line { name: name.to_string(), value: set_told(name, value) });
            }
        }
    }
    let cookies = |headers: &HeaderMap| pairs(headers).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let (cookies_given, cookies_sent) = (cookies(given), cookies(sent));
    let gone =
        |name: &&HeaderName| !sent.contains_key(*name) || set.iter().any(|line| line.name == name.as_str() && **name != http::header::HOST);
    let mut taken_out: Vec<String> = given.keys().filter(gone).filter(|name| **name != COOKIE).map(ToString::to_string).collect();
    taken_out.extend(cookies_given.iter().filter(|name| !cookies_sent.contains(name)).map(|name| format!("the cookie {name}")));
    for lines in [&mut set, &mut passed] {
        lines.sort_by(|one, other| one.name.cmp(&other.name));
    }
    taken_out.sort();
    (set, passed, taken_out)
}

/// A value of ours. What is made anew for each request, or obtained for it, is named and not shown.
fn set_told(name: &HeaderName, value: &HeaderValue) -> String {
    if *name == X_REQUEST_ID {
        return "«the request's id»".to_owned();
    }
    if *name == TRACEPARENT {
        return "«the trace of the request»".to_owned();
    }
    if !value.is_sensitive() {
        return text(value);
    }
    explained::placeholder(value).unwrap_or_else(|| "«secret»".to_owned())
}

/// A value that was given, without what may be secret in it.
fn given_told(visit: &Visit<'_>, route: &Route, name: &HeaderName, value: &HeaderValue) -> String {
    let whole = text(value);
    if *name == COOKIE {
        let names = whole.split(';').map(|pair| format!("{}=«…»", pair.split('=').next().unwrap_or_default().trim()));
        return names.collect::<Vec<_>>().join("; ");
    }
    if *name == AUTHORIZATION {
        return format!("{} «…»", whole.split(' ').next().unwrap_or_default());
    }
    let of_tokens = route.accept().is_some_and(|accept| {
        accept.api_key_header == *name || accept.bearer_in.iter().any(|place| matches!(place, TokenPlace::Header(place) if place == name))
    });
    let keys = visit.gateway.authenticator.api_keys.as_ref().is_some_and(|keys| keys.header() == name);
    let speaks = ["token", "secret", "key", "password", "auth", "credential", "session"].iter().any(|word| name.as_str().contains(word));
    if of_tokens || keys || speaks || value.is_sensitive() { "«…»".to_owned() } else { whole }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// 303 to the login for a person's GET, 401 for everything else.
fn challenged(visit: &Visit<'_>, route: &Route, headers: &HeaderMap, challenge: &Challenge) -> Outcome {
    let mut outcome = if proxy::leads_to_login(visit, route, challenge) {
        Outcome { reason: Some(challenge.reason.as_str()), ..sign_in(visit, headers) }
    } else {
        refused(route, headers, proxy::unauthorized(visit, route, headers, challenge))
    };
    if challenge.cookie == CookieFate::Deleted {
        let name = &visit.gateway.settings.style.session;
        outcome.headers.push(Line { name: SET_COOKIE.to_string(), value: format!("{name}=; Max-Age=0") });
    }
    outcome.detail.clone_from(&challenge.detail);
    outcome
}

/// Where a browser is led first.
fn sign_in(visit: &Visit<'_>, headers: &HeaderMap) -> Outcome {
    let first = login::wanted_by_challenge(visit).and_then(|wanted| first::provider_of(visit, headers, &wanted));
    let served = match first {
        Ok(provider) => {
            let to = match provider.as_deref() {
                Some(LOCAL) | None => format!("«{}»", login::own_url(visit, "/sign_in")),
                Some(id) => format!("«the authorization endpoint of provider {id}»"),
            };
            let status = Some(StatusCode::SEE_OTHER.as_u16());
            let headers = vec![Line { name: LOCATION.to_string(), value: to }];
            return Outcome { does: Does::SignIn, status, headers, ..unsettled() };
        }
        Err(served) => served,
    };
    let led = served.response.status() == StatusCode::SEE_OTHER;
    Outcome { does: if led { Does::SignIn } else { Does::Answer }, ..answered(&served) }
}
