//! The sessions that a browser shows, looked at: that is no use of them, so that a page which asks every minute keeps nobody signed in.

use std::sync::Arc;

use http::HeaderMap;

use super::Visit;
use crate::authenticate::{OpenSession, Shown, present};
use crate::credential::{Credential, CredentialKind};
use crate::fault::Outage;
use crate::route::Accept;
use crate::session::{SessionCookie, ShownAs};
use crate::store::Loaded;

/// A cookie and what it opens.
pub(super) type Found = (SessionCookie, Arc<OpenSession>);

/// All good sessions among the cookies of a request.
pub(super) async fn looked_at(visit: &Visit<'_>, headers: &HeaderMap) -> Result<Vec<Found>, Outage> {
    let accept = Accept::of(vec![CredentialKind::Session]);
    let settings = &visit.gateway.settings;
    match present(&Shown::headers(headers), &accept, &settings.style, settings.token_bytes) {
        Credential::Session(cookies) => look(visit, cookies).await,
        _ => Ok(Vec::new()),
    }
}

/// The good ones of these.
pub(super) async fn look(visit: &Visit<'_>, cookies: Vec<SessionCookie>) -> Result<Vec<Found>, Outage> {
    let authenticator = &visit.gateway.authenticator;
    let mut found = Vec::new();
    for cookie in cookies {
        if let Loaded::Alive(open) = authenticator.sessions.look(&cookie).await?
            && authenticator.vouches(&open.session, ShownAs::Cookie)
        {
            found.push((cookie, open));
        }
    }
    Ok(found)
}

/// The one that counts: of two none does, since nobody could say which one the browser means.
pub(super) fn only(mut found: Vec<Found>) -> Option<Found> {
    if found.len() == 1 { found.pop() } else { None }
}
