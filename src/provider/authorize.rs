//! Parameters of the authorization request beside those of the flow: some are always sent, others are passed on from `start` where the
//! config lets them.

use regex::Regex;

/// Names that are never the config's: the flow's own (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1, RFC 7636 §4.3, RFC 9126, RFC 9449
/// §10), what a route asks for, and proofs that do not belong into a browser's URL.
const OWNED: [&str; 20] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "dpop_jkt",
    "acr_values",
    "max_age",
    "claims",
    "id_token_hint",
    "registration",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// Parameters that `start` reads for itself.
const OF_START: [&str; 7] = ["rd", "return_to", "target_link_uri", "iss", "flow", "provider", "route"];

/// The longest value that is passed on, in bytes.
const MOST: usize = 512;

/// Why a name may not be configured.
///
/// # Errors
/// What it is, and where it belongs.
pub fn may_be_sent(name: &str) -> Result<(), String> {
    // Names are told apart by case (RFC 6749 appendix A), and there are providers that do not.
    let folded = name.to_ascii_lowercase();
    if folded.starts_with("code_challenge") || folded.starts_with("response_") || OWNED.contains(&folded.as_str()) {
        let where_to = match folded.as_str() {
            "scope" => "; it belongs into scopes",
            "response_mode" => "; it is a key of its own",
            "acr_values" => "; it belongs into acr of a route",
            "max_age" => "; it is a key of a route",
            "client_secret" | "client_assertion" | "client_assertion_type" => "; client_auth says how the gateway proves itself",
            _ => "",
        };
        return Err(format!("{name} is the gateway's own in every login{where_to}"));
    }
    let sound = !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if sound { Ok(()) } else { Err(format!("{name:?} is no name of a parameter (RFC 6749 appendix A)")) }
}

/// The same of one that `start` is to pass on.
///
/// # Errors
/// What it is.
pub fn may_be_passed_on(name: &str) -> Result<(), String> {
    if OF_START.contains(&name) {
        return Err(format!("{name} is what start reads for itself"));
    }
    may_be_sent(name)
}

/// What `start` passes on.
#[derive(Clone, Debug, Default)]
pub struct FromStart(Vec<(String, Fits)>);

/// Which values are passed on.
#[derive(Clone, Debug)]
pub enum Fits {
    /// All of it, from its first character to its last.
    Pattern(Regex),
    /// One of these.
    OneOf(Vec<String>),
}

impl Fits {
    /// Reads a pattern, which has to match the whole value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pattern(text: &str) -> Result<Self, String> {
        // By itself first: a bracket that it closes and did not open must not end the one around it.
        let anchored = Regex::new(text).and_then(|_| Regex::new(&format!(r"\A(?:{text})\z")));
        anchored.map(Self::Pattern).map_err(|error| format!("expected a regular expression: {error}"))
    }

    fn take(&self, value: &str) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.is_match(value),
            Self::OneOf(values) => values.iter().any(|known| known == value),
        }
    }
}

impl FromStart {
    /// These names with their values.
    #[must_use]
    pub const fn new(passed: Vec<(String, Fits)>) -> Self {
        Self(passed)
    }

    /// Whether the config speaks of this name.
    #[must_use]
    pub fn lists(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether this value of it is passed on.
    #[must_use]
    pub fn takes(&self, name: &str, value: &str) -> bool {
        let plain = value.len() <= MOST && !value.chars().any(char::is_control);
        plain && self.0.iter().any(|(known, fits)| known == name && fits.take(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_fits_as_a_whole_or_not_at_all() {
        let from = FromStart::new(vec![
            ("login_hint".to_owned(), Fits::pattern(r"[^@]+@example\.com|ann").unwrap()),
            ("kc_idp_hint".to_owned(), Fits::OneOf(vec!["a".to_owned(), "b.c".to_owned()])),
        ]);
        for (name, value, taken) in [
            ("login_hint", "bob@example.com", true),
            ("login_hint", "ann", true),
            ("login_hint", "annex", false),
            ("login_hint", "bob@example.com.evil.test", false),
            ("login_hint", "bob@example.com\n", false),
            ("login_hint", "b\nob@example.com", false),
            ("login_hint", "", false),
            ("kc_idp_hint", "a", true),
            ("kc_idp_hint", "b.c", true),
            ("kc_idp_hint", "bxc", false),
            ("kc_idp_hint", "A", false),
            ("prompt", "a", false),
        ] {
            assert_eq!(from.takes(name, value), taken, "{name}={value:?}");
        }
        let long = format!("{}@example.com", "a".repeat(600));
        assert!(!from.takes("login_hint", &long));
        for broken in ["a)|(?:.*", "[", "(a"] {
            assert!(Fits::pattern(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_the_flow_owns_is_nobody_elses() {
        for name in OWNED.iter().chain(&[
            "response_types",
            "Scope",
            "STATE",
            "Redirect_Uri",
            "Code_Challenge_Method",
            "code_challenge_x",
            "",
            "a b",
            "a&b",
            "ä",
        ]) {
            assert!(may_be_sent(name).is_err() && may_be_passed_on(name).is_err(), "{name}");
        }
        for name in OF_START {
            assert!(may_be_passed_on(name).is_err(), "{name}");
        }
        for name in ["access_type", "login_hint", "prompt", "kc_idp_hint", "ui_locales", "hd", "audience", "resource"] {
            assert!(may_be_sent(name).is_ok() && may_be_passed_on(name).is_ok(), "{name}");
        }
    }
}
