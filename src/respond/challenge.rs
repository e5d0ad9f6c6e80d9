//! `WWW-Authenticate` (RFC 9110 §11.6.1), which every 401 carries (§15.5.2).

use http::{HeaderValue, StatusCode};

use crate::credential::CredentialKind;
use crate::decision::TokenProblem;
use crate::fault::Fault;
use crate::login::Asked;
use crate::reason::Reason;
use crate::respond::{status_of, words_of};
use crate::route::{Bound, Route};
use crate::token::Algorithm;

/// The scheme of tokens that are bound to a key (RFC 9449 §7.1).
const DPOP: &str = "DPoP";

/// RFC 7617 §2, §2.1.
const BASIC: &str = "Basic realm=\"doorward\", charset=\"UTF-8\"";

/// What a 401 has to say.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Of which route; `None`: an endpoint of ours, which takes sessions.
    pub route: Option<&'a Route>,
    /// What is wrong with what was shown.
    pub problem: TokenProblem,
    /// Why.
    pub reason: Reason,
    /// What a login has to be worth, where the one behind the identity was not.
    pub asks: &'a Asked,
    /// Where the resource says who issues tokens for it (RFC 9728 §5.1); `None`: nobody does, or it takes none.
    pub resource_metadata: Option<&'a str>,
    /// What `Basic` would bring about where this is read.
    pub dialog: Dialog,
}

/// What comes up where a challenge for a password is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// Nothing: a program reads it.
    None,
    /// The browser's own dialog, over whatever page is there.
    ComesUp,
}

impl Asking<'_> {
    /// One challenge for each scheme that the route takes in `Authorization`, each a line of its own; where it takes none `Doorward-Session`, or for
    /// keys alone `Doorward-Api-Key`, for certificates alone `Doorward-Certificate`. Without a token there is no `error` attribute (RFC 6750 §3.1).
    #[must_use]
    pub fn challenges(&self) -> Vec<HeaderValue> {
        let takes = |kind| self.route.is_some_and(|route| route.takes(kind));
        let mut challenges = Vec::new();
        let dpop = self.route.and_then(Route::accept).map(|accept| accept.binding.dpop);
        if takes(CredentialKind::Bearer) {
            if dpop != Some(Bound::Required) {
                challenges.push(self.challenge("Bearer", true));
            }
            // Tokens of the gateway's own are bound to nothing: where there is nobody else to issue any, no proof is of use.
            if self.resource_metadata.is_some() || dpop == Some(Bound::Required) {
                challenges.push(self.challenge(DPOP, true));
            }
        }
        if takes(CredentialKind::Basic) && !self.keeps_quiet() {
            challenges.push(HeaderValue::from_static(BASIC));
        }
        if challenges.is_empty() {
            let keys = self.route.and_then(Route::accept).filter(|_| takes(CredentialKind::ApiKey) && !takes(CredentialKind::Session));
            challenges.push(match keys {
                Some(accept) => self.challenge(&format!("Doorward-Api-Key header=\"{}\",", accept.api_key_header), false),
                // It is asked for in the handshake and by no scheme of HTTP; RFC 9110 §15.5.2 wants one named all the same.
                None if takes(CredentialKind::Certificate) && !takes(CredentialKind::Session) => {
                    self.challenge("Doorward-Certificate", false)
                }
                None => self.challenge("Doorward-Session", false),
            });
        }
        challenges
    }

    /// Who has shown the right password and needs more is not asked for it again. And where people sign in no dialog comes up in a browser, but
    /// where the password that it keeps is wrong, since it forgets it by that.
    fn keeps_quiet(&self) -> bool {
        if !self.asks.is_nothing() {
            return true;
        }
        let sessions = self.route.is_some_and(|route| route.takes(CredentialKind::Session));
        sessions && self.dialog == Dialog::ComesUp && self.reason != Reason::PasswordWrong
    }

    fn challenge(&self, scheme: &str, of_tokens: bool) -> HeaderValue {
        let mut text = format!("{scheme} realm=\"doorward\"");
        let mut attribute = |name: &str, value: &str| text.push_str(&format!(", {name}=\"{}\"", quotable(value)));
        let error = match self.problem {
            TokenProblem::None | TokenProblem::TooWeak | TokenProblem::OtherCredential => None,
            TokenProblem::InvalidToken => Some("invalid_token"),
            // What is wrong with a proof is for those to know who show proofs.
            TokenProblem::InvalidDpopProof => Some("invalid_dpop_proof").filter(|_| scheme == DPOP),
            TokenProblem::UseDpopNonce => Some("use_dpop_nonce").filter(|_| scheme == DPOP),
        };
        if scheme == DPOP {
            attribute("algs", &Algorithm::DEFAULT.map(Algorithm::as_str).join(" "));
        }
        if !self.asks.is_nothing() {
            // RFC 9470 §3: `acr_values` in order of preference, spaces between; `max_age` in seconds.
            attribute("error", "insufficient_user_authentication");
            attribute("error_description", words_of(self.reason).text);
            if !self.asks.acr.is_empty() {
                attribute("acr_values", &self.asks.acr.join(" "));
            }
            if let Some(max_age) = self.asks.max_age {
                attribute("max_age", &max_age.to_string());
            }
        } else if let Some(error) = error.filter(|_| of_tokens) {
            attribute("error", error);
            attribute("error_description", words_of(self.reason).text);
        }
        if let Some(url) = self.resource_metadata.filter(|_| of_tokens) {
            attribute("resource_metadata", url);
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"doorward\""))
    }
}

