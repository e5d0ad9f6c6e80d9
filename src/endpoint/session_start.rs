//! How every login ends, whichever way somebody proved who they are: a session, or a page that leads on in the same flow. Once the attempt is
//! taken the rest runs to its end even if the browser leaves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::login::{append, home, own_url, with_flow};
use super::{Served, Visit, kept_form};
use crate::clock::{SharedClock, UnixTime};
use crate::decision;
use crate::fault::{Fault, Outage, Trouble};
use crate::header::PreparedHeaders;
use crate::header::cookies::{Kept, pairs};
use crate::identity::Identity;
use crate::login::{Asked, FLOW_LIFETIME, Flow, FlowCookie, PendingLogin};
use crate::provider::SignedIn;
use crate::reason::Reason;
use crate::respond::{Action, Refusal};
use crate::session::{Lifetimes, Session, SessionCookie, ShownAs};
use crate::store::{Created, Listing, Sessions};
use crate::telemetry::audit;

/// How long a finished flow is remembered, for the back button.
const FINISHED: Duration = Duration::from_secs(10 * 60);

/// An attempt that was taken out of the store: it comes back no more, and what follows is its one chance.
pub(super) struct Taken {
    pub(super) flow_cookie: FlowCookie,
    pub(super) flow: Flow,
    pub(super) pending: PendingLogin,
}

/// What a browser gets after a login.
struct Begun {
    cookie: SessionCookie,
    session: Arc<Session>,
    /// The flow as it is left.
    flow: Flow,
}

