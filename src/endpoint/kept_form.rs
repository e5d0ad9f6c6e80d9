//! A form that its sender's session did not outlive. It is kept in the record of a flow, sealed by that flow's cookie, and sent on when the same
//! person has signed in again and presses a button.
//!
//! Nobody's storage and nobody's forgery: only a form that a page of ours sent, in a browser that shows the cookie of a session that ended by
//! time, is kept; only whoever that session was about sends it on, once, by a page of ours, to the address it was meant for.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, REFERER};
use http::{Method, Request};
use url::Url;

use super::form::{FormKind, Parameters, holds_no_file};
use super::login::{self, Cause, Wanted, home, start_url_after, with_flow};
use super::{Served, Visit, cookie, small_body};
use crate::credential::CredentialKind;
use crate::decision::{Challenge, Permit};
use crate::fault::Fault;
use crate::login::{FLOW_LIFETIME, Flow, FlowCookie, FlowHandle, KeptForm};
use crate::reason::Reason;
use crate::request::{AllowedOrigins, Audience, ReturnTo};
use crate::respond::{Action, KeptPage, Refusal};
use crate::route::Route;
use crate::server::RequestBody;
use crate::store::RecordId;

/// The largest form that is kept, in bytes.
const LARGEST: usize = 64 * 1024;
/// How many are kept for one person within the hour that they are kept for: an ended session's cookie may be shown again and again, and a login
/// takes its flow out of the other counts while the form stays.
const FORMS_PER_PERSON: u64 = 20;
/// What the button sends in the form's place, the handle after it.
const FIELD: &str = "doorward-kept";
/// The length of that: the name, `=`, and a handle.
const CALL: usize = FIELD.len() + 1 + 22;

/// Keeps the form of this request and leads its sender to the login. `None`: it is none that is kept. `ended` is whose session the cookie names:
/// one that ended by time, less than an hour ago.
pub(super) async fn keep(
    visit: &Visit<'_>,
    route: &Route,
    request: Request<RequestBody>,
    challenge: &Challenge,
    ended: Option<RecordId>,
) -> Option<Served> {
    // Without such a session this is a stranger, whom nothing is kept for. Who signed out, or was signed out, is one as well: they do not want
    // things done in their name.
    let subject = ended?;
    let kind = keepable(visit, route, request.headers())?;
    let headers = request.headers().clone();
    let url = login::here_exactly(visit)?;
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?.to_owned();
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > LARGEST) {
        return Some(lost(visit, &headers, route, challenge, format!("a form of more than {LARGEST} bytes")));
    }
    let body = match small_body(request, LARGEST).await {
        Ok(body) => body,
        Err(fault) if fault.reason == Reason::BodyTooLarge => return Some(lost(visit, &headers, route, challenge, fault.detail)),
        Err(fault) => return Some(visit.refuse(&fault)),
    };
    if let FormKind::Multipart(boundary) = &kind
        && !holds_no_file(&body, boundary)
    {
        return Some(lost(visit, &headers, route, challenge, "a form with a file".to_owned()));
    }
    match visit.gateway.authenticator.sessions.count(&[b"kept-forms", &subject], FLOW_LIFETIME).await {
        Ok(forms) if forms <= FORMS_PER_PERSON => {}
        Ok(_) => {
            return Some(lost(visit, &headers, route, challenge, format!("more than {FORMS_PER_PERSON} forms of one person in an hour")));
        }
        Err(outage) => return Some(visit.trouble(&outage.into())),
    }
    let providers = login::providers_of_route(visit.gateway, Some(route));
    let kept = KeptForm { url: url.to_string(), content_type, body: body.to_vec(), subject };
    let return_to = page_of_form(visit, &headers)?;
    let (asks, scopes) = (route.asks.clone(), route.scopes.clone());
    let wanted = Wanted { cause: Cause::Challenge, return_to, providers, asks, scopes, route: None, passed: Vec::new(), kept: Some(kept) };
    Some(login::begin(visit, &headers, wanted).await)
}

/// What kind of form this is, if all of it speaks for keeping it. Each condition has its reason.
fn keepable(visit: &Visit<'_>, route: &Route, headers: &HeaderMap) -> Option<FormKind> {
    let one = |name: &str| {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next()?.to_str().ok()?;
        lines.next().is_none().then_some(line)
    };
    // A person's window goes there. A script gets its 401 and keeps what it has; `Sec-Fetch-*` are written by the browser alone.
    let navigates = visit.facts.method == Method::POST
        && visit.facts.audience == Audience::Navigation
        && one("sec-fetch-mode") == Some("navigate")
        && one("sec-fetch-dest") == Some("document");
    // A page of this very origin sent it: a forged form of another site is neither stored for it nor, after the login, sent.
    let base = visit.gateway.settings.sites.base(&visit.facts.host)?;
    let own = one(ORIGIN.as_str()) == Some(base.origin().ascii_serialization().as_str());
    // Bytes in another coding are no form that could be looked into.
    let plain = !headers.contains_key(CONTENT_ENCODING);
    if !(navigates && own && plain && route.takes(CredentialKind::Session) && route.upstream.is_some()) {
        return None;
    }
    FormKind::of(one(CONTENT_TYPE.as_str())?)
}

