//! A cookie jar that keeps a browser's rules (RFC 6265 and its successor draft 6265bis).

use url::{Host, Url};

/// When a cookie goes along with requests that another site began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// On top-level navigations by a safe method.
    Lax,
    /// Always.
    None,
    /// The attribute is absent: as `Lax`, but for two minutes also on a POST from another site, as Chromium does.
    Absent,
}

/// How long a cookie without `SameSite` goes along with a POST from another site.
const LAX_AND_POST: u64 = 120;

/// A kept cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The host it belongs to, or the `Domain` attribute without a leading dot.
    pub domain: String,
    /// Whether it belongs to exactly this host (no `Domain` attribute).
    pub host_only: bool,
    /// The path below which it is sent.
    pub path: String,
    /// Only over https.
    pub secure: bool,
    /// Not for scripts.
    pub http_only: bool,
    /// When another site began the request.
    pub same_site: SameSite,
    /// Unix seconds; `None`: until the browser closes.
    pub expires: Option<u64>,
    created: u64,
    set_at: u64,
}

/// How a request came about, seen from the cookies of where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The person typed it, or the same site asked for it.
    SameSite,
    /// Another site led the whole window there, by a safe method.
    CrossSiteNavigation,
    /// Another site led the whole window there by POST or the like.
    CrossSitePost,
    /// Another site loads it as a part of its own page (script, frame).
    CrossSiteSubresource,
}

/// All cookies of a browser.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
    refused: Vec<(String, &'static str)>,
    counter: u64,
}

/// Chrome's and Firefox's bound on name and value together.
const MAX_PAIR: usize = 4096;
/// Chrome's bound per site; beyond it the oldest go.
const MAX_PER_DOMAIN: usize = 180;

impl Jar {
    /// The cookies that are not over.
    #[must_use]
    pub fn all(&self, now: u64) -> Vec<Cookie> {
        self.cookies.iter().filter(|cookie| !cookie.is_over(now)).cloned().collect()
    }

    /// The `Set-Cookie` lines that were not taken, each with the reason.
    #[must_use]
    pub fn refused(&self) -> &[(String, &'static str)] {
        &self.refused
    }

    /// Takes a `Set-Cookie` line from an answer of `url`, or remembers why not.
    pub fn store(&mut self, url: &Url, line: &str, context: Context, now: u64) {
        if let Err(reason) = self.try_store(url, line, context, now) {
            self.refused.push((line.to_owned(), reason));
        }
    }

    /// The `Cookie` header of a request to `url`: longer paths first, then older cookies.
    #[must_use]
    pub fn header(&self, url: &Url, context: Context, now: u64) -> Option<String> {
        let mut fitting: Vec<&Cookie> = self.cookies.iter().filter(|cookie| cookie.fits(url, context, now)).collect();
        fitting.sort_by_key(|cookie| (std::cmp::Reverse(cookie.path.len()), cookie.created));
        let pairs: Vec<String> = fitting.iter().map(|cookie| cookie.pair()).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Drops the cookies that end with the browser.
    pub fn close(&mut self) {
        self.cookies.retain(|cookie| cookie.expires.is_some());
    }

    /// Drops the cookies that `unwanted` picks.
    pub fn remove(&mut self, unwanted: impl Fn(&Cookie) -> bool) {
        self.cookies.retain(|cookie| !unwanted(cookie));
    }

    fn try_store(&mut self, url: &Url, line: &str, context: Context, now: u64) -> Result<(), &'static str> {
        let mut parts = line.split(';');
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).ok_or("no name")?;
        let (name, value) = (name.trim(), value.trim());
        if name.len() + value.len() > MAX_PAIR {
            return Err("larger than 4096 bytes");
        }
        if line.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err("a control character");
        }
        let host = url.host_str().ok_or("the URL has no host")?.to_owned();
        self.counter += 1;
        let mut cookie = Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: host.clone(),
            host_only: true,
            path: default_path(url),
            secure: false,
            http_only: false,
            same_site: SameSite::Absent,
            expires: None,
            created: self.counter,
            set_at: now,
        };
        let mut max_age = None;
        let mut has_path = false;
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "domain" if !value.is_empty() => {
                    cookie.domain = value.trim_start_matches('.').to_ascii_lowercase();
                    cookie.host_only = false;
                }
                "path" if value.starts_with('/') => {
                    value.clone_into(&mut cookie.path);
                    has_path = true;
                }
                "secure" => cookie.secure = true,
                "httponly" => cookie.http_only = true,
                "samesite" => {
                    cookie.same_site = match value.to_ascii_lowercase().as_str() {
                        "strict" => SameSite::Strict,
                        "none" => SameSite::None,
                        "lax" => SameSite::Lax,
                        _ => SameSite::Absent,
                    }
                }
                "max-age" => max_age = value.parse::<i64>().ok(),
                "expires" => cookie.expires = parse_date(value).or(cookie.expires),
                _ => {}
            }
        }
        if let Some(seconds) = max_age {
            cookie.expires = Some(u64::try_from(seconds).map_or(0, |seconds| now.saturating_add(seconds)));
        }
        self.refuse_unfit(&cookie, url, &host, has_path, context)?;
        self.put(cookie, now);
        Ok(())
    }

    fn refuse_unfit(&self, cookie: &Cookie, url: &Url, host: &str, has_path: bool, context: Context) -> Result<(), &'static str> {
        let https = url.scheme() == "https";
        if !cookie.host_only {
            if !domain_matches(host, &cookie.domain) {
                return Err("Domain is not the host or above it");
            }
            if is_address(host) && host != cookie.domain {
                return Err("Domain of an IP address");
            }
            if !cookie.domain.contains('.') && host != cookie.domain {
                return Err("Domain is a public suffix");
            }
        }
        if cookie.secure && !https && !is_loopback(url) {
            return Err("Secure over plain http");
        }
        if cookie.same_site == SameSite::None && !cookie.secure {
            return Err("SameSite=None without Secure");
        }
        // Chromium takes these over http from loopback; Safari does not, so neither does this jar.
        let prefix = cookie.name.to_ascii_lowercase();
        if prefix.starts_with("__secure-") && !(cookie.secure && https) {
            return Err("__Secure- needs Secure and https");
        }
        if prefix.starts_with("__host-") && !(cookie.secure && https && cookie.host_only && has_path && cookie.path == "/") {
            return Err("__Host- needs Secure, https, Path=/ and no Domain");
        }
        if context == Context::CrossSiteSubresource && cookie.same_site != SameSite::None {
            return Err("SameSite in a cross-site subresource");
        }
        if !https && !cookie.secure && self.cookies.iter().any(|other| other.secure && other.is_shadowed_by(cookie)) {
            return Err("plain http may not overwrite a Secure cookie");
        }
        Ok(())
    }

    fn put(&mut self, mut cookie: Cookie, now: u64) {
        let same = |other: &Cookie| {
            (&other.name, &other.domain, &other.path, other.host_only) == (&cookie.name, &cookie.domain, &cookie.path, cookie.host_only)
        };
        if let Some(old) = self.cookies.iter().find(|other| same(other)) {
            cookie.created = old.created;
        }
        self.cookies.retain(|other| !same(other) && !other.is_over(now));
        if cookie.is_over(now) {
            return;
        }
        let here = |other: &Cookie| other.domain == cookie.domain;
        while self.cookies.iter().filter(|other| here(other)).count() >= MAX_PER_DOMAIN {
            let oldest = self.cookies.iter().filter(|other| here(other)).map(|other| other.created).min();
            self.cookies.retain(|other| !here(other) || Some(other.created) != oldest);
        }
        self.cookies.push(cookie);
    }
}

