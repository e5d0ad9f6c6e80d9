//! A token for an upstream, and how long it is good.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::answer::Granted;
use crate::clock::UnixTime;

/// How long a token is used whose answer does not say how long it lives (`expires_in` is only recommended, RFC 6749 §5.1). An upstream that
/// refuses it sooner is answered by a new one.
const UNSAID: Duration = Duration::from_secs(60);
/// The longest time before its end at which a token is renewed.
const EARLY_AT_MOST: Duration = Duration::from_secs(5 * 60);
/// The longest time before its end at which it is not used any more: a request takes time on its way, and clocks differ.
const SPARE_AT_MOST: Duration = Duration::from_secs(10);

/// A token ready to be sent.
pub struct UpstreamToken {
    header: HeaderName,
    value: HeaderValue,
    renew_at: UnixTime,
    over_at: UnixTime,
}

impl UpstreamToken {
    /// What was granted to a call that began at `asked_at`. It goes into `Authorization` as a Bearer token (RFC 6750 §2.1), into any other
    /// header as it is. `no_longer_than` is the end of what it was granted for. `None` when it cannot be used at all: over already, or of bytes
    /// that fit into no header.
    pub(super) fn new(granted: &Granted, header: &HeaderName, asked_at: UnixTime, no_longer_than: Option<UnixTime>) -> Option<Self> {
        let token = granted.access_token.expose();
        let text = if *header == AUTHORIZATION { format!("Bearer {token}") } else { token.to_owned() };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        let said = asked_at.plus(granted.lives.unwrap_or(UNSAID));
        let ends_at = no_longer_than.map_or(said, |end| end.min(said));
        let lives = ends_at.since(asked_at);
        // A third of its life leaves room for a provider that is away for a while.
        let renew_at = ends_at.minus((lives / 3).min(EARLY_AT_MOST));
        let over_at = ends_at.minus((lives / 10).min(SPARE_AT_MOST));
        (over_at > asked_at).then(|| Self { header: header.clone(), value, renew_at, over_at })
    }

    /// Puts it into a request, in place of whatever stood there.
    pub fn set(&self, headers: &mut HeaderMap) {
        headers.insert(self.header.clone(), self.value.clone());
    }

    pub(super) fn is_good(&self, now: UnixTime) -> bool {
        now < self.over_at
    }

    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        now >= self.renew_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const NOW: UnixTime = UnixTime(1_000);

    fn made(lives: Option<u64>, end: Option<u64>) -> Option<UpstreamToken> {
        let granted = Granted { access_token: Secret::new("abc"), lives: lives.map(Duration::from_secs) };
        UpstreamToken::new(&granted, &AUTHORIZATION, NOW, end.map(UnixTime))
    }

    #[test]
    fn it_is_renewed_before_its_end_and_not_used_up_to_it() {
        for (lives, end, renew_at, over_at) in [
            (Some(60), None, 1_040, 1_054),
            (Some(3_600), None, 4_300, 4_590),
            (None, None, 1_040, 1_054),
            (Some(3_600), Some(1_060), 1_040, 1_054),
            (Some(60), Some(9_999), 1_040, 1_054),
            (Some(1), None, 1_001, 1_001),
        ] {
            let token = made(lives, end).unwrap();
            assert_eq!((token.renew_at, token.over_at), (UnixTime(renew_at), UnixTime(over_at)), "{lives:?} {end:?}");
            assert!(token.is_good(UnixTime(over_at - 1)) && !token.is_good(UnixTime(over_at)));
            assert!(!token.is_due(UnixTime(renew_at - 1)) && token.is_due(UnixTime(renew_at)));
        }
    }

    #[test]
    fn one_that_is_over_as_it_comes_is_none() {
        assert!(made(Some(0), None).is_none());
        assert!(made(Some(60), Some(1_000)).is_none());
        assert!(made(Some(60), Some(900)).is_none());
    }

    #[test]
    fn only_in_authorization_it_is_called_bearer() {
        let granted = Granted { access_token: Secret::new("abc"), lives: None };
        for (header, value) in [("authorization", "Bearer abc"), ("x-token", "abc")] {
            let header = HeaderName::from_static(header);
            let token = UpstreamToken::new(&granted, &header, NOW, None).unwrap();
            let mut headers = HeaderMap::new();
            headers.append(header.clone(), HeaderValue::from_static("of the downstream"));
            token.set(&mut headers);
            assert_eq!(headers.get_all(&header).iter().collect::<Vec<_>>(), [value]);
            assert!(headers[&header].is_sensitive());
        }
    }
}
