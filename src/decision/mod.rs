//! What happens to a request: [`decide`] turns route, facts and authentication into a [`Decision`]. Pure; the one place that makes a [`Permit`].

mod permit;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use permit::Permit;

use crate::credential::{Absence, Authenticated, Authentication, CredentialKind};
use crate::fault::Fault;
use crate::identity::Source;
use crate::policy::{Policy, Refusal};
use crate::reason::Reason;
use crate::request::{Audience, Preflight, RequestFacts, Upgrade};
use crate::route::{Accept, Access, EncodedSlash, PreflightRule, Route};

/// The outcome.
#[derive(Debug)]
pub enum Decision {
    /// Go on: forward it, or answer 200.
    Permit(Permit),
    /// Who is it? 303 to the login, or 401.
    Challenge(Challenge),
    /// No. 403, or 400 for a request with two readings.
    Deny(Denial),
}

/// A question for a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Why.
    pub reason: Reason,
    /// For the log.
    pub detail: String,
    /// What the answer does with the session cookie.
    pub cookie: CookieFate,
    /// What was wrong with a token, if one was shown.
    pub token: TokenProblem,
}

/// What an answer does with the session cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieFate {
    /// Nothing.
    Kept,
    /// Deletes it: its session is over.
    Deleted,
}

/// The `error` of a `WWW-Authenticate: Bearer` challenge (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    /// No token was shown: no `error` at all.
    None,
    /// `invalid_token`.
    InvalidToken,
}

/// A refusal that no other credential of the same person would change.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// Why.
    pub fault: Fault,
    /// Who was refused, for the page.
    pub who: Option<Authenticated>,
    /// The scopes that a token would have needed (RFC 6750 §3.1, `insufficient_scope`).
    pub scopes: Vec<String>,
}

impl PartialEq for Authenticated {
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by && self.identity == other.identity
    }
}

/// What is asked beside the route.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// A named policy that has to hold too (`?policy=NAME` of forward-auth).
    pub policy: Option<Arc<Policy>>,
}

/// Decides, before any credential is read, what needs none: a path with two readings, a public route, a preflight. `None`: go on and
/// authenticate.
#[must_use]
pub fn decide_unauthenticated(route: &Arc<Route>, facts: &RequestFacts) -> Option<Decision> {
    if facts.path.has_encoded_slash() && route.encoded_slash == EncodedSlash::Refuse {
        let fault = Fault::new(Reason::PathAmbiguous, format!("an escaped slash, which route {:?} does not take", route.id));
        return Some(Decision::Deny(Denial { fault, who: None, scopes: Vec::new() }));
    }
    if matches!(route.access, Access::Public) {
        return Some(Decision::Permit(Permit::new(route, None, Reason::Public)));
    }
    if facts.preflight == Preflight::Yes && route.preflight == PreflightRule::Pass {
        return Some(Decision::Permit(Permit::new(route, None, Reason::Preflight)));
    }
    None
}

/// Decides with what authentication found. Routes and requests that need none were decided before.
#[must_use]
pub fn decide(route: &Arc<Route>, facts: &RequestFacts, authentication: Authentication, extra: &Extra) -> Decision {
    if let Some(decision) = decide_unauthenticated(route, facts) {
        return decision;
    }
    match (&route.access, authentication) {
        // Public was decided above; without a credential there is no one else this could be.
        (Access::Public, _) => Decision::Permit(Permit::new(route, None, Reason::Public)),
        (_, Authentication::Rejected(fault)) => Decision::Challenge(Challenge {
            reason: fault.reason,
            detail: fault.detail,
            cookie: CookieFate::Kept,
            token: TokenProblem::InvalidToken,
        }),
        (Access::Optional(_), Authentication::Anonymous(_)) if extra.policy.is_none() => {
            Decision::Permit(Permit::new(route, None, Reason::OptionalAnonymous))
        }
        (_, Authentication::Anonymous(absence)) => challenge(absence),
        (Access::Optional(accept), Authentication::Authenticated(who)) => judge(route, accept, facts, who, [None, extra.policy.as_deref()]),
        (Access::Protected(accept, policy), Authentication::Authenticated(who)) => {
            judge(route, accept, facts, who, [Some(policy.as_ref()), extra.policy.as_deref()])
        }
    }
}

fn challenge(absence: Absence) -> Decision {
    let (reason, cookie) = match absence {
        Absence::NoCredential => (Reason::NoCredential, CookieFate::Kept),
        Absence::SessionOver(reason) => (reason, CookieFate::Deleted),
    };
    Decision::Challenge(Challenge { reason, detail: String::new(), cookie, token: TokenProblem::None })
}

fn judge(route: &Arc<Route>, accept: &Accept, facts: &RequestFacts, who: Authenticated, policies: [Option<&Policy>; 2]) -> Decision {
    let (Source::Provider(id) | Source::TokenIssuer(id)) = &who.identity.source;
    if !accept.takes_provider(id) {
        let detail = format!("signed in with {id:?}, which route {:?} does not take", route.id);
        return wrong_provider(facts, who, detail);
    }
    if let Some(detail) = foreign_upgrade(route, facts, &who) {
        return deny(Fault::new(Reason::UpgradeOrigin, detail), who, Vec::new());
    }
    for policy in policies.into_iter().flatten() {
        if let Err(Refusal { reason, detail, scopes }) = policy.evaluate(&who.identity) {
            if reason == Reason::WrongProvider {
                return wrong_provider(facts, who, detail);
            }
            return deny(Fault::new(reason, detail), who, scopes);
        }
    }
    Decision::Permit(Permit::new(route, Some(who), Reason::Allowed))
}

/// A person with a session of another provider is led to the right login; a program is told.
fn wrong_provider(facts: &RequestFacts, who: Authenticated, detail: String) -> Decision {
    if facts.audience == Audience::Navigation && who.by == CredentialKind::Session {
        return Decision::Challenge(Challenge {
            reason: Reason::WrongProvider,
            detail,
            cookie: CookieFate::Kept,
            token: TokenProblem::None,
        });
    }
    deny(Fault::new(Reason::WrongProvider, detail), who, Vec::new())
}

fn deny(fault: Fault, who: Authenticated, scopes: Vec<String>) -> Decision {
    Decision::Deny(Denial { fault, who: Some(who), scopes })
}

/// A page of another origin may open a WebSocket and the browser sends the cookie along: so a session upgrades only for its own origin and
/// those that the route lists. A bearer token is not sent by itself.
fn foreign_upgrade(route: &Route, facts: &RequestFacts, who: &Authenticated) -> Option<String> {
    if facts.upgrade == Upgrade::No || who.by != CredentialKind::Session {
        return None;
    }
    let origin = facts.origin.as_deref()?;
    let own = format!("{}://{}", facts.scheme.as_str(), facts.host);
    let listed = origin.eq_ignore_ascii_case(&own) || route.origins.contains(&origin.to_ascii_lowercase());
    (!listed).then(|| "an upgrade with a session from an origin that the route does not list".to_owned())
}
