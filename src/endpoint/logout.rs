//! `sign_out` ends the session here and sends the browser to the provider to end it there; `signed_out` is where it comes back
//! (OpenID Connect RP-Initiated Logout §2, §3).

use std::sync::Arc;

use http::{HeaderMap, Method, Request};
use serde::{Deserialize, Serialize};

use super::callback::sessions;
use super::form::Parameters;
use super::gateway::Origin;
use super::login::{append, own_url, start_url};
use super::{Served, Visit, small_body};
use crate::authenticate::OpenSession;
use crate::clock::UnixTime;
use crate::fault::{Fault, Trouble};
use crate::header::cookies::{Kept, pairs};
use crate::reason::Reason;
use crate::request::{AllowedOrigins, ReturnTo};
use crate::respond::{ConfirmSignOut, Refusal, SignedOut};
use crate::secret;
use crate::server::RequestBody;
use crate::session::{Session, SessionCookie};
use crate::telemetry::audit::{self, Ending};

const FORM: usize = 16 * 1024;
/// How long a person may take at the provider.
const ON_ITS_WAY: std::time::Duration = std::time::Duration::from_secs(10 * 60);
const CONTEXT: &[u8] = b"sign-out";
const CONFIRMED: &[u8] = b"sign-out-confirmed";

/// What is remembered while the browser is at the provider: in a cookie that only we can read.
#[derive(Serialize, Deserialize)]
struct OnItsWay {
    state: String,
    rd: Option<ReturnTo>,
    until: UnixTime,
}

pub(super) async fn sign_out(visit: &Visit<'_>, request: Request<RequestBody>) -> Served {
    let headers = request.headers().clone();
    let origin = visit.gateway.from_own_page(&headers);
    let method = request.method().clone();
    let Asked { place, confirm } = match read(visit, request).await {
        Ok(asked) => asked,
        Err(fault) => return visit.refuse(&fault),
    };
    let rd = match target(visit, &place) {
        Ok(rd) => rd,
        Err(fault) => return visit.refuse(&fault),
    };
    let found = match sessions(visit, &headers).await {
        Ok(found) => found,
        Err(trouble) => return visit.trouble(&trouble),
    };
    // A link or a form on another site must not sign anybody out unasked. Such a form brings no cookie along, so whether somebody is signed
    // in is not known then, and the browser's cookie is not touched either.
    let unasked = match method {
        Method::POST => origin == Origin::Foreign && !confirmed(visit, confirm.as_deref(), &found),
        _ => origin != Origin::Own,
    };
    if unasked && (method == Method::POST || !found.is_empty()) {
        let page = ConfirmSignOut {
            user: found.first().map(|(_, open)| open.session.identity.display_name().to_owned()),
            confirm: found.first().map(|(cookie, _)| secret::encode(&visit.gateway.ring.seal(CONFIRMED, &cookie.record_id()))),
            action: own_url(visit, "/sign_out"),
            rd: rd.as_ref().map(ToString::to_string),
            cancel: visit.gateway.settings.sites.base(&visit.facts.host).map(String::from).unwrap_or_else(|| "/".to_owned()),
        };
        let answer = visit.gateway.pages.confirm_sign_out(visit.request_id, &page, &form_origins(visit, rd.as_ref()));
        return Served::new(answer, Reason::CrossSite);
    }
    let gateway = visit.gateway;
    // Usually one. Where a browser shows two, both end: nobody could say which one is meant.
    let (store, cookies) =
        (Arc::clone(&gateway.authenticator.sessions), found.iter().map(|(cookie, _)| cookie.clone()).collect::<Vec<_>>());
    let ended = gateway.tasks.run(async move {
        for cookie in &cookies {
            store.end(cookie).await?;
        }
        Ok(())
    });
    match ended.await {
        Some(Ok(())) => {}
        Some(Err(outage)) => return visit.trouble(&Trouble::Unreachable(outage)),
        None => return visit.refuse(&Fault::new(Reason::Internal, "the sign-out broke off")),
    }
    for (_, open) in &found {
        let session = &open.session;
        audit::session_ended(&visit.trace.id(), &provider_of(session), &session.identity.sub, Ending::SignOut);
    }
    let Some(session) = found.first().map(|(_, open)| Arc::clone(&open.session)) else {
        let mut served = arrived(visit, rd.as_ref(), false);
        if !unasked {
            append(&mut served, gateway.settings.style.set_session("", Kept::Deleted));
        }
        return served;
    };
    let mut served = match at_provider(visit, &session).await {
        Ok(Some((url, state))) => {
            let mut served = Served::new(visit.reply().see_other(&url), Reason::Endpoint);
            let on_its_way = OnItsWay { state, rd, until: gateway.clock.now().plus(ON_ITS_WAY) };
            let plain = serde_json::to_vec(&on_its_way).unwrap_or_default();
            let value = secret::encode(&gateway.ring.seal(CONTEXT, &plain));
            append(&mut served, gateway.settings.style.set_sign_out(&value, Kept::For(ON_ITS_WAY)));
            served
        }
        Ok(None) => arrived(visit, rd.as_ref(), false),
        Err(trouble) => {
            // Signed out here whatever the provider does; the page says that it did not answer.
            tracing::warn!(reason = %trouble.reason(), detail = trouble.detail(), "the provider's session could not be ended");
            let page = SignedOut {
                provider_too: false,
                sign_in: Some(start_url(visit, rd.as_ref().map(ReturnTo::as_str))),
                warning: Some("The sign-in service did not answer, so its own session may still be open.".to_owned()),
            };
            Served::new(gateway.pages.signed_out(visit.request_id, &page), trouble.reason())
        }
    };
    append(&mut served, gateway.settings.style.set_session("", Kept::Deleted));
    served
}

