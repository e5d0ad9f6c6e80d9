//! The list of sessions on the admin listener, as a small JSON API: who is signed in, and the end of sessions, on all replicas at once.
//!
//! - `GET /sessions`: all; `?user=NAME` (as the list shows it), `?sub=SUB`, `?issuer=ISSUER` narrow it, each exactly
//! - `DELETE /sessions/{id}`: that one
//! - `DELETE /sessions?user=NAME`, `?sub=SUB`, `?issuer=ISSUER`: those; `?all=true`: every one
//!
//! A session's `id` is the name of its record, in base64url: the hash of what is in the cookie. It finds the session here and opens nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::admin::{json_answer, text};
use crate::fault::Outage;
use crate::header::{PreparedHeaders, after_scheme, device_of};
use crate::secret::{self, SecretSource};
use crate::store::{Listed, Listing, RecordId, Sessions, Under};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::telemetry::audit::{self, Ending};
use crate::telemetry::trace::{Ids, RequestId};

/// Without a token in the config nobody may ask.
const CLOSED: &str = "the list of sessions is closed: set admin.token_file, a file with at least 16 characters\n";

/// Lists and ends sessions for whoever shows the token.
pub struct AdminSessions {
    /// Where they are.
    pub sessions: Arc<Sessions<PreparedHeaders>>,
    /// What has to be shown; `None`: nobody may.
    pub token: Option<SecretSource>,
    /// Providers' names in the config by their issuers, for the log.
    pub providers: BTreeMap<String, String>,
    /// Runs what must not be dropped with a request.
    pub tasks: Tasks,
    /// Where outages are counted.
    pub metrics: Arc<Metrics>,
}

/// Which sessions are meant; what is `None` narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    user: Option<String>,
    sub: Option<String>,
    issuer: Option<String>,
    all: bool,
}

impl AdminSessions {
    /// `None`: another place was asked for.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let rest = request.uri().path().strip_prefix("/sessions")?;
        let id = match rest {
            "" | "/" => None,
            _ => Some(rest.strip_prefix('/')?),
        };
        let Some(token) = &self.token else { return Some(text(StatusCode::FORBIDDEN, CLOSED)) };
        if !shows(request, token) {
            let mut answer = text(StatusCode::UNAUTHORIZED, "expected Authorization: Bearer and the token of admin.token_file\n");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(answer);
        }
        let answered = match (request.method(), id) {
            (&Method::GET, None) => self.list(request.uri().query()).await,
            (&Method::DELETE, None) => self.end_some(request.uri().query()).await,
            (&Method::DELETE, Some(id)) => self.end_one(id).await,
            (_, id) => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET lists, DELETE ends\n");
                let allow = if id.is_some() { "DELETE" } else { "GET, DELETE" };
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                Ok(answer)
            }
        };
        Some(answered.unwrap_or_else(|outage| {
            self.metrics.dependency_error(outage.dependency);
            audit::outage(None, &outage);
            problem(StatusCode::SERVICE_UNAVAILABLE, outage.reason().as_str(), "the session store does not answer; nothing is certain")
        }))
    }

    async fn list(&self, query: Option<&str>) -> Result<Response<Full<Bytes>>, Outage> {
        match Filter::parse(query) {
            Ok(filter) => {
                let found = self.found(&filter).await?;
                Ok(json_answer(StatusCode::OK, &json!({ "sessions": found.iter().map(told).collect::<Vec<_>>() })))
            }
            Err(wrong) => Ok(problem(StatusCode::BAD_REQUEST, "parameter-invalid", &wrong)),
        }
    }

    async fn end_some(&self, query: Option<&str>) -> Result<Response<Full<Bytes>>, Outage> {
        let filter = match Filter::parse(query) {
            Ok(filter) if filter.names_some() => filter,
            Ok(_) => {
                let wrong = "name whose sessions: ?user=, ?sub= or ?issuer=; ?all=true for every one";
                return Ok(problem(StatusCode::BAD_REQUEST, "parameter-invalid", wrong));
            }
            Err(wrong) => return Ok(problem(StatusCode::BAD_REQUEST, "parameter-invalid", &wrong)),
        };
        let ended = if filter.all {
            self.end_all().await?
        } else {
            let ids = self.found(&filter).await?.into_iter().map(|one| one.id).collect();
            self.end(ids).await?
        };
        Ok(json_answer(StatusCode::OK, &json!({ "ended": ended })))
    }

    async fn end_one(&self, id: &str) -> Result<Response<Full<Bytes>>, Outage> {
        let id = secret::decode(id).and_then(|bytes| RecordId::try_from(bytes).ok());
        let ended = match id {
            Some(id) => self.end(vec![id]).await?,
            None => 0,
        };
        match ended {
            0 => Ok(problem(StatusCode::NOT_FOUND, "session-unknown", "no session has this id")),
            ended => Ok(json_answer(StatusCode::OK, &json!({ "ended": ended }))),
        }
    }

    async fn found(&self, filter: &Filter) -> Result<Vec<Listed>, Outage> {
        // By the index where it knows the answer; else all are looked at.
        let under = match (&filter.issuer, &filter.sub) {
            (Some(issuer), Some(sub)) => Some(Under::Sub { issuer, sub }),
            _ => None,
        };
        let mut found = self.sessions.listed(under).await?;
        found.retain(|one| filter.takes(&one.listing));
        Ok(found)
    }

    /// How many were there. Goes on to its end though nobody waits for it.
    async fn end(&self, ids: Vec<RecordId>) -> Result<usize, Outage> {
        let (sessions, providers) = (Arc::clone(&self.sessions), self.providers.clone());
        let ended = self.tasks.run(async move {
            let request_id = RequestId::new(&Ids::new());
            let mut ended = 0;
            for id in ids {
                if let Some(listing) = sessions.end_record(id).await? {
                    ended += 1;
                    let provider = providers.get(&listing.issuer).unwrap_or(&listing.issuer);
                    audit::session_ended(&request_id, provider, &listing.sub, Ending::Revoked);
                }
            }
            Ok(ended)
        });
        ended.await.unwrap_or_else(|| Err(Outage::store("the work broke off")))
    }

    /// Also those that no list shows: a sealing key that leaked is taken out of the file first, and then nobody knows whose they are.
    async fn end_all(&self) -> Result<usize, Outage> {
        let (sessions, providers) = (Arc::clone(&self.sessions), self.providers.clone());
        let ended = self.tasks.run(async move {
            let request_id = RequestId::new(&Ids::new());
            let told = move |listing: Option<Listing>| match listing {
                Some(listing) => {
                    let provider = providers.get(&listing.issuer).unwrap_or(&listing.issuer);
                    audit::session_ended(&request_id, provider, &listing.sub, Ending::Revoked);
                }
                None => audit::session_ended(&request_id, "unknown", "unknown", Ending::Revoked),
            };
            sessions.end_all(told).await
        });
        ended.await.unwrap_or_else(|| Err(Outage::store("the work broke off")))
    }
}

