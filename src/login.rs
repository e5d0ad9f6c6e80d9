//! The way through login. A [`Flow`] is a person's way, with the place it leads to; a [`PendingLogin`] is one attempt in it. Both records are
//! sealed by the key in the flow's own short-lived cookie, so that tabs never disturb each other and a stolen `state` opens nothing.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::request::ReturnTo;
use crate::secret;

/// How long a flow lives, finished or not.
pub const FLOW_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How long one attempt lives.
pub const ATTEMPT_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How many flow cookies one browser holds at most.
pub const FLOWS_PER_BROWSER: usize = 20;
/// How many attempts fail before a flow stops starting new ones by itself.
pub const FAILURES_PER_FLOW: u8 = 3;

const HANDLE: usize = 16;
const KEY: usize = 32;

/// Names a flow: in its cookie's name and at the head of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowHandle([u8; HANDLE]);

impl FlowHandle {
    /// Reads the spelling in a cookie's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        secret::decode(text)?.try_into().ok().map(Self)
    }

    /// 22 characters of base64url.
    #[must_use]
    pub fn write(&self) -> String {
        secret::encode(&self.0)
    }

    /// The name of the flow's record in the store.
    #[must_use]
    pub fn record_id(&self) -> [u8; 32] {
        secret::sha256(&self.0)
    }
}

/// What the browser holds of a flow: handle (in the cookie's name) and key (its value).
#[derive(Clone, PartialEq, Eq)]
pub struct FlowCookie {
    /// Which flow.
    pub handle: FlowHandle,
    key: [u8; KEY],
}

impl FlowCookie {
    /// A new flow.
    #[must_use]
    pub fn new() -> Self {
        Self { handle: FlowHandle(secret::random()), key: secret::random() }
    }

    /// Reads the cookie; `None` for anything that we never wrote.
    #[must_use]
    pub fn parse(handle: &str, value: &str) -> Option<Self> {
        if value.len() != 43 {
            return None;
        }
        Some(Self { handle: FlowHandle::parse(handle)?, key: secret::decode(value)?.try_into().ok()? })
    }

    /// The cookie's value.
    #[must_use]
    pub fn value(&self) -> String {
        secret::encode(&self.key)
    }

    /// What opens the flow's records.
    #[must_use]
    pub const fn key(&self) -> &[u8; KEY] {
        &self.key
    }
}

impl Default for FlowCookie {
    fn default() -> Self {
        Self::new()
    }
}

/// A person's way through login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Where it leads.
    pub return_to: ReturnTo,
    /// When it began.
    pub started_at: UnixTime,
    /// How many attempts failed so far.
    pub failures: u8,
    /// What the place it leads to wants of the login.
    #[serde(default, skip_serializing_if = "Asked::is_nothing")]
    pub asks: Asked,
    /// What it asks the provider for beside its own scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Why the last attempt failed: the word of a reason, for a form of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// A form that its sender's session did not outlive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptForm>,
    /// When it led to a session; it is remembered a while longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<UnixTime>,
    /// How many finished flows led this browser straight back to where they began, before this one.
    #[serde(default)]
    pub rounds: u8,
}

impl Flow {
    /// A flow that begins now.
    #[must_use]
    pub const fn new(return_to: ReturnTo, started_at: UnixTime) -> Self {
        let asks = Asked { acr: Vec::new(), max_age: None };
        Self { return_to, started_at, failures: 0, asks, scopes: Vec::new(), told: None, kept: None, finished_at: None, rounds: 0 }
    }
}

/// What a place wants of a login (OpenID Connect Core §3.1.2.1, `acr_values` and `max_age`). Nothing: any login will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The login has to have been worth one of these; empty: whatever it was worth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
    /// How long ago it may have been, in seconds; `None`: any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
}

impl Asked {
    /// Whether any login will do.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.acr.is_empty() && self.max_age.is_none()
    }

    /// What satisfies both. Where no `acr` does, the other one's count: of the two, it is what was refused.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both: Vec<String> = self.acr.iter().filter(|acr| other.acr.contains(acr)).cloned().collect();
        let acr = match (both.is_empty(), other.acr.is_empty()) {
            (false, _) => both,
            (true, true) => self.acr.clone(),
            (true, false) => other.acr.clone(),
        };
        let max_age = [self.max_age, other.max_age].into_iter().flatten().min();
        Self { acr, max_age }
    }
}

/// A form that is kept until the same person has signed in again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptForm {
    /// Where it was sent: the absolute URL.
    pub url: String,
    /// Its `Content-Type`, as it came.
    pub content_type: String,
    /// The body, byte for byte.
    #[serde(with = "base64url")]
    pub body: Vec<u8>,
    /// The HMAC of who sent it, of (`iss`, `sub`).
    pub subject: [u8; 32],
}

impl fmt::Debug for KeptForm {
    /// What somebody wrote is nobody else's business, nor the log's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptForm").field("content_type", &self.content_type).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Bytes as text in JSON.
mod base64url {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::secret;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&secret::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        secret::decode(&text).ok_or_else(|| D::Error::custom("expected base64url"))
    }
}

