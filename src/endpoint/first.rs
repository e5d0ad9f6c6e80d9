//! Where a login begins: at a provider, at the chooser, or nowhere. Nothing is asked or written for that.

use http::HeaderMap;

use super::login::{Wanted, chooser};
use super::{Served, Visit};
use crate::fault::Fault;
use crate::reason::Reason;

/// At which provider a flow begins; `None`: at the chooser, with a form. Else an answer: the chooser, or why there is no way to sign in.
pub(super) fn provider_of(visit: &Visit<'_>, headers: &HeaderMap, wanted: &Wanted) -> Result<Option<String>, Box<Served>> {
    if in_foreign_frame(headers) {
        return Err(Box::new(visit.refuse(&Fault::new(Reason::CrossSite, "a login in a frame on another site's page"))));
    }
    match wanted.providers.as_slice() {
        [] => Err(Box::new(visit.refuse(&Fault::new(Reason::WrongProvider, "no provider to sign in at")))),
        [one] => Ok(Some(one.clone())),
        _ if wanted.kept.is_none() => Err(Box::new(chooser(visit, wanted, Reason::NoCredential))),
        _ => Ok(None),
    }
}

/// No login can end in a frame on another site's page: the browser keeps no cookie of ours there, and a page of ours is not shown. Such a page
/// could only fill the bounds of its visitor's network with flows, a frame at a time, until nobody there can sign in.
fn in_foreign_frame(headers: &HeaderMap) -> bool {
    let is = |name: &str, values: &[&str]| headers.get(name).is_some_and(|value| values.iter().any(|known| value == known));
    is("sec-fetch-dest", &["iframe", "frame", "embed", "object"]) && is("sec-fetch-site", &["cross-site"])
}
