//! `logout_url`: where a provider ends its session in a way of its own, for those without an `end_session_endpoint`.

use std::fmt;

use url::{Url, form_urlencoded};

/// What may stand in a template, each in braces.
const PLACEHOLDERS: [&str; 4] = ["client_id", "signed_out", "id_token", "state"];

/// A template such as `https://tenant.example.com/v2/logout?client_id={client_id}&returnTo={signed_out}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutUrl(String);

/// What is put in the places of a template. Each value is percent-encoded.
pub struct LogoutValues<'a> {
    /// Our registration.
    pub client_id: &'a str,
    /// The post-logout redirect URI.
    pub signed_out: &'a str,
    /// The ID token; `None` where it would be too long for a URL.
    pub id_token: Option<&'a str>,
    /// Comes back with the browser, where the provider passes it on.
    pub state: &'a str,
}

/// Why a text is no template, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutUrlError(String);

impl fmt::Display for LogoutUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LogoutUrlError {}

impl LogoutUrl {
    /// Reads a template.
    ///
    /// # Errors
    /// When it names a placeholder that there is not, or is no `https` URL around them.
    pub fn parse(text: &str) -> Result<Self, LogoutUrlError> {
        let (_, query) = text.split_once('?').unwrap_or((text, ""));
        for (at, _) in text.match_indices(['{', '}']) {
            let known = PLACEHOLDERS.iter().any(|name| {
                let whole = format!("{{{name}}}");
                // The opening brace of one, or the closing brace of one.
                text.get(at..).is_some_and(|rest| rest.starts_with(&whole)) || text.get(..=at).is_some_and(|head| head.ends_with(&whole))
            });
            if !known {
                let all = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(" ");
                return Err(LogoutUrlError(format!("has a brace that is none of the placeholders {all}")));
            }
        }
        if text.matches('{').count() != query.matches('{').count() {
            return Err(LogoutUrlError("may hold placeholders in its query only, after the \"?\"".to_owned()));
        }
        let sound = Url::parse(text).ok().filter(|url| {
            let scheme = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
            scheme && url.has_host() && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
        });
        if sound.is_none() {
            let example = "https://tenant.example.com/v2/logout?client_id={client_id}&returnTo={signed_out}";
            return Err(LogoutUrlError(format!("expected an https URL without credentials and fragment, such as {example:?}")));
        }
        Ok(Self(text.to_owned()))
    }

    /// Its origin, for the policy of forms that lead there.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        self.place().map(|url| url.origin().ascii_serialization())
    }

    /// Where it is, without a look at the query.
    #[must_use]
    pub fn place(&self) -> Option<Url> {
        Url::parse(&self.0).ok()
    }

    /// The URL for one sign-out. A parameter that would hold a token too long for it is left out. `None`: no URL, which [`LogoutUrl::parse`]
    /// has ruled out.
    #[must_use]
    pub fn fill(&self, values: &LogoutValues<'_>) -> Option<Url> {
        let (base, query) = self.0.split_once('?').unwrap_or((&self.0, ""));
        let pairs = query.split('&').filter(|pair| values.id_token.is_some() || !pair.contains("{id_token}"));
        let filled: Vec<String> = pairs.map(|pair| fill_one(pair, values)).collect();
        let query = filled.join("&");
        Url::parse(&if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") }).ok()
    }
}

/// In one pass, so that a value which looks like a placeholder stays what it is.
fn fill_one(pair: &str, values: &LogoutValues<'_>) -> String {
    let mut filled = String::new();
    let mut rest = pair;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(before);
        filled.extend(form_urlencoded::byte_serialize(values.of(name).as_bytes()));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

impl LogoutValues<'_> {
    fn of(&self, name: &str) -> &str {
        match name {
            "client_id" => self.client_id,
            "signed_out" => self.signed_out,
            "id_token" => self.id_token.unwrap_or_default(),
            "state" => self.state,
            _ => "",
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, id_token: Option<&str>) -> String {
        let values = LogoutValues { client_id: "a&b", signed_out: "https://app.test/oauth2/signed_out", id_token, state: "{id_token}" };
        LogoutUrl::parse(template).unwrap().fill(&values).unwrap().to_string()
    }

    #[test]
    fn values_are_encoded_and_never_read_as_placeholders() {
        // Cognito, and Auth0's own endpoint.
        assert_eq!(
            filled("https://x.auth.eu-west-1.amazoncognito.com/logout?client_id={client_id}&logout_uri={signed_out}", None),
            "https://x.auth.eu-west-1.amazoncognito.com/logout?client_id=a%26b&logout_uri=https%3A%2F%2Fapp.test%2Foauth2%2Fsigned_out"
        );
        assert_eq!(
            filled("https://t.auth0.com/v2/logout?federated&client_id={client_id}&returnTo={signed_out}%3Fstate={state}", None),
            "https://t.auth0.com/v2/logout?federated&client_id=a%26b&returnTo=https%3A%2F%2Fapp.test%2Foauth2%2Fsigned_out%3Fstate=%7Bid_token%7D"
        );
        assert_eq!(filled("https://idp.test/bye?hint={id_token}&x=1", Some("a.b.c")), "https://idp.test/bye?hint=a.b.c&x=1");
        assert_eq!(filled("https://idp.test/bye?hint={id_token}&x=1", None), "https://idp.test/bye?x=1");
        assert_eq!(filled("https://idp.test/bye?hint={id_token}", None), "https://idp.test/bye");
        assert_eq!(filled("https://idp.test/bye", None), "https://idp.test/bye");
        assert_eq!(LogoutUrl::parse("https://idp.test:8443/bye?a={state}").unwrap().origin().as_deref(), Some("https://idp.test:8443"));
    }

    #[test]
    fn what_is_no_template_is_told_what_would_be_right() {
        for (template, part) in [
            ("https://idp.test/?a={user}", "{client_id} {signed_out} {id_token} {state}"),
            ("https://idp.test/?a={state", "placeholders"),
            ("https://idp.test/?a=state}", "placeholders"),
            ("https://idp.test/?a={{state}}", "placeholders"),
            ("https://idp.test/?a={}", "placeholders"),
            ("https://{client_id}.test/?a={state}", "query only"),
            ("https://idp.test/{state}", "query only"),
            ("http://idp.test/?a={state}", "https"),
            ("javascript:alert(1)?{state}", "https"),
            ("https://me:pass@idp.test/", "https"),
            ("https://idp.test/#a", "https"),
            ("/logout?a={state}", "https"),
            ("", "https"),
        ] {
            let said = LogoutUrl::parse(template).unwrap_err().to_string();
            assert!(said.contains(part), "{template}: {said}");
        }
        assert!(LogoutUrl::parse("http://127.0.0.1:1/bye?a={state}").is_ok());
    }
}
