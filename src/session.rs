//! A session of ours: the cookie that opens it, what it holds, how long it lives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::identity::{Identity, Text};
use crate::reason::Reason;
use crate::secret::{self, Secret};

/// What every session token begins with, so that one that leaked is known for what it is (secret scanners look for `doorward_st_` and 64
/// characters of base64url).
pub const TOKEN_PREFIX: &str = "doorward_st_";

const ID: usize = 16;
const KEY: usize = 32;

/// What the browser holds: an id that finds the record and a key that opens it. Neither is stored; the store knows the id's hash.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionCookie {
    id: [u8; ID],
    key: [u8; KEY],
}

impl SessionCookie {
    /// A new one, by chance.
    #[must_use]
    pub fn new() -> Self {
        Self { id: secret::random(), key: secret::random() }
    }

    /// Reads a cookie's value; `None` for anything that we never wrote.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        // The length first: a flood of foreign cookies of our name must cost nothing (64 = base64url of 48 bytes).
        if value.len() != 64 {
            return None;
        }
        let bytes = secret::decode_exactly::<{ ID + KEY }>(value)?;
        let (id, key) = bytes.split_at_checked(ID)?;
        Some(Self { id: id.try_into().ok()?, key: key.try_into().ok()? })
    }

    /// The cookie's value.
    #[must_use]
    pub fn write(&self) -> String {
        let mut bytes = [0; ID + KEY];
        for (to, from) in bytes.iter_mut().zip(self.id.iter().chain(&self.key)) {
            *to = *from;
        }
        secret::encode(&bytes)
    }

    /// Reads a session token; `None` for anything that we never gave out.
    #[must_use]
    pub fn parse_token(token: &Secret) -> Option<Self> {
        Self::parse(token.expose().strip_prefix(TOKEN_PREFIX)?)
    }

    /// The session token: the same id and key for a program to keep.
    #[must_use]
    pub fn write_token(&self) -> Secret {
        Secret::new(format!("{TOKEN_PREFIX}{}", self.write()))
    }

    /// The name of its record in the store.
    #[must_use]
    pub fn record_id(&self) -> [u8; 32] {
        secret::sha256(&self.id)
    }

    /// What opens the record.
    #[must_use]
    pub const fn key(&self) -> &[u8; KEY] {
        &self.key
    }
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self::new()
    }
}

/// What the provider gave for this session beside the ID token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// For calls in the person's name: userinfo, and upstreams that are told.
    #[serde(with = "exposed")]
    pub access_token: Secret,
    /// Gets the next ones (RFC 6749 §6).
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// When the access token is over; `None`: nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixTime>,
    /// When new ones are due: before `expires_at`, by a part of the token's life that differs from session to session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_at: Option<UnixTime>,
    /// When the refresh token itself is over, where the provider says so (`refresh_expires_in`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_ends_at: Option<UnixTime>,
    /// What the access token is bound to (RFC 9449), as PKCS#8 in base64url; `None`: nothing.
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub dpop_key: Option<Secret>,
}

/// The longest time before a token's end at which a new one is due.
const EARLY_AT_MOST: Duration = Duration::from_secs(5 * 60);

impl Tokens {
    /// What a token response said at the time `now`. `chance` (0–255) spreads the moment at which new tokens are due, so that sessions which
    /// began together do not ask together: a tenth to a fifth of the token's life before its end, at most five minutes.
    #[must_use]
    pub fn new(
        access_token: Secret,
        refresh_token: Option<Secret>,
        lives: Option<Duration>,
        refresh_lives: Option<Duration>,
        now: UnixTime,
        chance: u8,
    ) -> Self {
        // A length of nothing says nothing.
        let (lives, refresh_lives) = (lives.filter(|lives| !lives.is_zero()), refresh_lives.filter(|lives| !lives.is_zero()));
        let early = |lives: Duration| {
            let share = lives.as_secs().saturating_mul(u64::from(chance) + 256) / 2560;
            Duration::from_secs(share.min(EARLY_AT_MOST.as_secs()).max(1))
        };
        let due = |lives: Duration| now.plus(lives).minus(early(lives));
        // A refresh token that ends before the access token does must be used before its own end.
        let refresh_at = match (lives, refresh_lives) {
            (Some(lives), Some(refresh)) => Some(due(lives.min(refresh))),
            (Some(lives), None) => Some(due(lives)),
            (None, Some(refresh)) => Some(due(refresh)),
            (None, None) => None,
        };
        Self {
            access_token,
            refresh_at: refresh_at.filter(|_| refresh_token.is_some()),
            refresh_token,
            expires_at: lives.map(|lives| now.plus(lives)),
            refresh_ends_at: refresh_lives.map(|lives| now.plus(lives)),
            dpop_key: None,
        }
    }