/// One attempt: what must come back, and what only we know of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingLogin {
    /// The `id` of the provider that was asked.
    pub provider: String,
    /// The nonce that the ID token must hold (OpenID Connect Core §3.1.2.1).
    pub nonce: String,
    /// PKCE (RFC 7636 §4.1).
    pub code_verifier: String,
    /// As it was sent; the token request repeats it (RFC 6749 §4.1.3).
    pub redirect_uri: String,
    /// When it began.
    pub started_at: UnixTime,
    /// What the login has to be worth; it is held to it when it comes back.
    #[serde(default, skip_serializing_if = "Asked::is_nothing")]
    pub asks: Asked,
    /// What was asked for beside the provider's own scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Of local accounts: whose password was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<String>,
    /// What its code is bound to (RFC 9449 §10), as PKCS#8 in base64url; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop_key: Option<String>,
    /// Who was asked, and as whom: under the provider's `id` there may be another by the time it comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin").field("provider", &self.provider).field("started_at", &self.started_at).finish_non_exhaustive()
    }
}

impl PendingLogin {
    /// Whether it is too old to end well.
    #[must_use]
    pub fn is_over(&self, now: UnixTime) -> bool {
        now >= self.started_at.plus(ATTEMPT_LIFETIME)
    }
}

/// The OAuth parameter `state`: the flow's handle and the attempt's own random part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Whose flow.
    pub flow: FlowHandle,
    attempt: [u8; 16],
}

impl State {
    /// A new attempt of this flow.
    #[must_use]
    pub fn new(flow: FlowHandle) -> Self {
        Self { flow, attempt: secret::random() }
    }

    /// Reads the parameter; `None` for anything that we never wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 43 {
            return None;
        }
        let bytes = secret::decode(text)?;
        let (flow, attempt) = bytes.split_at_checked(HANDLE)?;
        Some(Self { flow: FlowHandle(flow.try_into().ok()?), attempt: attempt.try_into().ok()? })
    }

    /// The parameter's value.
    #[must_use]
    pub fn write(&self) -> String {
        let mut bytes = [0; HANDLE + 16];
        for (to, from) in bytes.iter_mut().zip(self.flow.0.iter().chain(&self.attempt)) {
            *to = *from;
        }
        secret::encode(&bytes)
    }

    /// What the attempt's record is sealed for. It is stored under the name of its flow.
    #[must_use]
    pub fn record_id(&self) -> [u8; 32] {
        secret::sha256(self.write().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_flow_cookie_read_what_they_wrote() {
        let cookie = FlowCookie::new();
        let again = FlowCookie::parse(&cookie.handle.write(), &cookie.value());
        assert!(again == Some(cookie.clone()));
        let state = State::new(cookie.handle);
        assert_eq!(State::parse(&state.write()), Some(state));
        assert_eq!(State::parse(&state.write()).unwrap().flow, cookie.handle);
        assert_ne!(State::new(cookie.handle).record_id(), state.record_id());
        for text in ["", "x", &state.write()[1..], &"=".repeat(43)] {
            assert_eq!(State::parse(text), None);
        }
        assert!(FlowCookie::parse("x", &cookie.value()).is_none());
        assert!(FlowCookie::parse(&cookie.handle.write(), "short").is_none());
    }

    #[test]
    fn an_attempt_is_over_after_ten_minutes() {
        let attempt = PendingLogin {
            provider: "p".into(),
            nonce: String::new(),
            code_verifier: String::new(),
            redirect_uri: String::new(),
            started_at: UnixTime(1000),
            asks: Asked::default(),
            scopes: Vec::new(),
            proven: None,
            dpop_key: None,
            registration: None,
        };
        assert!(!attempt.is_over(UnixTime(1599)));
        assert!(attempt.is_over(UnixTime(1600)));
    }
    #[test]
    fn a_kept_form_comes_back_byte_for_byte_and_is_told_nobody() {
        let body: Vec<u8> = (0..=255).collect();
        let kept = KeptForm { url: "https://own.test/a".into(), content_type: "x/y".into(), body, subject: [7; 32] };
        let json = serde_json::to_string(&kept).unwrap();
        assert!(serde_json::from_str::<KeptForm>(&json).unwrap() == kept);
        let kept = KeptForm { body: b"my secret diary".to_vec(), ..kept };
        let told = format!("{kept:?}");
        assert!(!told.contains("diary") && !told.contains("109, 121") && told.contains("15"), "{told}");
    }

    #[test]
    fn a_flow_of_an_older_release_is_read() {
        let flow: Flow = serde_json::from_str(r#"{"return_to": "https://own.test/", "started_at": 5, "failures": 2}"#).unwrap();
        assert_eq!(flow, Flow { failures: 2, ..Flow::new(flow.return_to.clone(), UnixTime(5)) });
    }

    #[test]
    fn two_demands_are_one_that_satisfies_both() {
        let asked = |acr: &[&str], max_age| Asked { acr: acr.iter().map(|acr| (*acr).to_owned()).collect(), max_age };
        for (one, other, both) in [
            (asked(&[], None), asked(&[], None), asked(&[], None)),
            (asked(&["a"], Some(9)), asked(&[], None), asked(&["a"], Some(9))),
            (asked(&[], Some(9)), asked(&["b"], Some(5)), asked(&["b"], Some(5))),
            (asked(&["a", "b"], Some(3)), asked(&["b", "c"], Some(5)), asked(&["b"], Some(3))),
            (asked(&["a"], None), asked(&["b"], None), asked(&["b"], None)),
        ] {
            assert_eq!(one.and(&other), both);
        }
    }
}
