//! `start`: begins a login for an app, a person, or another site (OpenID Connect Core §4), and goes on in a flow that is under way.

use std::collections::BTreeSet;

use http::{HeaderMap, Method, Request};

use super::form::{Parameters, with_query};
use super::login::{self, Cause, Wanted, home, own_url};
use super::{Gateway, Served, Visit, cookie, small_body};
use crate::fault::Fault;
use crate::login::FlowHandle;
use crate::reason::Reason;
use crate::request::{AllowedOrigins, ReturnTo};
use crate::respond::Refusal;
use crate::server::{ConnectionInfo, RequestBody};

/// The most that another site's form may hold.
const FORM: usize = 16 * 1024;
/// The longest place with the app's `state` in it, in bytes: a flow's record holds it, and anybody may begin one.
const PLACE: usize = 8 * 1024;
/// The longest `login_hint`, in bytes. An address of e-mail has at most 254.
const LOGIN_HINT: usize = 512;

/// Begins a login, leads to the chooser when there is a choice, or goes on in a flow.
pub(super) async fn serve(visit: &Visit<'_>, request: Request<RequestBody>, info: &ConnectionInfo) -> Served {
    let headers = request.headers().clone();
    if let Err(fault) = navigated(&headers) {
        return visit.refuse(&fault);
    }
    if visit.facts.method == Method::POST {
        return match posted(visit, request).await {
            Ok(served) => served,
            Err(fault) => refused(visit, &fault),
        };
    }
    match flow_named(visit) {
        Ok(None) => {}
        Ok(Some((handle, provider))) => return go_on(visit, &headers, handle, provider.as_deref()).await,
        Err(fault) => return refused(visit, &fault),
    }
    match wanted(visit, &headers, info) {
        Ok(wanted) => login::begin(visit, &headers, wanted).await,
        Err(fault) => refused(visit, &fault),
    }
}

/// An image or a script of any page must not fill the bounds of somebody's network with logins that nobody wants.
pub(super) fn navigated(headers: &HeaderMap) -> Result<(), Fault> {
    let navigates = headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    if navigates { Ok(()) } else { Err(Fault::new(Reason::CrossSite, "a login was fetched by a page, not navigated to")) }
}

fn refused(visit: &Visit<'_>, fault: &Fault) -> Served {
    visit.refuse_with(fault, Refusal { actions: vec![home(visit)], ..Refusal::default() })
}

/// Another site may post its form here (Core §4). A form from there brings no cookies along, so a browser could hold any number of flows:
/// it is led to the same by GET, with which it shows them.
async fn posted(visit: &Visit<'_>, request: Request<RequestBody>) -> Result<Served, Fault> {
    let parameters = Parameters::parse(&small_body(request, FORM).await?);
    if parameters.one("iss")?.is_none() {
        return Err(Fault::new(Reason::ParameterInvalid, "a form to start without iss"));
    }
    let mut query = Vec::new();
    for name in ["iss", "login_hint", "target_link_uri"] {
        query.extend(parameters.one(name)?.map(|value| (name, value)));
    }
    let url = with_query(&own_url(visit, "/start"), &query);
    Ok(Served::new(visit.reply().see_other(&url), Reason::Endpoint))
}

/// The flow that the query names, and the provider chosen in it.
pub(super) fn flow_named(visit: &Visit<'_>) -> Result<Option<(FlowHandle, Option<String>)>, Fault> {
    let parameters = Parameters::parse_with_rd(visit.facts.query.as_deref().unwrap_or_default());
    let Some(text) = parameters.one("flow")? else { return Ok(None) };
    let handle = FlowHandle::parse(text).ok_or_else(|| Fault::new(Reason::ParameterInvalid, "flow is none of ours"))?;
    Ok(Some((handle, parameters.one("provider")?.map(str::to_owned))))
}

/// The next attempt of a flow: after a failure, or with a choice made. Only the browser that holds its cookie gets anywhere.
async fn go_on(visit: &Visit<'_>, headers: &HeaderMap, handle: FlowHandle, provider: Option<&str>) -> Served {
    let gateway = visit.gateway;
    let found = match cookie::flow(headers, &gateway.settings.style, handle) {
        Some(flow_cookie) => match gateway.authenticator.sessions.flow(&flow_cookie).await {
            Ok(flow) => flow.map(|flow| (flow_cookie, flow)),
            Err(outage) => return visit.trouble(&outage.into()),
        },
        None => None,
    };
    match found {
        Some((flow_cookie, flow)) => login::go_on(visit, &flow_cookie, &flow, provider, Reason::Endpoint).await,
        None => refused(visit, &Fault::new(Reason::StateUnknown, "no flow of this browser has this handle")),
    }
}

