//! Tokens of others, by a URL that answers with what it knows of one: for whom it was issued, whose it is, how long it is good.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::identity::{ClaimMapping, ClaimPath, Claims, Identity, Source, texts};
use crate::provider::http::Http;
use crate::provider::{CallTimes, SignedIn};
use crate::reason::Reason;
use crate::secret::Secret;

/// A place where tokens are checked.
#[derive(Clone)]
pub struct CheckSettings {
    /// The table's name in the config.
    pub id: String,
    /// What its people are known by beside their `sub`.
    pub issuer: String,
    /// Where to ask.
    pub check_url: Url,
    /// Where the token stands in the question.
    pub token_in: TokenIn,
    /// Where the answer says for whom it was issued.
    pub audience_claim: ClaimPath,
    /// For whom it may have been issued: our registrations.
    pub audience: Vec<String>,
    /// Where the answer says whose it is.
    pub sub_claim: ClaimPath,
    /// Where the answer says when it ends, in Unix seconds; `None`: `exp`, where it is there.
    pub expires_claim: Option<ClaimPath>,
    /// What else it says.
    pub mapping: ClaimMapping,
    /// How far its clock may be from ours.
    pub leeway: Duration,
}

/// Where the token stands in the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenIn {
    /// In this parameter of the query.
    Query(String),
    /// In this parameter of a posted form.
    Form(String),
    /// In `Authorization: Bearer`.
    Bearer,
}

impl TokenIn {
    /// `query:NAME`, `form:NAME` or `bearer`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            Some(("form", name)) if !name.is_empty() => Ok(Self::Form(name.to_owned())),
            None if text == "bearer" => Ok(Self::Bearer),
            _ => Err(format!("expected \"bearer\", or a parameter such as \"query:id_token\" or \"form:token\"; found {text:?}")),
        }
    }
}

/// Checks tokens there.
pub struct TokenCheck {
    settings: CheckSettings,
    http: Http,
    times: CallTimes,
    clock: SharedClock,
}

impl TokenCheck {
    /// Asks nobody yet.
    #[must_use]
    pub const fn new(settings: CheckSettings, http: Http, times: CallTimes, clock: SharedClock) -> Self {
        Self { settings, http, times, clock }
    }

    /// Whoever the token was issued for, if it was issued for us.
    pub(super) async fn signed_in(&self, token: &Secret) -> Result<SignedIn, Trouble> {
        let answer = self.ask(token).await?;
        let settings = &self.settings;
        let claims = settings.judge(answer, self.clock.now().minus(settings.leeway))?;
        let source = Source::Provider(settings.id.as_str().into());
        let identity = Identity::from_claims(&settings.issuer, source, &settings.mapping, claims)
            .ok_or_else(|| Fault::new(Reason::ForeignTokenSubject, "the answer does not hold what user_claim names"))?;
        let client_id = settings.client_id();
        Ok(SignedIn { identity, client_id, sid: None, id_token: Secret::new(String::new()), tokens: None })
    }

    async fn ask(&self, token: &Secret) -> Result<Claims, Trouble> {
        let answer = self.times.of("token-check", self.http.send(self.settings.question(token)?)).await.map_err(Outage::token_check)?;
        match answer.status() {
            status if status.is_success() => {
                Ok(serde_json::from_slice(answer.body()).map_err(|_| Outage::token_check("check_url did not answer with a JSON object"))?)
            }
            // What such places say to a token that they do not know. Anything else may be about us, or pass.
            status @ (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY) => {
                Err(Fault::new(Reason::ForeignTokenRefused, format!("check_url answered {}", status.as_u16())).into())
            }
            status => Err(Outage::token_check(format!("check_url answered {}", status.as_u16())).into()),
        }
    }
}

impl CheckSettings {
    /// What stands for our registration in sessions: one of another audience does not count here.
    #[must_use]
    pub fn client_id(&self) -> String {
        self.audience.join(" ")
    }

