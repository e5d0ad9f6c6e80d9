//! The form of local accounts: `sign_in` with the `state` of an attempt. A name and a password first; where the place wants more, a code then.
//! What is wrong leads back to the form in the same flow, which says so; what is right ends like every other login.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request};

use super::form::{Parameters, with_query};
use super::gateway::Origin;
use super::login::{home, own_url, with_flow};
use super::session_start::{Taken, finish};
use super::{Served, Visit, callback, cookie, small_body};
use crate::fault::Fault;
use crate::login::{Flow, FlowCookie, PendingLogin, State};
use crate::provider::IdentityProvider as _;
use crate::provider::local::{Denied, LocalProvider, Needed, Proof};
use crate::reason::Reason;
use crate::respond::{Action, LocalForm, Refusal, words_of};
use crate::secret::Secret;
use crate::server::RequestBody;
use crate::telemetry::audit;

/// The most that the form may hold.
const FORM: usize = 8 * 1024;
/// What the form says for itself, while it asks for a password and for a code; other failures of a flow have pages of their own.
const TOLD: [&[Reason]; 2] = [&[Reason::PasswordWrong], &[Reason::CodeWrong, Reason::CodeUsed]];

/// Whether a visit to `sign_in` means the form: the chooser is told a place or a flow.
pub(super) fn is_meant(visit: &Visit<'_>) -> bool {
    let parameters = Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes());
    let of_the_chooser = parameters.names().any(|name| matches!(name, "rd" | "return_to" | "flow"));
    let state = parameters.one("state").ok().flatten().and_then(State::parse);
    visit.gateway.local.is_some() && (visit.facts.method == Method::POST || (state.is_some() && !of_the_chooser))
}

pub(super) async fn serve(visit: &Visit<'_>, request: Request<RequestBody>) -> Served {
    let headers = request.headers().clone();
    let posted = request.method() == Method::POST;
    if posted && is_foreign(visit, &headers) {
        return visit.refuse(&Fault::new(Reason::CrossSite, "a form of another site"));
    }
    let parameters = match read(visit, request).await {
        Ok(parameters) => parameters,
        Err(fault) => return visit.refuse_with(&fault, Refusal { actions: vec![home(visit)], ..Refusal::default() }),
    };
    let form = match Form::open(visit, headers, &parameters).await {
        Ok(form) => form,
        Err(served) => return *served,
    };
    if !posted {
        return form.show(&parameters);
    }
    let field = |name: &str| parameters.one(name).ok().flatten();
    match (form.pending.proven.clone(), field("code"), field("name"), field("password")) {
        (Some(name), Some(code), _, _) => form.code(name, code.to_owned()).await,
        // Also by whoever went back from the page for the code.
        (_, _, Some(name), Some(password)) => form.password(name.trim().to_owned(), Secret::new(password)).await,
        _ => form.again(Reason::ParameterInvalid),
    }
}

/// The form of another site, as far as the browser tells. One that hides its `Origin` and says nothing else (plain http off this machine) is
/// left to the flow's cookie, which no other site's form brings along.
fn is_foreign(visit: &Visit<'_>, headers: &HeaderMap) -> bool {
    let hidden = !headers.contains_key("sec-fetch-site") && headers.get(http::header::ORIGIN).is_some_and(|origin| origin == "null");
    visit.gateway.from_own_page(headers) == Origin::Foreign && !hidden
}

async fn read(visit: &Visit<'_>, request: Request<RequestBody>) -> Result<Parameters, Fault> {
    let parameters = match request.method() {
        &Method::POST => Parameters::parse(&small_body(request, FORM).await?),
        _ => Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes()),
    };
    for name in ["state", "name", "password", "code"] {
        parameters.one(name)?;
    }
    Ok(parameters)
}

/// The form of an attempt that this browser began.
struct Form<'a> {
    visit: &'a Visit<'a>,
    headers: HeaderMap,
    local: Arc<LocalProvider>,
    state: State,
    flow_cookie: FlowCookie,
    flow: Flow,
    pending: PendingLogin,
}

