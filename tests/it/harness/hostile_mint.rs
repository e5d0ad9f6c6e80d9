//! Tokens that a test asks the hostile provider for: access tokens of programs, and logout tokens, honest ones and others ([`LogoutLie`]).

use serde_json::{Value, json};

use super::hostile::HostileProvider;
use super::hostile_state::merged;
use super::hostile_token::signed;
use super::jose::{Algorithm, SigningKey, hs256, random, unsigned, with_broken_signature};

/// An hour, by which lies shift times.
const HOUR: u64 = 3600;
/// The event of a logout token (Back-Channel Logout 1.0 §2.4).
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What is wrong (or only unusual: see [`LogoutLie::must_be_accepted`]) with a logout token: OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutLie {
    /// All is as it should be.
    None,

    // --- signature
    /// `alg: none`, no signature.
    AlgNone,
    /// HMAC with the public key's PEM as the secret.
    Hs256WithPublicKey,
    /// HMAC with the `client_secret`, which nobody agreed on.
    Hs256WithClientSecret,
    /// ES256 by a key of somebody else's, under the right `kid`.
    Es256ByAnotherKey,
    /// The right algorithm by a key of somebody else's, under the right `kid`.
    OtherKeySameKid,
    /// One bit of the signature turned.
    BadSignature,
    /// A `kid` that the JWKS does not hold.
    UnknownKid,
    /// A critical header extension that nobody knows (`crit`, RFC 7515 §4.1.11).
    UnknownCrit,

    // --- what kind of token it is
    /// No `typ` (accept: it is recommended only, §2.4).
    TypAbsent,
    /// `typ` in capitals and with its full name: the same media type (accept, RFC 7515 §4.1.9).
    TypInFull,
    /// `typ` is `JWT`, as older providers have it (accept).
    TypJwt,
    /// `typ` is that of an access token.
    TypOther,
    /// An ID token in its place.
    IdToken,

    // --- claims
    /// No `iss`.
    NoIss,
    /// `iss` is another one.
    WrongIss,
    /// No `aud`.
    NoAud,
    /// `aud` is another `client_id`.
    WrongAud,
    /// `aud` is a list with ours alone (accept).
    AudAsList,
    /// No `iat`.
    NoIat,
    /// `iat` an hour ahead.
    FutureIat,
    /// No `exp`.
    NoExp,
    /// `exp` an hour ago.
    Expired,
    /// No `jti`.
    NoJti,
    /// `jti` is the empty string.
    EmptyJti,
    /// No `events`.
    NoEvents,
    /// `events` is about something else.
    OtherEvent,
    /// The event stands in a list of names instead of an object.
    EventsAsList,
    /// The event is a text instead of an object.
    EventNotObject,
    /// `events` names another one beside ours (accept).
    MoreEvents,
    /// A `nonce`, which must not be there.
    NoncePresent,
    /// A `nonce` that is null: it is there.
    NonceNull,
    /// Neither `sid` nor `sub`.
    NeitherSidNorSub,
    /// `sub` is a number, and there is no `sid`.
    SubNotString,
    /// `sid` is a number, and there is no `sub`.
    SidNotString,
}

impl LogoutLie {
    /// Every one, for a test that wants no row forgotten.
    pub const ALL: [Self; 35] = {
        use LogoutLie as L;
        [
            L::None,
            L::AlgNone,
            L::Hs256WithPublicKey,
            L::Hs256WithClientSecret,
            L::Es256ByAnotherKey,
            L::OtherKeySameKid,
            L::BadSignature,
            L::UnknownKid,
            L::UnknownCrit,
            L::TypAbsent,
            L::TypInFull,
            L::TypJwt,
            L::TypOther,
            L::IdToken,
            L::NoIss,
            L::WrongIss,
            L::NoAud,
            L::WrongAud,
            L::AudAsList,
            L::NoIat,
            L::FutureIat,
            L::NoExp,
            L::Expired,
            L::NoJti,
            L::EmptyJti,
            L::NoEvents,
            L::OtherEvent,
            L::EventsAsList,
            L::EventNotObject,
            L::MoreEvents,
            L::NoncePresent,
            L::NonceNull,
            L::NeitherSidNorSub,
            L::SubNotString,
            L::SidNotString,
        ]
    };

    /// Whether the session must end all the same.
    #[must_use]
    pub fn must_be_accepted(self) -> bool {
        matches!(self, Self::None | Self::TypAbsent | Self::TypInFull | Self::TypJwt | Self::AudAsList | Self::MoreEvents)
    }
}

impl HostileProvider {
    /// An access token of this issuer with `typ` in its header (empty: none). `iss`, `sub` (`program`), `client_id`, `iat`, `exp` (in
    /// five minutes) and `jti` are given; `claims` adds, replaces, and by null takes away. The lies about signatures hold here too.
    #[must_use]
    pub fn access_token(&self, claims: Value, typ: &str) -> String {
        self.sign(if typ.is_empty() { json!({}) } else { json!({ "typ": typ }) }, claims)
    }

