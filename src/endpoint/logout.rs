//! `sign_out` ends the session here, has the provider take back what it issued for it (RFC 7009), and sends the browser there to end its
//! own session; `signed_out` is where it comes back (OpenID Connect RP-Initiated Logout §2, §3).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request};
use serde::{Deserialize, Serialize};
use url::Url;

use super::callback::sessions;
use super::form::Parameters;
use super::gateway::Origin;
use super::login::{append, own_url, start_url};
use super::start::from_header;
use super::{Served, Visit, small_body};
use crate::authenticate::OpenSession;
use crate::clock::UnixTime;
use crate::fault::{Fault, Outage, Trouble};
use crate::header::cookies::{Kept, pairs};
use crate::provider::local::LOCAL;
use crate::reason::Reason;
use crate::request::{AllowedOrigins, ReturnTo};
use crate::respond::{ConfirmSignOut, Refusal, SignedOut};
use crate::secret;
use crate::server::{ConnectionInfo, RequestBody};
use crate::session::{Session, SessionCookie};
use crate::store::{Listing, Under};
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

pub(super) async fn sign_out(visit: &Visit<'_>, request: Request<RequestBody>, info: &ConnectionInfo) -> Served {
    let headers = request.headers().clone();
    let origin = visit.gateway.from_own_page(&headers);
    let method = request.method().clone();
    let Asked { place, confirm, everywhere } = match read(visit, request).await {
        Ok(asked) => asked,
        Err(fault) => return visit.refuse(&fault),
    };
    let rd = match target(visit, &place, from_header(visit.gateway, &headers, info)).await {
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
            everywhere: everywhere == Everywhere::Yes,
            confirm: found.first().map(|(cookie, _)| confirmation(visit, cookie)),
            action: own_url(visit, "/sign_out"),
            rd: rd.as_ref().map(ToString::to_string),
            cancel: visit.gateway.settings.sites.base(&visit.facts.host).map(String::from).unwrap_or_else(|| "/".to_owned()),
        };
        let answer = visit.gateway.pages.confirm_sign_out(visit.request_id, &page, &form_origins(visit, rd.as_ref()));
        return Served::new(answer, Reason::CrossSite);
    }
    let gateway = visit.gateway;
    let ended = match end(visit, &found, everywhere).await {
        Ok(ended) => ended,
        Err(trouble) => return visit.trouble(&trouble),
    };
    for session in &ended.sessions {
        audit::session_ended(&visit.trace.id(), &provider_of(session), &session.identity.sub, Ending::SignOut);
        take_back(visit, session);
    }
    for (listing, provider) in &ended.elsewhere {
        audit::session_ended(&visit.trace.id(), provider, &listing.sub, Ending::Elsewhere);
    }
    let Some(session) = ended.sessions.first().map(Arc::clone) else {
        let mut served = arrived(visit, rd.as_ref(), false);
        if !unasked {
            append(&mut served, gateway.settings.style.set_session("", Kept::Deleted));
            forget_pages(&mut served);
        }
        return served;
    };
    let mut served = match at_provider(visit, &session).await {
        Ok(Some(AtProvider { url, state })) => {
            let mut served = Served::new(visit.reply().see_other(&url), Reason::Endpoint);
            let style = &gateway.settings.style;
            append(
                &mut served,
                match state {
                    Some(state) => {
                        let on_its_way = OnItsWay { state, rd, until: gateway.clock.now().plus(ON_ITS_WAY) };
                        let plain = serde_json::to_vec(&on_its_way).unwrap_or_default();
                        let value = secret::encode(&gateway.ring.seal(CONTEXT, &plain));
                        style.set_sign_out(&value, Kept::For(ON_ITS_WAY))
                    }
                    // Nothing will come back that could be compared, so nothing is waited for: our page, and `rd` is not followed.
                    None => style.set_sign_out("", Kept::Deleted),
                },
            );
            served
        }
        // Accounts of our own: there is no other session that could be left.
        Ok(None) => arrived(visit, rd.as_ref(), provider_of(&session) == LOCAL),
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
    forget_pages(&mut served);
    served
}

