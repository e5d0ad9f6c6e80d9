//! The beginning of a login: `start`, and what a challenge does with a browser.

use std::time::Duration;

use http::HeaderMap;

use super::form::{Parameters, with_query};
use super::{Gateway, Served, Visit, cookie};
use crate::fault::{Fault, Trouble};
use crate::header::cookies::Kept;
use crate::login::{Asked, FLOW_LIFETIME, Flow, FlowCookie, PendingLogin, State};
use crate::reason::Reason;
use crate::request::{AllowedOrigins, CanonicalPath, Host, ReturnTo};
use crate::respond::{Action, Refusal};
use crate::route::Accept;
use crate::secret;
use crate::server::ConnectionInfo;
use crate::store::Admission;

/// `start`: begins a login, or leads to the chooser when there is a choice.
pub(super) async fn start(visit: &Visit<'_>, headers: &HeaderMap, info: &ConnectionInfo) -> Served {
    // An image or a script of any page must not fill the bounds of somebody's network with logins that nobody wants.
    let navigates = headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    if !navigates {
        return visit.refuse(&Fault::new(Reason::CrossSite, "start was fetched by a page, not navigated to"));
    }
    match wanted(visit, headers, Some(info)) {
        Ok(wanted) => begin(visit, headers, wanted).await,
        Err(fault) => visit.refuse_with(&fault, Refusal { actions: vec![home(visit)], ..Refusal::default() }),
    }
}

/// Where a login is to lead, and at which providers it may happen.
pub(super) struct Wanted {
    pub(super) return_to: ReturnTo,
    /// Ids, in file order. One: no choice is left.
    pub(super) providers: Vec<String>,
}

/// Reads the parameters of `start` and `sign_in`.
pub(super) fn wanted(visit: &Visit<'_>, headers: &HeaderMap, info: Option<&ConnectionInfo>) -> Result<Wanted, Fault> {
    let gateway = visit.gateway;
    let parameters = Parameters::parse_with_rd(visit.facts.query.as_deref().unwrap_or_default());
    let state = parameters.one("state")?;
    let raw = match (parameters.one("rd")?, parameters.one("return_to")?) {
        (Some(_), Some(_)) => return Err(Fault::new(Reason::ParameterInvalid, "both rd and return_to; give one of them")),
        (Some(raw), None) | (None, Some(raw)) => Some(raw.to_owned()),
        (None, None) => info.and_then(|info| from_header(gateway, headers, info)),
    };
    let base = gateway.settings.sites.base(&visit.facts.host);
    let base = base.ok_or_else(|| Fault::new(Reason::HostUnknown, "no public URL for this host"))?;
    let mut return_to = match raw {
        Some(raw) => gateway
            .settings
            .origins
            .check(&raw, &base, &gateway.settings.prefix)
            .ok_or_else(|| Fault::new(Reason::ReturnToRefused, "rd is neither at one of our hosts nor in redirect_origins"))?,
        None => AllowedOrigins::home(&base),
    };
    if let Some(state) = state {
        return_to = return_to.with_state(state);
    }
    let allowed = providers_for(gateway, &return_to);
    let providers = match parameters.one("provider")? {
        None => allowed,
        Some(id) if allowed.iter().any(|known| known == id) => vec![id.to_owned()],
        Some(id) => {
            let id: String = id.chars().take(64).collect();
            return Err(Fault::new(Reason::ParameterInvalid, format!("provider {id:?} is not one that this place takes")));
        }
    };
    Ok(Wanted { return_to, providers })
}

/// `X-Auth-Request-Redirect`, from a listed peer only.
fn from_header(gateway: &Gateway, headers: &HeaderMap, info: &ConnectionInfo) -> Option<String> {
    let mut lines = headers.get_all("x-auth-request-redirect").iter();
    let line = lines.next()?;
    let listed = gateway.settings.trusted_proxies.hold(info.peer.ip()) && lines.next().is_none();
    if listed { line.to_str().ok().map(str::to_owned) } else { None }
}

/// The providers that the route of this place takes.
pub(super) fn providers_for(gateway: &Gateway, return_to: &ReturnTo) -> Vec<String> {
    let route = return_to.url().and_then(|url| {
        let host = Host::parse(url.host_str()?)?;
        let path = CanonicalPath::parse(url.path()).ok()?;
        gateway.settings.sites.own(&url).then(|| gateway.routes.select(&host, &path, &http::Method::GET).cloned())?
    });
    let accept = route.as_ref().and_then(|route| route.accept());
    let takes = |id: &str| accept.is_none_or(|accept: &Accept| accept.takes_provider(id));
    gateway.providers.iter().map(|provider| provider.id().to_owned()).filter(|id| takes(id)).collect()
}