    /// The same with any header: its members are laid over `alg` and `kid`.
    #[must_use]
    pub fn sign(&self, header: Value, claims: Value) -> String {
        let now = self.state.now();
        let mut inner = self.state.lock();
        let standard = json!({
            "iss": inner.issuer, "sub": "program", "client_id": "program", "iat": now, "exp": now + 300, "jti": random(),
        });
        let header = merged(&inner.key.header(), &header);
        let token = signed(&self.state.settings, &mut inner, header, &merged(&standard, &claims));
        inner.secret("access_token", &token);
        token
    }

    /// A logout token (Back-Channel Logout 1.0 §2.4) for our `client_id`. `about` says whom it is about, `{"sid": …}` or `{"sub": …}`; it
    /// adds, replaces, and by null takes away. The lies about signatures of [`HostileProvider::set`] do not hold here.
    #[must_use]
    pub fn logout_token(&self, about: Value) -> String {
        self.lying_logout_token(LogoutLie::None, about)
    }

    /// The same with something wrong with it.
    #[must_use]
    pub fn lying_logout_token(&self, lie: LogoutLie, about: Value) -> String {
        use LogoutLie as L;
        let now = self.state.now();
        let mut inner = self.state.lock();
        let honest = json!({
            "iss": inner.issuer, "aud": self.client_id(), "iat": now, "exp": now + 120, "jti": random(), "events": { LOGOUT: {} },
        });
        let mut claims = merged(&honest, &about);
        let patch = match lie {
            L::IdToken => json!({
                "events": null, "jti": null, "nonce": "n", "auth_time": now, "sub": about.get("sub").cloned().unwrap_or(json!("alice")),
            }),
            L::NoIss => json!({ "iss": null }),
            L::WrongIss => json!({ "iss": "https://another-issuer.test" }),
            L::NoAud => json!({ "aud": null }),
            L::WrongAud => json!({ "aud": "somebody-elses-client" }),
            L::AudAsList => json!({ "aud": [self.client_id()] }),
            L::NoIat => json!({ "iat": null }),
            L::FutureIat => json!({ "iat": now + HOUR, "exp": now + 2 * HOUR }),
            L::NoExp => json!({ "exp": null }),
            L::Expired => json!({ "iat": now - 2 * HOUR, "exp": now - HOUR }),
            L::NoJti => json!({ "jti": null }),
            L::EmptyJti => json!({ "jti": "" }),
            L::NoEvents => json!({ "events": null }),
            L::OtherEvent => json!({ "events": { "http://schemas.openid.net/event/another": {} } }),
            L::EventsAsList => json!({ "events": [LOGOUT] }),
            L::EventNotObject => json!({ "events": { LOGOUT: "yes" } }),
            L::MoreEvents => json!({ "events": { LOGOUT: {}, "https://schemas.example.test/event/another": { "a": 1 } } }),
            L::NoncePresent => json!({ "nonce": "n" }),
            L::NeitherSidNorSub => json!({ "sid": null, "sub": null }),
            L::SubNotString => json!({ "sid": null, "sub": 12345 }),
            L::SidNotString => json!({ "sid": 12345, "sub": null }),
            _ => json!({}),
        };
        claims = merged(&claims, &patch);
        if lie == L::NonceNull {
            claims["nonce"] = Value::Null;
        }
        let typ = match lie {
            L::TypAbsent | L::IdToken => Value::Null,
            L::TypInFull => json!("application/LOGOUT+JWT"),
            L::TypJwt => json!("JWT"),
            L::TypOther => json!("at+jwt"),
            _ => json!("logout+jwt"),
        };
        let header = merged(&inner.key.header(), &json!({ "typ": typ }));
        let patched = |patch: Value| merged(&header, &patch);
        let (algorithm, kid) = (inner.key.algorithm, inner.key.kid.clone());
        let token = match lie {
            L::AlgNone => unsigned(&patched(json!({ "kid": null })), &claims),
            L::Hs256WithPublicKey => hs256(&header, &claims, inner.key.public_pem().as_bytes()),
            L::Hs256WithClientSecret => hs256(&patched(json!({ "kid": null })), &claims, self.client_secret().as_bytes()),
            L::Es256ByAnotherKey => SigningKey::new(Algorithm::Es256, &kid).token(&patched(json!({ "alg": "ES256" })), &claims),
            L::OtherKeySameKid => SigningKey::new(algorithm, &kid).token(&header, &claims),
            L::BadSignature => with_broken_signature(&inner.key.token(&header, &claims)),
            L::UnknownKid => inner.key.token(&patched(json!({ "kid": "nobody-has-this-kid" })), &claims),
            L::UnknownCrit => inner.key.token(&patched(json!({ "crit": ["urn:unknown"], "urn:unknown": true })), &claims),
            _ => inner.key.token(&header, &claims),
        };
        inner.secret("logout_token", &token);
        token
    }

    /// The `sid` of the last login.
    #[must_use]
    pub fn last_sid(&self) -> Option<String> {
        self.state.lock().last_sid.clone()
    }
}
