//! What a session needs of its provider now, and how long a request waits for it. Pure: by times in the record.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Source;
use crate::provider::local::LOCAL;
use crate::session::{Session, TokenEnd};

/// How long a request waits for the provider's word on its person, while silence is borne.
const ASKING: Duration = Duration::from_secs(2);
/// A provider that is silent about a person for longer than this beyond `session.revalidate` is an outage for them.
const SILENCE: Duration = Duration::from_secs(60 * 60);

/// How often an account of the gateway's own is looked for: whoever was taken out of the users is out within this time.
const LOCAL_EVERY: Duration = Duration::from_secs(60);

/// What renewals go by.
#[derive(Clone, Debug)]
pub struct RenewalSettings {
    /// `session.revalidate`.
    pub revalidate: Option<Duration>,
    /// `session.end_with_token`.
    pub token_end: TokenEnd,
}

impl RenewalSettings {
    /// How often the provider is asked again. Our own accounts cost nothing to ask.
    fn every(&self, session: &Session) -> Option<Duration> {
        let local = matches!(&session.identity.source, Source::Provider(id) if id == LOCAL);
        if local { Some(LOCAL_EVERY) } else { self.revalidate }
    }
}

/// How long a request is ready to wait for new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all, while the session counts without them: a provider that hangs must not stop people.
    Brief,
    /// While the old ones are over: its route tells them to the upstream.
    ForTokens,
    /// Until they are there: what it brings must not be lost to a token that ends on the way.
    Long,
}

/// What a session needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// New tokens, and the old ones are still good.
    Due,
    /// New tokens; the old ones are over.
    Overdue,
    /// To be asked about at the provider; until when silence is borne.
    Asking(UnixTime),
}

/// How long a request waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Not,
    AtMost(Duration),
    UntilDone,
}

impl Need {
    pub(super) fn of(session: &Session, settings: &RenewalSettings, now: UnixTime) -> Self {
        if let Some(tokens) = &session.tokens {
            if tokens.can_be_renewed(now) && tokens.are_over(now) {
                return Self::Overdue;
            }
            if tokens.are_due(now) {
                return Self::Due;
            }
        }
        if let Some(every) = settings.every(session) {
            let due = session.checked_at.unwrap_or(session.created_at).plus(every);
            if now >= due {
                return Self::Asking(due.plus(SILENCE));
            }
        }
        Self::Nothing
    }

    /// Whether the provider said nothing of this person for longer than is borne, neither with new tokens nor when it was asked.
    pub(super) fn is_unvouched(session: &Session, settings: &RenewalSettings, now: UnixTime) -> bool {
        let checked = session.checked_at.unwrap_or(session.created_at);
        settings.every(session).is_some_and(|every| now >= checked.plus(every).plus(SILENCE))
    }

    pub(super) fn wait(self, patience: Patience, settings: &RenewalSettings, now: UnixTime) -> Wait {
        match self {
            Self::Nothing => Wait::Not,
            Self::Due | Self::Overdue if patience == Patience::Long => Wait::UntilDone,
            Self::Overdue if patience == Patience::ForTokens || settings.token_end == TokenEnd::Ends => Wait::UntilDone,
            Self::Due | Self::Overdue => Wait::Not,
            Self::Asking(until) if now < until => Wait::AtMost(ASKING),
            Self::Asking(_) => Wait::UntilDone,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secret::Secret;
    use crate::session::Tokens;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Began at 1000 with tokens of ten minutes, new ones due from 1540.
    fn session(refresh: Option<&str>) -> Session {
        let identity = json!({"issuer": "i", "sub": "s", "source": {"provider": "p"}, "user": "s", "email": "absent",
            "preferred_username": null, "groups": {"listed": []}, "scopes": [], "claims": {}, "auth_time": null});
        Session {
            identity: serde_json::from_value(identity).unwrap(),
            client_id: "app".into(),
            sid: None,
            id_token: String::new(),
            created_at: UnixTime(1000),
            ends_at: UnixTime(90_000),
            tokens: Some(Tokens::new(Secret::new("a"), refresh.map(Secret::new), Some(10 * MINUTE), None, UnixTime(1000), 0)),
            checked_at: None,
            shown_as: crate::session::ShownAs::Cookie,
        }
    }

    fn settings(revalidate: Option<Duration>, token_end: TokenEnd) -> RenewalSettings {
        RenewalSettings { revalidate, token_end }
    }

    #[test]
    fn a_session_needs_new_tokens_before_the_end_and_the_providers_word_when_it_is_old() {
        let (never, often) = (settings(None, TokenEnd::Outlived), settings(Some(MINUTE), TokenEnd::Outlived));
        for (refresh, settings, now, expected) in [
            (Some("r"), &never, 1539, Need::Nothing),
            (Some("r"), &never, 1540, Need::Due),
            (Some("r"), &never, 1600, Need::Overdue),
            (None, &never, 1700, Need::Nothing),
            (None, &often, 1059, Need::Nothing),
            (None, &often, 1060, Need::Asking(UnixTime(1060 + 3600))),
            // New tokens are the provider's word as well.
            (Some("r"), &often, 1540, Need::Due),
        ] {
            assert_eq!(Need::of(&session(refresh), settings, UnixTime(now)), expected, "{refresh:?} {now}");
        }
    }

    #[test]
    fn our_own_accounts_are_looked_for_every_minute() {
        let never = settings(None, TokenEnd::Outlived);
        let mut session = Session { tokens: None, ..session(None) };
        assert_eq!(Need::of(&session, &never, UnixTime(9000)), Need::Nothing);
        std::sync::Arc::make_mut(&mut session.identity).source = Source::Provider(LOCAL.into());
        assert_eq!(Need::of(&session, &never, UnixTime(1059)), Need::Nothing);
        assert_eq!(Need::of(&session, &never, UnixTime(1060)), Need::Asking(UnixTime(4660)));
    }

    #[test]
    fn silence_is_borne_for_an_hour_whatever_tokens_there_are() {
        let (never, often) = (settings(None, TokenEnd::Outlived), settings(Some(MINUTE), TokenEnd::Outlived));
        for session in [session(Some("r")), session(None), Session { tokens: None, ..session(None) }] {
            assert!(!Need::is_unvouched(&session, &often, UnixTime(1060 + 3599)));
            assert!(Need::is_unvouched(&session, &often, UnixTime(1060 + 3600)));
            assert!(!Need::is_unvouched(&session, &never, UnixTime(u64::MAX)));
        }
    }

    #[test]
    fn who_waits_and_for_what() {
        use Patience::{Brief, ForTokens, Long};
        let (outlived, ends) = (settings(None, TokenEnd::Outlived), settings(None, TokenEnd::Ends));
        let now = UnixTime(1000);
        for (need, patience, settings, expected) in [
            (Need::Nothing, Long, &ends, Wait::Not),
            (Need::Due, Brief, &outlived, Wait::Not),
            (Need::Due, ForTokens, &outlived, Wait::Not),
            (Need::Due, Long, &outlived, Wait::UntilDone),
            (Need::Due, Brief, &ends, Wait::Not),
            (Need::Overdue, Brief, &outlived, Wait::Not),
            (Need::Overdue, ForTokens, &outlived, Wait::UntilDone),
            (Need::Overdue, Brief, &ends, Wait::UntilDone),
            (Need::Asking(UnixTime(1001)), Brief, &outlived, Wait::AtMost(ASKING)),
            (Need::Asking(UnixTime(1000)), Brief, &outlived, Wait::UntilDone),
        ] {
            assert_eq!(need.wait(patience, settings, now), expected, "{need:?} {patience:?}");
        }
    }
}