/// What a sign-out was asked with.
struct Asked {
    /// Where `rd` stands.
    place: Parameters,
    /// From our page that asks first.
    confirm: Option<String>,
}

async fn read(visit: &Visit<'_>, request: Request<RequestBody>) -> Result<Asked, Fault> {
    let query = Parameters::parse_with_rd(visit.facts.query.as_deref().unwrap_or_default());
    if request.method() != Method::POST {
        return Ok(Asked { place: query, confirm: None });
    }
    let body = small_body(request, FORM).await?;
    let form = Parameters::parse(&body);
    let confirm = form.one("confirm")?.map(str::to_owned);
    Ok(Asked { place: if form.one("rd")?.is_some() { form } else { query }, confirm })
}

/// Whether the form of our own page was sent that named this browser's session: where browsers do not say whose page a form is on (plain http),
/// nothing else could ever confirm it.
fn confirmed(visit: &Visit<'_>, confirm: Option<&str>, found: &[(SessionCookie, Arc<OpenSession>)]) -> bool {
    let named = confirm.and_then(secret::decode).and_then(|sealed| visit.gateway.ring.open(CONFIRMED, &sealed));
    named.is_some_and(|named| found.iter().any(|(cookie, _)| secret::same(&named, &cookie.record_id())))
}

fn target(visit: &Visit<'_>, parameters: &Parameters) -> Result<Option<ReturnTo>, Fault> {
    let settings = &visit.gateway.settings;
    let Some(raw) = parameters.one("rd")? else { return Ok(None) };
    let base = settings.sites.base(&visit.facts.host);
    let checked = base.and_then(|base| settings.origins.check(raw, &base, &settings.prefix));
    checked.map(Some).ok_or_else(|| Fault::new(Reason::ReturnToRefused, "rd is neither at one of our hosts nor in redirect_origins"))
}

/// Origins that the form's answer may pass through.
pub(super) fn form_origins(visit: &Visit<'_>, rd: Option<&ReturnTo>) -> Vec<String> {
    let mut origins = visit.gateway.form_origins();
    origins.extend(rd.and_then(ReturnTo::url).map(|url| url.origin().ascii_serialization()));
    origins.sort();
    origins.dedup();
    origins
}

/// Where the provider ends its session, with the `state` that has to come back. `None`: it offers nothing of the kind.
async fn at_provider(visit: &Visit<'_>, session: &Session) -> Result<Option<(String, String)>, Trouble> {
    let crate::identity::Source::Provider(id) = &session.identity.source else { return Ok(None) };
    let Some(provider) = visit.gateway.provider(id) else { return Ok(None) };
    let state = secret::random_token();
    let back = own_url(visit, "/signed_out");
    let url = provider.end_session_url(&session.id_token, &back, &state).await?;
    Ok(url.map(|url| (url.into(), state)))
}

fn provider_of(session: &Session) -> String {
    match &session.identity.source {
        crate::identity::Source::Provider(id) | crate::identity::Source::TokenIssuer(id) => id.clone(),
    }
}

/// The end of the way: `rd`, else our page.
fn arrived(visit: &Visit<'_>, rd: Option<&ReturnTo>, provider_too: bool) -> Served {
    match rd {
        Some(rd) => Served::new(visit.reply().see_other(rd.as_str()), Reason::Endpoint),
        None => {
            let page = SignedOut { provider_too, sign_in: Some(start_url(visit, None)), warning: None };
            Served::new(visit.gateway.pages.signed_out(visit.request_id, &page), Reason::Endpoint)
        }
    }
}

pub(super) fn signed_out(visit: &Visit<'_>, headers: &HeaderMap) -> Served {
    let gateway = visit.gateway;
    let parameters = Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes());
    let state = match parameters.one("state") {
        Ok(state) => state,
        Err(fault) => return visit.refuse_with(&fault, Refusal::default()),
    };
    let sealed = pairs(headers).find(|(name, _)| *name == gateway.settings.style.sign_out).map(|(_, value)| value);
    let plain = sealed.and_then(secret::decode).and_then(|sealed| gateway.ring.open(CONTEXT, &sealed));
    let on_its_way: Option<OnItsWay> = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
    let mut served = match (on_its_way, state) {
        (Some(known), Some(state)) if secret::same(known.state.as_bytes(), state.as_bytes()) && gateway.clock.now() < known.until => {
            arrived(visit, known.rd.as_ref(), true)
        }
        (None, None) => arrived(visit, None, false),
        // Something came back that we did not send out, or what we sent out did not come back: `rd` is not followed.
        _ => {
            let page = SignedOut {
                provider_too: false,
                sign_in: Some(start_url(visit, None)),
                warning: Some(
                    "The sign-in service's answer does not belong to this sign-out, so its own session may still be open.".to_owned(),
                ),
            };
            let mut answer = gateway.pages.signed_out(visit.request_id, &page);
            *answer.status_mut() = crate::respond::status_of(Reason::SignOutState);
            Served::new(answer, Reason::SignOutState)
        }
    };
    append(&mut served, gateway.settings.style.set_sign_out("", Kept::Deleted));
    served
}

/// The front page, for the session page's link.
pub(super) fn home(visit: &Visit<'_>) -> String {
    let base = visit.gateway.settings.sites.base(&visit.facts.host);
    base.map_or_else(|| "/".to_owned(), |base| AllowedOrigins::home(&base).to_string())
}
