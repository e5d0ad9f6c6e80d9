//! `backchannel_logout`: the provider says that a session of its own has ended (OpenID Connect Back-Channel Logout 1.0 §2.5 to §2.8).

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use serde_json::json;

use super::form::Parameters;
use super::{Gateway, Served, Visit, small_body};
use crate::fault::{Fault, Outage, Trouble};
use crate::provider::IdentityProvider;
use crate::reason::Reason;
use crate::request::{Audience, RequestFacts};
use crate::secret::Secret;
use crate::server::RequestBody;
use crate::store::{Listing, Under};
use crate::telemetry::audit::{self, Ending};
use crate::token::{Ends, LogoutToken, logout_token};

const FORM: usize = 32 * 1024;

/// What became of a logout token that counts.
enum Ended {
    /// These ended; none is well too.
    Sessions(Vec<Listing>),
    /// It was there before.
    Replayed,
}

pub(super) async fn serve(visit: &Visit<'_>, request: Request<RequestBody>) -> Served {
    // JSON whoever asks: it is an interface, not a page.
    let facts = RequestFacts { audience: Audience::Program, ..visit.facts.clone() };
    let visit = &Visit { facts: &facts, ..*visit };
    let token = match read(request).await {
        Ok(token) => token,
        Err(fault) => return refused(visit, &fault),
    };
    let provider = match provider_of(visit.gateway, &token) {
        Ok(provider) => provider,
        Err(fault) => return refused(visit, &fault),
    };
    let name = provider.id().to_owned();
    let verified = match provider.verify_logout_token(&token).await {
        Ok(verified) => verified,
        Err(Trouble::Refused(fault)) => return refused(visit, &fault),
        Err(trouble @ Trouble::Unreachable(_)) => return visit.trouble(&trouble),
    };
    match end(visit.gateway, verified).await {
        Ok(Ended::Sessions(ended)) => {
            for listing in &ended {
                audit::session_ended(&visit.trace.id(), &name, &listing.sub, Ending::BackChannel);
            }
            // §2.8: 200, also when there was nothing to end: what the provider wants is so.
            Served::new(visit.reply().json(&json!({ "ended": ended.len() })), Reason::Endpoint)
        }
        Ok(Ended::Replayed) => refused(visit, &Fault::new(Reason::LogoutTokenReplayed, "its jti has been received before")),
        Err(outage) => visit.trouble(&Trouble::Unreachable(outage)),
    }
}

/// §2.5: a form with one `logout_token`.
async fn read(request: Request<RequestBody>) -> Result<Secret, Fault> {
    if !is_form(request.headers()) {
        return Err(Fault::new(Reason::ParameterInvalid, "expected a body of application/x-www-form-urlencoded"));
    }
    let form = Parameters::parse(&small_body(request, FORM).await?);
    let token = form.one("logout_token")?.filter(|token| !token.is_empty());
    token.map(Secret::new).ok_or_else(|| Fault::new(Reason::ParameterInvalid, "logout_token is missing"))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Who checks the token. What it says of itself chooses among those that are configured and is believed in nothing else.
fn provider_of<'g>(gateway: &'g Gateway, token: &Secret) -> Result<&'g Arc<dyn IdentityProvider>, Fault> {
    let Some(addressed) = logout_token::peek(token.expose()) else {
        return Err(Fault::new(Reason::LogoutTokenMalformed, "not a signed JWT with iss"));
    };
    let of_issuer = || gateway.providers_of(&addressed.issuer);
    // Two registrations with one provider are told by the audience.
    let registrations = &gateway.authenticator.registrations;
    let ours = |provider: &&Arc<dyn IdentityProvider>| {
        registrations.get(provider.id()).is_some_and(|registration| addressed.audience.contains(&registration.client_id))
    };
    of_issuer()
        .find(ours)
        .or_else(|| of_issuer().next())
        .ok_or_else(|| Fault::new(Reason::LogoutIssuer, "iss is no configured provider's issuer"))
}

/// Ends the sessions, and only then notes the `jti`: after an outage the provider may send the same token again, and it counts. Of two that
/// come at once both end the sessions, and one of them is told that it was a replay. Runs to its end though the provider gave up waiting.
async fn end(gateway: &Gateway, token: LogoutToken) -> Result<Ended, Outage> {
    let sessions = Arc::clone(&gateway.authenticator.sessions);
    let ended = gateway.tasks.run(async move {
        let issuer = &token.issuer;
        // §2.6 (8): once.
        let mark: [&[u8]; 3] = [b"logout-jti", issuer.as_bytes(), token.jti.as_bytes()];
        if sessions.remembered(&mark).await? {
            return Ok(Ended::Replayed);
        }
        let ended = match &token.ends {
            Ends::Sid(sid) => {
                // Before the sessions are looked up, so that a login which ends meanwhile is on one side or the other.
                sessions.mark_ended_sid(issuer, sid).await?;
                sessions.end_under(Under::Sid { issuer, sid }).await?
            }
            Ends::Sub(sub) => sessions.end_under(Under::Sub { issuer, sub }).await?,
        };
        let first = sessions.remember(&mark, token.counts_until).await?;
        Ok(if first { Ended::Sessions(ended) } else { Ended::Replayed })
    });
    ended.await.unwrap_or_else(|| Err(Outage::store("the logout broke off")))
}

/// §2.8: 400 with the error as RFC 6749 §5.2 has it. A provider that is set up wrong shows in the security log.
fn refused(visit: &Visit<'_>, fault: &Fault) -> Served {
    audit::logout_refused(&visit.trace.id(), fault);
    visit.refuse(fault)
}