/// Waits for the proof and begins a session for whoever it is about, or counts a failure of the flow.
pub(super) async fn finish<F>(visit: &Visit<'_>, headers: &HeaderMap, taken: Taken, proof: F) -> Served
where
    F: Future<Output = Result<SignedIn, Trouble>> + Send + 'static,
{
    let gateway = visit.gateway;
    let Taken { flow_cookie, flow, pending } = taken;
    let name = pending.provider;
    let work = Work {
        sessions: Arc::clone(&gateway.authenticator.sessions),
        old: old_sessions(visit, headers),
        listing: (visit.facts.address, user_agent(headers)),
        lifetimes: gateway.settings.lifetimes,
        leeway: gateway.settings.leeway,
        clock: Arc::clone(&gateway.clock),
        asks: pending.asks,
        flow_cookie: flow_cookie.clone(),
        flow,
    };
    let begun = gateway
        .tasks
        .run(async move {
            let begun = match proof.await {
                Ok(signed_in) => work.begin(signed_in).await,
                Err(trouble) => Err(trouble),
            };
            if let Err(trouble) = &begun {
                work.count_failure(trouble.reason()).await;
            }
            begun
        })
        .await;
    let begun = begun.unwrap_or_else(|| Err(Fault::new(Reason::Internal, "the login broke off").into()));
    match begun {
        Ok(begun) => {
            gateway.metrics.login(&name, "success");
            audit::login_succeeded(&visit.trace.id(), &name, &begun.session.identity.sub);
            let place = kept_form::place_after(visit, &flow_cookie, &begun.flow);
            let mut served = Served::new(visit.reply().see_other(&place), Reason::Endpoint);
            let style = &gateway.settings.style;
            append(&mut served, style.set_session(&begun.cookie.write(), gateway.kept(&begun.session)));
            let left = FLOW_LIFETIME.saturating_sub(gateway.clock.now().since(begun.flow.started_at));
            let left = if begun.flow.kept.is_some() { left } else { left.min(FINISHED) };
            append(&mut served, style.set_flow(&flow_cookie.handle.write(), &flow_cookie.value(), Kept::For(left)));
            served
        }
        Err(trouble) => {
            gateway.metrics.login(&name, trouble.reason().as_str());
            audit::login_failed(&visit.trace.id(), &name, &Fault::new(trouble.reason(), trouble.detail()));
            failed(visit, &flow_cookie, &trouble)
        }
    }
}

/// What the login needs once the browser may have left.
struct Work {
    sessions: Arc<Sessions<PreparedHeaders>>,
    old: Vec<SessionCookie>,
    listing: (IpAddr, String),
    lifetimes: Lifetimes,
    leeway: Duration,
    clock: SharedClock,
    asks: Asked,
    flow_cookie: FlowCookie,
    flow: Flow,
}

impl Work {
    /// A new session with a new id; what the browser held before is dead (fixation, and a login that was worth less).
    async fn begin(&self, signed_in: SignedIn) -> Result<Begun, Trouble> {
        let now = self.clock.now();
        // What was asked for is believed only when the answer says so: a provider may ignore it.
        if let Some(weakness) = decision::weakness(&self.asks, &signed_in.identity, now, self.leeway) {
            return Err(Fault::new(Reason::StepUpNotGiven, weakness.to_string()).into());
        }
        let session = Session {
            identity: Arc::new(signed_in.identity),
            client_id: signed_in.client_id.into(),
            sid: signed_in.sid.map(Into::into),
            id_token: signed_in.id_token.expose().to_owned(),
            created_at: now,
            ends_at: now.plus(self.lifetimes.absolute),
            tokens: signed_in.tokens,
            checked_at: Some(now),
            shown_as: ShownAs::Cookie,
        };
        let listing = Listing::new(&session, self.listing.0, &self.listing.1);
        let cookie = match self.sessions.create(session.clone(), &listing).await? {
            Created::Session(cookie) => cookie,
            Created::SidEnded => {
                return Err(Fault::new(Reason::SidEnded, "the provider ended this session while the login was under way").into());
            }
        };
        for old in &self.old {
            self.sessions.end(old).await?;
        }
        let flow = self.close_flow(now, &session.identity).await?;
        Ok(Begun { cookie, session: Arc::new(session), flow })
    }

    /// The flow is over: it counts no more, and stays a while for the back button. A form in it waits on for whoever sent it, and is thrown away
    /// when that was somebody else.
    async fn close_flow(&self, now: UnixTime, who: &Identity) -> Result<Flow, Outage> {
        let kept = self.flow.kept.clone().filter(|kept| self.sessions.is_subject(&kept.subject, &who.issuer, &who.sub));
        let finished = Flow { finished_at: Some(now), told: None, kept, ..self.flow.clone() };
        self.sessions.put_flow(&self.flow_cookie, &finished).await?;
        self.sessions.release(self.flow_cookie.handle, self.listing.0).await?;
        Ok(finished)
    }

    async fn count_failure(&self, reason: Reason) {
        let failures = self.flow.failures.saturating_add(1);
        let counted = Flow { failures, told: Some(reason.as_str().to_owned()), ..self.flow.clone() };
        if let Err(outage) = self.sessions.put_flow(&self.flow_cookie, &counted).await {
            tracing::warn!(%outage, "a failed login could not be counted");
        }
    }
}

/// The session cookies that came along: at most a few, each is ended if it opens.
fn old_sessions(visit: &Visit<'_>, headers: &HeaderMap) -> Vec<SessionCookie> {
    let name = &visit.gateway.settings.style.session;
    pairs(headers).filter(|(known, _)| known == name).filter_map(|(_, value)| SessionCookie::parse(value)).take(4).collect()
}

pub(super) fn user_agent(headers: &HeaderMap) -> String {
    headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// A page with the reason that leads on in the same flow: the place stays, and what the login has to be worth. Where there are several providers
/// it leads to the choice, since some go back because it was the wrong one.
fn failed(visit: &Visit<'_>, flow_cookie: &FlowCookie, trouble: &Trouble) -> Served {
    let again = Action { label: "Try again".to_owned(), href: with_flow(&own_url(visit, "/start"), flow_cookie) };
    let served = visit.trouble(trouble);
    let answer = visit.reply().refuse(trouble.reason(), Refusal { actions: vec![again, home(visit)], ..Refusal::default() });
    Served { response: answer.map(super::Body::ready), ..served }
}