    /// Whether the access token is over.
    #[must_use]
    pub fn are_over(&self, now: UnixTime) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }

    /// Whether new ones can be had: there is a refresh token that is not over.
    #[must_use]
    pub fn can_be_renewed(&self, now: UnixTime) -> bool {
        self.refresh_token.is_some() && self.refresh_ends_at.is_none_or(|at| now < at)
    }

    /// Whether new ones are due and can be had.
    #[must_use]
    pub fn are_due(&self, now: UnixTime) -> bool {
        self.refresh_at.is_some_and(|at| now >= at) && self.can_be_renewed(now)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("expires_at", &self.expires_at).field("refresh_at", &self.refresh_at).finish_non_exhaustive()
    }
}

/// A secret in a record that is sealed as a whole.
mod exposed {
    use super::{Deserialize as _, Secret};

    pub(super) fn serialize<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

mod exposed_option {
    use super::{Deserialize as _, Secret};

    pub(super) fn serialize<S: serde::Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => serializer.serialize_some(secret.expose()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}

/// What a session holds. Sealed by the cookie's key wherever it is stored. Unknown members are ignored when it is read, so that a release
/// can read what its successor wrote.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Who is signed in.
    pub identity: Arc<Identity>,
    /// Our registration with the provider at the time. A session counts only for the registration it was made with: a store may be shared,
    /// and a config may change.
    #[serde(default)]
    pub client_id: Text,
    /// `sid` of the provider's own session, where it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<Text>,
    /// The ID token, as the hint for signing out (OpenID Connect RP-Initiated Logout §2).
    pub id_token: String,
    /// When it began.
    pub created_at: UnixTime,
    /// When it ends whatever happens.
    pub ends_at: UnixTime,
    /// The provider's tokens; `None`: it has none to give, or an older release kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// When the provider last said that this person is still welcome, for `session.revalidate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<UnixTime>,
    /// How it is shown. One that was made for a token opens with no cookie, nor the other way round.
    #[serde(default, skip_serializing_if = "ShownAs::is_cookie")]
    pub shown_as: ShownAs,
}

/// How a session is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownAs {
    /// By a browser, as a cookie.
    #[default]
    Cookie,
    /// By a program, as a bearer token.
    Token,
}

impl ShownAs {
    /// What every record of an older release is, and what is not written.
    #[must_use]
    pub const fn is_cookie(&self) -> bool {
        matches!(self, Self::Cookie)
    }
}

/// What of a session is kept in memory while it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensKept {
    /// All of it: some route tells the provider's tokens, or exchanges them.
    Yes,
    /// All but the texts of tokens. Their times stay, and whether there is a refresh token; who needs more reads the store.
    No,
}

impl Session {
    /// What is kept of it in memory, as small as it can be.
    #[must_use]
    pub fn kept(mut self, tokens_kept: TokensKept) -> Self {
        let packing = self.identity.packing([&*self.client_id, self.sid.as_deref().unwrap_or("")]);
        self.client_id = packing.part(&self.client_id);
        self.sid = self.sid.map(|sid| packing.part(&sid));
        self.identity = Arc::new(self.identity.packed(&packing));
        if tokens_kept == TokensKept::No {
            self.id_token = String::new();
            self.tokens = self.tokens.map(|tokens| Tokens {
                access_token: Secret::new(""),
                refresh_token: tokens.refresh_token.as_ref().map(|_| Secret::new("")),
                dpop_key: None,
                ..tokens
            });
        }
        self
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("identity", &self.identity).field("ends_at", &self.ends_at).finish_non_exhaustive()
    }
}

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Longest time between two uses.
    pub idle: Duration,
    /// Longest time in all.
    pub absolute: Duration,
    /// Both, for a session that is shown as a token (`token.lifetime`).
    pub token: Duration,
    /// Whether a session outlives the provider's tokens.
    pub token_end: TokenEnd,
}

