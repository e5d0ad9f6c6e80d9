//! `sign_in`: the chooser, where there is more than one provider.

use super::form::with_query;
use super::login::{self, own_url, wanted};
use super::{Served, Visit};
use crate::reason::Reason;
use crate::respond::{Choice, Chooser, Refusal};

pub(super) fn serve(visit: &Visit<'_>) -> Served {
    let wanted = match wanted(visit, &http::HeaderMap::new(), None) {
        Ok(wanted) => wanted,
        Err(fault) => return visit.refuse_with(&fault, Refusal { actions: vec![login::home(visit)], ..Refusal::default() }),
    };
    let start = own_url(visit, "/start");
    let providers = visit.gateway.providers.iter().filter(|provider| wanted.providers.iter().any(|id| id == provider.id()));
    let choices = providers.map(|provider| Choice {
        name: provider.name().to_owned(),
        href: with_query(&start, &[("provider", provider.id()), ("rd", wanted.return_to.as_str())]),
    });
    let host = wanted.return_to.url().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let page = Chooser { host, providers: choices.collect() };
    Served::new(visit.gateway.pages.chooser(visit.request_id, &page), Reason::Endpoint)
}
