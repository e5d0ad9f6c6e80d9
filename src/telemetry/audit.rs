//! Security events: who came in, who was turned away and why. One function per event, so that each always carries the same fields.
//!
//! They say who somebody is as the issuer does (`sub`): that is what an operator looks for. Never in them: tokens, codes, cookies, queries.
//! They go to stderr at every log level and are written before the caller goes on.

use crate::fault::{Fault, Outage, Trouble};
use crate::reason::Reason;

use super::trace::RequestId;

/// The `tracing` target of every event in here.
pub const TARGET: &str = "doorward::security";

/// How a session came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Signed out here.
    SignOut,
    /// Replaced by the session of a new login.
    Replaced,
    /// By the person themselves, from another session of theirs.
    Elsewhere,
    /// By an operator, through the admin listener.
    Revoked,
    /// The provider said so (OpenID Connect Back-Channel Logout).
    BackChannel,
    /// A frame on the provider's page said so (OpenID Connect Front-Channel Logout).
    FrontChannel,
    /// Over by its lifetimes.
    Over(Reason),
}

impl Ending {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SignOut => "sign-out",
            Self::Replaced => "replaced",
            Self::Elsewhere => "elsewhere",
            Self::Revoked => "revoked",
            Self::BackChannel => "backchannel-logout",
            Self::FrontChannel => "frontchannel-logout",
            Self::Over(reason) => reason.as_str(),
        }
    }
}

/// Somebody signed in with `provider`.
pub fn login_succeeded(request_id: &RequestId, provider: &str, sub: &str) {
    tracing::info!(target: TARGET, event = "login-succeeded", request_id = request_id.as_str(), provider, sub, "somebody signed in");
}

/// A login came back and was refused.
pub fn login_failed(request_id: &RequestId, provider: &str, fault: &Fault) {
    tracing::warn!(
        target: TARGET,
        event = "login-failed",
        request_id = request_id.as_str(),
        provider,
        reason = fault.reason.as_str(),
        detail = fault.detail.as_str(),
        "a login was refused"
    );
}

/// A session ended.
pub fn session_ended(request_id: &RequestId, provider: &str, sub: &str, ending: Ending) {
    tracing::info!(
        target: TARGET,
        event = "session-ended",
        request_id = request_id.as_str(),
        provider,
        sub,
        by = ending.as_str(),
        "a session ended"
    );
}

/// The provider does not prolong a session any more: it ended, on no particular request.
pub fn session_refused(provider: &str, sub: &str, fault: &Fault) {
    tracing::warn!(
        target: TARGET,
        event = "session-ended",
        provider,
        sub,
        by = fault.reason.as_str(),
        detail = fault.detail.as_str(),
        "the provider ended a session"
    );
}

/// A logout token was refused: a provider that is set up wrong, or somebody who plays one.
pub fn logout_refused(request_id: &RequestId, fault: &Fault) {
    tracing::warn!(
        target: TARGET,
        event = "logout-refused",
        request_id = request_id.as_str(),
        reason = fault.reason.as_str(),
        detail = fault.detail.as_str(),
        "a logout token was refused"
    );
}

/// What a provider had issued for a session that ended could not be revoked there.
pub fn revocation_failed(request_id: &RequestId, provider: &str, trouble: &Trouble) {
    tracing::warn!(
        target: TARGET,
        event = "revocation-failed",
        request_id = request_id.as_str(),
        provider,
        reason = trouble.reason().as_str(),
        detail = trouble.detail(),
        "the provider's grant of a session that ended stays"
    );
}

/// A request was refused for what it showed or who it was of: a bad token, a policy that says no, a forged origin. `route` is the route's id,
/// `sub` whoever it was, if anybody.
pub fn refused(request_id: &RequestId, route: Option<&str>, sub: Option<&str>, fault: &Fault) {
    tracing::warn!(
        target: TARGET,
        event = "refused",
        request_id = request_id.as_str(),
        route,
        sub,
        reason = fault.reason.as_str(),
        detail = fault.detail.as_str(),
        "a request was refused"
    );
}

/// A dependency did not answer; `request_id` names whoever had to hear of it.
pub fn outage(request_id: Option<&RequestId>, outage: &Outage) {
    tracing::error!(
        target: TARGET,
        event = "outage",
        request_id = request_id.map(RequestId::as_str),
        dependency = outage.dependency.as_str(),
        reason = outage.reason().as_str(),
        detail = outage.source.as_str(),
        "a dependency did not answer"
    );
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::super::trace::Ids;
    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Seen {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == TARGET
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut line = String::new();
            event.record(&mut Fields(&mut line));
            self.0.lock().unwrap().push(line);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    struct Fields<'a>(&'a mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.push_str(&format!("{}={value:?} ", field.name()));
        }
    }

    #[test]
    fn every_event_says_what_happened_to_whom_and_why() {
        let seen = Seen::default();
        let id = RequestId::new(&Ids::new());
        tracing::subscriber::with_default(seen.clone(), || {
            login_succeeded(&id, "corp", "42");
            login_failed(&id, "corp", &Fault::new(Reason::IdTokenNonce, "another nonce"));
            session_ended(&id, "corp", "42", Ending::Over(Reason::SessionIdle));
            session_ended(&id, "corp", "42", Ending::BackChannel);
            logout_refused(&id, &Fault::new(Reason::LogoutTokenNonce, "a nonce"));
            revocation_failed(&id, "corp", &Outage::provider("gone").into());
            refused(&id, Some("orders"), None, &Fault::new(Reason::NotAllowed, "no rule"));
            outage(None, &Outage::store("refused"));
        });
        let lines = seen.0.lock().unwrap().clone();
        for (line, parts) in lines.iter().zip([
            &["event=\"login-succeeded\"", "provider=\"corp\"", "sub=\"42\""][..],
            &["event=\"login-failed\"", "reason=\"id-token-nonce\"", "detail=\"another nonce\""],
            &["event=\"session-ended\"", "by=\"session-idle\""],
            &["event=\"session-ended\"", "by=\"backchannel-logout\""],
            &["event=\"logout-refused\"", "reason=\"logout-token-nonce\"", "detail=\"a nonce\""],
            &["event=\"revocation-failed\"", "provider=\"corp\"", "reason=\"provider-unreachable\""],
            &["event=\"refused\"", "route=\"orders\"", "reason=\"not-allowed\""],
            &["event=\"outage\"", "dependency=\"store\"", "reason=\"store-unreachable\""],
        ]) {
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
        assert_eq!(lines.len(), 8);
        assert!(lines.iter().take(7).all(|line| line.contains(&format!("request_id=\"{id}\""))));
    }
}
