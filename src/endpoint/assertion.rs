//! The assertion of whoever a permit is for, where the route sends one.

use http::HeaderValue;

use super::Visit;
use crate::decision::Permit;
use crate::fault::{Fault, Trouble};
use crate::reason::Reason;

/// `None` where the route sends none, or where nobody is signed in.
pub(super) async fn of(visit: &Visit<'_>, permit: &Permit) -> Result<Option<HeaderValue>, Trouble> {
    let (Some(rule), Some(who)) = (&permit.route().assertion, permit.who()) else { return Ok(None) };
    let assertions = visit.gateway.assertions.as_ref();
    let assertions = assertions.ok_or_else(|| Fault::new(Reason::Internal, "a route sends assertions, and nothing signs any"))?;
    Box::pin(assertions.of(rule, &who.identity)).await.map(Some)
}
