//! Tokens that Facebook's SDKs give to phones, by two calls to the Graph API: `debug_token` says for which application and for whom a token was
//! issued, `me` who that is. `me` alone would believe a token that was issued to any other application.

use http::{Method, Request, StatusCode, Uri};
use serde_json::Value;
use url::Url;

use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::identity::{ClaimMapping, Claims, Identity, Source};
use crate::provider::http::Http;
use crate::provider::{CallTimes, SignedIn};
use crate::reason::Reason;
use crate::secret::{Secret, SecretSource, hex, hmac_sha256, same};

/// Graph's error code for a token that is over, withdrawn or none.
const TOKEN_INVALID: u64 = 190;
/// The same for the session behind it.
const SESSION_INVALID: u64 = 102;
/// Graph's error code for an argument that does not fit: of `debug_token`, a token that is of another application than the one that asks.
const ARGUMENT: u64 = 100;

/// Our registration at Facebook.
#[derive(Clone)]
pub struct FacebookSettings {
    /// The table's name in the config.
    pub id: String,
    /// Our application.
    pub app_id: String,
    /// Its secret.
    pub app_secret: SecretSource,
    /// Where the Graph API is; its people are known by its origin.
    pub graph_url: Url,
    /// Which of `id` (as `sub`), `name` and `email` say what.
    pub mapping: ClaimMapping,
    /// How far Facebook's clock may be from ours.
    pub leeway: std::time::Duration,
}

/// Checks tokens of Facebook.
pub struct Facebook {
    settings: FacebookSettings,
    http: Http,
    times: CallTimes,
    clock: SharedClock,
}

/// An answer of the Graph API.
enum Graph {
    Answer(Claims),
    /// Its error, by code.
    Refused(u64),
}

impl Facebook {
    /// Asks nobody yet.
    #[must_use]
    pub const fn new(settings: FacebookSettings, http: Http, times: CallTimes, clock: SharedClock) -> Self {
        Self { settings, http, times, clock }
    }

    /// What its people's sessions have to agree with.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.settings.graph_url.origin().ascii_serialization()
    }

    /// Whoever the token was issued for, if it was issued for our application.
    pub(super) async fn signed_in(&self, token: &Secret) -> Result<SignedIn, Trouble> {
        let user_id = self.inspect(token).await?;
        let claims = self.person(token, &user_id).await?;
        let source = Source::Provider(self.settings.id.as_str().into());
        let identity = Identity::from_claims(&self.issuer(), source, &self.settings.mapping, claims)
            .ok_or_else(|| Fault::new(Reason::ForeignTokenSubject, "me does not hold what user_claim names"))?;
        let client_id = self.settings.app_id.clone();
        Ok(SignedIn { identity, client_id, sid: None, id_token: Secret::new(String::new()), tokens: None })
    }

    /// `debug_token`: whose the token is. By the application's own token, which shows that we are it.
    async fn inspect(&self, token: &Secret) -> Result<String, Trouble> {
        let ours = Secret::new(format!("{}|{}", self.settings.app_id, self.settings.app_secret.get().expose()));
        let answer = self.ask("debug_token", &[("input_token", token.expose()), ("access_token", ours.expose())]).await?;
        let answer = match answer {
            Graph::Answer(answer) => answer,
            Graph::Refused(ARGUMENT) => {
                return Err(Fault::new(Reason::ForeignTokenAudience, "debug_token: the token is not of our application").into());
            }
            // Of our own token, of Facebook's haste, of anything: nothing is said of the one in question.
            Graph::Refused(code) => return Err(Outage::token_check(format!("debug_token answered with error {code}")).into()),
        };
        let data = answer.get("data").and_then(Value::as_object).ok_or_else(|| Outage::token_check("debug_token answered without data"))?;
        judge(data, &self.settings.app_id, self.clock.now().minus(self.settings.leeway)).map_err(Trouble::from)
    }

    /// `me`: what is known of them, with the proof that whoever asks has the application's secret.
    async fn person(&self, token: &Secret, user_id: &str) -> Result<Claims, Trouble> {
        let proof = hex(&hmac_sha256(self.settings.app_secret.get().expose().as_bytes(), token.expose().as_bytes()));
        let query = [("fields", "id,name,email"), ("access_token", token.expose()), ("appsecret_proof", &proof)];
        let mut claims = match self.ask("me", &query).await? {
            Graph::Answer(claims) => claims,
            Graph::Refused(code @ (TOKEN_INVALID | SESSION_INVALID)) => {
                return Err(Fault::new(Reason::ForeignTokenRefused, format!("me answered with error {code}")).into());
            }
            Graph::Refused(code) => return Err(Outage::token_check(format!("me answered with error {code}")).into()),
        };
        let id = claims.remove("id").as_ref().and_then(text).unwrap_or_default();
        if !same(id.as_bytes(), user_id.as_bytes()) {
            return Err(Fault::new(Reason::ForeignTokenSubject, "me speaks of somebody else than debug_token").into());
        }
        claims.insert("sub".to_owned(), Value::from(id));
        Ok(claims)
    }

    async fn ask(&self, edge: &'static str, query: &[(&str, &str)]) -> Result<Graph, Outage> {
        let mut url = self.settings.graph_url.clone();
        url.set_path(&format!("{}/{edge}", url.path().trim_end_matches('/')));
        url.query_pairs_mut().extend_pairs(query);
        let uri: Uri = url.as_str().parse().map_err(|_| Outage::token_check("graph_url is no address"))?;
        let mut request = Request::new(Vec::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        let answer = self.times.of(edge, self.http.send(request)).await.map_err(Outage::token_check)?;
        let status = answer.status();
        let body: Option<Claims> = serde_json::from_slice(answer.body()).ok();
        match (status, body) {
            (StatusCode::OK, Some(body)) if !body.contains_key("error") => Ok(Graph::Answer(body)),
            (status, Some(body)) if !status.is_server_error() => {
                let code = body.get("error").and_then(|error| error.get("code")).and_then(Value::as_u64);
                code.map(Graph::Refused).ok_or_else(|| Outage::token_check(format!("{edge} answered {} and no code", status.as_u16())))
            }
            (status, _) => Err(Outage::token_check(format!("{edge} answered {}, not as documented", status.as_u16()))),
        }
    }
}