    fn question(&self, token: &Secret) -> Result<Request<Vec<u8>>, Outage> {
        let mut url = self.check_url.clone();
        let mut request = Request::new(Vec::new());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        match &self.token_in {
            TokenIn::Query(name) => drop(url.query_pairs_mut().append_pair(name, token.expose())),
            TokenIn::Form(name) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                *request.method_mut() = Method::POST;
                let form = form_urlencoded::Serializer::new(String::new()).append_pair(name, token.expose()).finish();
                *request.body_mut() = form.into_bytes();
            }
            TokenIn::Bearer => {
                // What fits in no header is asked about as what it is: nothing that anybody issued.
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                    .unwrap_or_else(|_| HeaderValue::from_static("Bearer malformed"));
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        *request.uri_mut() = url.as_str().parse::<Uri>().map_err(|_| Outage::token_check("check_url is no address"))?;
        Ok(request)
    }

    /// The claims of somebody, when the answer says that the token is for us and good at `now`.
    fn judge(&self, mut answer: Claims, now: UnixTime) -> Result<Claims, Fault> {
        let issued_for = self.audience_claim.find(&answer).map(texts).unwrap_or_default();
        if !issued_for.iter().any(|one| self.audience.contains(one)) {
            return Err(Fault::new(Reason::ForeignTokenAudience, format!("{} is none of ours", self.audience_claim)));
        }
        let ends_at = match &self.expires_claim {
            Some(path) => Some(path.find(&answer)),
            None => answer.get("exp").map(Some),
        };
        match ends_at.map(|value| value.and_then(seconds)) {
            None => {}
            Some(Some(at)) if at > now => {}
            Some(Some(_)) => return Err(Fault::new(Reason::ForeignTokenExpired, "its end has passed")),
            Some(None) => return Err(Fault::new(Reason::ForeignTokenRefused, "its end is missing, or is no time")),
        }
        let sub = self.sub_claim.find(&answer).and_then(|value| match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let sub = sub.ok_or_else(|| Fault::new(Reason::ForeignTokenSubject, format!("{} names nobody", self.sub_claim)))?;
        answer.insert("sub".to_owned(), Value::from(sub));
        Ok(answer)
    }
}

/// Unix seconds; some write them as a text.
fn seconds(value: &Value) -> Option<UnixTime> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(UnixTime)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::EmailVerification;

    fn settings(expires_claim: Option<&str>) -> CheckSettings {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mapping =
            ClaimMapping { user: path("sub"), email: Some(path("email")), groups: None, email_verification: EmailVerification::Required };
        CheckSettings {
            id: "other".into(),
            issuer: "https://check.test".into(),
            check_url: Url::parse("https://check.test/info?v=1").unwrap(),
            token_in: TokenIn::Query("token".into()),
            audience_claim: path("app.id"),
            audience: vec!["ours".into(), "7".into()],
            sub_claim: path("user.id"),
            expires_claim: expires_claim.map(path),
            mapping,
            leeway: Duration::ZERO,
        }
    }

    #[test]
    fn audience_end_and_subject_are_looked_for_where_the_config_says() {
        for (expires, answer, expected) in [
            (None, json!({"app": {"id": "ours"}, "user": {"id": "u1"}}), Ok("u1")),
            (None, json!({"app": {"id": ["x", "ours"]}, "user": {"id": 12}}), Ok("12")),
            (None, json!({"app": {"id": 7}, "user": {"id": "u1"}, "exp": "1001"}), Ok("u1")),
            (None, json!({"app": {"id": "theirs"}, "user": {"id": "u1"}}), Err("foreign-token-audience")),
            (None, json!({"aud": "ours", "user": {"id": "u1"}}), Err("foreign-token-audience")),
            (None, json!({"app": {"id": "ours"}, "user": {"id": ""}}), Err("foreign-token-subject")),
            (None, json!({"app": {"id": "ours"}, "sub": "u1"}), Err("foreign-token-subject")),
            (None, json!({"app": {"id": "ours"}, "user": {"id": "u1"}, "exp": 1000}), Err("foreign-token-expired")),
            (None, json!({"app": {"id": "ours"}, "user": {"id": "u1"}, "exp": "soon"}), Err("foreign-token-refused")),
            (Some("ends"), json!({"app": {"id": "ours"}, "user": {"id": "u1"}, "ends": 1001}), Ok("u1")),
            (Some("ends"), json!({"app": {"id": "ours"}, "user": {"id": "u1"}, "exp": 5000}), Err("foreign-token-refused")),
        ] {
            let judged = settings(expires).judge(answer.as_object().unwrap().clone(), UnixTime(1000));
            let found = judged.as_ref().map(|claims| claims["sub"].as_str().unwrap()).map_err(|fault| fault.reason.as_str());
            assert_eq!(found, expected, "{answer}");
        }
    }

    #[test]
    fn the_question_holds_the_token_where_the_config_says() {
        let (token, settings) = (Secret::new("a&b c"), settings(None));
        let asked = |token_in: &str| {
            let request = CheckSettings { token_in: TokenIn::parse(token_in).unwrap(), ..settings.clone() }.question(&token).unwrap();
            let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
            format!("{} {} {header}{}", request.method(), request.uri(), String::from_utf8_lossy(request.body()))
        };
        assert_eq!(asked("query:id_token"), "GET https://check.test/info?v=1&id_token=a%26b+c ");
        assert_eq!(asked("form:token"), "POST https://check.test/info?v=1 token=a%26b+c");
        assert_eq!(asked("bearer"), "GET https://check.test/info?v=1 Bearer a&b c");
        for wrong in ["query", "query:", "header:x", "Bearer", ""] {
            assert!(TokenIn::parse(wrong).is_err(), "{wrong}");
        }
    }
}