impl Lifetimes {
    /// Those of a session that is shown so.
    #[must_use]
    pub const fn of(self, shown_as: ShownAs) -> Self {
        match shown_as {
            ShownAs::Cookie => self,
            ShownAs::Token => Self { idle: self.token, absolute: self.token, ..self },
        }
    }
}

/// What the end of the provider's tokens means (`session.end_with_token`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEnd {
    /// Nothing for the session.
    Outlived,
    /// The session ends with them, where no new ones can be had.
    Ends,
}

/// What the times say of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    Alive,
    /// It is over, for this reason.
    Over(Reason),
}

/// Judges by times in the record, never by a store's expiry, which only sweeps.
#[must_use]
pub fn assess(session: &Session, last_used: UnixTime, lifetimes: Lifetimes, now: UnixTime) -> Life {
    let lifetimes = lifetimes.of(session.shown_as);
    // A shorter `absolute` after a change of the config holds for sessions that are there already.
    let ends_at = session.ends_at.min(session.created_at.plus(lifetimes.absolute));
    if now >= ends_at {
        Life::Over(Reason::SessionExpired)
    } else if now >= last_used.plus(lifetimes.idle) {
        Life::Over(Reason::SessionIdle)
    } else if lifetimes.token_end == TokenEnd::Ends
        && session.tokens.as_ref().is_some_and(|tokens| tokens.are_over(now) && !tokens.can_be_renewed(now))
    {
        Life::Over(Reason::SessionTokenEnded)
    } else {
        Life::Alive
    }
}