/// Reads the parameters of `start` and `sign_in`.
pub(super) fn wanted(visit: &Visit<'_>, headers: &HeaderMap, info: &ConnectionInfo) -> Result<Wanted, Fault> {
    let gateway = visit.gateway;
    let parameters = Parameters::parse_with_rd(visit.facts.query.as_deref().unwrap_or_default());
    let return_to = place(visit, headers, info, &parameters)?;
    let there = login::route_of(visit, &return_to);
    let (mut asks, mut scopes) = there.as_ref().map(|route| (route.asks.clone(), route.scopes.clone())).unwrap_or_default();
    let mut providers = login::providers_of_route(gateway, there.as_deref());
    let route = parameters.one("route")?.map(str::to_owned);
    if let Some(id) = &route {
        // By name only: what a login has to be worth stands in the config, and no link of a stranger makes it up.
        let known = gateway.routes.routes().iter().find(|route| route.id == *id);
        let known = known.ok_or_else(|| Fault::new(Reason::ParameterInvalid, format!("no route is named {:?}", brief(id))))?;
        asks = asks.and(&known.asks);
        scopes.extend(known.scopes.iter().cloned());
    }
    if let Some(id) = parameters.one("provider")? {
        if !providers.iter().any(|known| known == id) {
            return Err(Fault::new(Reason::ParameterInvalid, format!("provider {:?} is not one that this place takes", brief(id))));
        }
        providers = vec![id.to_owned()];
    }
    let third_party = parameters.one("iss")?;
    if let Some(issuer) = third_party {
        providers = of_issuer(gateway, &providers, issuer)?;
    }
    let passed = passed_on(gateway, &parameters, &providers)?;
    Ok(Wanted { cause: Cause::Start, return_to, providers, asks, scopes, route, passed, kept: None })
}

/// What the provider is told of the parameters: what the config lets through, and for another site that begins the login whom it means
/// (Core §4). Before the choice of a provider it is what one of them takes; `start` is asked again with the choice. The rest is dropped.
fn passed_on(gateway: &Gateway, parameters: &Parameters, providers: &[String]) -> Result<Vec<(String, String)>, Fault> {
    let listed = || providers.iter().filter_map(|id| gateway.provider(id)?.takes_from_start());
    let begun_elsewhere = parameters.one("iss")?.is_some();
    let mut passed = Vec::new();
    for name in parameters.names().collect::<BTreeSet<_>>() {
        let hint = name == "login_hint";
        if !begun_elsewhere && (name == "target_link_uri" || hint && !listed().any(|from| from.lists(name))) {
            return Err(Fault::new(Reason::ParameterInvalid, format!("{name} without iss")));
        }
        let others = hint && begun_elsewhere;
        if !others && !listed().any(|from| from.lists(name)) {
            continue;
        }
        let Some(value) = parameters.one(name)? else { continue };
        let meant = others && !value.is_empty() && value.len() <= LOGIN_HINT;
        if meant || listed().any(|from| from.takes(name, value)) {
            passed.push((name.to_owned(), value.to_owned()));
        }
    }
    if providers.len() > 1 {
        // What another site may say to the one provider that it names, a link of the chooser may not.
        passed.retain(|(name, value)| listed().any(|from| from.takes(name, value)));
    }
    Ok(passed)
}

/// Where to go after, with the app's own `state`.
fn place(visit: &Visit<'_>, headers: &HeaderMap, info: &ConnectionInfo, parameters: &Parameters) -> Result<ReturnTo, Fault> {
    let gateway = visit.gateway;
    let mut named = Vec::new();
    for name in ["rd", "return_to", "target_link_uri"] {
        named.extend(parameters.one(name)?.map(|raw| (name, raw.to_owned())));
    }
    let raw = match named.as_slice() {
        [] => from_header(gateway, headers, info).map(|raw| ("X-Auth-Request-Redirect", raw)),
        [_] => named.pop(),
        _ => return Err(Fault::new(Reason::ParameterInvalid, "more than one of rd, return_to and target_link_uri; give one of them")),
    };
    let base = gateway.settings.sites.base(&visit.facts.host);
    let base = base.ok_or_else(|| Fault::new(Reason::HostUnknown, "no public URL for this host"))?;
    let place =
        match raw {
            Some((name, raw)) => gateway.settings.origins.check(&raw, &base, &gateway.settings.prefix).ok_or_else(|| {
                Fault::new(Reason::ReturnToRefused, format!("{name} is neither at one of our hosts nor in redirect_origins"))
            })?,
            None => AllowedOrigins::home(&base),
        };
    let Some(state) = parameters.one("state")? else { return Ok(place) };
    let place = place.with_state(state);
    if place.as_str().len() > PLACE {
        return Err(Fault::new(Reason::ParameterInvalid, format!("state makes the place to return to longer than {PLACE} bytes")));
    }
    Ok(place)
}

/// `X-Auth-Request-Redirect`, from a listed peer only.
pub(super) fn from_header(gateway: &Gateway, headers: &HeaderMap, info: &ConnectionInfo) -> Option<String> {
    let mut lines = headers.get_all("x-auth-request-redirect").iter();
    let line = lines.next()?;
    let listed = gateway.settings.trusted_proxies.hold(info.peer) && lines.next().is_none();
    if listed { line.to_str().ok().map(str::to_owned) } else { None }
}

/// Core §4: `iss` is compared exactly; a login at somebody whom the config does not name is never begun.
fn of_issuer(gateway: &Gateway, allowed: &[String], issuer: &str) -> Result<Vec<String>, Fault> {
    let registrations = &gateway.authenticator.registrations;
    let of = |id: &String| registrations.get(id).is_some_and(|known| known.issuer.is(issuer));
    if !registrations.keys().any(of) {
        return Err(Fault::new(Reason::IssuerUnknown, format!("iss {:?} is no provider of the config", brief(issuer))));
    }
    let providers: Vec<String> = allowed.iter().filter(|id| of(id)).cloned().collect();
    if providers.is_empty() {
        return Err(Fault::new(Reason::ParameterInvalid, format!("the place asked for does not take people of {:?}", brief(issuer))));
    }
    Ok(providers)
}

fn brief(text: &str) -> String {
    text.chars().take(64).collect()
}
