//! Flows and their attempts: how one begins, and where its browser goes next.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::form::with_query;
use super::{Gateway, Served, Visit, cookie, first, resource_metadata};
use crate::decision::Challenge;
use crate::fault::{Fault, Outage, Trouble};
use crate::header::cookies::{Kept, pairs};
use crate::login::{Asked, FLOW_LIFETIME, Flow, FlowCookie, FlowHandle, KeptForm, PendingLogin, State};
use crate::reason::Reason;
use crate::request::{AllowedOrigins, CanonicalPath, Host, ReturnTo};
use crate::respond::challenge::{Asking, Dialog};
use crate::respond::{Action, Refusal};
use crate::route::{Accept, Route};
use crate::secret;
use crate::store::Admission;

/// How many logins may lead straight back to where they began before a page says so.
const ROUNDS: u8 = 3;
/// A challenge this soon after a login, at the same place, is the same round.
const STRAIGHT_BACK: Duration = Duration::from_secs(15);

/// What began a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A request that needs a login, or a better one.
    Challenge,
    /// A person, an app or another site asked for it at `start`.
    Start,
}

/// Where a login is to lead, and at which providers it may happen.
pub(super) struct Wanted {
    pub(super) cause: Cause,
    pub(super) return_to: ReturnTo,
    /// Ids, in file order. One: no choice is left.
    pub(super) providers: Vec<String>,
    /// What the login has to be worth.
    pub(super) asks: Asked,
    /// What is asked for beside the provider's own scopes.
    pub(super) scopes: Vec<String>,
    /// The route that a program was refused on: what it asks for counts too.
    pub(super) route: Option<String>,
    /// What the provider is told beside: whom to expect (OpenID Connect Core §3.1.2.1), and what the config lets through.
    pub(super) passed: Vec<(String, String)>,
    /// A form that waits for its sender.
    pub(super) kept: Option<KeptForm>,
}

/// The route that a person meets at this place; none at other people's places.
pub(super) fn route_of(visit: &Visit<'_>, return_to: &ReturnTo) -> Option<Arc<Route>> {
    let url = return_to.url()?;
    let host = Host::parse(url.host_str()?)?;
    let path = CanonicalPath::parse(url.path()).ok()?;
    let own = visit.gateway.settings.sites.own(&url);
    own.then(|| visit.gateway.routes.select(&host, &path, &http::Method::GET, visit.facts.known_address).cloned()).flatten()
}

/// The providers that the route of this place takes.
pub(super) fn providers_for(visit: &Visit<'_>, return_to: &ReturnTo) -> Vec<String> {
    providers_of_route(visit.gateway, route_of(visit, return_to).as_deref())
}

/// The providers that this route takes; without a route all.
pub(super) fn providers_of_route(gateway: &Gateway, route: Option<&Route>) -> Vec<String> {
    let accept = route.and_then(Route::accept);
    let takes = |id: &str| accept.is_none_or(|accept: &Accept| accept.takes_provider(id));
    gateway.providers.iter().map(|provider| provider.id().to_owned()).filter(|id| takes(id)).collect()
}

/// What a challenge does with a browser that navigates: the login of the request's own route, and back here.
pub(super) async fn challenge(visit: &Visit<'_>, headers: &HeaderMap) -> Served {
    match wanted_by_challenge(visit) {
        Ok(wanted) => begin(visit, headers, wanted).await,
        Err(served) => *served,
    }
}

/// The login that it wants. Else an answer: the way to the host where people sign in.
pub(super) fn wanted_by_challenge(visit: &Visit<'_>) -> Result<Wanted, Box<Served>> {
    let Some(return_to) = here(visit) else {
        return Err(Box::new(visit.refuse(&Fault::new(Reason::HostUnknown, "no public URL for this host"))));
    };
    if let Some(login) = login_elsewhere(visit) {
        // Hosts that share a session sign in at one of them: its cookie, its callback.
        let start = format!("{login}/start");
        let answer = visit.reply().see_other(&with_query(&start, &[("rd", return_to.as_str())]));
        return Err(Box::new(Served::new(answer, Reason::NoCredential)));
    }
    let route = route_of(visit, &return_to);
    let (asks, scopes) = route.as_ref().map(|route| (route.asks.clone(), route.scopes.clone())).unwrap_or_default();
    let providers = providers_of_route(visit.gateway, route.as_deref());
    let cause = Cause::Challenge;
    Ok(Wanted { cause, return_to, providers, asks, scopes, route: None, passed: Vec::new(), kept: None })
}