/// What the app showed to whoever was signed in must not be found again with the back button.
fn forget_pages(served: &mut Served) {
    served.response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cache\""));
}

/// Which of a person's sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Everywhere {
    /// Those of this browser.
    No,
    /// All of them.
    Yes,
}

/// What ended.
struct Ended {
    /// Of this browser; usually one. Where it shows two, both end: nobody could say which one is meant.
    sessions: Vec<Arc<Session>>,
    /// Of the same person in other browsers, with the provider's name.
    elsewhere: Vec<(Listing, String)>,
}

/// Runs to its end though the browser has left. The others' go first: an outage in between leaves this one, with which to try again.
async fn end(visit: &Visit<'_>, found: &[(SessionCookie, Arc<OpenSession>)], everywhere: Everywhere) -> Result<Ended, Trouble> {
    let sessions = Arc::clone(&visit.gateway.authenticator.sessions);
    let found: Vec<_> = found.iter().map(|(cookie, open)| (cookie.clone(), Arc::clone(&open.session))).collect();
    let ended = visit.gateway.tasks.run(async move {
        let mut ended = Ended { sessions: Vec::new(), elsewhere: Vec::new() };
        for (cookie, session) in found {
            if everywhere == Everywhere::Yes {
                let (issuer, sub) = (session.identity.issuer.as_str(), session.identity.sub.as_str());
                for one in sessions.listed(Some(Under::Sub { issuer, sub })).await? {
                    if one.id != cookie.record_id()
                        && let Some(listing) = sessions.end_record(one.id).await?
                    {
                        ended.elsewhere.push((listing, provider_of(&session)));
                    }
                }
            }
            // As it is now: its tokens may have been renewed since it was found.
            let as_it_was = sessions.end(&cookie).await?;
            ended.sessions.push(as_it_was.unwrap_or(session));
        }
        Ok::<_, Outage>(ended)
    });
    match ended.await {
        Some(ended) => Ok(ended?),
        None => Err(Fault::new(Reason::Internal, "the sign-out broke off").into()),
    }
}

/// Has the provider take back the refresh token, beside everything else: a provider that does not answer holds nobody up. It is in the
/// session's own record, which only this browser's cookie opens; of sessions that are ended from elsewhere the grant stays.
fn take_back(visit: &Visit<'_>, session: &Arc<Session>) {
    let id = provider_of(session);
    let Some(provider) = visit.gateway.provider(&id).map(Arc::clone) else { return };
    let (session, metrics, request_id) = (Arc::clone(session), Arc::clone(&visit.gateway.metrics), visit.trace.id());
    drop(visit.gateway.tasks.run(async move {
        let Some(tokens) = &session.tokens else { return };
        if let Err(trouble) = provider.revoke(tokens).await {
            if let Trouble::Unreachable(outage) = &trouble {
                metrics.dependency_error(outage.dependency);
            }
            audit::revocation_failed(&request_id, &id, &trouble);
        }
    }));
}

/// What a sign-out was asked with.
struct Asked {
    /// Where `rd` stands.
    place: Parameters,
    /// From our page that asks first.
    confirm: Option<String>,
    /// From the session page.
    everywhere: Everywhere,
}

async fn read(visit: &Visit<'_>, request: Request<RequestBody>) -> Result<Asked, Fault> {
    let query = Parameters::parse_with_rd(visit.facts.query.as_deref().unwrap_or_default());
    if request.method() != Method::POST {
        return Ok(Asked { place: query, confirm: None, everywhere: Everywhere::No });
    }
    let body = small_body(request, FORM).await?;
    let form = Parameters::parse(&body);
    let confirm = form.one("confirm")?.map(str::to_owned);
    let everywhere = if form.one("everywhere")? == Some("true") { Everywhere::Yes } else { Everywhere::No };
    Ok(Asked { place: if form.one("rd")?.is_some() { form } else { query }, confirm, everywhere })
}

/// What a form of our own pages holds that may change something for this session: no other page can read it.
pub(super) fn confirmation(visit: &Visit<'_>, cookie: &SessionCookie) -> String {
    secret::encode(&visit.gateway.ring.seal(CONFIRMED, &cookie.record_id()))
}