/// The page that the form stood on, to come back to when it is not sent: its own address may answer to POST alone.
fn page_of_form(visit: &Visit<'_>, headers: &HeaderMap) -> Option<ReturnTo> {
    let settings = &visit.gateway.settings;
    let base = settings.sites.base(&visit.facts.host)?;
    let referrer = headers.get(REFERER).and_then(|value| value.to_str().ok());
    let page = referrer.and_then(|raw| settings.origins.check(raw, &base, &settings.prefix));
    Some(page.unwrap_or_else(|| AllowedOrigins::home(&base)))
}

/// It would be lost if its sender went on: so nothing is done with it, and the page says what helps.
fn lost(visit: &Visit<'_>, headers: &HeaderMap, route: &Route, challenge: &Challenge, detail: String) -> Served {
    let page = page_of_form(visit, headers);
    let login_url = start_url_after(visit, page.as_ref().map(ReturnTo::as_str), Some(route), challenge);
    let actions = vec![Action { label: "Sign in in a new tab".to_owned(), href: login_url.clone() }];
    let challenges = login::unauthorized(visit, Some(route), headers, challenge);
    let refusal = Refusal { challenges, login_url: Some(login_url), actions, ..Refusal::default() };
    visit.refuse_with(&Fault::new(Reason::FormNotKept, detail), refusal)
}

/// Where a browser goes when its flow is over: to the page that offers to send the form, on the form's own host, else where the flow leads.
pub(super) fn place_after(visit: &Visit<'_>, flow_cookie: &FlowCookie, flow: &Flow) -> String {
    let page = flow.kept.as_ref().and_then(|kept| {
        let url = Url::parse(&kept.url).ok()?;
        Some(with_flow(&format!("{}{}/kept", url.origin().ascii_serialization(), visit.gateway.settings.prefix), flow_cookie))
    });
    page.unwrap_or_else(|| flow.return_to.to_string())
}

