//! `session`: the page that says who is signed in and where, and ends sessions. Looking at it is no use of the session.

use std::sync::Arc;

use http::{Method, Request};

use super::form::Parameters;
use super::gateway::Origin;
use super::login::{self, append, own_url};
use super::look::{looked_at, only};
use super::{Served, Visit, logout, small_body, userinfo};
use crate::authenticate::OpenSession;
use crate::clock::UnixTime;
use crate::fault::{Fault, Outage, Trouble};
use crate::header::cookies::Kept;
use crate::header::device_of;
use crate::identity::{Email, Groups};
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Action, Refusal, SessionPage, ShownSession};
use crate::secret;
use crate::server::RequestBody;
use crate::session::SessionCookie;
use crate::store::{Listed, RecordId, Under};
use crate::telemetry::audit::{self, Ending};

const FORM: usize = 16 * 1024;
/// How many sessions the page shows. An account that many share, or that a test signs in with, may have thousands.
const SHOWN: usize = 100;

pub(super) async fn serve(visit: &Visit<'_>, request: Request<RequestBody>) -> Served {
    let (cookie, open) = match looked_at(visit, request.headers()).await.map(only) {
        Ok(Some(found)) => found,
        Ok(None) if visit.facts.audience == Audience::Navigation => {
            return Served::new(visit.reply().see_other(&login::start_url(visit, None)), Reason::NoCredential);
        }
        Ok(None) => return visit.refuse(&Fault::new(Reason::NoCredential, "")),
        Err(outage) => return visit.trouble(&Trouble::Unreachable(outage)),
    };
    let ended = match *request.method() {
        Method::POST => end_one(visit, request, &cookie, &open).await,
        _ => show(visit, &cookie, &open).await,
    };
    ended.unwrap_or_else(|trouble| visit.trouble(&trouble))
}

async fn show(visit: &Visit<'_>, cookie: &SessionCookie, open: &OpenSession) -> Result<Served, Trouble> {
    let session = &open.session;
    let identity = &session.identity;
    let of = Under::Sub { issuer: &identity.issuer, sub: &identity.sub };
    let sessions = visit.gateway.authenticator.sessions.listed(Some(of)).await?;
    let (email, email_verified) = match &identity.email {
        Email::Verified(address) => (Some(address.to_string()), true),
        Email::Unverified(address) => (Some(address.to_string()), false),
        Email::Absent => (None, false),
    };
    let groups = match &identity.groups {
        Groups::Listed(groups) => groups.iter().map(ToString::to_string).collect(),
        Groups::Overage => vec!["(too many to list)".to_owned()],
    };
    let (idle_until, ends_at) = userinfo::ends(visit, open);
    let page = SessionPage {
        user: identity.display_name().to_owned(),
        email,
        email_verified,
        preferred_username: identity.preferred_username.as_ref().map(ToString::to_string),
        groups,
        issuer: identity.issuer.to_string(),
        sub: identity.sub.to_string(),
        signed_in_at: readable(session.created_at),
        idle_until: readable(idle_until),
        ends_at: readable(ends_at),
        sign_out_action: own_url(visit, "/sign_out"),
        rd: None,
        home: logout::home(visit),
        end_action: own_url(visit, "/session"),
        confirm: logout::confirmation(visit, cookie),
        sessions: shown(&sessions, &cookie.record_id()),
        more_sessions: sessions.len().saturating_sub(SHOWN),
    };
    let answer = visit.gateway.pages.session(visit.request_id, &page, &logout::form_origins(visit, None));
    Ok(Served::new(answer, Reason::Endpoint))
}

/// This one first, then the others, the latest first.
fn shown(sessions: &[Listed], here: &RecordId) -> Vec<ShownSession> {
    let mut shown: Vec<ShownSession> = sessions
        .iter()
        .map(|one| ShownSession {
            // The name of its record: the hash of what is in its cookie. It finds the session here and opens nothing.
            id: secret::encode(&one.id),
            browser: device_of(&one.listing.user_agent, one.listing.shown_as),
            address: one.listing.address.to_string(),
            signed_in_at: readable(one.listing.signed_in_at),
            last_used: readable(one.last_used),
            here: one.id == *here,
        })
        .collect();
    shown.sort_by_key(|one| !one.here);
    shown.truncate(SHOWN);
    shown
}

/// Ends one session of the person whose session this is. What the provider granted for it stays there: its tokens open with its own cookie only.
async fn end_one(
    visit: &Visit<'_>,
    request: Request<RequestBody>,
    cookie: &SessionCookie,
    open: &Arc<OpenSession>,
) -> Result<Served, Trouble> {
    let origin = visit.gateway.from_own_page(request.headers());
    let form = Parameters::parse(&small_body(request, FORM).await?);
    let own = [(cookie.clone(), Arc::clone(open))];
    if origin != Origin::Own && !logout::confirmed(visit, form.one("confirm")?, &own) {
        let fault = Fault::new(Reason::CrossSite, "the form that ends a session was not on our own page");
        let page = Action { label: "Show my sessions".to_owned(), href: own_url(visit, "/session") };
        return Ok(visit.refuse_with(&fault, Refusal { actions: vec![page], ..Refusal::default() }));
    }
    let id = form.one("end")?.and_then(secret::decode).and_then(|bytes| RecordId::try_from(bytes).ok());
    let id = id.ok_or_else(|| Fault::new(Reason::ParameterInvalid, "end names no session"))?;
    let identity = Arc::clone(&open.session.identity);
    let sessions = Arc::clone(&visit.gateway.authenticator.sessions);
    let ended = visit.gateway.tasks.run(async move {
        // Only what the same person could see in the list.
        let of = Under::Sub { issuer: &identity.issuer, sub: &identity.sub };
        if !sessions.listed(Some(of)).await?.iter().any(|one| one.id == id) {
            return Ok(None);
        }
        sessions.end_record(id).await
    });
    let ended = ended.await.unwrap_or_else(|| Err(Outage::store("the work broke off")))?;
    if let Some(listing) = ended {
        audit::session_ended(&visit.trace.id(), &logout::provider_of(&open.session), &listing.sub, Ending::Elsewhere);
    }
    if id == cookie.record_id() {
        let mut served = logout::arrived(visit, None, false);
        append(&mut served, visit.gateway.settings.style.set_session("", Kept::Deleted));
        return Ok(served);
    }
    // Also when it was gone already: the page shows what there is.
    Ok(Served::new(visit.reply().see_other(&own_url(visit, "/session")), Reason::Endpoint))
}

/// `2026-11-21 10:15 UTC`.
fn readable(time: UnixTime) -> String {
    let text = time.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text,
    }
}
