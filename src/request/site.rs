//! The gateway's own hosts, and what each is called from outside.

use std::collections::HashMap;

use url::Url;

use super::Host;

/// Every host that the config names: `public_url` (one or several) and the `host` of routes. A host that only a route names is reached by the
/// scheme and port of the first `public_url`.
#[derive(Clone, Debug)]
pub struct Sites {
    first: Url,
    first_host: Host,
    named: HashMap<String, Url>,
    /// Suffixes with their leading dot, longest first.
    wildcards: Vec<String>,
    cookie_domain: Option<String>,
}

impl Sites {
    /// From the config. `exact` are host names, `wildcards` suffixes with their leading dot. `None` without any public URL.
    #[must_use]
    pub fn new(public: Vec<Url>, exact: &[String], wildcards: &[String], cookie_domain: Option<String>) -> Option<Self> {
        let first = public.first()?.clone();
        let first_host = Host::parse(&first[url::Position::BeforeHost..url::Position::AfterPort])?;
        let mut named = HashMap::new();
        for url in public {
            if let Some(host) = url.host_str() {
                named.entry(host.to_ascii_lowercase()).or_insert(url);
            }
        }
        for name in exact {
            if !named.contains_key(name) {
                named.insert(name.clone(), with_host(&first, name)?);
            }
        }
        let mut wildcards = wildcards.to_vec();
        wildcards.sort_by_key(|suffix| std::cmp::Reverse(suffix.len()));
        Some(Self { first, first_host, named, wildcards, cookie_domain })
    }

    /// The outside URL of a host, with `/` as its path. `None`: the config does not name it (421).
    #[must_use]
    pub fn base(&self, host: &Host) -> Option<Url> {
        self.base_of(host.name())
    }

    fn base_of(&self, name: &str) -> Option<Url> {
        if let Some(url) = self.named.get(name) {
            return Some(url.clone());
        }
        let under = self.wildcards.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix.as_str()));
        if under { with_host(&self.first, name) } else { None }
    }

    /// Whether the config names this host. Costs no allocation: every request asks.
    #[must_use]
    pub fn knows(&self, host: &Host) -> bool {
        let name = host.name();
        self.named.contains_key(name) || self.wildcards.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix.as_str()))
    }

    /// Where people of this host sign in: on the host itself, or on the first public host where all share a `cookie_domain`.
    #[must_use]
    pub fn login_base(&self, host: &Host) -> Option<Url> {
        let base = self.base(host)?;
        let Some(domain) = &self.cookie_domain else { return Some(base) };
        let under = host.name() == domain || host.name().strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        Some(if under { self.first.clone() } else { base })
    }

    /// Whether a URL lies at one of our own origins.
    #[must_use]
    pub fn own(&self, url: &Url) -> bool {
        url.host_str().and_then(|name| self.base_of(name)).is_some_and(|base| base.origin() == url.origin())
    }

    /// The first public URL.
    #[must_use]
    pub const fn first(&self) -> &Url {
        &self.first
    }

    /// Its host.
    #[must_use]
    pub const fn first_host(&self) -> &Host {
        &self.first_host
    }
}

fn with_host(url: &Url, name: &str) -> Option<Url> {
    let mut url = url.clone();
    url.set_host(Some(name)).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(cookie_domain: Option<&str>) -> Sites {
        let public = ["https://login.x.test:8443/", "https://other.test/"].map(|url| Url::parse(url).unwrap());
        Sites::new(public.to_vec(), &["api.x.test".into()], &[".w.test".into()], cookie_domain.map(str::to_owned)).unwrap()
    }

    #[test]
    fn each_host_has_its_outside_url() {
        let sites = sites(None);
        for (host, expected) in [
            ("login.x.test", Some("https://login.x.test:8443/")),
            ("login.x.test:1234", Some("https://login.x.test:8443/")),
            ("other.test", Some("https://other.test/")),
            ("api.x.test", Some("https://api.x.test:8443/")),
            ("a.w.test", Some("https://a.w.test:8443/")),
            ("w.test", None),
            ("evil.test", None),
            ("login.x.test.evil.test", None),
        ] {
            let host = Host::parse(host).unwrap();
            assert_eq!(sites.base(&host).map(String::from).as_deref(), expected, "{host}");
            assert_eq!(sites.knows(&host), expected.is_some());
        }
        assert!(sites.own(&Url::parse("https://api.x.test:8443/x").unwrap()));
        assert!(!sites.own(&Url::parse("https://api.x.test/x").unwrap()));
        assert!(!sites.own(&Url::parse("http://other.test/x").unwrap()));
    }

    #[test]
    fn hosts_of_one_cookie_domain_share_a_login_host() {
        let host = |name| Host::parse(name).unwrap();
        let shared = sites(Some("x.test"));
        assert_eq!(shared.login_base(&host("api.x.test")).unwrap().as_str(), "https://login.x.test:8443/");
        assert_eq!(shared.login_base(&host("other.test")).unwrap().as_str(), "https://other.test/");
        assert_eq!(sites(None).login_base(&host("api.x.test")).unwrap().as_str(), "https://api.x.test:8443/");
    }
}
