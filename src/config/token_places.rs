//! `bearer_in` of a route.

use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, PROXY_AUTHORIZATION};

use super::reader::Section;
use super::route_parts::reserved;
use crate::header::IdentityFamily;
use crate::route::TokenPlace;

/// Whether a key that concerns bearer tokens has something to say on this route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    /// The route takes bearer tokens.
    Taken,
    /// It does not.
    NotTaken,
}

/// Reads it; `None` where it is absent, and where it is wrong, which is told. `keys_in` is where the route takes API keys.
pub(super) fn read(section: &Section<'_>, bearer: Bearer, keys_in: Option<&HeaderName>) -> Option<Vec<TokenPlace>> {
    let set_here: Vec<String> = section.texts("headers").into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let places = section.parsed_list("bearer_in", |word| place(word, &set_here))?;
    if bearer == Bearer::NotTaken {
        section.problem("bearer_in", "stands on a route that takes no bearer tokens: add \"bearer\" to accept, or remove it");
    }
    if let Some((at, _)) = places.iter().enumerate().find(|(at, place)| places.iter().take(*at).any(|before| before == *place)) {
        section.problem("bearer_in", format!("names one place twice (entry {})", at + 1));
    }
    if let Some(name) = keys_in.filter(|name| places.iter().any(|place| matches!(place, TokenPlace::Header(found) if found == *name))) {
        section.problem("bearer_in", format!("names {name}, where API keys stand; a token needs another header"));
    }
    if places.contains(&TokenPlace::Body) && !section.has("upstream") {
        section.problem(
            "bearer_in",
            "holds \"body\" on a route without upstream: in forward-auth the body stays with the proxy in front; take \"body\" out, or name an \
             upstream",
        );
    }
    Some(places)
}

fn place(word: &str, set_here: &[String]) -> Result<TokenPlace, String> {
    match word {
        "header" => Ok(TokenPlace::Authorization),
        "query" => Ok(TokenPlace::Query),
        "body" => Ok(TokenPlace::Body),
        "subprotocol" => Ok(TokenPlace::Subprotocol),
        _ => match word.strip_prefix("header:") {
            Some(name) => header(name, set_here).map(TokenPlace::Header),
            None => Err(format!("expected \"header\", \"query\", \"body\", \"subprotocol\" or \"header:NAME\"; found {word:?}")),
        },
    }
}

fn header(name: &str, set_here: &[String]) -> Result<HeaderName, String> {
    let found =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("expected a header's name after \"header:\"; found {name:?}"))?;
    if found == AUTHORIZATION {
        return Err("expected \"header\" for Authorization; found \"header:Authorization\"".to_owned());
    }
    let taken = reserved(&found)
        || [CONTENT_TYPE, CONTENT_ENCODING, PROXY_AUTHORIZATION].contains(&found)
        || found.as_str().starts_with("sec-")
        || IdentityFamily::new([]).holds(&found);
    if taken {
        return Err(format!("expected a header that means nothing else, such as \"header:X-Token\"; found {name:?}"));
    }
    if set_here.iter().any(|set| set == found.as_str()) {
        return Err(format!("{name} is set by this route's own headers; a token needs another name"));
    }
    Ok(found)
}
