//! A session of ours: the cookie that opens it, what it holds, how long it lives.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret;

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
        let bytes = secret::decode(value)?;
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

/// What a session holds. Sealed by the cookie's key wherever it is stored. Unknown members are ignored when it is read, so that a release
/// can read what its successor wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Who is signed in.
    pub identity: Arc<Identity>,
    /// Our registration with the provider at the time. A session counts only for the registration it was made with: a store may be shared,
    /// and a config may change.
    #[serde(default)]
    pub client_id: String,
    /// `sid` of the provider's own session, where it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The ID token, as the hint for signing out (OpenID Connect RP-Initiated Logout §2).
    pub id_token: String,
    /// When it began.
    pub created_at: UnixTime,
    /// When it ends whatever happens.
    pub ends_at: UnixTime,
}

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Longest time between two uses.
    pub idle: Duration,
    /// Longest time in all.
    pub absolute: Duration,
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
    // A shorter `absolute` after a change of the config holds for sessions that are there already.
    let ends_at = session.ends_at.min(session.created_at.plus(lifetimes.absolute));
    if now >= ends_at {
        Life::Over(Reason::SessionExpired)
    } else if now >= last_used.plus(lifetimes.idle) {
        Life::Over(Reason::SessionIdle)
    } else {
        Life::Alive
    }
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
        };
        let lifetimes = Lifetimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1000) };
        for (last_used, now, expected) in [
            (1000, 1099, Life::Alive),
            (1000, 1100, Life::Over(Reason::SessionIdle)),
            (1950, 1999, Life::Alive),
            (1950, 2000, Life::Over(Reason::SessionExpired)),
            (1000, 900, Life::Alive),
        ] {
            assert_eq!(assess(&session, UnixTime(last_used), lifetimes, UnixTime(now)), expected, "{last_used} {now}");
        }
        let shorter = Lifetimes { absolute: Duration::from_secs(10), ..lifetimes };
        assert_eq!(assess(&session, UnixTime(1009), shorter, UnixTime(1010)), Life::Over(Reason::SessionExpired));
    }
}
