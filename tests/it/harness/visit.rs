//! A browser's request before it is sent: who began it, and what headers follow from that.

use http::Method;
use url::Url;

use super::cookies::{Context, same_site};

/// A request that a browser is about to make. [`Browser`]'s methods make the usual ones.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The page that asked for it; `None`: the person typed the URL.
    pub initiator: Option<Url>,
    /// The initiator's `Referrer-Policy`.
    pub referrer_policy: String,
    /// What it is for.
    pub destination: Destination,
    /// Content type and body.
    pub body: Option<(String, Vec<u8>)>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The URLs that redirected here, first one first.
    pub redirected_by: Vec<Url>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The whole window: a navigation.
    Document,
    /// A frame inside a page.
    Frame,
    /// A script's `fetch` with credentials.
    Api,
}

impl Visit {
    /// A `GET` that the person typed.
    #[must_use]
    pub fn to(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            initiator: None,
            referrer_policy: String::new(),
            destination: Destination::Document,
            body: None,
            headers: Vec::new(),
            redirected_by: Vec::new(),
        }
    }

    /// Asked for by a page at this URL.
    #[must_use]
    pub fn from(mut self, initiator: &Url) -> Self {
        self.initiator = Some(initiator.clone());
        self
    }

    /// With a form as its body, by POST.
    #[must_use]
    pub fn posting(mut self, fields: &[(&str, &str)]) -> Self {
        self.method = Method::POST;
        self.body = Some(("application/x-www-form-urlencoded".to_owned(), encode(fields).into_bytes()));
        self
    }

    /// How cookies see it.
    #[must_use]
    pub fn context(&self) -> Context {
        // As in Chromium: who began it counts, not over whom it was redirected.
        if self.initiator.iter().all(|url| same_site(url, &self.url)) {
            Context::SameSite
        } else if self.destination != Destination::Document {
            Context::CrossSiteSubresource
        } else if self.method.is_safe() {
            Context::CrossSiteNavigation
        } else {
            Context::CrossSitePost
        }
    }

    /// `Sec-Fetch-Site` (Fetch Metadata §2.3).
    #[must_use]
    pub fn sec_fetch_site(&self) -> &'static str {
        let Some(initiator) = &self.initiator else { return "none" };
        let mut urls = self.redirected_by.iter().chain([&self.url]);
        if urls.clone().all(|url| url.origin() == initiator.origin()) {
            "same-origin"
        } else if urls.all(|url| same_site(url, initiator)) {
            "same-site"
        } else {
            "cross-site"
        }
    }

    /// `Origin`: Fetch standard, "append a request Origin header".
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let initiator = self.initiator.as_ref()?;
        let cross_origin = initiator.origin() != self.url.origin();
        if self.method.is_safe() && !(self.destination == Destination::Api && cross_origin) {
            return None;
        }
        if self.destination == Destination::Api {
            return Some(initiator.origin().ascii_serialization());
        }
        let tainted = self.redirected_by.iter().any(|url| url.origin() != initiator.origin());
        let downgrade = initiator.scheme() == "https" && self.url.scheme() != "https";
        let hidden = match self.referrer_policy.as_str() {
            "no-referrer" => true,
            "same-origin" => cross_origin,
            _ => downgrade,
        };
        Some(if tainted || hidden { "null".to_owned() } else { initiator.origin().ascii_serialization() })
    }

    /// `Referer`, by the page's `Referrer-Policy`.
    #[must_use]
    pub fn referer(&self) -> Option<String> {
        let initiator = self.initiator.as_ref()?;
        let same_origin = self.redirected_by.iter().chain([&self.url]).all(|url| url.origin() == initiator.origin());
        let downgrade = initiator.scheme() == "https" && self.url.scheme() != "https";
        match self.referrer_policy.as_str() {
            "no-referrer" => None,
            "same-origin" if !same_origin => None,
            _ if downgrade => None,
            "strict-origin" => Some(format!("{}/", initiator.origin().ascii_serialization())),
            _ if same_origin => {
                let mut url = initiator.clone();
                url.set_fragment(None);
                Some(url.into())
            }
            _ => Some(format!("{}/", initiator.origin().ascii_serialization())),
        }
    }
}

/// Parses a URL; panics when it is none.
#[must_use]
pub fn parse(url: &str) -> Url {
    Url::parse(url).unwrap_or_else(|error| panic!("{url:?} is no URL: {error}"))
}

/// Encodes a form.
#[must_use]
pub fn encode(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}
