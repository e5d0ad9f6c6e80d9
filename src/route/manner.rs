//! How a route answers for itself: whom it sends to sign in, what it says to whom it refuses, who may read that, and what of it is logged.

use http::{HeaderMap, Method};

use crate::request::Audience;

/// `login` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginMode {
    /// Told by the request: people are sent to sign in, programs get 401.
    Auto,
    /// Everybody is a program here.
    Never,
    /// Whoever reads and does not say that it is a script is a person here.
    Always,
}

impl LoginMode {
    /// For whom answers are, given what the request by itself looks like. What a browser says of its scripts' requests is known and not guessed:
    /// a redirect would be of no use to them. HEAD begins no login, since that is written down.
    #[must_use]
    pub fn audience(self, looks: Audience, method: &Method, headers: &HeaderMap) -> Audience {
        match self {
            Self::Auto => looks,
            Self::Never => Audience::Program,
            Self::Always => {
                let told = headers.contains_key("sec-fetch-mode") || headers.contains_key("x-requested-with");
                if method == Method::GET && !told { Audience::Navigation } else { looks }
            }
        }
    }
}

/// `denied` of a route: what a 403 says beside our own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeniedText {
    /// Plain text.
    pub text: Option<String>,
    /// An `http` or `https` URL.
    pub link: Option<String>,
}

/// `log` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitLines {
    /// Every request has its access line.
    Written,
    /// Those that were let through have none.
    LeftOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sent_to_sign_in_is_guessed_told_or_settled() {
        use Audience::{Navigation, Program};
        for (mode, method, header, looks, expected) in [
            (LoginMode::Auto, Method::GET, None, Program, Program),
            (LoginMode::Auto, Method::GET, None, Navigation, Navigation),
            (LoginMode::Never, Method::GET, None, Navigation, Program),
            (LoginMode::Always, Method::GET, None, Program, Navigation),
            (LoginMode::Always, Method::HEAD, None, Program, Program),
            (LoginMode::Always, Method::POST, None, Program, Program),
            (LoginMode::Always, Method::GET, Some(("sec-fetch-mode", "cors")), Program, Program),
            (LoginMode::Always, Method::GET, Some(("sec-fetch-mode", "navigate")), Navigation, Navigation),
            (LoginMode::Always, Method::GET, Some(("x-requested-with", "XMLHttpRequest")), Program, Program),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())));
            assert_eq!(mode.audience(looks, &method, &headers), expected, "{mode:?} {method} {header:?} {looks:?}");
        }
    }
}
