//! What happens to a request: [`decide`] turns route, facts and authentication into a [`Decision`]. Pure; the one place that makes a [`Permit`].

mod permit;
mod strength;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::Method;

pub use permit::Permit;
pub use strength::{Weakness, weakness};

use crate::clock::UnixTime;
use crate::credential::{Absence, Authenticated, Authentication, CredentialKind};
use crate::fault::Fault;
use crate::login::Asked;
use crate::policy::{Policy, Refusal};
use crate::reason::Reason;
use crate::request::{Audience, Preflight, RequestFacts, Upgrade};
use crate::route::{Accept, Access, DryRun, EncodedSlash, PreflightRule, Route};

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
    /// What the next login has to be worth, where the one behind this identity was not. Else nothing.
    pub asks: Asked,
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
    /// No token was shown, but another credential, and that was no good: no `error` either, and no login in its place.
    OtherCredential,
    /// `invalid_token`.
    InvalidToken,
    /// `insufficient_user_authentication` (RFC 9470 §3).
    TooWeak,
    /// `invalid_dpop_proof` (RFC 9449 §7.1).
    InvalidDpopProof,
    /// `use_dpop_nonce` (RFC 9449 §9).
    UseDpopNonce,
}

impl TokenProblem {
    /// What is wrong with a credential that is refused for this reason.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::PasswordWrong
            | Reason::ApiKeyMalformed
            | Reason::ApiKeyUnknown
            | Reason::ApiKeyExpired
            | Reason::ApiKeyRepeated
            | Reason::CertificateExpired
            | Reason::CertificateNameless => Self::OtherCredential,
            Reason::DpopNonce => Self::UseDpopNonce,
            Reason::DpopProofMissing
            | Reason::DpopProofRepeated
            | Reason::DpopProofMalformed
            | Reason::DpopProofClaims
            | Reason::DpopProofType
            | Reason::DpopProofAlgorithm
            | Reason::DpopProofKey
            | Reason::DpopProofSignature
            | Reason::DpopProofMethod
            | Reason::DpopProofUrl
            | Reason::DpopProofAge
            | Reason::DpopProofToken
            | Reason::DpopProofReplayed => Self::InvalidDpopProof,
            _ => Self::InvalidToken,
        }
    }
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

/// What counts beside the route.
#[derive(Clone, Debug)]
pub struct Extra {
    /// A named policy that has to hold too (`?policy=NAME` of forward-auth).
    pub policy: Option<Arc<Policy>>,
    /// The time, by which a login may be too long ago.
    pub now: UnixTime,
    /// How much the clocks of issuers may differ from ours.
    pub leeway: Duration,
}

impl Extra {
    /// Nothing but the time.
    #[must_use]
    pub const fn at(now: UnixTime, leeway: Duration) -> Self {
        Self { policy: None, now, leeway }
    }
}

/// Decides, before any credential is read, what needs none: a path with two readings, a public route, a preflight. `None`: go on and
/// authenticate.
#[must_use]
pub fn decide_unauthenticated(route: &Arc<Route>, facts: &RequestFacts) -> Option<Decision> {
    if facts.path.has_encoded_slash() && route.encoded_slash == EncodedSlash::Refuse {
        let fault = Fault::new(
            Reason::EncodedSlash,
            format!("an escaped slash, which route {:?} does not take without encoded_slash = \"keep\"", route.id),
        );
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
            token: TokenProblem::of(fault.reason),
            reason: fault.reason,
            detail: fault.detail,
            cookie: CookieFate::Kept,
            asks: Asked::default(),
        }),
        (Access::Optional(_), Authentication::Anonymous(_)) if extra.policy.is_none() => {
            Decision::Permit(Permit::new(route, None, Reason::OptionalAnonymous))
        }
        (_, Authentication::Anonymous(absence)) => challenge(absence, facts),
        (Access::Optional(accept), Authentication::Authenticated(who)) => judge(route, accept, None, facts, who, extra),
        (Access::Protected(accept, policy), Authentication::Authenticated(who)) => judge(route, accept, Some(policy), facts, who, extra),
    }
}

fn challenge(absence: Absence, facts: &RequestFacts) -> Decision {
    // A person's way to the login begins without the old cookie. Anything else that meets the end of a session first, a script that asks every
    // minute or a form, leaves it: within the hour it still tells whose form is to be kept.
    let leads_to_login = facts.audience == Audience::Navigation && facts.method == Method::GET;
    let (reason, cookie) = match absence {
        Absence::NoCredential => (Reason::NoCredential, CookieFate::Kept),
        Absence::SessionOver(reason) if leads_to_login || reason == Reason::SessionAmbiguous => (reason, CookieFate::Deleted),
        Absence::SessionOver(reason) => (reason, CookieFate::Kept),
    };
    Decision::Challenge(Challenge { reason, detail: String::new(), cookie, token: TokenProblem::None, asks: Asked::default() })
}

