//! The request that a permit would send, for people who ask: as [`super::pass`] makes it, with a name in the place of whatever would have to be obtained.

use http::Request;
use http::header::HeaderValue;

use super::Shown;
use super::leg::Way;
use super::pass::outgoing;
use super::refused::denied_or_failed;
use crate::authenticate::OpenSession;
use crate::credential::CredentialKind;
use crate::decision::Permit;
use crate::endpoint::{Served, Visit, outbound};
use crate::header::DOORWARD_ASSERTION;
use crate::reason::Reason;
use crate::route::InNameOf;
use crate::secret::Secret;
use crate::server::{ConnectionInfo, RequestBody};
use crate::session::{Session, SessionCookie, ShownAs, Tokens, TokensKept};
use crate::telemetry::Ids;

// What stands in the place of a token: printable, and of no use anywhere.
const ACCESS_TOKEN: &str = "<access-token>";
const ID_TOKEN: &str = "<id-token>";
const OBTAINED: &str = "<obtained-token>";
const ASSERTION: &str = "<assertion>";

/// What is told of them.
const NAMED: [(&str, &str); 4] = [
    (ACCESS_TOKEN, "«access token»"),
    (ID_TOKEN, "«ID token»"),
    (OBTAINED, "«a token of [outbound]»"),
    (ASSERTION, "«an assertion, signed for the request»"),
];

/// The request as the upstream would get it.
///
/// # Errors
/// The answer in its place, as the proxy itself gives it.
pub(in crate::endpoint) fn sent(
    visit: &Visit<'_>,
    permit: &Permit,
    mut request: Request<RequestBody>,
    info: &ConnectionInfo,
    ids: &Ids,
) -> Result<Request<RequestBody>, Box<Served>> {
    let route = permit.route();
    let failed = |fault| Box::new(denied_or_failed(visit, permit, fault));
    let way = Way::of(visit, permit).map_err(failed)?;
    if let Some(served) = way.slash(visit, permit.reason()) {
        return Err(Box::new(served));
    }
    let open = permit.who().filter(|who| who.by == CredentialKind::Session).map(|who| {
        let now = visit.gateway.clock.now();
        let session = Session {
            identity: std::sync::Arc::clone(&who.identity),
            client_id: crate::identity::Text::default(),
            sid: None,
            id_token: ID_TOKEN.to_owned(),
            created_at: now,
            ends_at: now,
            tokens: Some(Tokens {
                access_token: Secret::new(ACCESS_TOKEN.to_owned()),
                refresh_token: None,
                expires_at: None,
                refresh_at: None,
                refresh_ends_at: None,
                dpop_key: None,
            }),
            checked_at: None,
            shown_as: ShownAs::Cookie,
        };
        OpenSession::new(&SessionCookie::new(), session, now, TokensKept::Yes)
    });
    let by_token = permit.who().is_some_and(|who| who.by == CredentialKind::Bearer);
    let token = (by_token && route.tells_tokens()).then(|| Secret::new(ACCESS_TOKEN.to_owned()));
    let shown = Shown { token, prepared: None };
    outgoing(visit, permit, &way, (open.as_ref(), &shown), &mut request, info, ids).map_err(failed)?;
    let headers = request.headers_mut();
    outbound::clear(visit.gateway, route, headers);
    if let Some(added) = route.outbound
        && permit.reason() != Reason::Preflight
        && (added.in_name_of == InNameOf::Gateway || permit.who().is_some())
        && let Some(outbound) = visit.gateway.outbound.get(added.id.0)
    {
        headers.insert(outbound.header(), named(OBTAINED));
    }
    if route.assertion.is_some() && permit.who().is_some() {
        headers.insert(DOORWARD_ASSERTION, named(ASSERTION));
    }
    Ok(request)
}

fn named(place: &'static str) -> HeaderValue {
    let mut value = HeaderValue::from_static(place);
    value.set_sensitive(true);
    value
}

/// What is told of a value that is secret, where it is one of ours alone, with or without a scheme before it.
pub(in crate::endpoint) fn placeholder(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    NAMED.iter().find_map(|(place, told)| {
        let before = text.strip_suffix(place)?;
        matches!(before, "" | "Bearer ").then(|| format!("{before}{told}"))
    })
}
