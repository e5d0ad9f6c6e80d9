//! What the hostile provider knows: its settings, its keys, what it issued, and what it was asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use super::browser::Now;
use super::hostile_direct::DirectGrants;
use super::hostile_lie::{Endpoint, Lie};
use super::hostile_machine::Machine;
use super::hostile_sayings::Sayings;
use super::jose::{Algorithm, SigningKey};

/// Parameters of a request, decoded.
pub type Params = HashMap<String, String>;

/// How a token request showed who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// `private_key_jwt`.
    PrivateKeyJwt,
    /// Not at all.
    None,
}

/// Where the claims of the user are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsIn {
    /// In the ID token and at userinfo.
    Both,
    /// In the ID token; userinfo has `sub` only.
    IdToken,
    /// At userinfo; the ID token has `sub` only.
    Userinfo,
}

/// Settings that do not change while it runs.
#[derive(Clone)]
pub struct Settings {
    /// Starts every `kid`.
    pub name: String,
    /// The registered `client_id`.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The registered public keys, for `private_key_jwt`.
    pub client_keys: Value,
    /// The registered redirect URIs; empty: any.
    pub redirect_uris: Vec<String>,
    /// What ID tokens are signed with.
    pub algorithm: Algorithm,
    /// Where the user's claims are given.
    pub claims_in: ClaimsIn,
    /// Whether `iss` is sent and promised (RFC 9207).
    pub response_iss: bool,
    /// Whether refresh tokens are issued.
    pub refresh: bool,
    /// Whether a refresh token is good once only.
    pub rotate_refresh: bool,
    /// What is offered at the token endpoint.
    pub client_auth: Vec<ClientAuth>,
    /// Lifetime of ID tokens in seconds.
    pub lifetime: u64,
    /// Whether a login is remembered, so that the next one keeps its `auth_time` where the request allows it.
    pub remembers_login: bool,
    /// The clock.
    pub now: Now,
}

/// The provider's memory.
pub struct State {
    /// The settings.
    pub settings: Settings,
    inner: Mutex<Inner>,
}

/// What changes while it runs.
pub struct Inner {
    /// The issuer, known once it listens.
    pub issuer: String,
    /// The lie of the moment.
    pub lie: Lie,
    /// The key that signs.
    pub key: SigningKey,
    /// Keys that stay in the JWKS after a rotation.
    pub former_keys: Vec<SigningKey>,
    /// A key that only lies use.
    pub other_key: Option<SigningKey>,
    /// How many keys there were.
    pub key_count: usize,
    /// Whether [`Lie::KeyRotatedBeforeSigning`] has done its work.
    pub rotated: bool,
    /// The user's claims with `sub`.
    pub claims: Value,
    /// Laid over the discovery document; null takes a member away.
    pub discovery_patch: Value,
    /// Pushed authorization requests that were not used, by `request_uri`.
    pub pushed: HashMap<String, Params>,
    /// `jti`s of client assertions.
    pub assertions: HashSet<String>,
    /// Codes that were not used.
    pub codes: HashMap<String, Grant>,
    /// Lifetime of access tokens in seconds.
    pub expires_in: u64,
    /// Whether token answers say it.
    pub says_expires_in: bool,
    /// Lifetime of refresh tokens in seconds, which token answers say then (`refresh_expires_in`); `None`: they live on.
    pub refresh_expires_in: Option<u64>,
    /// Access tokens, good and over.
    pub access_tokens: HashMap<String, Issued>,
    /// Refresh tokens, good, used and over.
    pub refresh_tokens: HashMap<String, Issued>,
    /// Grants whose tokens are good no more.
    pub ended_grants: HashSet<u64>,
    /// How many grants there were.
    pub grant_count: u64,
    /// Refresh requests under way, by refresh token.
    pub refreshing: HashMap<String, usize>,
    /// The highest number of them at once for one refresh token.
    pub refreshing_most: usize,
    /// When and how the user logged in, where that is remembered.
    pub login: Option<(u64, Option<String>)>,
    /// Grants in which no person has a part.
    pub machine: Machine,
    /// Requests by endpoint.
    pub counts: BTreeMap<Endpoint, usize>,
    /// Every secret seen or issued: kind and value.
    pub secrets: Vec<(&'static str, String)>,
    /// What the gateway did wrong.
    pub complaints: Vec<String>,
    /// Parameters of authorization requests.
    pub authorizations: Vec<Params>,
    /// Parameters of token requests.
    pub token_requests: Vec<Params>,
    /// How token requests were authenticated.
    pub client_auths: Vec<ClientAuth>,
    /// Parameters of logout requests.
    pub logouts: Vec<Params>,
    /// Parameters of revocation requests that were honoured.
    pub revocations: Vec<Params>,
    /// The `sid` of the last login.
    pub last_sid: Option<String>,
    /// Who may come in without a browser.
    pub direct: DirectGrants,
    /// What its tokens and keys say beside.
    pub sayings: Sayings,
}

/// A token that was given out.
#[derive(Clone, Debug)]
pub struct Issued {
    /// For which login.
    pub grant: Grant,
    /// When it ends by itself.
    pub expires_at: u64,
    /// Whether it was used, where once is all.
    pub used: bool,
}

/// What a login is about.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its number: all tokens of one login share it.
    pub number: u64,
    /// Where the code was sent.
    pub redirect_uri: String,
    /// The authorization request's `nonce`.
    pub nonce: Option<String>,
    /// Its `code_challenge`.
    pub code_challenge: String,
    /// Its `scope`.
    pub scope: String,
    /// The user's claims at that time.
    pub claims: Value,
    /// The provider's session.
    pub sid: String,
    /// When the user logged in.
    pub auth_time: u64,
    /// How: the first of the requested `acr_values`.
    pub acr: Option<String>,
}

