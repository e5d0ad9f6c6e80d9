//! A browser for tests: keeps cookies, says by `Sec-Fetch-*` what kind of request it makes, sends forms, and follows one redirect at a
//! time, so that a test can look at every step.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderName, ORIGIN, REFERER};
use http::{Method, Request};
use rustls::ClientConfig;
use url::Url;

use super::body::{TestBody, full};
use super::cookies::{Context, Cookie, Jar, is_loopback};
use super::html::Form;
use super::http::{Answer, HttpClient, Protocol};
pub use super::page::Page;
pub use super::visit::{Destination, Visit};
use super::visit::{encode, parse};
use super::wait::unix_now;

/// Gives the time in Unix seconds; cookies end by it.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A person's browser. A clone is a second one that starts with the same cookies and knows nothing of the first from then on.
#[derive(Clone)]
pub struct Browser {
    jar: Jar,
    addresses: HashMap<String, SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
    protocol: Protocol,
    now: Now,
    document: Option<Document>,
    headers: Vec<(String, String)>,
}

/// What the window shows.
#[derive(Clone, Debug)]
struct Document {
    url: Url,
    referrer_policy: String,
}

impl Browser {
    /// A browser without cookies, with an empty window.
    #[must_use]
    pub fn new() -> Self {
        Self {
            jar: Jar::default(),
            addresses: HashMap::new(),
            tls: None,
            protocol: Protocol::Negotiated,
            now: Arc::new(unix_now),
            document: None,
            headers: Vec::new(),
        }
    }

    /// Where `host` (or `host:port`, which wins; `*`: all other names) really is. Addresses and `localhost` need none.
    #[must_use]
    pub fn resolve(mut self, host: &str, address: SocketAddr) -> Self {
        self.addresses.insert(host.to_owned(), address);
        self
    }

