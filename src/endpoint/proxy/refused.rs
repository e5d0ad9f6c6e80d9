//! What a challenge and a denial do.

use http::header::{HeaderMap, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};

use crate::credential::CredentialKind;
use crate::decision::{Challenge, CookieFate, Denial, Permit, TokenProblem};
use crate::endpoint::login::{self, append, here, own_url};
use crate::endpoint::{Gateway, Served, Visit, kept_form, logout, resource_metadata, wanted};
use crate::fault::Fault;
use crate::header::cookies::Kept;
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Action, DeniedPage, Refusal, challenge, words_of};
use crate::route::Route;
use crate::server::RequestBody;
use crate::store::RecordId;

/// 303 to the login for a person's GET and for a form that is kept, 401 for everything else.
pub(super) async fn challenged(
    visit: &Visit<'_>,
    route: &Route,
    request: Request<RequestBody>,
    challenge: &Challenge,
    ended: Option<RecordId>,
) -> Served {
    let headers = &request.headers().clone();
    if let Some(served) = kept_form::keep(visit, route, request, challenge, ended).await {
        return if served.response.status() == StatusCode::SEE_OTHER { Served { reason: challenge.reason, ..served } } else { served };
    }
    let mut served = if leads_to_login(visit, route, challenge) {
        let served = login::challenge(visit, headers).await;
        // An outage or a bound that was met has its own reason; the redirect has the challenge's.
        if served.response.status() == StatusCode::SEE_OTHER { Served { reason: challenge.reason, ..served } } else { return served }
    } else {
        unauthorized(visit, route, headers, challenge)
    };
    if challenge.cookie == CookieFate::Deleted {
        append(&mut served, visit.gateway.settings.style.set_session("", Kept::Deleted));
    }
    served.detail(challenge.detail.clone())
}

/// Whether a challenge sends a browser to sign in.
pub(in crate::endpoint) fn leads_to_login(visit: &Visit<'_>, route: &Route, challenge: &Challenge) -> bool {
    let navigates = visit.facts.audience == Audience::Navigation && visit.facts.method == Method::GET;
    navigates && route.takes(CredentialKind::Session) && challenge.token == TokenProblem::None
}

pub(in crate::endpoint) fn unauthorized(visit: &Visit<'_>, route: &Route, headers: &HeaderMap, challenge: &Challenge) -> Served {
    let sessions = route.takes(CredentialKind::Session);
    let challenges = login::unauthorized(visit, Some(route), headers, challenge);
    let page = referring_page(visit.gateway, headers);
    let login_url = sessions.then(|| login::start_url_after(visit, page.as_deref(), Some(route), challenge));
    let actions = login_url.iter().map(|href| Action { label: "Sign in".to_owned(), href: href.clone() }).collect();
    let words = (!sessions && challenge.reason == Reason::NoCredential).then(|| wanted::words(route));
    let refusal = Refusal { challenges, login_url, actions, status: Some(StatusCode::UNAUTHORIZED), words, ..Refusal::default() };
    Served::new(visit.reply().refuse(challenge.reason, refusal), challenge.reason)
}

/// The page that a program runs in: the place to come back to, since the address it asked for is none for people.
fn referring_page(gateway: &Gateway, headers: &HeaderMap) -> Option<String> {
    let page = url::Url::parse(headers.get(http::header::REFERER)?.to_str().ok()?).ok()?;
    gateway.settings.sites.own(&page).then(|| page.into())
}

pub(in crate::endpoint) fn denied(visit: &Visit<'_>, route: &Route, denial: Denial) -> Served {
    let mut served = denied_page(visit, route, &denial);
    if !denial.scopes.is_empty() {
        let metadata = resource_metadata::url(visit, Some(route));
        let challenge = challenge::insufficient_scope(&denial.scopes, metadata.as_deref());
        served.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    served.who = denial.who;
    served
}

/// 403 for somebody: the page that says who is signed in, or JSON. The session stays.
pub(in crate::endpoint) fn denied_page(visit: &Visit<'_>, route: &Route, denial: &Denial) -> Served {
    let Denial { fault, who, .. } = denial;
    let words = words_of(fault.reason);
    let forbidden = crate::respond::status_of(fault.reason) == StatusCode::FORBIDDEN;
    match who {
        Some(who) if visit.facts.audience == Audience::Navigation && forbidden => {
            let place = here(visit);
            let page = DeniedPage {
                user: Some(who.identity.display_name().to_owned()),
                // A password that a browser sends along is none that we could forget for it.
                sign_out_action: (who.by == CredentialKind::Session).then(|| own_url(visit, "/sign_out")),
                rd: place.as_ref().map(ToString::to_string),
                home: place.as_ref().map(ToString::to_string),
                told: route.denied.as_deref().cloned(),
            };
            let origins = logout::form_origins(visit, place.as_ref());
            let answer = visit.gateway.pages.denied(visit.request_id, fault.reason, &words, &page, &origins);
            Served::new(answer, fault.reason).detail(fault.detail.clone())
        }
        _ => visit.refuse_with(fault, Refusal { told: route.denied.clone().filter(|_| forbidden), ..Refusal::default() }),
    }
}

pub(super) fn denied_or_failed(visit: &Visit<'_>, permit: &Permit, fault: Fault) -> Served {
    denied_page(visit, permit.route(), &Denial { fault, who: permit.who().cloned(), scopes: Vec::new() })
}