/// `kept`: offers to send the form. It says where to, and nothing of what stands in it.
pub(super) async fn page(visit: &Visit<'_>, headers: &HeaderMap) -> Served {
    let gateway = visit.gateway;
    let parameters = Parameters::parse(visit.facts.query.as_deref().unwrap_or_default().as_bytes());
    let handle = match parameters.one("flow") {
        Ok(handle) => handle.and_then(FlowHandle::parse),
        Err(fault) => return visit.refuse_with(&fault, Refusal { actions: vec![home(visit)], ..Refusal::default() }),
    };
    let flow_cookie = handle.and_then(|handle| cookie::flow(headers, &gateway.settings.style, handle));
    let Some(flow_cookie) = flow_cookie else { return gone(visit, None) };
    let flow = match gateway.authenticator.sessions.flow(&flow_cookie).await {
        Ok(flow) => flow,
        Err(outage) => return visit.trouble(&outage.into()),
    };
    let Some(flow) = flow else { return gone(visit, None) };
    let Some(kept) = &flow.kept else { return gone(visit, Some(&flow.return_to)) };
    let place = Url::parse(&kept.url).map(|url| format!("{}{}", url.host_str().unwrap_or_default(), url.path())).unwrap_or_default();
    let page =
        KeptPage { action: kept.url.clone(), place, field: FIELD, handle: flow_cookie.handle.write(), instead: flow.return_to.to_string() };
    let mut answer = gateway.pages.kept(visit.request_id, &page);
    // The button's request has to say that it comes from here, to us and to the app: without a referrer its `Origin` would be `null`.
    answer.headers_mut().insert(http::header::REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    Served::new(answer, Reason::Endpoint)
}

fn gone(visit: &Visit<'_>, return_to: Option<&ReturnTo>) -> Served {
    let fault = Fault::new(Reason::FormGone, "no form is kept under this handle in this browser");
    let action = match return_to {
        Some(place) => Action { label: "Go on".to_owned(), href: place.to_string() },
        None => home(visit),
    };
    visit.refuse_with(&fault, Refusal { actions: vec![action], ..Refusal::default() })
}

/// A form that its sender's button calls for.
pub(super) struct Called {
    flow_cookie: FlowCookie,
    flow: Flow,
    kept: KeptForm,
}

/// A request, and the form that is to take its body's place.
pub(super) type Arrived = (Box<Request<RequestBody>>, Option<Box<Called>>);

/// Looks whether a request is the button's. Its length is known, so other forms are not read; one that happens to be as long goes on as it came.
pub(super) async fn arrived(visit: &Visit<'_>, request: Box<Request<RequestBody>>) -> Result<Arrived, Box<Served>> {
    let headers = request.headers();
    let text = |name: http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let shaped = request.method() == Method::POST
        && text(CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok()) == Some(CALL)
        && text(CONTENT_TYPE).and_then(FormKind::of) == Some(FormKind::Urlencoded);
    if shaped { Box::pin(called(visit, *request)).await } else { Ok((request, None)) }
}

async fn called(visit: &Visit<'_>, request: Request<RequestBody>) -> Result<Arrived, Box<Served>> {
    let (head, body) = request.into_parts();
    let body = match small_body(Request::new(body), CALL).await {
        Ok(body) => body,
        Err(fault) => return Err(Box::new(visit.refuse(&fault))),
    };
    let handle = std::str::from_utf8(&body).ok().and_then(|text| text.strip_prefix(FIELD)?.strip_prefix('=')).map(FlowHandle::parse);
    let headers = head.headers.clone();
    let request = Box::new(Request::from_parts(head, RequestBody::whole(body)));
    let Some(handle) = handle else { return Ok((request, None)) };
    // The button stands on a page of ours, and nowhere else.
    let one_origin = headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    let base = visit.gateway.settings.sites.base(&visit.facts.host);
    let own = base.is_some_and(|base| headers.get(ORIGIN).is_some_and(|origin| *origin == base.origin().ascii_serialization()));
    if !(one_origin && own) {
        let fault = Fault::new(Reason::CrossSite, "a kept form was called for from another page than ours");
        return Err(Box::new(visit.refuse_with(&fault, Refusal { actions: vec![home(visit)], ..Refusal::default() })));
    }
    let style = &visit.gateway.settings.style;
    let Some(flow_cookie) = handle.and_then(|handle| cookie::flow(&headers, style, handle)) else {
        return Err(Box::new(gone(visit, None)));
    };
    let flow = match visit.gateway.authenticator.sessions.flow(&flow_cookie).await {
        Ok(Some(flow)) => flow,
        Ok(None) => return Err(Box::new(gone(visit, None))),
        Err(outage) => return Err(Box::new(visit.trouble(&outage.into()))),
    };
    // To the address that it was sent to, and to no other: the route of that one is about to be decided on.
    let here = login::here_exactly(visit);
    match flow.kept.clone().filter(|kept| here.is_some_and(|here| here.as_str() == kept.url)) {
        Some(kept) => Ok((request, Some(Box::new(Called { flow_cookie, flow, kept })))),
        None => Err(Box::new(gone(visit, Some(&flow.return_to)))),
    }
}

impl Called {
    /// The request with the form in it. Whoever is let in has to be who sent it, and gets it once, however often the button is pressed.
    pub(super) async fn take(
        &self,
        visit: &Visit<'_>,
        permit: &Permit,
        request: Request<RequestBody>,
    ) -> Result<Request<RequestBody>, Box<Served>> {
        let gateway = visit.gateway;
        let sender = permit.who().filter(|who| who.by == CredentialKind::Session).map(|who| &who.identity);
        if !sender.is_some_and(|identity| gateway.authenticator.sessions.is_subject(&self.kept.subject, &identity.issuer, &identity.sub)) {
            return Err(Box::new(gone(visit, Some(&self.flow.return_to))));
        }
        let kept = match gateway.authenticator.sessions.take_kept(&self.flow_cookie).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Err(Box::new(gone(visit, Some(&self.flow.return_to)))),
            Err(outage) => return Err(Box::new(visit.trouble(&outage.into()))),
        };
        let content_type = HeaderValue::try_from(kept.content_type.as_str());
        let Ok(content_type) = content_type else {
            return Err(Box::new(visit.refuse(&Fault::new(Reason::Internal, "a kept Content-Type is none"))));
        };
        let (mut head, _) = request.into_parts();
        head.headers.insert(CONTENT_TYPE, content_type);
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(kept.body.len()));
        Ok(Request::from_parts(head, RequestBody::whole(Bytes::from(kept.body))))
    }

    /// Its sender's session has ended once more: on to the login, in the same flow.
    pub(super) async fn sign_in_again(&self, visit: &Visit<'_>) -> Served {
        login::go_on(visit, &self.flow_cookie, &self.flow, None, Reason::NoCredential).await
    }

    /// After an answer: where the upstream was never reached, or had no place, the form waits on.
    pub(super) async fn settle(&self, visit: &Visit<'_>, served: &Served) {
        if matches!(served.reason, Reason::UpstreamUnreachable | Reason::UpstreamBusy)
            && let Err(outage) = visit.gateway.authenticator.sessions.put_flow(&self.flow_cookie, &self.flow).await
        {
            visit.gateway.note_outage(&visit.trace.id(), &outage);
        }
    }
}