    /// Which certificates `https` is checked against.
    #[must_use]
    pub fn trusting(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Which HTTP to speak; by default what ALPN settles.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The clock by which cookies end.
    #[must_use]
    pub fn clock(mut self, now: Now) -> Self {
        self.now = now;
        self
    }

    /// Adds a header to every request, as an extension would.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Types a URL.
    pub async fn get(&mut self, url: &str) -> Page {
        self.visit(Visit::to(parse(url))).await
    }

    /// Follows a link of a page.
    pub async fn click(&mut self, page: &Page, href: &str) -> Page {
        self.visit(page.visit_from(href)).await
    }

    /// Is led to `url` by a page of another place.
    pub async fn get_from(&mut self, initiator: &str, url: &str) -> Page {
        self.visit(Visit::to(parse(url)).from(&parse(initiator))).await
    }

    /// Sends a form from the page in the window (from `url`'s own site when the window is empty).
    pub async fn post_form(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let url = parse(url);
        let document = self.document.clone().unwrap_or_else(|| Document { url: url.clone(), referrer_policy: String::new() });
        let mut visit = Visit::to(url).from(&document.url).posting(fields);
        visit.referrer_policy = document.referrer_policy;
        self.visit(visit).await
    }

    /// Sends a form from a page of another place.
    pub async fn post_form_from(&mut self, initiator: &str, url: &str, fields: &[(&str, &str)]) -> Page {
        self.visit(Visit::to(parse(url)).from(&parse(initiator)).posting(fields)).await
    }

    /// Sends a form of a page; `fields` replace or add to what stands in it. The first button counts as pressed, unless a field of
    /// another one's name is given.
    pub async fn submit(&mut self, page: &Page, form: &Form, fields: &[(&str, &str)]) -> Page {
        let given = |name: &str| fields.iter().any(|(field, _)| *field == name);
        let mut all: Vec<(&str, &str)> =
            form.fields.iter().filter(|(name, _)| !given(name)).map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if !form.buttons.iter().any(|(name, _)| given(name))
            && let Some((name, value)) = form.buttons.first().filter(|(name, _)| !name.is_empty())
        {
            all.push((name, value));
        }
        all.extend_from_slice(fields);
        let mut visit = page.visit_from(&form.action);
        if form.method == "POST" {
            visit = visit.posting(&all);
        } else {
            visit.url.set_query(Some(&encode(&all)));
        }
        self.visit(visit).await
    }

    /// What a script on the page in the window gets from `fetch` with credentials, redirects not followed.
    pub async fn fetch_api(&mut self, method: Method, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut visit = Visit::to(parse(url));
        let document = self.document.clone().unwrap_or_else(|| Document { url: visit.url.clone(), referrer_policy: String::new() });
        visit = visit.from(&document.url);
        visit.referrer_policy = document.referrer_policy;
        visit.method = method;
        visit.destination = Destination::Api;
        visit.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        visit.body = (!body.is_empty()).then(|| ("application/json".to_owned(), body.to_vec()));
        self.visit(visit).await.answer
    }

    /// Loads a frame into a page at `initiator`.
    pub async fn frame(&mut self, initiator: &str, url: &str) -> Page {
        let mut visit = Visit::to(parse(url)).from(&parse(initiator));
        visit.destination = Destination::Frame;
        self.visit(visit).await
    }

    /// Goes where the page redirects, one step. Panics when it does not.
    pub async fn follow(&mut self, page: &Page) -> Page {
        let next = page.next().unwrap_or_else(|| panic!("no redirect to follow: {}", page.summary()));
        let mut visit = page.visit.clone();
        visit.redirected_by.push(page.url.clone());
        visit.url = next;
        let to_get = match page.status.as_u16() {
            303 => visit.method != Method::HEAD,
            301 | 302 => visit.method == Method::POST,
            _ => false,
        };
        if to_get {
            visit.method = Method::GET;
            visit.body = None;
        }
        self.visit(visit).await
    }

    /// Follows redirects until `enough` says so of a page; panics when there is none to follow before that, or after `max` steps.
    pub async fn follow_until(&mut self, page: Page, enough: impl Fn(&Page) -> bool, max: usize) -> Page {
        let mut way = vec![page.summary()];
        let mut page = page;
        while !enough(&page) {
            assert!(page.next().is_some(), "the way ended too early:\n{}\n{}", way.join("\n"), page.text());
            assert!(way.len() <= max, "more than {max} redirects:\n{}", way.join("\n"));
            page = self.follow(&page).await;
            way.push(page.summary());
        }
        page
    }

    /// Follows redirects until one would lead to a URL that starts with `prefix`, and stops before it: the way to a callback's URL.
    pub async fn follow_up_to(&mut self, page: Page, prefix: &str) -> Page {
        self.follow_until(page, |page| page.next().is_some_and(|next| next.as_str().starts_with(prefix)), 20).await
    }

    /// Follows redirects until a page is none.
    pub async fn follow_all(&mut self, page: Page) -> Page {
        self.follow_until(page, |page| page.next().is_none(), 20).await
    }

    /// Makes any request.
    pub async fn visit(&mut self, visit: Visit) -> Page {
        let now = (self.now)();
        let context = visit.context();
        let mut client = HttpClient::new().at(self.address_of(&visit.url)).speaking(self.protocol);
        if let Some(tls) = &self.tls {
            client = client.trusting(Arc::clone(tls));
        }
        let answer = client.fetch(self.request(&visit, context, now)).await;
        for line in answer.set_cookies() {
            self.jar.store(&visit.url, line, context, now);
        }
        let page = Page { url: visit.url.clone(), visit, answer };
        if page.visit.destination == Destination::Document && page.next().is_none() {
            self.document = Some(Document { url: page.url.clone(), referrer_policy: page.referrer_policy() });
        }
        page
    }

    /// The cookies that are kept.
    #[must_use]
    pub fn cookies(&self) -> Vec<Cookie> {
        self.jar.all((self.now)())
    }

    /// The cookie of this name; panics when two have it.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<Cookie> {
        let mut found: Vec<_> = self.cookies().into_iter().filter(|cookie| cookie.name == name).collect();
        assert!(found.len() <= 1, "several cookies {name}: {found:?}");
        found.pop()
    }