impl<'a> Form<'a> {
    /// Bound to the browser by the flow's cookie, as a callback is; nothing is spent.
    async fn open(visit: &'a Visit<'a>, headers: HeaderMap, parameters: &Parameters) -> Result<Self, Box<Served>> {
        let gateway = visit.gateway;
        let trouble = |outage: crate::fault::Outage| Box::new(visit.trouble(&outage.into()));
        let known = parameters.one("state").ok().flatten().and_then(State::parse);
        let found = known.and_then(|state| Some((state, cookie::flow(&headers, &gateway.settings.style, state.flow)?)));
        let (Some((state, flow_cookie)), Some(local)) = (found, gateway.local.clone()) else {
            return Err(Box::new(callback::unknown(visit, &headers, None).await));
        };
        let sessions = &gateway.authenticator.sessions;
        let flow = sessions.flow(&flow_cookie).await.map_err(trouble)?;
        let pending = sessions.attempt(&flow_cookie, &state).await.map_err(trouble)?;
        match (flow, pending) {
            (Some(flow), Some(pending)) if pending.provider == local.id() => {
                Ok(Self { visit, headers, local, state, flow_cookie, flow, pending })
            }
            (flow, _) => Err(Box::new(callback::unknown(visit, &headers, flow.map(|flow| (flow_cookie, flow))).await)),
        }
    }

    fn show(&self, parameters: &Parameters) -> Served {
        if LocalProvider::needed(&self.pending.asks) == Needed::Beyond {
            // Before anybody types a password for nothing.
            return self
                .refused(&Fault::new(Reason::StepUpNotGiven, format!("local accounts cannot give acr {:?}", self.pending.asks.acr)));
        }
        let [password, code] = TOLD;
        let told = if self.pending.proven.is_some() { code } else { password };
        let told = told.iter().find(|reason| self.flow.told.as_deref() == Some(reason.as_str()));
        let hint = parameters.one("login_hint").ok().flatten().map(|hint| hint.chars().take(128).collect());
        let page = LocalForm {
            action: own_url(self.visit, "/sign_in"),
            state: self.state.write(),
            host: self.flow.return_to.url().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default(),
            proven: self.pending.proven.clone(),
            hint,
            failure: told.map(|reason| words_of(*reason).text),
            failures: self.flow.failures,
            another: self.anew(),
        };
        let pages = &self.visit.gateway.pages;
        Served::new(pages.local_form(self.visit.request_id, &page, &self.onward()), Reason::Endpoint)
    }

    /// Where the form's answer may lead: to the place that the flow leads to, and from there wherever the app sends people on. Chromium holds
    /// the whole way against the page's policy.
    fn onward(&self) -> Vec<String> {
        let plain = self.visit.gateway.settings.sites.first().scheme() == "http";
        ["https:", "http:"].into_iter().take(if plain { 2 } else { 1 }).map(str::to_owned).collect()
    }

    async fn password(self, name: String, password: Secret) -> Served {
        let (local, from) = (Arc::clone(&self.local), self.visit.facts.address);
        // To its end in any case: a guess that is given up counts.
        let checked = self.visit.gateway.tasks.run(async move { local.check_password(&name, password, from).await }).await;
        let proof = match checked.unwrap_or_else(broke_off) {
            Ok(proof) => proof,
            Err(denied) => return self.denied(denied).await,
        };
        match LocalProvider::next(&proof, &self.pending.asks) {
            Ok(Needed::Code) => self.ask_for_code(&proof).await,
            Ok(_) => self.complete(&proof).await,
            Err(denied) => self.denied(denied).await,
        }
    }

    async fn code(self, name: String, code: String) -> Served {
        let (local, from) = (Arc::clone(&self.local), self.visit.facts.address);
        let checked = self.visit.gateway.tasks.run(async move { local.check_code(&name, &code, from).await }).await;
        match checked.unwrap_or_else(broke_off) {
            Ok(proof) => self.complete(&proof).await,
            Err(denied) => self.denied(denied).await,
        }
    }

