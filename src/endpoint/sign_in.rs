//! `sign_in`: the chooser, where there is more than one provider; with one it is the way there.

use http::{HeaderMap, Method};

use super::form::with_query;
use super::login::{self, own_url};
use super::start::{flow_named, navigated, wanted};
use super::{Served, Visit, cookie};
use crate::fault::{Fault, Trouble};
use crate::reason::Reason;
use crate::request::ReturnTo;
use crate::respond::{Choice, Chooser, Refusal};
use crate::server::ConnectionInfo;

pub(super) async fn serve(visit: &Visit<'_>, headers: &HeaderMap, info: &ConnectionInfo) -> Served {
    let refused = |fault: &Fault| visit.refuse_with(fault, Refusal { actions: vec![login::home(visit)], ..Refusal::default() });
    let offered = match offered(visit, headers, info).await {
        Ok(Next::Offer(offered)) => offered,
        Ok(Next::Served(served)) => return *served,
        Err(Trouble::Refused(fault)) => return refused(&fault),
        Err(trouble) => return visit.trouble(&trouble),
    };
    let start = own_url(visit, "/start");
    let providers = visit.gateway.providers.iter().filter(|provider| offered.providers.iter().any(|id| id == provider.id()));
    let choices = providers.map(|provider| {
        let mut query = vec![("provider", provider.id())];
        query.extend(offered.place.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Choice { name: provider.name().to_owned(), href: with_query(&start, &query) }
    });
    let host = offered.return_to.url().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let page = Chooser { host, providers: choices.collect() };
    Served::new(visit.gateway.pages.chooser(visit.request_id, &page), Reason::Endpoint)
}

/// What the page offers.
struct Offered {
    providers: Vec<String>,
    return_to: ReturnTo,
    /// What `start` is told beside the choice.
    place: Vec<(String, String)>,
}

/// What becomes of a visit.
enum Next {
    /// The page.
    Offer(Offered),
    /// Without a choice straight on.
    Served(Box<Served>),
}

/// In a flow that is under way the flow knows the place; else the query names it, and nothing is written before the choice. HEAD writes
/// nothing.
async fn offered(visit: &Visit<'_>, headers: &HeaderMap, info: &ConnectionInfo) -> Result<Next, Trouble> {
    let gateway = visit.gateway;
    let straight_on = |providers: &[String]| visit.facts.method == Method::GET && providers.len() < 2;
    let Some((handle, _)) = flow_named(visit)? else {
        let wanted = wanted(visit, headers, info)?;
        if straight_on(&wanted.providers) {
            navigated(headers)?;
            return Ok(Next::Served(Box::new(login::begin(visit, headers, wanted).await)));
        }
        let mut place = vec![("rd".to_owned(), wanted.return_to.to_string())];
        place.extend(wanted.route.map(|route| ("route".to_owned(), route)));
        place.extend(wanted.passed);
        return Ok(Next::Offer(Offered { providers: wanted.providers, return_to: wanted.return_to, place }));
    };
    let unknown = || Fault::new(Reason::StateUnknown, "no flow of this browser has this handle");
    let flow_cookie = cookie::flow(headers, &gateway.settings.style, handle).ok_or_else(unknown)?;
    let flow = gateway.authenticator.sessions.flow(&flow_cookie).await?.ok_or_else(unknown)?;
    let providers = login::providers_in(visit, &flow);
    if straight_on(&providers) {
        navigated(headers)?;
        return Ok(Next::Served(Box::new(login::go_on(visit, &flow_cookie, &flow, None, Reason::Endpoint).await)));
    }
    Ok(Next::Offer(Offered { providers, return_to: flow.return_to, place: vec![("flow".to_owned(), handle.write())] }))
}