    /// The `Cookie` header that a typed visit to `url` would send; empty when none.
    #[must_use]
    pub fn cookie_header(&self, url: &str) -> String {
        self.jar.header(&parse(url), Context::SameSite, (self.now)()).unwrap_or_default()
    }

    /// The `Set-Cookie` lines that this browser did not take, each with the reason.
    #[must_use]
    pub fn refused_cookies(&self) -> &[(String, &'static str)] {
        self.jar.refused()
    }

    /// Plants a cookie as if `url` had set it.
    pub fn plant_cookie(&mut self, url: &str, line: &str) {
        self.jar.store(&parse(url), line, Context::SameSite, (self.now)());
    }

    /// Takes cookies away.
    pub fn remove_cookies(&mut self, unwanted: impl Fn(&Cookie) -> bool) {
        self.jar.remove(unwanted);
    }

    /// Closes the browser and opens it again: cookies without an end are gone, the window is empty.
    pub fn restart(&mut self) {
        self.jar.close();
        self.document = None;
    }

    fn request(&self, visit: &Visit, context: Context, now: u64) -> Request<TestBody> {
        let mut url = visit.url.clone();
        url.set_fragment(None);
        let mut request = Request::builder().method(visit.method.clone()).uri(url.as_str());
        let (mode, dest, accept) = match visit.destination {
            Destination::Document => ("navigate", "document", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            Destination::Frame => ("navigate", "iframe", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            Destination::Api => ("cors", "empty", "*/*"),
        };
        if !self.headers.iter().any(|(name, _)| name == "user-agent") {
            request = request.header("user-agent", "Mozilla/5.0 (doorward tests)");
        }
        request = request.header("accept-language", "en");
        // Browsers say this only where nobody on the way can change it.
        if url.scheme() == "https" || is_loopback(&url) {
            request =
                request.header("sec-fetch-site", visit.sec_fetch_site()).header("sec-fetch-mode", mode).header("sec-fetch-dest", dest);
            if visit.destination == Destination::Document {
                request = request.header("sec-fetch-user", "?1");
            }
        }
        if visit.destination != Destination::Api {
            request = request.header("upgrade-insecure-requests", "1");
        }
        let optional: [(HeaderName, Option<String>); 3] =
            [(ORIGIN, visit.origin()), (REFERER, visit.referer()), (COOKIE, self.jar.header(&url, context, now))];
        for (name, value) in optional {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let given = |name: &str| visit.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !given("accept") {
            request = request.header(ACCEPT, accept);
        }
        if let Some((content_type, _)) = visit.body.as_ref().filter(|_| !given("content-type")) {
            request = request.header(CONTENT_TYPE, content_type);
        }
        for (name, value) in self.headers.iter().chain(&visit.headers) {
            request = request.header(name, value);
        }
        let body = visit.body.as_ref().map_or_else(super::body::empty, |(_, body)| full(body.clone()));
        request.body(body).unwrap_or_else(|error| panic!("{} is no request: {error}", visit.url))
    }

    fn address_of(&self, url: &Url) -> SocketAddr {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let named = self.addresses.get(&format!("{host}:{port}")).or_else(|| self.addresses.get(host));
        if let Some(address) = named {
            return *address;
        }
        if host == "localhost" || host.ends_with(".localhost") {
            return (Ipv4Addr::LOCALHOST, port).into();
        }
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return SocketAddr::new(ip, port);
        }
        *self.addresses.get("*").unwrap_or_else(|| panic!("the browser does not know where {host} is: `.resolve({host:?}, address)`"))
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}
