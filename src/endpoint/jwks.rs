//! `jwks`: the public keys of the assertion (RFC 7517 §5), for upstreams that check it. Anybody may read them.

use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::{Served, Visit};
use crate::fault::{Fault, Trouble};
use crate::outbound::assertion::PUBLISHED_FOR;
use crate::reason::Reason;

pub(super) async fn serve(visit: &Visit<'_>) -> Served {
    let Some(assertions) = &visit.gateway.assertions else {
        return visit.refuse(&Fault::new(Reason::EndpointUnknown, "no route sends assertions"));
    };
    let keys = match assertions.key_set().await {
        Ok(keys) => keys,
        Err(outage) => return visit.trouble(&Trouble::Unreachable(outage)),
    };
    let mut answer = visit.reply().json(&keys);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    if let Ok(value) = HeaderValue::try_from(format!("public, max-age={}", PUBLISHED_FOR.as_secs())) {
        headers.insert(CACHE_CONTROL, value);
    }
    Served::new(answer, Reason::Endpoint)
}