    /// The attempt keeps whose password was right; the form asks for the code from now on.
    async fn ask_for_code(self, proof: &Proof) -> Served {
        let sessions = &self.visit.gateway.authenticator.sessions;
        let pending = PendingLogin { proven: Some(proof.name().to_owned()), ..self.pending.clone() };
        let flow = Flow { told: None, ..self.flow.clone() };
        let written = async {
            sessions.put_attempt(&self.flow_cookie, &self.state, &pending).await?;
            sessions.put_flow(&self.flow_cookie, &flow).await
        };
        match written.await {
            Ok(()) => self.again(Reason::Endpoint),
            Err(outage) => self.visit.trouble(&outage.into()),
        }
    }

    /// As after a provider's callback: the attempt is taken by one, and the flow ends in a session.
    async fn complete(self, proof: &Proof) -> Served {
        let Self { visit, headers, local, state, flow_cookie, flow, .. } = self;
        let pending = match visit.gateway.authenticator.sessions.take_attempt(&flow_cookie, &state).await {
            Ok(Some(pending)) => pending,
            Ok(None) => return callback::unknown(visit, &headers, Some((flow_cookie, flow))).await,
            Err(outage) => return visit.trouble(&outage.into()),
        };
        let (attempt, answer) = (pending.clone(), local.answer(&pending, proof));
        finish(visit, &headers, Taken { flow_cookie, flow, pending }, async move { local.complete(&attempt, answer).await }).await
    }

    async fn denied(self, denied: Denied) -> Served {
        match denied {
            Denied::Wrong(fault) => {
                self.note(&fault);
                let failures = self.flow.failures.saturating_add(1);
                let flow = Flow { failures, told: Some(fault.reason.as_str().to_owned()), ..self.flow.clone() };
                match self.visit.gateway.authenticator.sessions.put_flow(&self.flow_cookie, &flow).await {
                    Ok(()) => self.again(fault.reason).detail(fault.detail),
                    Err(outage) => self.visit.trouble(&outage.into()),
                }
            }
            Denied::Slowed(fault, wait) => self.slowed(&fault, wait),
            Denied::Refused(fault) => self.refused(&fault),
            Denied::Unreachable(outage) => self.visit.trouble(&outage.into()),
        }
    }

    fn slowed(&self, fault: &Fault, wait: Duration) -> Served {
        self.note(fault);
        let back = Action { label: "Back to the form".to_owned(), href: self.url() };
        let refusal = Refusal { actions: vec![back], retry_after: Some(wait.as_secs().max(1)), ..Refusal::default() };
        self.visit.refuse_with(fault, refusal)
    }

    /// A page, since the form would not help: it leads on in the same flow.
    fn refused(&self, fault: &Fault) -> Served {
        self.note(fault);
        let ours = matches!(fault.reason, Reason::PasswordQueue | Reason::Internal);
        let label = if ours { "Try again" } else { "Use another account" };
        let again = Action { label: label.to_owned(), href: self.anew() };
        self.visit.refuse_with(fault, Refusal { actions: vec![again, home(self.visit)], ..Refusal::default() })
    }

    fn note(&self, fault: &Fault) {
        self.visit.gateway.metrics.login(self.local.id(), fault.reason.as_str());
        audit::login_failed(&self.visit.trace.id(), self.local.id(), fault);
    }

    /// To the form once more, by GET: reloading it sends nothing twice.
    fn again(&self, reason: Reason) -> Served {
        Served::new(self.visit.reply().see_other(&self.url()), reason)
    }

    /// Begins the flow's next attempt; where there are several ways to sign in, with the choice of one.
    fn anew(&self) -> String {
        with_flow(&own_url(self.visit, "/start"), &self.flow_cookie)
    }

    fn url(&self) -> String {
        with_query(&own_url(self.visit, "/sign_in"), &[("state", &self.state.write())])
    }
}

fn broke_off<T>() -> Result<T, Denied> {
    Err(Denied::Refused(Fault::new(Reason::Internal, "checking a password broke off")))
}