/// What a challenge does with a browser that navigates: the login of the request's own route, and back here.
pub(super) async fn challenge(visit: &Visit<'_>, headers: &HeaderMap) -> Served {
    let gateway = visit.gateway;
    let Some(return_to) = here(visit) else {
        return visit.refuse(&Fault::new(Reason::HostUnknown, "no public URL for this host"));
    };
    let login = gateway.settings.sites.login_base(&visit.facts.host);
    let own = gateway.settings.sites.base(&visit.facts.host);
    let providers = providers_for(gateway, &return_to);
    if login != own
        && let Some(login) = login
    {
        // Hosts that share a session sign in at one of them: its cookie, its callback.
        let start = format!("{}{}/start", login.as_str().trim_end_matches('/'), gateway.settings.prefix);
        return Served::new(visit.reply().see_other(&with_query(&start, &[("rd", return_to.as_str())])), Reason::NoCredential);
    }
    begin(visit, headers, Wanted { return_to, providers }).await
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

/// Begins a flow with its first attempt; with several providers the chooser comes first, and nothing is written.
pub(super) async fn begin(visit: &Visit<'_>, headers: &HeaderMap, wanted: Wanted) -> Served {
    let gateway = visit.gateway;
    let provider = match wanted.providers.as_slice() {
        [] => return visit.refuse(&Fault::new(Reason::WrongProvider, "no provider to sign in at")),
        [one] => one.clone(),
        _ => return chooser(visit, &wanted.return_to, Reason::NoCredential),
    };
    let sessions = &gateway.authenticator.sessions;
    let surplus = cookie::surplus(headers, &gateway.settings.style);
    for old in &surplus {
        // A browser over its bound gives its oldest flow back; only the flow's own cookie opens it, so nobody gives back another's.
        if let Err(outage) = sessions.abandon(old, visit.facts.address).await {
            return visit.trouble(&outage.into());
        }
    }
    let flow_cookie = FlowCookie::new();
    match sessions.admit(flow_cookie.handle, visit.facts.address, gateway.settings.login_bounds).await {
        Ok(Admission::Admitted) => {}
        Ok(Admission::TooManyOfAddress) => {
            return visit.refuse(&Fault::new(Reason::PendingLoginsOfAddress, "limits.pending_logins_per_address is reached"));
        }
        Ok(Admission::TooMany) => return visit.refuse(&Fault::new(Reason::PendingLogins, "limits.pending_logins is reached")),
        Err(outage) => return visit.trouble(&outage.into()),
    }
    let flow =
        Flow { return_to: wanted.return_to, started_at: gateway.clock.now(), failures: 0, asks: Asked::default(), told: None, kept: None };
    let mut served = match attempt(visit, &flow_cookie, &flow, &provider).await {
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

/// To the page that asks where to sign in. Nothing is written yet.
pub(super) fn chooser(visit: &Visit<'_>, return_to: &ReturnTo, reason: Reason) -> Served {
    let page = own_url(visit, "/sign_in");
    Served::new(visit.reply().see_other(&with_query(&page, &[("rd", return_to.as_str())])), reason)
}

/// Writes flow and attempt, and gives the URL that sends the browser to the provider. The provider is asked for its address first, so that
/// an outage leaves no record behind.
pub(super) async fn attempt(visit: &Visit<'_>, flow_cookie: &FlowCookie, flow: &Flow, provider: &str) -> Result<String, Trouble> {
    let gateway = visit.gateway;
    let known = gateway.provider(provider).ok_or_else(|| Fault::new(Reason::ParameterInvalid, "the provider is gone from the config"))?;
    let state = State::new(flow_cookie.handle);
    let attempt = PendingLogin {
        provider: provider.to_owned(),
        nonce: secret::random_token(),
        code_verifier: secret::random_token(),
        redirect_uri: own_url(visit, "/callback"),
        started_at: gateway.clock.now(),
        asks: flow.asks.clone(),
        proven: None,
    };
    let url = known.authorization_url(&attempt, &state.write()).await?;
    let sessions = &gateway.authenticator.sessions;
    sessions.put_flow(flow_cookie, flow).await?;
    sessions.put_attempt(flow_cookie, &state, &attempt).await?;
    Ok(url.into())
}

/// The outside URL of an endpoint of ours, on the host of this request.
pub(super) fn own_url(visit: &Visit<'_>, endpoint: &str) -> String {
    let sites = &visit.gateway.settings.sites;
    let base = sites.base(&visit.facts.host).unwrap_or_else(|| sites.first().clone());
    format!("{}{}{endpoint}", base.as_str().trim_end_matches('/'), visit.gateway.settings.prefix)
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

/// How long a finished flow is remembered, for the back button.
pub(super) const FINISHED: Duration = Duration::from_secs(10 * 60);
