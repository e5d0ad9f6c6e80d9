//! `frontchannel_logout`: a frame on the provider's page says that a session of its own has ended (OpenID Connect Front-Channel Logout 1.0
//! §2). Such a frame usually brings no cookies along: what ends is what `iss` and `sid` name, found through the index, and nothing else.

use std::sync::Arc;

use super::form::Parameters;
use super::{Served, Visit};
use crate::fault::{Fault, Outage, Trouble};
use crate::reason::Reason;
use crate::store::{Listing, Under};
use crate::telemetry::audit::{self, Ending};

pub(super) async fn serve(visit: &Visit<'_>) -> Served {
    let gateway = visit.gateway;
    let parameters = Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes());
    let (issuer, sid) = match named(&parameters) {
        Ok(named) => named,
        Err(fault) => return visit.refuse(&fault),
    };
    let Some(provider) = gateway.providers_of(issuer).next() else {
        return visit.refuse(&Fault::new(Reason::LogoutIssuer, "iss is no configured provider's issuer"));
    };
    let ended = match end(visit, issuer.to_owned(), sid.to_owned()).await {
        Ok(ended) => ended,
        Err(outage) => return visit.trouble(&Trouble::Unreachable(outage)),
    };
    for listing in &ended {
        audit::session_ended(&visit.trace.id(), provider.id(), &listing.sub, Ending::FrontChannel);
    }
    // The same whether there was something to end or not: nobody learns here which sessions there are.
    let framed_by: Vec<String> = gateway.providers_of(issuer).flat_map(|provider| provider.origins()).collect();
    Served::new(gateway.pages.frontchannel_signed_out(visit.request_id, &framed_by), Reason::Endpoint)
}

/// §2: if either is included, both must be. Without them only a cookie could say who is meant, and a page on any site could make a browser
/// send that.
fn named(parameters: &Parameters) -> Result<(&str, &str), Fault> {
    let one = |name: &str| parameters.one(name).map(|value| value.filter(|value| !value.is_empty()));
    match (one("iss")?, one("sid")?) {
        (Some(issuer), Some(sid)) => Ok((issuer, sid)),
        _ => Err(Fault::new(Reason::ParameterInvalid, "expected iss and sid; have the provider send them (session required)")),
    }
}

async fn end(visit: &Visit<'_>, issuer: String, sid: String) -> Result<Vec<Listing>, Outage> {
    let sessions = Arc::clone(&visit.gateway.authenticator.sessions);
    let ended = visit.gateway.tasks.run(async move {
        let under = Under::Sid { issuer: &issuer, sid: &sid };
        let mut ended = sessions.end_under(under).await?;
        // Anybody may ask this, so that only a `sid` which somebody had is worth a mark. A login with it may have ended before the mark was
        // there: hence once more.
        if !ended.is_empty() {
            sessions.mark_ended_sid(&issuer, &sid).await?;
            ended.extend(sessions.end_under(under).await?);
        }
        Ok(ended)
    });
    ended.await.unwrap_or_else(|| Err(Outage::store("the logout broke off")))
}
