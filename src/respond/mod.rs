//! From decisions and faults to HTTP answers of our own: `status` is the one exhaustive table from reason to status, `words` to words; `pages`
//! renders them for people, `json` for programs; `challenge` writes `WWW-Authenticate`.

pub mod challenge;
mod json;
mod pages;
mod status;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::reason::Reason;
use crate::request::Audience;
use crate::route::DeniedText;

pub use pages::{
    Action, Choice, Chooser, ConfirmSignOut, DeniedPage, KeptPage, LocalForm, Look, Pages, SessionPage, ShownSession, SignedOut,
};
pub use status::status_of;
pub use words::{Words, words_of};

/// An answer of our own.
pub type Answer = Response<Bytes>;

/// How long clients are asked to wait after a 503 or 429, in seconds.
pub const RETRY_SECONDS: u64 = 5;

/// For whom an answer is, and what it needs to be useful.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    /// Pages or JSON.
    pub audience: Audience,
    /// In the page's footer and the JSON body.
    pub request_id: &'a str,
    /// How pages look.
    pub pages: &'a Pages,
}

/// What a refusal says beside its reason.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// `WWW-Authenticate`, on 401 and on `insufficient_scope`: a line each.
    pub challenges: Vec<HeaderValue>,
    /// Where a person can sign in, for programs that show it (JSON `login_url`).
    pub login_url: Option<String>,
    /// Ways on, for the page; the first is the one most people want.
    pub actions: Vec<Action>,
    /// Another status than the table's: forward-auth knows fewer.
    pub status: Option<StatusCode>,
    /// Other words than the table's, where the reason alone does not know who is spoken to.
    pub words: Option<Words>,
    /// How long to wait in seconds, on 429 and 503, where it is known better than [`RETRY_SECONDS`].
    pub retry_after: Option<u64>,
    /// What the route has to say to whom it refuses.
    pub told: Option<Arc<DeniedText>>,
}

impl Reply<'_> {
    /// Refuses, as a page or as JSON.
    #[must_use]
    pub fn refuse(&self, reason: Reason, refusal: Refusal) -> Answer {
        let status = refusal.status.unwrap_or_else(|| status_of(reason));
        let words = refusal.words.unwrap_or_else(|| words_of(reason));
        let wait = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
            .then_some(refusal.retry_after.unwrap_or(RETRY_SECONDS));
        let mut answer = match self.audience {
            Audience::Navigation => {
                self.pages.error(self.request_id, status, reason, &words, wait, &refusal.actions, refusal.told.as_deref())
            }
            Audience::Program => json::refusal(self.request_id, reason, &words, refusal.login_url.as_deref(), refusal.told.as_deref()),
        };
        *answer.status_mut() = status;
        for challenge in refusal.challenges {
            answer.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = wait {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        answer
    }

    /// 303 (never 307: a form must not be sent on, RFC 9700 §4.12) with a small body that holds the link.
    #[must_use]
    pub fn see_other(&self, to: &str) -> Answer {
        self.redirect(StatusCode::SEE_OTHER, to)
    }

    /// 308: the same request, there, now and later (RFC 9110 §15.4.9).
    #[must_use]
    pub fn permanently_at(&self, to: &str) -> Answer {
        self.redirect(StatusCode::PERMANENT_REDIRECT, to)
    }

    fn redirect(&self, status: StatusCode, to: &str) -> Answer {
        let mut answer = self.pages.redirect(to);
        *answer.status_mut() = status;
        // `url` has percent-encoded everything that a header does not take.
        match HeaderValue::try_from(to) {
            Ok(to) => {
                answer.headers_mut().insert(LOCATION, to);
                answer
            }
            Err(_) => self.refuse(Reason::Internal, Refusal::default()),
        }
    }

    /// JSON with status 200.
    #[must_use]
    pub fn json(&self, value: &serde_json::Value) -> Answer {
        json::answer(value)
    }
}

/// The policy of what is no page.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// An answer with an empty body, as forward-auth gives it.
#[must_use]
pub fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    // Room for the identity, and for as much as requests bring: hyper reads the connection's next one into this map.
    *answer.headers_mut() = HeaderMap::with_capacity(24);
    harden(answer.headers_mut(), HeaderValue::from_static(NOTHING));
    answer
}

pub(crate) fn body(content_type: &'static str, csp: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    harden(answer.headers_mut(), HeaderValue::try_from(csp).unwrap_or(HeaderValue::from_static(NOTHING)));
    answer
}

/// On every answer of ours, redirects included.
fn harden(headers: &mut HeaderMap, csp: HeaderValue) {
    headers.insert(http::header::CONTENT_SECURITY_POLICY, csp);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(http::header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages::new(&Look { title: "Acme <b>".into(), logo: None, accent: "#3b5bdb".into(), notice: None, help_url: None }).unwrap()
    }

    #[test]
    fn every_reason_gives_a_page_and_a_json_body_that_are_hardened() {
        let pages = pages();
        for reason in Reason::ALL {
            for audience in [Audience::Navigation, Audience::Program] {
                let reply = Reply { audience, request_id: "id-1", pages: &pages };
                let answer = reply.refuse(*reason, Refusal::default());
                let text = String::from_utf8(answer.body().to_vec()).unwrap();
                assert!(text.contains("id-1"), "{reason}: {text}");
                assert!(text.contains(reason.as_str()), "{reason}: {text}");
                assert!(!text.contains("Acme <b>"));
                for name in ["content-security-policy", "referrer-policy", "x-content-type-options"] {
                    assert!(answer.headers().contains_key(name), "{reason} {name}");
                }
                assert_eq!(answer.headers()["cache-control"], "no-store");
                assert!(!answer.headers()["content-security-policy"].to_str().unwrap().contains("script"));
                let waits = matches!(answer.status().as_u16(), 429 | 503);
                assert_eq!(answer.headers().contains_key("retry-after"), waits, "{reason}");
            }
        }
    }

    #[test]
    fn a_redirect_escapes_its_link() {
        let pages = pages();
        let reply = Reply { audience: Audience::Navigation, request_id: "id-1", pages: &pages };
        let answer = reply.see_other("https://own.test/?a='\"%3Cscript%3E&b=1");
        assert_eq!(answer.status(), 303);
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(!text.contains("'\"") && text.contains("own.test"), "{text}");
        assert_eq!(reply.see_other("https://own.test/\r\nx: y").status(), 500);
    }
}