/// The prefix's URL on the host where this host's people sign in, if that is another one.
fn login_elsewhere(visit: &Visit<'_>) -> Option<String> {
    let sites = &visit.gateway.settings.sites;
    let login = sites.login_base(&visit.facts.host).filter(|login| sites.base(&visit.facts.host).as_ref() != Some(login))?;
    Some(format!("{}{}", login.as_str().trim_end_matches('/'), visit.gateway.settings.prefix))
}

/// The URL of this request, as the browser knows it.
pub(super) fn here(visit: &Visit<'_>) -> Option<ReturnTo> {
    let sites = &visit.gateway.settings.sites;
    let base = sites.base(&visit.facts.host)?;
    let path = visit.facts.path.as_str();
    let raw = match &visit.facts.query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let checked = visit.gateway.settings.origins.check(&raw, &base, &visit.gateway.settings.prefix);
    Some(checked.unwrap_or_else(|| AllowedOrigins::home(&base)))
}

/// The URL of this request to the last byte, without a second look: for comparing, not for sending anybody there.
pub(super) fn here_exactly(visit: &Visit<'_>) -> Option<String> {
    let base = visit.gateway.settings.sites.base(&visit.facts.host)?;
    let query = visit.facts.query.iter().map(|query| format!("?{query}")).collect::<String>();
    Some(format!("{}{}{query}", base.as_str().trim_end_matches('/'), visit.facts.path.as_str()))
}

/// Begins a flow with its first attempt. Where there is a choice the chooser comes first, and nothing is written before it unless a form has
/// to be kept.
pub(super) async fn begin(visit: &Visit<'_>, headers: &HeaderMap, wanted: Wanted) -> Served {
    let gateway = visit.gateway;
    let first = match first::provider_of(visit, headers, &wanted) {
        Ok(first) => first,
        Err(served) => return *served,
    };
    let sessions = &gateway.authenticator.sessions;
    // Whoever asks for another login though there is a session has their reasons. For a place on another host it may as well be that place's
    // challenge, which leads here when its people sign in here.
    let holds_session = pairs(headers).any(|(name, _)| name == gateway.settings.style.session);
    let here = wanted.return_to.url().is_none_or(|place| place.host_str() == Some(visit.facts.host.name()));
    let rounds = match wanted.cause {
        Cause::Start if holds_session && here => Ok(0),
        Cause::Start | Cause::Challenge => straight_back(visit, headers, &wanted.return_to).await,
    };
    let rounds = match rounds {
        Ok(rounds) if rounds >= ROUNDS => return round_and_round(visit, &wanted.return_to, holds_session),
        Ok(rounds) => rounds,
        Err(outage) => return visit.trouble(&outage.into()),
    };
    let surplus = cookie::surplus(headers, &gateway.settings.style);
    for old in &surplus {
        // A browser over its bound gives its oldest flow back; only the flow's own cookie opens it, so nobody gives back another's.
        if let Err(outage) = sessions.abandon(old, visit.facts.address).await {
            return visit.trouble(&outage.into());
        }
    }
    let flow_cookie = FlowCookie::new();
    if let Err(refused) = admit(visit, &flow_cookie).await {
        return *refused;
    }
    let mut place = Place::taken(visit, &flow_cookie);
    let Wanted { return_to, asks, scopes, passed, kept, .. } = wanted;
    let flow = Flow { asks, scopes, kept, rounds, ..Flow::new(return_to, gateway.clock.now()) };
    let url = match (first, login_elsewhere(visit)) {
        // Only a form brings its flow along to the host where people sign in, or to the chooser.
        (_, Some(login)) if flow.kept.is_some() => {
            put(visit, &flow_cookie, &flow).await.map(|()| with_flow(&format!("{login}/start"), &flow_cookie))
        }
        (Some(provider), _) => attempt(visit, &flow_cookie, &flow, &provider, &passed).await,
        (None, _) => put(visit, &flow_cookie, &flow).await.map(|()| with_flow(&own_url(visit, "/sign_in"), &flow_cookie)),
    };
    place.settled = true;
    let mut served = match url {
        Ok(url) => Served::new(visit.reply().see_other(&url), Reason::NoCredential),
        Err(trouble) => {
            // Nothing was begun; the place is given back.
            let _ = sessions.release(flow_cookie.handle, visit.facts.address).await;
            return visit.trouble(&trouble);
        }
    };
    for old in surplus {
        append(&mut served, gateway.settings.style.set_flow(&old.handle.write(), "", Kept::Deleted));
    }
    append(&mut served, gateway.settings.style.set_flow(&flow_cookie.handle.write(), &flow_cookie.value(), Kept::For(FLOW_LIFETIME)));
    served
}

