//! A small OpenID provider for the demo: authorization-code flow with PKCE, two users, no memory of them between logins.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Response, StatusCode};
use minijinja::context;
use minijinja::value::Serde;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::serve::{self, Read, see_other};
use super::{USERS, User};
use crate::clock::{SharedClock, UnixTime};
use crate::respond::{Look, Pages};
use crate::secret::{encode, random_token, same, sha256};

pub(super) const CLIENT_ID: &str = "doorward-demo";
const KEY_ID: &str = "demo";
const CODE_LIFETIME: Duration = Duration::from_secs(60);
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The provider.
pub struct DemoProvider {
    issuer: String,
    /// Where the gateway is: the only place that anybody is sent to.
    gateway: String,
    secret: String,
    key: Option<EcdsaKeyPair>,
    clock: SharedClock,
    codes: Mutex<HashMap<String, Grant>>,
    tokens: Mutex<HashMap<String, &'static User>>,
}

struct Grant {
    user: &'static User,
    request: HashMap<String, String>,
    until: UnixTime,
}

impl DemoProvider {
    /// With a new key and a new secret.
    #[must_use]
    pub fn new(issuer: String, gateway: String, clock: SharedClock) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok();
        Self { issuer, gateway, secret: random_token(), key, clock, codes: Mutex::default(), tokens: Mutex::default() }
    }

    pub(super) fn client_secret(&self) -> &str {
        &self.secret
    }

    /// A token for programs, good for twelve hours: an RFC 9068 access token with the scope `demo:read`.
    #[must_use]
    pub fn access_token(&self, sub: &str) -> String {
        let now = self.clock.now();
        self.sign(
            "at+jwt",
            &json!({
                "iss": self.issuer, "sub": sub, "aud": "doorward-demo", "client_id": "demo-program", "scope": "demo:read",
                "iat": now.0, "exp": now.plus(TOKEN_LIFETIME).0, "jti": random_token(),
            }),
        )
    }

    pub(super) async fn answer(&self, request: Read) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/.well-known/openid-configuration") => serve::json(StatusCode::OK, &self.document()),
            (&Method::GET, "/jwks") => serve::json(StatusCode::OK, &self.keys()),
            (&Method::GET, "/authorize") => self.login_page(request.uri().query().unwrap_or_default(), None),
            (&Method::POST, "/login") => self.log_in(request.body()),
            (&Method::POST, "/token") => self.token(&request),
            (&Method::GET, "/userinfo") => self.userinfo(&request),
            (&Method::GET, "/end_session") => self.end_session(request.uri().query().unwrap_or_default()),
            _ => serve::text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn document(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "jwks_uri": at("/jwks"),
            "end_session_endpoint": at("/end_session"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["openid", "profile", "email", "groups"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    fn keys(&self) -> Value {
        // An uncompressed point: 4, then x and y of 32 bytes each.
        let point = self.key.as_ref().map(|key| key.public_key().as_ref().to_vec()).unwrap_or_default();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": encode(x), "y": encode(y)}]})
    }

    fn login_page(&self, query: &str, error: Option<&str>) -> Response<Bytes> {
        if let Err(problem) = self.check(&pairs(query.as_bytes())) {
            return serve::text(StatusCode::BAD_REQUEST, problem);
        }
        let look = Look { title: "Demo provider".to_owned(), logo: None, accent: "#862e9c".to_owned(), notice: None, help_url: None };
        let Ok(pages) = Pages::new(&look) else { return serve::text(StatusCode::INTERNAL_SERVER_ERROR, "the page does not compile\n") };
        let users: Vec<_> = USERS.iter().map(|user| json!({"name": user.name, "password": user.password, "about": user.about})).collect();
        let content = context! { action => "/login", request => query, users => Serde(users), error };
        pages.render("demo_login.html", "", content, std::slice::from_ref(&self.gateway))
    }

    fn check(&self, request: &HashMap<String, String>) -> Result<(), &'static str> {
        let is = |name: &str, value: &str| request.get(name).is_some_and(|known| known == value);
        if !is("client_id", CLIENT_ID) {
            return Err("client_id is not the demo gateway's\n");
        }
        if !is("redirect_uri", &format!("{}/oauth2/callback", self.gateway)) {
            return Err("redirect_uri is not the demo gateway's\n");
        }
        if !is("response_type", "code") || !is("code_challenge_method", "S256") {
            return Err("expected the authorization-code flow with PKCE S256\n");
        }
        Ok(())
    }

    fn log_in(&self, body: &[u8]) -> Response<Bytes> {
        let form = pairs(body);
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let query = field("request");
        let request = pairs(query.as_bytes());
        if let Err(problem) = self.check(&request) {
            return serve::text(StatusCode::BAD_REQUEST, problem);
        }
        let known =
            USERS.iter().find(|user| user.name == field("username") && same(user.password.as_bytes(), field("password").as_bytes()));
        let Some(user) = known else {
            return self.login_page(query, Some("This is not the name and password of a demo user."));
        };
        let Some(mut back) = request.get("redirect_uri").and_then(|uri| Url::parse(uri).ok()) else {
            return serve::text(StatusCode::BAD_REQUEST, "redirect_uri is no URL\n");
        };
        let code = random_token();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", request.get("state").map(String::as_str).unwrap_or_default())
            .append_pair("iss", &self.issuer);
        let until = self.clock.now().plus(CODE_LIFETIME);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, grant| self.clock.now() < grant.until);
        codes.insert(code, Grant { user, request, until });
        see_other(back.as_str())
    }

    fn token(&self, request: &Read) -> Response<Bytes> {
        let refuse = |error: &str| serve::json(StatusCode::BAD_REQUEST, &json!({"error": error}));
        if !self.authenticated(request) {
            return serve::json(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
        }
        let form = pairs(request.body());
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "authorization_code" {
            return refuse("unsupported_grant_type");
        }
        let grant = self.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(field("code"));
        let Some(grant) = grant.filter(|grant| self.clock.now() < grant.until) else { return refuse("invalid_grant") };
        let asked = |name: &str| grant.request.get(name).map(String::as_str).unwrap_or_default();
        let challenge = encode(&sha256(field("code_verifier").as_bytes()));
        if challenge != asked("code_challenge") || field("redirect_uri") != asked("redirect_uri") {
            return refuse("invalid_grant");
        }
        let access_token = random_token();
        let now = self.clock.now();
        let id_token = self.sign(
            "JWT",
            &json!({
                "iss": self.issuer, "sub": grant.user.name, "aud": CLIENT_ID, "iat": now.0, "exp": now.plus(Duration::from_secs(300)).0,
                "auth_time": now.0, "nonce": asked("nonce"),
            }),
        );
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() > 1000 {
            // A demo that has seen a thousand logins may forget the old ones: userinfo is asked once, right after.
            tokens.clear();
        }
        tokens.insert(access_token.clone(), grant.user);
        serve::json(
            StatusCode::OK,
            &json!({"access_token": access_token, "token_type": "Bearer", "expires_in": 300, "id_token": id_token, "scope": asked("scope")}),
        )
    }

    /// `client_secret_basic`.
    fn authenticated(&self, request: &Read) -> bool {
        let shown =
            request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Basic "));
        let decoded = shown.and_then(|shown| base64::engine::general_purpose::STANDARD.decode(shown).ok()).unwrap_or_default();
        same(&decoded, format!("{CLIENT_ID}:{}", self.secret).as_bytes())
    }

    fn userinfo(&self, request: &Read) -> Response<Bytes> {
        let shown =
            request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        let user = shown.and_then(|shown| self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(shown).copied());
        match user {
            Some(user) => serve::json(
                StatusCode::OK,
                &json!({
                    "sub": user.name, "name": capital(user.name), "preferred_username": user.name,
                    "email": format!("{}@example.com", user.name), "email_verified": true, "groups": user.groups,
                }),
            ),
            None => serve::json(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_token"})),
        }
    }

    /// There is no session here to end; the browser is sent back.
    fn end_session(&self, query: &str) -> Response<Bytes> {
        let asked = pairs(query.as_bytes());
        let back = asked.get("post_logout_redirect_uri").filter(|uri| uri.starts_with(&format!("{}/", self.gateway)));
        match back.and_then(|uri| Url::parse(uri).ok()) {
            Some(mut uri) => {
                if let Some(state) = asked.get("state") {
                    uri.query_pairs_mut().append_pair("state", state);
                }
                see_other(uri.as_str())
            }
            None => serve::text(StatusCode::OK, "Signed out.\n"),
        }
    }

    fn sign(&self, typ: &str, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": typ, "kid": KEY_ID}).to_string();
        let input = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.key.as_ref().and_then(|key| key.sign(&SystemRandom::new(), input.as_bytes()).ok());
        // Without a key the token is unsigned, and the gateway refuses it.
        let signature = signature.map(|signature| encode(signature.as_ref())).unwrap_or_default();
        format!("{input}.{signature}")
    }
}

fn pairs(text: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