/// 401 of an endpoint of ours that takes sessions.
#[must_use]
pub fn of_sessions(reason: Reason) -> Vec<HeaderValue> {
    Asking { route: None, problem: TokenProblem::None, reason, asks: &Asked::default(), resource_metadata: None, dialog: Dialog::None }
        .challenges()
}

/// 401 of an endpoint of ours for a token that is no good (RFC 6750 §3.1, RFC 9449 §7.1).
#[must_use]
pub fn of_tokens(problem: TokenProblem, reason: Reason) -> Vec<HeaderValue> {
    let asking = Asking { route: None, problem, reason, asks: &Asked::default(), resource_metadata: None, dialog: Dialog::None };
    vec![asking.challenge("Bearer", true), asking.challenge(DPOP, true)]
}

/// What a refusal before any look at a credential says: of a token that cannot be read, where tokens are taken (`None`: an endpoint of ours, which
/// takes them); of anything else nothing.
#[must_use]
pub fn of_unreadable(route: Option<&Route>, fault: &Fault, resource_metadata: Option<&str>) -> Vec<HeaderValue> {
    let of_token = status_of(fault.reason) == StatusCode::BAD_REQUEST && fault.reason != Reason::ApiKeyRepeated;
    let taken = route.is_none_or(|route| route.takes(CredentialKind::Bearer));
    if taken && of_token { vec![invalid_request(fault.reason, resource_metadata)] } else { Vec::new() }
}

/// 400 of a request that shows its token in a way that cannot be read (RFC 6750 §3.1).
#[must_use]
pub fn invalid_request(reason: Reason, resource_metadata: Option<&str>) -> HeaderValue {
    bearer("invalid_request", words_of(reason).text, None, resource_metadata)
}

/// 403 for a token that lacks scopes.
#[must_use]
pub fn insufficient_scope(scopes: &[String], resource_metadata: Option<&str>) -> HeaderValue {
    bearer("insufficient_scope", words_of(Reason::InsufficientScope).text, Some(&scopes.join(" ")), resource_metadata)
}

fn bearer(error: &str, description: &str, scope: Option<&str>, resource_metadata: Option<&str>) -> HeaderValue {
    let mut text = format!("Bearer realm=\"doorward\", error=\"{error}\", error_description=\"{}\"", quotable(description));
    if let Some(scope) = scope {
        text.push_str(&format!(", scope=\"{}\"", quotable(scope)));
    }
    if let Some(url) = resource_metadata {
        text.push_str(&format!(", resource_metadata=\"{}\"", quotable(url)));
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"doorward\""))
}

/// RFC 6750 §3: values hold %x20-21 / %x23-5B / %x5D-7E only.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\x20'..='\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_hold_only_what_the_rfc_allows() {
        let value = insufficient_scope(&["a\"b".into(), "c\\d".into()], None);
        assert!(value.to_str().unwrap().ends_with("scope=\"ab cd\""));
        for reason in Reason::ALL {
            assert_eq!(quotable(words_of(*reason).text), words_of(*reason).text, "{reason}");
        }
    }
}