/// What `debug_token` says has to say that the token is good, a person's, and issued for our application. `now` is allowed for.
fn judge(data: &Claims, app_id: &str, now: UnixTime) -> Result<String, Fault> {
    let refused = |detail: &str| Fault::new(Reason::ForeignTokenRefused, format!("debug_token: {detail}"));
    // Before anything else: whatever it says of another application's token is not for us.
    let of = data.get("app_id").and_then(text);
    if of.as_ref().is_some_and(|of| !same(of.as_bytes(), app_id.as_bytes())) {
        return Err(Fault::new(Reason::ForeignTokenAudience, "debug_token: app_id is another application"));
    }
    // 0: it does not end.
    let over = |name: &str| data.get(name).and_then(Value::as_u64).is_some_and(|at| at != 0 && UnixTime(at) <= now);
    if let Some(name) = ["expires_at", "data_access_expires_at"].into_iter().find(|name| over(name)) {
        return Err(Fault::new(Reason::ForeignTokenExpired, format!("debug_token: {name} has passed")));
    }
    if data.get("is_valid") != Some(&Value::Bool(true)) {
        return Err(refused("is_valid is not true"));
    }
    if of.is_none() {
        return Err(Fault::new(Reason::ForeignTokenAudience, "debug_token: no app_id"));
    }
    if data.get("expires_at").and_then(Value::as_u64).is_none() {
        return Err(refused("no expires_at"));
    }
    // Pages and applications have tokens too; they are nobody.
    if data.get("type").is_some_and(|kind| kind != "USER") {
        return Err(Fault::new(Reason::ForeignTokenSubject, "debug_token: type is not USER"));
    }
    data.get("user_id").and_then(text).ok_or_else(|| Fault::new(Reason::ForeignTokenSubject, "debug_token: no user_id"))
}

/// Ids are texts; they were numbers once.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_counts_when_it_is_valid_a_persons_and_ours() {
        let good = json!({"app_id": "138483919580948", "type": "USER", "application": "Social Cafe", "expires_at": 2000,
            "data_access_expires_at": 3000, "is_valid": true, "scopes": ["email"], "user_id": "1207059"});
        let judged = |patch: Value| {
            let mut data = good.as_object().unwrap().clone();
            for (name, value) in patch.as_object().unwrap() {
                if value.is_null() {
                    data.remove(name)
                } else {
                    data.insert(name.clone(), value.clone())
                };
            }
            judge(&data, "138483919580948", UnixTime(1000)).map_err(|fault| fault.reason.as_str())
        };
        for (patch, expected) in [
            (json!({}), Ok("1207059")),
            (json!({"app_id": 138_483_919_580_948_u64, "user_id": 1_207_059}), Ok("1207059")),
            (json!({"expires_at": 0, "data_access_expires_at": 0}), Ok("1207059")),
            (json!({"data_access_expires_at": null, "type": null}), Ok("1207059")),
            (json!({"app_id": "9"}), Err("foreign-token-audience")),
            (json!({"app_id": null}), Err("foreign-token-audience")),
            (json!({"app_id": ""}), Err("foreign-token-audience")),
            (json!({"is_valid": false}), Err("foreign-token-refused")),
            (json!({"is_valid": "true"}), Err("foreign-token-refused")),
            (json!({"is_valid": 1}), Err("foreign-token-refused")),
            (json!({"is_valid": null}), Err("foreign-token-refused")),
            (json!({"expires_at": 1000}), Err("foreign-token-expired")),
            (json!({"expires_at": 1000, "is_valid": false}), Err("foreign-token-expired")),
            (json!({"data_access_expires_at": 999}), Err("foreign-token-expired")),
            (json!({"expires_at": null}), Err("foreign-token-refused")),
            (json!({"expires_at": "2000"}), Err("foreign-token-refused")),
            (json!({"type": "PAGE"}), Err("foreign-token-subject")),
            (json!({"type": "APP", "user_id": null}), Err("foreign-token-subject")),
            (json!({"user_id": null}), Err("foreign-token-subject")),
            (json!({"user_id": ""}), Err("foreign-token-subject")),
        ] {
            assert_eq!(judged(patch.clone()), expected.map(str::to_owned), "{patch}");
        }
    }
}