impl State {
    /// An empty memory; `alice` with group `staff` is the user.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let key = SigningKey::new(settings.algorithm, &format!("{}-1", settings.name));
        let inner = Inner {
            issuer: String::new(),
            lie: Lie::None,
            key,
            former_keys: Vec::new(),
            other_key: None,
            key_count: 1,
            rotated: false,
            claims: json!({
                "sub": "alice", "email": "alice@example.test", "email_verified": true, "groups": ["staff", "users"],
                "preferred_username": "alice", "name": "Alice Adams",
            }),
            discovery_patch: json!({}),
            pushed: HashMap::new(),
            assertions: HashSet::new(),
            codes: HashMap::new(),
            expires_in: settings.lifetime,
            says_expires_in: true,
            refresh_expires_in: None,
            access_tokens: HashMap::new(),
            refresh_tokens: HashMap::new(),
            ended_grants: HashSet::new(),
            grant_count: 0,
            refreshing: HashMap::new(),
            refreshing_most: 0,
            login: None,
            machine: Machine::default(),
            counts: BTreeMap::new(),
            secrets: vec![("client_secret", settings.client_secret.clone())],
            complaints: Vec::new(),
            authorizations: Vec::new(),
            token_requests: Vec::new(),
            client_auths: Vec::new(),
            logouts: Vec::new(),
            revocations: Vec::new(),
            last_sid: None,
            direct: DirectGrants::default(),
            sayings: Sayings::default(),
        };
        Self { settings, inner: Mutex::new(inner) }
    }

    /// The memory itself; never held across a wait.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of one test's request must not hide behind another's.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.settings.now)()
    }
}

impl Inner {
    /// Makes a new signing key; the former one stays in the JWKS.
    pub fn rotate(&mut self, settings: &Settings) {
        self.key_count += 1;
        let kid = format!("{}-{}", settings.name, self.key_count);
        let former = std::mem::replace(&mut self.key, SigningKey::new(settings.algorithm, &kid));
        self.former_keys.push(former);
    }

    /// Whether a token that was given out is good at this time.
    #[must_use]
    pub fn is_good(&self, token: &Issued, now: u64) -> bool {
        now < token.expires_at && !token.used && !self.ended_grants.contains(&token.grant.number)
    }

    /// What is said of the user of a grant now: claims that changed since the login are the new ones.
    #[must_use]
    pub fn claims_of(&self, grant: &Grant) -> Value {
        if self.claims["sub"] == grant.claims["sub"] { self.claims.clone() } else { grant.claims.clone() }
    }

    /// The key that only lies use, of this algorithm.
    pub fn other_key(&mut self, algorithm: Algorithm, kid: &str) -> &SigningKey {
        let fits = self.other_key.as_ref().is_some_and(|key| key.algorithm == algorithm && key.kid == kid);
        if !fits {
            self.other_key = None; // gives its RSA pair back first
            self.other_key = Some(SigningKey::new(algorithm, kid));
        }
        self.other_key.as_ref().expect("set just now")
    }

    /// The JWKS of the moment.
    #[must_use]
    pub fn jwks(&mut self) -> Value {
        if self.lie == Lie::JwksEmpty {
            return json!({ "keys": [] });
        }
        let mut keys: Vec<Value> = self.former_keys.iter().map(SigningKey::jwk).collect();
        match &self.lie {
            Lie::KidAbsentOneKey => {
                keys.clear();
            }
            Lie::KidAbsentSeveralKeys => {
                let algorithm = self.key.algorithm;
                keys.push(self.other_key(algorithm, "another-key").jwk());
            }
            Lie::EcKeyForRsaAlg => keys.push(self.other_key(Algorithm::Es256, EC_KID).jwk()),
            Lie::UnknownKeyTypesInJwks => keys.extend([
                json!({ "kty": "AKP", "alg": "ML-DSA-65", "kid": "post-quantum", "pub": "AAECAwQ", "use": "sig" }),
                json!({ "kty": "invented", "kid": "from-the-future", "zzz": [1, { "a": null }] }),
                json!({ "kty": "EC", "crv": "Curve-Nobody-Knows", "kid": "curve", "x": "AA", "y": "AA" }),
                json!({ "kty": "RSA", "kid": "no-modulus", "e": "AQAB" }),
                json!({ "kid": "no-type" }),
                json!("not even an object"),
            ]),
            _ => {}
        }
        keys.push(self.key.jwk());
        let keys: Vec<Value> = keys.iter().map(|key| merged(key, &self.sayings.jwk)).collect();
        json!({ "keys": keys })
    }

    /// Remembers a secret for the test that searches logs for them.
    pub fn secret(&mut self, kind: &'static str, value: &str) {
        if !value.is_empty() {
            self.secrets.push((kind, value.to_owned()));
        }
    }

    /// Remembers what the gateway did wrong.
    pub fn complain(&mut self, what: impl Into<String>) {
        self.complaints.push(what.into());
    }
}

/// The `kid` of the EC key that [`Lie::EcKeyForRsaAlg`] puts into the JWKS.
pub const EC_KID: &str = "an-ec-key";

/// Lays `patch` over `base`: members replace, null takes away.
#[must_use]
pub fn merged(base: &Value, patch: &Value) -> Value {
    let mut merged = base.clone();
    if let (Some(members), Some(patch)) = (merged.as_object_mut(), patch.as_object()) {
        for (name, value) in patch {
            if value.is_null() {
                members.remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
    }
    merged
}