async fn put(visit: &Visit<'_>, flow_cookie: &FlowCookie, flow: &Flow) -> Result<(), Trouble> {
    Ok(visit.gateway.authenticator.sessions.put_flow(flow_cookie, flow).await?)
}

/// Counts a flow in, or says why not.
async fn admit(visit: &Visit<'_>, flow_cookie: &FlowCookie) -> Result<(), Box<Served>> {
    let gateway = visit.gateway;
    let refused = |reason, detail: &str| Err(Box::new(visit.refuse(&Fault::new(reason, detail))));
    match gateway.authenticator.sessions.admit(flow_cookie.handle, visit.facts.address, gateway.settings.login_bounds).await {
        Ok(Admission::Admitted) => Ok(()),
        Ok(Admission::TooManyOfAddress) => refused(Reason::PendingLoginsOfAddress, "limits.pending_logins_per_address is reached"),
        Ok(Admission::TooMany) => refused(Reason::PendingLogins, "limits.pending_logins is reached"),
        Err(outage) => Err(Box::new(visit.trouble(&outage.into()))),
    }
}

/// A flow's place within the bounds, until it is known what becomes of the flow. A browser that leaves while the provider is asked gives it back.
struct Place<'a> {
    visit: &'a Visit<'a>,
    handle: FlowHandle,
    settled: bool,
}

impl<'a> Place<'a> {
    const fn taken(visit: &'a Visit<'a>, flow_cookie: &FlowCookie) -> Self {
        Self { visit, handle: flow_cookie.handle, settled: false }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let (gateway, handle, address) = (self.visit.gateway, self.handle, self.visit.facts.address);
            let sessions = Arc::clone(&gateway.authenticator.sessions);
            gateway.tasks.background(async move {
                let _ = sessions.release(handle, address).await;
            });
        }
    }
}

/// How many logins in a row led this browser straight back to where it began. A place that no login is good enough for does so; and a browser,
/// or a proxy before us, that keeps flow cookies and drops the session's would go round for ever: each login succeeds, and the next request has
/// no session again. What tells it is a flow that finished moments ago at the very place that asks for a login once more; the query does not
/// count, since apps put times there.
async fn straight_back(visit: &Visit<'_>, headers: &HeaderMap, place: &ReturnTo) -> Result<u8, Outage> {
    let gateway = visit.gateway;
    let now = gateway.clock.now();
    let mut rounds = 0;
    for flow_cookie in cookie::newest(headers, &gateway.settings.style) {
        if let Some(flow) = gateway.authenticator.sessions.flow(&flow_cookie).await?
            && flow.finished_at.is_some_and(|finished| now.since(finished) <= STRAIGHT_BACK)
            && same_page(&flow.return_to, place)
        {
            rounds = rounds.max(flow.rounds.saturating_add(1));
        }
    }
    Ok(rounds)
}

fn same_page(one: &ReturnTo, other: &ReturnTo) -> bool {
    let page = |place: &ReturnTo| place.url().map(|url| (url.origin(), url.path().to_owned()));
    page(one) == page(other)
}