/// Whether the form of our own page was sent that named this browser's session: where browsers do not say whose page a form is on (plain
/// http), nothing else could ever confirm it.
pub(super) fn confirmed(visit: &Visit<'_>, confirm: Option<&str>, found: &[(SessionCookie, Arc<OpenSession>)]) -> bool {
    let named = confirm.and_then(secret::decode).and_then(|sealed| visit.gateway.ring.open(CONFIRMED, &sealed));
    named.is_some_and(|named| found.iter().any(|(cookie, _)| secret::same(&named, &cookie.record_id())))
}

/// Where to go after: `rd`, else what a listed front proxy names. An `rd` that is the provider's own place for signing out says no more
/// than this endpoint does by itself: the place that it names in turn counts, if it is allowed.
async fn target(visit: &Visit<'_>, parameters: &Parameters, header: Option<String>) -> Result<Option<ReturnTo>, Fault> {
    let settings = &visit.gateway.settings;
    let (name, raw) = match (parameters.one("rd")?, &header) {
        (Some(raw), _) => ("rd", raw),
        (None, Some(raw)) => ("X-Auth-Request-Redirect", raw.as_str()),
        (None, None) => return Ok(None),
    };
    let base = settings.sites.base(&visit.facts.host);
    let base = base.ok_or_else(|| Fault::new(Reason::HostUnknown, "no public URL for this host"))?;
    let check = |raw: &str| settings.origins.check(raw, &base, &settings.prefix);
    if let Some(rd) = check(raw) {
        return Ok(Some(rd));
    }
    let Some(url) = Url::parse(raw).ok().filter(|url| url.has_host()) else { return Err(elsewhere(name)) };
    for provider in &visit.gateway.providers {
        // A provider that does not answer says nothing for this place, and keeps nobody from signing out here.
        match provider.ends_sessions_at(&url).await {
            Ok(false) => {}
            Ok(true) => {
                let after = url.query_pairs().find(|(name, _)| name == "post_logout_redirect_uri");
                return Ok(after.and_then(|(_, after)| check(&after)));
            }
            Err(Trouble::Refused(_)) => {}
            Err(Trouble::Unreachable(outage)) => {
                visit.gateway.note_outage(&visit.trace.id(), &outage);
                return Ok(None);
            }
        }
    }
    Err(elsewhere(name))
}

fn elsewhere(name: &str) -> Fault {
    Fault::new(Reason::ReturnToRefused, format!("{name} is neither at one of our hosts nor in redirect_origins"))
}

/// Origins that the form's answer may pass through.
pub(super) fn form_origins(visit: &Visit<'_>, rd: Option<&ReturnTo>) -> Vec<String> {
    let mut origins = visit.gateway.form_origins();
    origins.extend(rd.and_then(ReturnTo::url).map(|url| url.origin().ascii_serialization()));
    origins.sort();
    origins.dedup();
    origins
}

/// Where the provider ends its session.
struct AtProvider {
    url: String,
    /// What has to come back; `None`: a `logout_url` that has no place for it.
    state: Option<String>,
}

/// `None`: the provider offers nothing of the kind.
async fn at_provider(visit: &Visit<'_>, session: &Session) -> Result<Option<AtProvider>, Trouble> {
    let crate::identity::Source::Provider(id) = &session.identity.source else { return Ok(None) };
    let Some(provider) = visit.gateway.provider(id) else { return Ok(None) };
    let state = secret::random_token();
    let back = own_url(visit, "/signed_out");
    let url = provider.end_session_url(session, &back, &state).await?;
    Ok(url.map(|url| {
        // base64url: it stands in a URL as it is.
        let state = url.as_str().contains(&state).then_some(state);
        AtProvider { url: url.into(), state }
    }))
}

pub(super) fn provider_of(session: &Session) -> String {
    session.identity.source.id().to_owned()
}

/// The end of the way: `rd`, else our page.
pub(super) fn arrived(visit: &Visit<'_>, rd: Option<&ReturnTo>, provider_too: bool) -> Served {
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