impl Cookie {
    /// `name=value`.
    #[must_use]
    pub fn pair(&self) -> String {
        if self.name.is_empty() { self.value.clone() } else { format!("{}={}", self.name, self.value) }
    }

    fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn fits(&self, url: &Url, context: Context, now: u64) -> bool {
        let host = url.host_str().unwrap_or_default();
        let host_fits = if self.host_only { host == self.domain } else { domain_matches(host, &self.domain) };
        let site_fits = match (self.same_site, context) {
            (_, Context::SameSite) | (SameSite::None, _) => true,
            (SameSite::Lax | SameSite::Absent, Context::CrossSiteNavigation) => true,
            (SameSite::Absent, Context::CrossSitePost) => now < self.set_at + LAX_AND_POST,
            (SameSite::Lax | SameSite::Absent | SameSite::Strict, _) => false,
        };
        let scheme_fits = !self.secure || url.scheme() == "https" || is_loopback(url);
        host_fits && site_fits && scheme_fits && path_matches(url.path(), &self.path) && !self.is_over(now)
    }

    fn is_shadowed_by(&self, newer: &Self) -> bool {
        self.name == newer.name
            && (domain_matches(&self.domain, &newer.domain) || domain_matches(&newer.domain, &self.domain))
            && path_matches(&newer.path, &self.path)
    }
}

/// Whether two URLs are of one site: the same scheme and the same registrable domain (the last two labels of a name: the tests know no
/// longer public suffix), the port aside. An address is a site of its own, and so is `localhost`.
#[must_use]
pub fn same_site(one: &Url, other: &Url) -> bool {
    let site = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => {
            let labels: Vec<&str> = name.rsplit('.').take(2).collect();
            labels.into_iter().rev().collect::<Vec<_>>().join(".")
        }
        Some(address) => address.to_string(),
        None => String::new(),
    };
    one.scheme() == other.scheme() && site(one) == site(other)
}

/// Whether the host is this machine: browsers trust it without TLS.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

fn domain_matches(host: &str, domain: &str) -> bool {
    host == domain || (!is_address(host) && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

fn path_matches(path: &str, cookie_path: &str) -> bool {
    path == cookie_path || path.strip_prefix(cookie_path).is_some_and(|rest| cookie_path.ends_with('/') || rest.starts_with('/'))
}

fn default_path(url: &Url) -> String {
    match url.path().rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(last) => url.path()[..last].to_owned(),
    }
}

/// RFC 6265 §5.1.1, which takes every date that servers really send.
fn parse_date(text: &str) -> Option<u64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).filter(|token| !token.is_empty()) {
        let number = token.parse::<i64>().ok();
        if time.is_none() && token.contains(':') {
            let parts: Vec<i64> = token.split(':').filter_map(|part| part.parse().ok()).collect();
            if let [hours, minutes, seconds] = parts[..] {
                time = Some(hours * 3600 + minutes * 60 + seconds);
            }
        } else if day.is_none() && token.len() <= 2 && number.is_some() {
            day = number;
        } else if let (None, Some(index)) = (month, month_index(token)) {
            month = Some(index);
        } else if year.is_none() && number.is_some() {
            year = number.map(|year| match year {
                70..=99 => year + 1900,
                0..=69 => year + 2000,
                _ => year,
            });
        }
    }
    let seconds = days_since_1970(year?, month?, day?) * 86_400 + time?;
    Some(u64::try_from(seconds).unwrap_or(0))
}

fn month_index(token: &str) -> Option<i64> {
    let start = token.get(..3)?.to_ascii_lowercase();
    let names = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    names.iter().position(|name| *name == start).and_then(|index| i64::try_from(index + 1).ok())
}

/// Howard Hinnant's `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