/// A page that ends it.
fn round_and_round(visit: &Visit<'_>, return_to: &ReturnTo, holds_session: bool) -> Served {
    let fault = if holds_session {
        Fault::new(Reason::FlowExhausted, format!("{ROUNDS} logins in a row succeeded, and none was enough for this place"))
    } else {
        Fault::new(Reason::SessionNotKept, format!("{ROUNDS} logins in a row succeeded, and no session cookie came back"))
    };
    let again = Action { label: "Try again".to_owned(), href: start_url(visit, Some(return_to.as_str())) };
    visit.refuse_with(&fault, Refusal { actions: vec![again, home(visit)], ..Refusal::default() })
}

/// To the page that asks where to sign in. Nothing is written yet.
pub(super) fn chooser(visit: &Visit<'_>, wanted: &Wanted, reason: Reason) -> Served {
    let mut query = vec![("rd", wanted.return_to.as_str())];
    query.extend(wanted.route.as_deref().map(|route| ("route", route)));
    query.extend(wanted.passed.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Served::new(visit.reply().see_other(&with_query(&own_url(visit, "/sign_in"), &query)), reason)
}

/// The providers of a flow: those of the route that its form is for, else of the place where it leads.
pub(super) fn providers_in(visit: &Visit<'_>, flow: &Flow) -> Vec<String> {
    let gateway = visit.gateway;
    let Some(kept) = &flow.kept else { return providers_for(visit, &flow.return_to) };
    let route = url::Url::parse(&kept.url).ok().and_then(|url| {
        let (host, path) = (Host::parse(url.host_str()?)?, CanonicalPath::parse(url.path()).ok()?);
        gateway.routes.select(&host, &path, &http::Method::POST, visit.facts.known_address).cloned()
    });
    providers_of_route(gateway, route.as_deref())
}

/// The next attempt of a flow that is known: at its one provider, at the chosen one, or the chooser first.
pub(super) async fn go_on(visit: &Visit<'_>, flow_cookie: &FlowCookie, flow: &Flow, chosen: Option<&str>, reason: Reason) -> Served {
    let gateway = visit.gateway;
    let allowed = providers_in(visit, flow);
    let provider = match (chosen, allowed.as_slice()) {
        (_, []) => return visit.refuse(&Fault::new(Reason::WrongProvider, "no provider to sign in at")),
        (Some(id), _) if allowed.iter().any(|known| known == id) => id,
        (Some(_), _) => return visit.refuse(&Fault::new(Reason::ParameterInvalid, "provider is not one that this place takes")),
        (None, [one]) => one,
        (None, _) => return Served::new(visit.reply().see_other(&with_flow(&own_url(visit, "/sign_in"), flow_cookie)), reason),
    };
    // A finished flow counts no more: it has to be counted in again.
    if flow.finished_at.is_some()
        && let Err(refused) = admit(visit, flow_cookie).await
    {
        return *refused;
    }
    let flow = Flow { finished_at: None, ..flow.clone() };
    match attempt(visit, flow_cookie, &flow, provider, &[]).await {
        Ok(url) => {
            let mut served = Served::new(visit.reply().see_other(&url), reason);
            let style = &gateway.settings.style;
            let left = FLOW_LIFETIME.saturating_sub(gateway.clock.now().since(flow.started_at));
            append(&mut served, style.set_flow(&flow_cookie.handle.write(), &flow_cookie.value(), Kept::For(left)));
            served
        }
        Err(trouble) => visit.trouble(&trouble),
    }
}

/// Writes flow and attempt, and gives the URL that sends the browser to the provider. The provider is asked for its address first, so that
/// an outage leaves no record behind.
async fn attempt(
    visit: &Visit<'_>,
    flow_cookie: &FlowCookie,
    flow: &Flow,
    provider: &str,
    passed: &[(String, String)],
) -> Result<String, Trouble> {
    let gateway = visit.gateway;
    let known = gateway.provider(provider).ok_or_else(|| Fault::new(Reason::ParameterInvalid, "the provider is gone from the config"))?;
    let state = State::new(flow_cookie.handle);
    let mut attempt = PendingLogin {
        provider: provider.to_owned(),
        nonce: secret::random_token(),
        code_verifier: secret::random_token(),
        redirect_uri: known.callback().map_or_else(|| own_url(visit, "/callback"), |path| own_place(visit, path)),
        started_at: gateway.clock.now(),
        asks: flow.asks.clone(),
        scopes: flow.scopes.clone(),
        proven: None,
        dpop_key: None,
        registration: gateway.authenticator.registration(provider),
    };
    let url = known.authorization_url(&mut attempt, &state.write(), passed).await?;
    let sessions = &gateway.authenticator.sessions;
    sessions.put_flow(flow_cookie, flow).await?;
    sessions.put_attempt(flow_cookie, &state, &attempt).await?;
    Ok(url.into())
}

/// A page of ours that goes on in a flow.
pub(super) fn with_flow(page: &str, flow_cookie: &FlowCookie) -> String {
    with_query(page, &[("flow", &flow_cookie.handle.write())])
}

/// The outside URL of an endpoint of ours, on the host of this request.
pub(super) fn own_url(visit: &Visit<'_>, endpoint: &str) -> String {
    own_place(visit, &format!("{}{endpoint}", visit.gateway.settings.prefix))
}

/// The outside URL of a path, on the host of this request.
fn own_place(visit: &Visit<'_>, path: &str) -> String {
    let sites = &visit.gateway.settings.sites;
    let base = sites.base(&visit.facts.host).unwrap_or_else(|| sites.first().clone());
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}

/// The outside URL that begins a login for this host's people.
pub(super) fn start_url(visit: &Visit<'_>, rd: Option<&str>) -> String {
    let sites = &visit.gateway.settings.sites;
    let base = sites.login_base(&visit.facts.host).unwrap_or_else(|| sites.first().clone());
    let start = format!("{}{}/start", base.as_str().trim_end_matches('/'), visit.gateway.settings.prefix);
    match rd {
        Some(rd) => with_query(&start, &[("rd", rd)]),
        None => start,
    }
}

/// The same after a challenge: whoever has to come back with a better login, or with more scopes, is led to one, wherever the page is that they come back to.
pub(super) fn start_url_after(visit: &Visit<'_>, rd: Option<&str>, route: Option<&Route>, challenge: &Challenge) -> String {
    let url = start_url(visit, rd);
    match route.filter(|route| !challenge.asks.is_nothing() || !route.scopes.is_empty()) {
        Some(route) => {
            format!("{url}{}{}", if rd.is_some() { '&' } else { '?' }, with_query("", &[("route", &route.id)]).trim_start_matches('?'))
        }
        None => url,
    }
}

/// `WWW-Authenticate` of a challenge.
pub(super) fn unauthorized(visit: &Visit<'_>, route: Option<&Route>, headers: &HeaderMap, challenge: &Challenge) -> Vec<http::HeaderValue> {
    let Challenge { token, reason, asks, .. } = challenge;
    // Every browser of today says how it asks; few programs do, and those that show a password do so unasked.
    let dialog = if headers.contains_key("sec-fetch-mode") { Dialog::ComesUp } else { Dialog::None };
    let metadata = resource_metadata::url(visit, route);
    Asking { route, problem: *token, reason: *reason, asks, resource_metadata: metadata.as_deref(), dialog }.challenges()
}

/// The button that leads to the front page.
pub(super) fn home(visit: &Visit<'_>) -> Action {
    let sites = &visit.gateway.settings.sites;
    let base = sites.base(&visit.facts.host).unwrap_or_else(|| sites.first().clone());
    Action { label: "Go to the start page".to_owned(), href: AllowedOrigins::home(&base).to_string() }
}

pub(super) fn append(served: &mut Served, cookie: Option<http::HeaderValue>) {
    if let Some(cookie) = cookie {
        served.response.headers_mut().append(http::header::SET_COOKIE, cookie);
    }
}