/// When it ended, or will end if it is not used again.
#[must_use]
pub fn end_of(session: &Session, last_used: UnixTime, lifetimes: Lifetimes) -> UnixTime {
    let lifetimes = lifetimes.of(session.shown_as);
    let ends_at = session.ends_at.min(session.created_at.plus(lifetimes.absolute));
    ends_at.min(last_used.plus(lifetimes.idle))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cookie_reads_what_it_wrote_and_nothing_else() {
        let cookie = SessionCookie::new();
        assert!(SessionCookie::parse(&cookie.write()) == Some(cookie.clone()));
        assert!(SessionCookie::new() != cookie);
        let text = cookie.write();
        for other in ["", "x", &text[..63], &format!("{text}A"), &format!("{}=", &text[..63]), &"!".repeat(64)] {
            assert!(SessionCookie::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_token_is_a_cookie_with_a_name_of_its_own_and_neither_is_read_as_the_other() {
        let cookie = SessionCookie::new();
        let token = cookie.write_token();
        assert!(token.expose().starts_with("doorward_st_") && SessionCookie::parse_token(&token) == Some(cookie.clone()));
        assert!(SessionCookie::parse(token.expose()).is_none() && SessionCookie::parse_token(&Secret::new(cookie.write())).is_none());
        for other in ["doorward_st_", "doorward_st_x", &format!("{}A", token.expose()), &format!("Doorward_st_{}", cookie.write())] {
            assert!(SessionCookie::parse_token(&Secret::new(other)).is_none(), "{other}");
        }
        // What a predecessor wrote says nothing of it, and nothing is said where there is nothing to say.
        assert_eq!(serde_json::from_str::<ShownAs>("\"token\"").unwrap(), ShownAs::Token);
        assert!(ShownAs::default().is_cookie());
    }

    proptest! {
        #[test]
        fn any_cookie_value_is_read_or_absent(value in "\\PC{0,80}") {
            let _ = SessionCookie::parse(&value);
        }
    }

    #[test]
    fn idle_and_absolute() {
        let identity = json!({"issuer": "i", "sub": "s", "source": {"provider": "p"}, "user": "s", "email": "absent",
            "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null});
        let session = Session {
            identity: serde_json::from_value(identity).unwrap(),
            client_id: "app".into(),
            sid: None,
            id_token: String::new(),
            created_at: UnixTime(1000),
            ends_at: UnixTime(2000),
            tokens: None,
            checked_at: None,
            shown_as: ShownAs::Cookie,
        };
        let lifetimes = Lifetimes {
            idle: Duration::from_secs(100),
            absolute: Duration::from_secs(1000),
            token: Duration::from_secs(500),
            token_end: TokenEnd::Outlived,
        };
        for (last_used, now, expected) in [
            (1000, 1099, Life::Alive),
            (1000, 1100, Life::Over(Reason::SessionIdle)),
            (1950, 1999, Life::Alive),
            (1950, 2000, Life::Over(Reason::SessionExpired)),
            (1000, 900, Life::Alive),
        ] {
            assert_eq!(assess(&session, UnixTime(last_used), lifetimes, UnixTime(now)), expected, "{last_used} {now}");
        }
        let token = Session { shown_as: ShownAs::Token, ..session.clone() };
        for (last_used, now, expected) in
            [(1000, 1499, Life::Alive), (1000, 1500, Life::Over(Reason::SessionExpired)), (1499, 1500, Life::Over(Reason::SessionExpired))]
        {
            assert_eq!(assess(&token, UnixTime(last_used), lifetimes, UnixTime(now)), expected, "{last_used} {now}");
            assert_eq!(end_of(&token, UnixTime(last_used), lifetimes), UnixTime(1500));
        }
        let shorter = Lifetimes { absolute: Duration::from_secs(10), ..lifetimes };
        assert_eq!(assess(&session, UnixTime(1009), shorter, UnixTime(1010)), Life::Over(Reason::SessionExpired));
    }

    #[test]
    fn new_tokens_are_due_before_the_end_of_the_old_and_not_all_at_once() {
        let (now, lives) = (UnixTime(1000), |seconds| Some(Duration::from_secs(seconds)));
        let tokens = |refresh, length, refresh_length, chance| Tokens::new(Secret::new("a"), refresh, length, refresh_length, now, chance);
        let refresh = || Some(Secret::new("r"));
        let dues: Vec<u64> = [0, 128, 255].map(|chance| tokens(refresh(), lives(600), None, chance).refresh_at.unwrap().0).into();
        assert_eq!(dues, [1540, 1510, 1481]);
        // An hour, and a day: never more than five minutes early.
        assert_eq!(tokens(refresh(), lives(86_400), None, 200).refresh_at, Some(UnixTime(1000 + 86_400 - 300)));
        // A token of a second or two is due at once rather than after its end.
        assert_eq!(tokens(refresh(), lives(1), None, 0).refresh_at, Some(now));
        assert_eq!(tokens(None, lives(600), None, 0).refresh_at, None);
        assert_eq!(tokens(refresh(), None, None, 0).refresh_at, None);
        assert_eq!(tokens(refresh(), lives(3600), lives(600), 0).refresh_at, Some(UnixTime(1540)));
        let ended = tokens(refresh(), lives(600), lives(1200), 0);
        assert!(ended.are_due(UnixTime(1540)) && !ended.are_over(UnixTime(1599)) && ended.are_over(UnixTime(1600)));
        assert!(ended.can_be_renewed(UnixTime(2199)) && !ended.can_be_renewed(UnixTime(2200)));
    }

    #[test]
    fn the_end_of_the_tokens_is_the_end_where_that_is_wanted_and_no_new_ones_can_be_had() {
        let identity = json!({"issuer": "i", "sub": "s", "source": {"provider": "p"}, "user": "s", "email": "absent",
            "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null});
        let session = |refresh: Option<&str>| Session {
            identity: serde_json::from_value(identity.clone()).unwrap(),
            client_id: "app".into(),
            sid: None,
            id_token: String::new(),
            created_at: UnixTime(1000),
            ends_at: UnixTime(90_000),
            tokens: Some(Tokens::new(Secret::new("a"), refresh.map(Secret::new), Some(Duration::from_secs(60)), None, UnixTime(1000), 0)),
            checked_at: None,
            shown_as: ShownAs::Cookie,
        };
        let day = Duration::from_secs(86_400);
        let outlives = Lifetimes { idle: day, absolute: day, token: day, token_end: TokenEnd::Outlived };
        let ends = Lifetimes { token_end: TokenEnd::Ends, ..outlives };
        for (refresh, lifetimes, now, expected) in [
            (None, outlives, 1060, Life::Alive),
            (None, ends, 1059, Life::Alive),
            (None, ends, 1060, Life::Over(Reason::SessionTokenEnded)),
            (Some("r"), ends, 1060, Life::Alive),
        ] {
            assert_eq!(assess(&session(refresh), UnixTime(1000), lifetimes, UnixTime(now)), expected, "{refresh:?} {now}");
        }
        // What a record holds comes back whole, and shows nothing of it.
        let text = serde_json::to_string(&session(Some("r-secret"))).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&text).unwrap(), session(Some("r-secret")));
        assert!(!format!("{:?}", session(Some("r-secret"))).contains("r-secret"));
    }
}
