//! Routes that tell the provider's tokens to their upstream, and sessions whose tokens are over.

use crate::authenticate::OpenSession;
use crate::clock::UnixTime;
use crate::credential::CredentialKind;
use crate::decision::{Challenge, CookieFate, Decision, TokenProblem};
use crate::fault::Outage;
use crate::login::Asked;
use crate::reason::Reason;
use crate::route::Route;

/// A permit stands where the route needs no tokens or there are good ones. Else it is an outage where new ones could not be had, and a question
/// for a new login where there are none to have. The session stays; other routes go on.
pub(super) fn with_tokens(
    route: &Route,
    decision: Decision,
    session: Option<&OpenSession>,
    without_tokens: Option<&Outage>,
    now: UnixTime,
) -> Result<Decision, Outage> {
    let (Decision::Permit(permit), Some(session), true) = (&decision, session, route.tells_tokens()) else { return Ok(decision) };
    if let Some(outage) = without_tokens {
        return Err(outage.clone());
    }
    if session.session.tokens.as_ref().is_some_and(|tokens| !tokens.are_over(now)) {
        return Ok(decision);
    }
    // Who showed the session as a token gets a new one where they got that: it is bad here, and no login in a browser mends it.
    let shown = permit.who().is_some_and(|who| who.by == CredentialKind::Bearer);
    let (reason, token) =
        if shown { (Reason::IssuedTokenEnded, TokenProblem::InvalidToken) } else { (Reason::SessionTokenEnded, TokenProblem::None) };
    Ok(Decision::Challenge(Challenge {
        reason,
        detail: "the route tells the provider's tokens, and the session has none that are good".to_owned(),
        cookie: CookieFate::Kept,
        token,
        asks: Asked::default(),
    }))
}