fn judge(
    route: &Arc<Route>,
    accept: &Accept,
    policy: Option<&Arc<Policy>>,
    facts: &RequestFacts,
    who: Authenticated,
    extra: &Extra,
) -> Decision {
    let id = who.identity.source.id();
    if !accept.takes_provider(id) {
        let detail = format!("signed in with {id:?}, which route {:?} does not take", route.id);
        return wrong_provider(facts, who, detail);
    }
    if let Some(fault) = foreign_page(route, facts, &who) {
        return deny(fault, who, Vec::new());
    }
    let mut would_be = None;
    let on_trial = route.dry_run == DryRun::On;
    match route.deny.as_ref().map(|rule| rule.keep_out(&who.identity)) {
        Some(Err(refusal)) if on_trial => would_be = Some(Fault::new(refusal.reason, refusal.detail)),
        Some(Err(Refusal { reason, detail, scopes })) => return deny(Fault::new(reason, detail), who, scopes),
        Some(Ok(())) | None => {}
    }
    match policy.map(|policy| policy.evaluate(&who.identity)) {
        // What came first is what would be told.
        Some(Err(refusal)) if on_trial => would_be = would_be.or_else(|| Some(Fault::new(refusal.reason, refusal.detail))),
        Some(Err(refusal)) => return refused(facts, who, refusal),
        Some(Ok(())) | None => {}
    }
    // A policy that the question brings is not the route's, and not on trial.
    if let Some(Err(refusal)) = extra.policy.as_ref().map(|policy| policy.evaluate(&who.identity)) {
        return refused(facts, who, refusal);
    }
    // Last: whom the policy keeps out is not sent for a second factor first. On trial is who is let in, never what the login has to be worth.
    match weakness(&route.asks, &who.identity, extra.now, extra.leeway) {
        Some(weakness) => too_weak(route, &who, &weakness),
        None => Decision::Permit(match would_be {
            Some(fault) => Permit::on_trial(route, who, fault),
            None => Permit::new(route, Some(who), Reason::Allowed),
        }),
    }
}

/// What a policy's refusal does.
fn refused(facts: &RequestFacts, who: Authenticated, Refusal { reason, detail, scopes }: Refusal) -> Decision {
    if reason == Reason::WrongProvider {
        return wrong_provider(facts, who, detail);
    }
    // Who showed a password or a key has no token to come back with.
    let scopes = if matches!(who.by, CredentialKind::Session | CredentialKind::Bearer) { scopes } else { Vec::new() };
    deny(Fault::new(reason, detail), who, scopes)
}

/// The same person may come back with a better login (RFC 9470 §3). The session stays until then.
fn too_weak(route: &Route, who: &Authenticated, weakness: &Weakness) -> Decision {
    let token = match who.by {
        CredentialKind::Session => TokenProblem::None,
        CredentialKind::Bearer | CredentialKind::Basic | CredentialKind::ApiKey | CredentialKind::Certificate => TokenProblem::TooWeak,
    };
    let (reason, detail) = (weakness.reason(), weakness.to_string());
    Decision::Challenge(Challenge { reason, detail, cookie: CookieFate::Kept, token, asks: route.asks.clone() })
}

/// A person with a session of another provider is led to the right login; a program is told.
fn wrong_provider(facts: &RequestFacts, who: Authenticated, detail: String) -> Decision {
    if facts.audience == Audience::Navigation && who.by == CredentialKind::Session {
        return Decision::Challenge(Challenge {
            reason: Reason::WrongProvider,
            detail,
            cookie: CookieFate::Kept,
            token: TokenProblem::None,
            asks: Asked::default(),
        });
    }
    deny(Fault::new(Reason::WrongProvider, detail), who, Vec::new())
}

fn deny(fault: Fault, who: Authenticated, scopes: Vec<String>) -> Decision {
    Decision::Deny(Denial { fault, who: Some(who), scopes })
}

/// A page of another origin may open a WebSocket and the browser sends the cookie along: so a session upgrades only for its own origin and
/// those that the route lists. A password that a browser was told once, or its certificate, is sent along as well, and with forms of other sites too, which a cookie
/// of ours is not. A token or a key is never sent by itself.
fn foreign_page(route: &Route, facts: &RequestFacts, who: &Authenticated) -> Option<Fault> {
    let upgrade = facts.upgrade == Upgrade::Asked;
    let by_itself = match who.by {
        CredentialKind::Session => upgrade,
        CredentialKind::Basic | CredentialKind::Certificate => upgrade || !facts.method.is_safe(),
        CredentialKind::Bearer | CredentialKind::ApiKey => false,
    };
    let origin = facts.origin.as_deref().filter(|_| by_itself)?;
    let own = format!("{}://{}", facts.scheme.as_str(), facts.host);
    let listed = origin.eq_ignore_ascii_case(&own) || route.origins.contains(&origin.to_ascii_lowercase());
    let (reason, what) =
        if upgrade { (Reason::UpgradeOrigin, "an upgrade") } else { (Reason::CrossSite, "a request that may change something") };
    let by = match who.by {
        CredentialKind::Session => "a session",
        CredentialKind::Certificate => "a certificate",
        _ => "a password",
    };
    (!listed).then(|| Fault::new(reason, format!("{what} with {by} from an origin that the route does not list")))
}
