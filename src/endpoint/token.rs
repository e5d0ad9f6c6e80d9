//! `token`: where apps that have no browser and hold no secret of ours sign people in, for a token that is a session. The grants of OAuth 2.0
//! (RFC 6749 §4.3) without client authentication; answers by its §5.1, errors by its §5.2.

mod read;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, PRAGMA, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode};
use serde_json::json;

use super::session_start::user_agent;
use super::{Gateway, Served, Visit, small_body};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::header::PreparedHeaders;
use crate::provider::SignedIn;
use crate::provider::direct::{Direct, Given, Typed};
use crate::provider::local::Denied;
use crate::reason::Reason;
use crate::request::{Audience, CanonicalPath, RequestFacts};
use crate::respond::{Refusal, Words, words_of};
use crate::secret::Secret;
use crate::server::RequestBody;
use crate::session::{Session, ShownAs};
use crate::store::{Created, Listing, Sessions};
use crate::telemetry::audit;
use read::Grant;

/// What a token request may hold beside the token or password in it.
const BESIDE: usize = 8 * 1024;

/// The endpoint as it is configured.
pub struct TokenEndpoint {
    /// A path of its own beside `{prefix}/token`.
    pub path: Option<String>,
    /// Who judges what is shown.
    pub direct: Arc<Direct>,
    /// Status of `invalid_grant`: 400 by RFC 6749 §5.2, 401 for clients that know it so.
    pub refused: StatusCode,
    /// How long a session token lives.
    pub lifetime: Duration,
}

/// Whether this path is that of the endpoint.
pub(super) fn is_at(gateway: &Gateway, path: &CanonicalPath) -> bool {
    gateway.token.as_ref().and_then(|token| token.path.as_deref()).is_some_and(|own| own == path.as_str())
}

pub(super) async fn serve(visit: &Visit<'_>, request: Request<RequestBody>) -> Served {
    let Some(endpoint) = &visit.gateway.token else {
        return visit.refuse(&Fault::new(Reason::EndpointUnknown, "no [token] in the config"));
    };
    // JSON whoever asks: it is an interface, not a page.
    let facts = RequestFacts { audience: Audience::Program, ..visit.facts.clone() };
    let visit = &Visit { facts: &facts, ..*visit };
    let mut served = match answer(visit, endpoint, request).await {
        Ok(served) => served,
        Err(denied) => refused(visit, endpoint, denied),
    };
    // RFC 6749 §5.1, beside the `no-store` of every answer of ours.
    served.response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    served
}

async fn answer(visit: &Visit<'_>, endpoint: &TokenEndpoint, request: Request<RequestBody>) -> Result<Served, Denied> {
    let gateway = visit.gateway;
    let headers = request.headers().clone();
    let limit = gateway.settings.token_bytes.saturating_add(BESIDE);
    let body = small_body(request, limit).await.map_err(Denied::Refused)?;
    let grant = read::grant(&headers, &body, &endpoint.direct).map_err(Denied::Refused)?;
    let place = grant.place(&endpoint.direct).to_owned();
    let work = Work::new(visit, endpoint, &headers);
    // To its end in any case: a guess that is given up counts, and what a provider granted is spent.
    let done = gateway.tasks.run(work.done(grant)).await;
    let done = done.unwrap_or_else(|| Err(Denied::Refused(Fault::new(Reason::Internal, "signing in broke off"))));
    let id = visit.trace.id();
    match done {
        Ok(Issued { access_token, lives, created_at, sub }) => {
            gateway.metrics.login(&place, "success");
            audit::login_succeeded(&id, &place, &sub);
            let mut told = json!({ "access_token": access_token.expose(), "token_type": "bearer", "created_at": created_at.0 });
            if let (Some(lives), Some(members)) = (lives, told.as_object_mut()) {
                members.insert("expires_in".to_owned(), lives.as_secs().into());
            }
            Ok(Served::new(visit.reply().json(&told), Reason::Endpoint))
        }
        Err(denied) => {
            let fault = match &denied {
                Denied::Wrong(fault) | Denied::Slowed(fault, _) | Denied::Refused(fault) => fault.clone(),
                Denied::Unreachable(outage) => Fault::new(outage.reason(), outage.source.clone()),
            };
            gateway.metrics.login(&place, fault.reason.as_str());
            audit::login_failed(&id, &place, &fault);
            Err(denied)
        }
    }
}

/// What is handed out.
struct Issued {
    access_token: Secret,
    lives: Option<Duration>,
    created_at: UnixTime,
    sub: String,
}

