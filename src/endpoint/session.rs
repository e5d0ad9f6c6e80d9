//! `session`: the page that says who is signed in, and signs out.

use http::HeaderMap;

use super::login::{self, own_url};
use super::{Served, Visit, callback, logout};
use crate::identity::{Email, Groups};
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::SessionPage;

pub(super) async fn serve(visit: &Visit<'_>, headers: &HeaderMap) -> Served {
    let open = match callback::session(visit, headers).await {
        Ok(Some((_, open))) => open,
        Ok(None) if visit.facts.audience == Audience::Navigation => {
            return Served::new(visit.reply().see_other(&login::start_url(visit, None)), Reason::NoCredential);
        }
        Ok(None) => return visit.refuse(&crate::fault::Fault::new(Reason::NoCredential, "")),
        Err(trouble) => return visit.trouble(&trouble),
    };
    let session = &open.session;
    let identity = &session.identity;
    let (email, email_verified) = match &identity.email {
        Email::Verified(address) => (Some(address.clone()), true),
        Email::Unverified(address) => (Some(address.clone()), false),
        Email::Absent => (None, false),
    };
    let groups = match &identity.groups {
        Groups::Listed(groups) => groups.clone(),
        Groups::Overage => vec!["(too many to list)".to_owned()],
    };
    let lifetimes = visit.gateway.settings.lifetimes;
    let page = SessionPage {
        user: identity.display_name().to_owned(),
        email,
        email_verified,
        preferred_username: identity.preferred_username.clone(),
        groups,
        issuer: identity.issuer.clone(),
        sub: identity.sub.clone(),
        signed_in_at: readable(session.created_at),
        idle_until: readable(open.last_used().plus(lifetimes.idle).min(session.ends_at)),
        ends_at: readable(session.ends_at),
        sign_out_action: own_url(visit, "/sign_out"),
        rd: None,
        home: logout::home(visit),
    };
    let answer = visit.gateway.pages.session(visit.request_id, &page, &logout::form_origins(visit, None));
    Served::new(answer, Reason::Endpoint)
}

/// `2026-11-21 10:15 UTC`.
fn readable(time: crate::clock::UnixTime) -> String {
    let text = time.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text,
    }
}
