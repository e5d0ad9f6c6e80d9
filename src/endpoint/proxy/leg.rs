//! The way to the upstream as its route has it: under which host and path it sees the request, and what its answer means for browsers.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};

use crate::decision::Permit;
use crate::endpoint::{Served, Visit};
use crate::fault::Fault;
use crate::header::Mending;
use crate::reason::Reason;
use crate::request::{Audience, RequestFacts, Upgrade};
use crate::route::{Leg, Moved, UpstreamHost};

/// In the family: whatever the downstream sent of it is gone before it is set.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// One request's way.
pub(super) struct Way<'a> {
    facts: &'a RequestFacts,
    leg: &'a Leg,
    moved: Moved<'a>,
    own: &'a str,
}

impl<'a> Way<'a> {
    /// Of a request that may pass: what was decided about is the path that was asked for, and this comes after.
    ///
    /// # Errors
    /// [`Reason::RewriteAmbiguous`].
    pub(super) fn of(visit: &Visit<'a>, permit: &'a Permit) -> Result<Self, Fault> {
        let (route, facts) = (permit.route(), visit.facts);
        let moved = route.leg.path.apply(&route.path, &facts.path, route.encoded_slash);
        let moved = moved.map_err(|unsteady| Fault::new(Reason::RewriteAmbiguous, unsteady.to_string()))?;
        Ok(Self { facts, leg: &route.leg, moved, own: &visit.gateway.settings.prefix })
    }

    /// A page whose address lacks the slash at its end, where the app's root is: its relative links would lead out of the prefix. The browser
    /// is sent to the address with it.
    pub(super) fn slash(&self, visit: &Visit<'_>, reason: Reason) -> Option<Served> {
        let (facts, places) = (self.facts, self.moved.places.as_ref()?);
        let is_page = facts.method == Method::GET && facts.audience == Audience::Navigation && facts.upgrade == Upgrade::No;
        if !is_page || !places.inside.is_empty() || places.outside.is_empty() || *places.outside != *facts.path.as_str() {
            return None;
        }
        let query = facts.query.iter().map(|query| format!("?{query}")).collect::<String>();
        let mut answer = visit.reply().see_other(&format!("{}/{query}", places.outside));
        *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
        Some(Served::new(answer, reason))
    }

    /// Path and query as the upstream sees them; the query stays as it came.
    pub(super) fn target(&self) -> Result<Uri, Fault> {
        let path = &self.moved.path;
        let target = match &self.facts.query {
            Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
            None => PathAndQuery::try_from(&**path),
        };
        target.map(Uri::from).map_err(|_| Fault::new(Reason::PathAmbiguous, "the canonical path is no request target"))
    }

    /// Whether a target is already what the upstream is to see.
    pub(super) fn leaves(&self, target: &Uri) -> bool {
        let origin_form = target.authority().is_none() && target.scheme().is_none();
        origin_form && target.path() == &*self.moved.path && target.query() == self.facts.query.as_deref()
    }

    /// `Host` as the upstream sees it; `asked` is the outside one.
    pub(super) fn host(&self, asked: Option<HeaderValue>) -> Result<HeaderValue, Fault> {
        match &self.leg.host {
            UpstreamHost::Keep => asked.ok_or_else(|| Fault::new(Reason::HostMalformed, "no header value")),
            UpstreamHost::Named(name) => Ok(name.clone()),
        }
    }

    /// Tells the upstream what stands before all its paths for browsers; where there is no such thing, nothing.
    pub(super) fn tell_prefix(&self, headers: &mut HeaderMap) {
        let prefix = self.moved.places.as_ref().filter(|places| places.inside.is_empty() && !places.outside.is_empty());
        if let Some(Ok(value)) = prefix.map(|places| HeaderValue::try_from(&*places.outside)) {
            headers.insert(PREFIX, value);
        }
    }

    /// Puts an answer of the upstream right: its places become ours, and what the route sets on answers is set.
    pub(super) fn settle(&self, headers: &mut HeaderMap) {
        if self.leg.is_displaced()
            && let Some(places) = &self.moved.places
        {
            let (outside, inside): (&Cow<'_, str>, &Cow<'_, str>) = (&places.outside, &places.inside);
            let (scheme, host, names) = (self.facts.scheme, &self.facts.host, self.leg.names.as_slice());
            Mending { outside, inside, scheme, host, names, own: self.own }.mend(headers);
        }
        for header in &self.leg.response_headers {
            match &header.value {
                Some(value) => drop(headers.insert(header.name.clone(), value.clone())),
                None => drop(headers.remove(&header.name)),
            }
        }
    }
}