fn shows<B>(request: &Request<B>, token: &SecretSource) -> bool {
    let mut lines = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let shown = after_scheme(line.as_bytes(), "bearer").and_then(|rest| rest.strip_prefix(b" "));
    shown.is_some_and(|shown| secret::same(shown, token.get().expose().as_bytes()))
}

impl Filter {
    fn parse(query: Option<&str>) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if value.is_empty() {
                return Err(format!("{name} is empty"));
            }
            let place = match &*name {
                "user" => &mut filter.user,
                "sub" => &mut filter.sub,
                "issuer" => &mut filter.issuer,
                "all" if value == "true" => {
                    filter.all = true;
                    continue;
                }
                "all" => return Err("all is true or not there".to_owned()),
                // Ignored it would mean more sessions than were named.
                _ => return Err(format!("{name:?} is no parameter; there are user, sub, issuer and all")),
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        if filter.all && (filter.user.is_some() || filter.sub.is_some() || filter.issuer.is_some()) {
            return Err("all stands beside a narrower parameter".to_owned());
        }
        Ok(filter)
    }

    fn names_some(&self) -> bool {
        self.all || self.user.is_some() || self.sub.is_some() || self.issuer.is_some()
    }

    fn takes(&self, listing: &Listing) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        fits(&self.user, &listing.name) && fits(&self.sub, &listing.sub) && fits(&self.issuer, &listing.issuer)
    }
}

fn told(one: &Listed) -> Value {
    let listing = &one.listing;
    json!({
        "id": secret::encode(&one.id),
        "user": listing.name,
        "sub": listing.sub,
        "issuer": listing.issuer,
        "signed_in_at": listing.signed_in_at.to_string(),
        "last_used_at": one.last_used.to_string(),
        "address": listing.address.to_string(),
        "browser": device_of(&listing.user_agent, listing.shown_as),
        "user_agent": listing.user_agent,
        "shown_as": listing.shown_as,
    })
}

fn problem(status: StatusCode, error: &str, description: &str) -> Response<Full<Bytes>> {
    json_answer(status, &json!({ "error": error, "error_description": description }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::secret::Secret;
    use crate::session::ShownAs;

    fn listing(name: &str, sub: &str, issuer: &str) -> Listing {
        Listing {
            issuer: issuer.into(),
            sub: sub.into(),
            name: name.into(),
            signed_in_at: UnixTime(0),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            user_agent: String::new(),
            shown_as: ShownAs::Cookie,
        }
    }

    #[test]
    fn a_filter_takes_what_it_names_exactly_and_nothing_by_mistake() {
        let ann = listing("ann", "1", "https://a.test");
        for (query, takes) in [
            ("", true),
            ("user=ann", true),
            ("user=Ann", false),
            ("user=an", false),
            ("sub=1&issuer=https%3A%2F%2Fa.test", true),
            ("sub=1&issuer=https://b.test", false),
            ("user=ann&sub=2", false),
            ("user=1", false),
            ("all=true", true),
        ] {
            assert_eq!(Filter::parse(Some(query)).map(|filter| filter.takes(&ann)), Ok(takes), "{query}");
        }
        for query in ["user=", "usr=ann", "user=a&user=b", "all=false", "all=", "all=true&user=ann", "id=x"] {
            assert!(Filter::parse(Some(query)).is_err(), "{query}");
        }
        assert!(!Filter::parse(None).unwrap().names_some() && Filter::parse(Some("all=true")).unwrap().names_some());
    }

    #[test]
    fn the_token_is_shown_once_and_whole() {
        let token = SecretSource::fixed(Secret::new("0123456789abcdef"));
        let request = |lines: &[&str]| {
            let request = lines.iter().fold(Request::get("/sessions"), |request, line| request.header(AUTHORIZATION, *line));
            request.body(()).unwrap()
        };
        assert!(shows(&request(&["Bearer 0123456789abcdef"]), &token));
        for lines in [
            &[][..],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdefg"],
            &["Bearer "],
            &["Bearer"],
            &["Basic 0123456789abcdef"],
            &["0123456789abcdef"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!shows(&request(lines), &token), "{lines:?}");
        }
    }
}
