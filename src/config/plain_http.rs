//! `insecure_http`: plain http off this machine.

use url::Url;

use super::gateway::{Gateway, is_loopback};
use super::providers::Provider;
use super::reader::Section;
use crate::provider::places::DocumentAt;

const KEY: &str = "insecure_http";

/// Plain http off this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlainHttp {
    /// `insecure_http = true`.
    Allowed,
    /// Everybody on the way could read and answer.
    Refused,
}

pub(super) fn read(root: &Section<'_>) -> PlainHttp {
    if root.flag(KEY, false) { PlainHttp::Allowed } else { PlainHttp::Refused }
}

impl PlainHttp {
    /// Whether this URL is one that nobody is to use.
    pub(super) fn refuses(self, url: &Url) -> bool {
        self == Self::Refused && is_off_this_machine(url)
    }
}

/// Permission that nothing needs lets a mistake through later that nobody is told of.
pub(super) fn warn_of_needless(root: &Section<'_>, plain: PlainHttp, gateway: Option<&Gateway>, providers: &[Provider]) {
    let Some(gateway) = gateway.filter(|_| plain == PlainHttp::Allowed) else { return };
    let places = providers.iter().flat_map(|provider| {
        let document = match &provider.places.document {
            DocumentAt::Url(url) => Some(url),
            DocumentAt::Issuer | DocumentAt::Nowhere => None,
        };
        document.into_iter().chain(&provider.places.inside).chain(provider.places.written.values())
    });
    if !gateway.public_urls().iter().chain(places).any(is_off_this_machine) {
        root.warning(
            KEY,
            "is not needed: neither public_url nor internal_url, discovery_url or endpoints of a [provider] is plain http off this machine; remove it, so that such an address is refused when it is written by mistake",
        );
    }
}

fn is_off_this_machine(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::tests::load_text;

    /// What is said of the key; nothing where it is said nothing of.
    fn told(public_url: &str, key: &str, provider: &str) -> Vec<(Severity, String)> {
        let text = format!(
            "public_url = \"{public_url}\"\n{key}\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n[provider]\n\
             issuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"s3cret\"\n{provider}\n"
        );
        let found = load_text("config.toml", &text, &[]).map_or_else(|problems| problems, |config| config.warnings);
        let of_the_key = found.into_iter().filter(|problem| problem.path == "insecure_http");
        of_the_key.map(|problem| (problem.severity, problem.message)).collect()
    }

    #[test]
    fn a_permission_that_nothing_needs_is_warned_of() {
        let allowed = "insecure_http = true";
        for (public_url, provider) in [
            ("https://app.test", ""),
            ("http://127.0.0.1:4180", ""),
            ("http://localhost:4180", "internal_url = \"http://127.0.0.1:8080\""),
            ("https://app.test", "internal_url = \"https://login.internal\""),
        ] {
            let found = told(public_url, allowed, provider);
            let [(Severity::Warning, message)] = found.as_slice() else { panic!("{public_url} {provider}: {found:?}") };
            assert!(message.starts_with("is not needed: neither public_url nor internal_url"), "{message}");
            assert_eq!(told(public_url, "insecure_http = false", provider), [], "{public_url} {provider}");
        }
        for (public_url, provider) in [
            ("http://app.test", ""),
            ("https://app.test", "internal_url = \"http://login.internal:8080\""),
            ("https://app.test", "discovery_url = \"http://login.internal:8080/document\""),
            ("https://app.test", "endpoints = { token = \"http://login.internal:8080/token\" }"),
        ] {
            assert_eq!(told(public_url, allowed, provider), [], "{public_url} {provider}");
        }
    }

    #[test]
    fn a_value_that_is_none_is_told_once() {
        let found = told("https://app.test", "insecure_http = \"yes\"", "");
        assert!(matches!(found.as_slice(), [(Severity::Error, message)] if message.contains("true or false")), "{found:?}");
    }
}
