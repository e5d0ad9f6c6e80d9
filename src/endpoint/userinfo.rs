//! `userinfo`: who the caller is, as JSON, and how long their session lasts. Asking is no use of the session.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::beside::{Around, OtherEnd, certificate_for};
use super::look::{Found, look, only};
use super::{Served, Visit};
use crate::authenticate::{Authenticator, CertificateMeans, OpenSession, Patience, present};
use crate::clock::UnixTime;
use crate::credential::{Authenticated, Authentication, Credential, CredentialKind};
use crate::decision::TokenProblem;
use crate::fault::Trouble;
use crate::identity::{Groups, Identity};
use crate::reason::Reason;
use crate::request::Audience;
use crate::respond::{Refusal, challenge};
use crate::route::Accept;
use crate::server::ConnectionInfo;
use crate::session::end_of;

pub(super) async fn serve(visit: &Visit<'_>, headers: &HeaderMap, info: &ConnectionInfo) -> Served {
    // JSON whoever asks: it is an interface, not a page.
    let facts = crate::request::RequestFacts { audience: Audience::Program, ..visit.facts.clone() };
    let visit = &Visit { facts: &facts, ..*visit };
    let gateway = visit.gateway;
    let accept = accept(&gateway.authenticator);
    let certificate = match certificate_for(visit, &accept, headers, info, OtherEnd::Sender) {
        Ok(certificate) => certificate,
        Err(fault) => return visit.refuse(&fault),
    };
    let around = Around { certificate: certificate.as_deref(), ..Around::headers(headers) };
    let credential = present(&around.shown(), &accept, &gateway.settings.style, gateway.settings.token_bytes);
    let credential = match credential {
        Credential::Session(cookies) => match look(visit, cookies).await {
            Ok(found) => return of_session(visit, only(found)),
            Err(outage) => return visit.trouble(&Trouble::Unreachable(outage)),
        },
        other => other,
    };
    let outcome = match gateway.authenticator.authenticate(credential, &accept, Patience::Brief, &around.beside(visit)).await {
        Ok(outcome) => outcome,
        Err(trouble @ Trouble::Unreachable(_)) => return visit.trouble(&trouble),
        Err(Trouble::Refused(fault)) => {
            let challenges = challenge::of_unreadable(None, &fault, None);
            return visit.refuse_with(&fault, Refusal { challenges, ..Refusal::default() });
        }
    };
    let who = match outcome.authentication {
        Authentication::Authenticated(who) => who,
        Authentication::Anonymous(_) => return unauthorized(visit, Reason::NoCredential, TokenProblem::None),
        Authentication::Rejected(fault) => return unauthorized(visit, fault.reason, TokenProblem::of(fault.reason)).detail(fault.detail),
    };
    let times = outcome.session.map(|open| times(visit, &open)).unwrap_or_default();
    told(visit, who, times)
}

/// Whatever any route may take.
fn accept(authenticator: &Authenticator) -> Accept {
    let mut kinds = vec![CredentialKind::Session, CredentialKind::Bearer];
    kinds.extend(authenticator.passwords.as_ref().map(|_| CredentialKind::Basic));
    kinds.extend(authenticator.api_keys.as_ref().map(|_| CredentialKind::ApiKey));
    kinds.extend((authenticator.certificates.means == CertificateMeans::There).then_some(CredentialKind::Certificate));
    let accept = Accept::of(kinds);
    match &authenticator.api_keys {
        Some(keys) => Accept { api_key_header: keys.header().clone(), ..accept },
        None => accept,
    }
}

fn of_session(visit: &Visit<'_>, found: Option<Found>) -> Served {
    let Some((_, open)) = found else { return unauthorized(visit, Reason::NoCredential, TokenProblem::None) };
    let who = Authenticated { identity: Arc::clone(&open.session.identity), by: CredentialKind::Session };
    told(visit, who, times(visit, &open))
}

fn times(visit: &Visit<'_>, open: &OpenSession) -> Map<String, Value> {
    let (idle_until, ends_at) = ends(visit, open);
    let times = [("idle_until", idle_until), ("ends_at", ends_at)];
    times.into_iter().map(|(name, time)| (name.to_owned(), Value::from(time.to_string()))).collect()
}

/// When the session ends if it is not used again, and when it ends whatever happens.
pub(super) fn ends(visit: &Visit<'_>, open: &OpenSession) -> (UnixTime, UnixTime) {
    let session = &open.session;
    let lifetimes = visit.gateway.settings.lifetimes.of(session.shown_as);
    // A shorter `absolute` after a change of the config holds for sessions that are there already.
    (end_of(session, open.last_used(), lifetimes), session.ends_at.min(session.created_at.plus(lifetimes.absolute)))
}

/// Identity first, then `more`.
fn told(visit: &Visit<'_>, who: Authenticated, more: Map<String, Value>) -> Served {
    let identity = &who.identity;
    let groups = match &identity.groups {
        Groups::Listed(groups) => Some(groups),
        // Left out by the provider: that is not "none".
        Groups::Overage => None,
    };
    let mut told = json!({
        "iss": identity.issuer,
        "sub": identity.sub,
        "user": identity.user,
        "email": identity.email.verified(),
        "preferredUsername": identity.preferred_username,
        "groups": groups,
    });
    if let Some(members) = told.as_object_mut() {
        members.extend(more);
        let claims = additional(visit, identity);
        if !claims.is_empty() {
            members.insert("additionalClaims".to_owned(), Value::Object(claims));
        }
    }
    let mut served = Served::new(visit.reply().json(&told), Reason::Endpoint);
    served.who = Some(who);
    served
}

/// The claims that some route tells its upstream, by the names and paths that the config gives them: what the operator has asked for, and
/// nothing else of what the provider said.
fn additional(visit: &Visit<'_>, identity: &Identity) -> Map<String, Value> {
    let rules = visit.gateway.routes.routes().iter().flat_map(|route| &route.headers);
    let paths = rules.flat_map(|rule| rule.template.claims());
    paths.filter_map(|path| path.find(&identity.claims).map(|value| (path.to_string(), value.clone()))).collect()
}

fn unauthorized(visit: &Visit<'_>, reason: Reason, problem: TokenProblem) -> Served {
    let challenges = match problem {
        // Never `Basic`: scripts of pages ask here, and the browser's own dialog would come up.
        TokenProblem::None | TokenProblem::TooWeak | TokenProblem::OtherCredential => challenge::of_sessions(reason),
        TokenProblem::InvalidToken | TokenProblem::InvalidDpopProof | TokenProblem::UseDpopNonce => challenge::of_tokens(problem, reason),
    };
    let login_url = Some(super::login::start_url(visit, None));
    let answer = visit.reply().refuse(reason, Refusal { challenges, login_url, ..Refusal::default() });
    Served::new(answer, reason)
}