/// What signing in needs once whoever asked may have left.
struct Work {
    direct: Arc<Direct>,
    sessions: Arc<Sessions<PreparedHeaders>>,
    clock: SharedClock,
    from: IpAddr,
    user_agent: String,
    lifetime: Duration,
}

impl Work {
    fn new(visit: &Visit<'_>, endpoint: &TokenEndpoint, headers: &HeaderMap) -> Self {
        Self {
            direct: Arc::clone(&endpoint.direct),
            sessions: Arc::clone(&visit.gateway.authenticator.sessions),
            clock: Arc::clone(&visit.gateway.clock),
            from: visit.facts.address,
            user_agent: user_agent(headers),
            lifetime: endpoint.lifetime,
        }
    }

    async fn done(self, grant: Grant) -> Result<Issued, Denied> {
        let (given, shown) = match grant {
            Grant::Password { name, password, code } => {
                let typed = Typed { name: name.clone(), password, code, from: self.from };
                (self.direct.by_password(typed).await?, name)
            }
            Grant::Foreign { parameter, token } => {
                let unknown = || Denied::Refused(Fault::new(Reason::GrantUnsupported, "no table takes such a token"));
                let foreign = self.direct.foreign(&parameter).ok_or_else(unknown)?;
                (self.direct.by_foreign_token(foreign, &token, self.from).await?, "unknown".to_owned())
            }
        };
        match given {
            Given::SignedIn(signed_in) => self.begin(*signed_in).await,
            // Whose it is, whoever takes it will find out: nothing is decided by it here.
            Given::Token { access_token, lives } => Ok(Issued { access_token, lives, created_at: self.clock.now(), sub: shown }),
        }
    }

    /// A session like that of a browser, but shown as a token.
    async fn begin(&self, signed_in: SignedIn) -> Result<Issued, Denied> {
        let now = self.clock.now();
        let session = Session {
            identity: Arc::new(signed_in.identity),
            client_id: signed_in.client_id.into(),
            sid: signed_in.sid.map(Into::into),
            id_token: signed_in.id_token.expose().to_owned(),
            created_at: now,
            ends_at: now.plus(self.lifetime),
            tokens: signed_in.tokens,
            checked_at: Some(now),
            shown_as: ShownAs::Token,
        };
        let listing = Listing::new(&session, self.from, &self.user_agent);
        let sub = session.identity.sub.to_string();
        match self.sessions.create(session, &listing).await? {
            Created::Session(cookie) => Ok(Issued { access_token: cookie.write_token(), lives: Some(self.lifetime), created_at: now, sub }),
            Created::SidEnded => {
                Err(Denied::Refused(Fault::new(Reason::SidEnded, "the provider ended this session while it was being signed in to")))
            }
        }
    }
}

fn refused(visit: &Visit<'_>, endpoint: &TokenEndpoint, denied: Denied) -> Served {
    match denied {
        Denied::Wrong(fault) => invalid_grant(visit, endpoint, &fault),
        Denied::Slowed(fault, wait) => {
            visit.refuse_with(&fault, Refusal { retry_after: Some(wait.as_secs().max(1)), ..Refusal::default() })
        }
        Denied::Refused(fault) => visit.refuse_with(&fault, Refusal { words: specific(&fault), ..Refusal::default() }),
        Denied::Unreachable(outage) => unreachable(visit, outage),
    }
}

fn unreachable(visit: &Visit<'_>, outage: Outage) -> Served {
    visit.trouble(&Trouble::Unreachable(outage))
}

/// What was shown is wrong (RFC 6749 §5.2), whatever page words a person would read for the same reason.
fn invalid_grant(visit: &Visit<'_>, endpoint: &TokenEndpoint, fault: &Fault) -> Served {
    let words = Words { error: "invalid_grant", ..words_of(fault.reason) };
    let status = endpoint.refused;
    let mut served = visit.refuse_with(fault, Refusal { status: Some(status), words: Some(words), ..Refusal::default() });
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §15.5.2 wants one; no scheme of `Authorization` would help here.
        let challenge = HeaderValue::from_static("Doorward-Session realm=\"doorward\"");
        served.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    served
}

/// The request itself is wrong: for whoever writes an app.
fn specific(fault: &Fault) -> Option<Words> {
    let text = match fault.reason {
        Reason::ParameterInvalid => {
            "Expected a form or JSON with grant_type=password, username and password, or a token that this endpoint takes."
        }
        Reason::ParameterRepeated => "A parameter is there twice.",
        _ => return None,
    };
    Some(Words { text, ..words_of(fault.reason) })
}
