//! `userinfo`: who the caller is, as JSON.

use http::HeaderMap;
use serde_json::json;

use super::{Served, Visit};
use crate::authenticate::{Patience, present};
use crate::credential::{Authentication, CredentialKind};
use crate::decision::TokenProblem;
use crate::fault::Trouble;
use crate::identity::Groups;
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Refusal, challenge};
use crate::route::{Accept, RouteAudience};

pub(super) async fn serve(visit: &Visit<'_>, headers: &HeaderMap) -> Served {
    // JSON whoever asks: it is an interface, not a page.
    let facts = crate::request::RequestFacts { audience: Audience::Program, ..visit.facts.clone() };
    let visit = &Visit { facts: &facts, ..*visit };
    let gateway = visit.gateway;
    let accept =
        Accept { kinds: vec![CredentialKind::Session, CredentialKind::Bearer], audience: RouteAudience::OfIssuer, providers: None };
    let credential = present(headers, &accept, &gateway.settings.style, gateway.settings.token_bytes);
    let outcome = match gateway.authenticator.authenticate(credential, &accept, Patience::Brief).await {
        Ok(outcome) => outcome,
        Err(trouble @ Trouble::Unreachable(_)) => return visit.trouble(&trouble),
        Err(Trouble::Refused(fault)) => {
            let challenge = Some(challenge::invalid_request(fault.reason));
            return visit.refuse_with(&fault, Refusal { challenge, ..Refusal::default() });
        }
    };
    let who = match outcome.authentication {
        Authentication::Authenticated(who) => who,
        Authentication::Anonymous(_) => return unauthorized(visit, Reason::NoCredential, TokenProblem::None),
        Authentication::Rejected(fault) => return unauthorized(visit, fault.reason, TokenProblem::InvalidToken).detail(fault.detail),
    };
    let identity = &who.identity;
    let groups = match &identity.groups {
        Groups::Listed(groups) => Some(groups),
        // Left out by the provider: that is not "none".
        Groups::Overage => None,
    };
    let told = json!({
        "iss": identity.issuer,
        "sub": identity.sub,
        "user": identity.user,
        "email": identity.email.verified(),
        "preferredUsername": identity.preferred_username,
        "groups": groups,
    });
    let mut served = Served::new(visit.reply().json(&told), Reason::Endpoint);
    served.who = Some(who);
    served
}

fn unauthorized(visit: &Visit<'_>, reason: Reason, problem: TokenProblem) -> Served {
    let challenge = match problem {
        TokenProblem::None | TokenProblem::TooWeak => challenge::unauthorized(None, problem, reason),
        TokenProblem::InvalidToken => challenge::invalid_token(reason),
    };
    let login_url = Some(super::login::start_url(visit, None));
    let answer = visit.reply().refuse(reason, Refusal { challenge: Some(challenge), login_url, ..Refusal::default() });
    Served::new(answer, reason)
}
