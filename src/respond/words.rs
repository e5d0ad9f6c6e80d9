//! What each reason says to people and to programs. No wildcard: a new reason has to say it.

use crate::reason::Reason;

/// What people read; `error` is the word programs read (RFC 6749 §5.2, RFC 6750 §3.1 where those have one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// A few words.
    pub headline: &'static str,
    /// What happened and what to do.
    pub text: &'static str,
    /// The machine's word.
    pub error: &'static str,
}

const fn words(headline: &'static str, text: &'static str, error: &'static str) -> Words {
    Words { headline, text, error }
}

/// What a refusal says.
#[must_use]
pub const fn words_of(reason: Reason) -> Words {
    match reason {
        Reason::Public
        | Reason::OptionalAnonymous
        | Reason::Preflight
        | Reason::Allowed
        | Reason::DryRun
        | Reason::Endpoint
        | Reason::Outgoing
        | Reason::ToHttps => words("Done", "Everything went well.", "none"),
        Reason::EncodedSlash => words(
            "The address holds an escaped slash",
            "This place takes it only where its route says encoded_slash = keep.",
            "invalid_request",
        ),
        Reason::PathAmbiguous => words(
            "This address cannot be read safely",
            "It holds characters that different servers read in different ways, so it was not passed on. Check the link you followed.",
            "invalid_request",
        ),
        Reason::HostMalformed => words("This request names no host", "It has to name exactly one host.", "invalid_request"),
        Reason::HostUnknown => words(
            "No site of this name here",
            "This gateway does not serve the host that was asked for. If it should, its configuration has to name it: as public_url, or as the host of a route.",
            "misdirected_request",
        ),
        Reason::NoRoute => words("There is nothing here", "No app is configured for this address.", "not_found"),
        Reason::EndpointUnknown => words("There is nothing here", "The gateway has no page of this name.", "not_found"),
        Reason::RewriteAmbiguous => {
            words("This address cannot be read", "What the app would be asked for is not clear. Check the address.", "invalid_request")
        }
        Reason::UpstreamAbsent => {
            words("There is nothing here", "This address is only checked by the gateway, not served by it.", "not_found")
        }
        Reason::UpgradeUnsupported => {
            words("Not possible here", "The app behind this address takes no WebSockets and no other upgrades.", "not_implemented")
        }
        Reason::AuthorizationRepeated => words("Two Authorization headers", "A request may show one credential.", "invalid_request"),
        Reason::AuthorizationMalformed => {
            words("The Authorization header cannot be read", "Expected: Bearer, one space, the token.", "invalid_request")
        }
        Reason::TokenRepeated => words("Two access tokens", "A request may show one, in one place.", "invalid_request"),
        Reason::TokenUnreadable => {
            words("The access token cannot be read", "What stands in its place is empty, or no token.", "invalid_request")
        }
        Reason::HeadersTooLarge => words(
            "The request is too large",
            "Its headers exceed what the gateway takes. Deleting old cookies of this site often helps.",
            "invalid_request",
        ),
        Reason::BodyTooLarge => words("The request is too large", "Its body exceeds what this page takes.", "invalid_request"),
        Reason::BodyTimeout => words("The request took too long", "Nothing more of it arrived for a while. Try again.", "invalid_request"),
        Reason::RequestMalformed => words("The request cannot be read", "It is no HTTP, or could be read in two ways.", "invalid_request"),
        Reason::Unanswered => words("Nobody waited for this", "The request was given up before it had an answer.", "invalid_request"),
        Reason::BodyBroken => words("The request broke off", "It did not arrive whole. Try again.", "invalid_request"),
        Reason::MethodNotAllowed => words("Not this way", "This page does not take requests of this kind.", "invalid_request"),
        Reason::ParameterInvalid => words("The link is not complete", "A parameter is missing or cannot be read.", "invalid_request"),
        Reason::ParameterRepeated => words("The link is ambiguous", "A parameter is there twice.", "invalid_request"),
        Reason::ReturnToRefused => words(
            "The link leads elsewhere",
            "After signing in it would go to a site that this gateway does not send people to. Open the app directly instead.",
            "invalid_request",
        ),
        Reason::PeerNotTrusted => {
            words("Not from here", "The gateway answers this question only to proxies that trusted_proxies lists.", "access_denied")
        }
        Reason::ForwardedMissing => {
            words("The proxy in front left something out", "It has to say which request it asks about.", "access_denied")
        }
        Reason::ForwardedAmbiguous => {
            words("The proxy in front is ambiguous", "It says in two ways, or unreadably, which request it asks about.", "access_denied")
        }
        Reason::InlineRule => words(
            "Rules in the address are not taken",
            "The proxy in front asks with rules in the query; name a policy of the configuration instead.",
            "access_denied",
        ),
        Reason::PolicyUnknown => {
            words("No policy of this name", "The proxy in front names a policy that is not configured.", "access_denied")
        }
        Reason::UpgradeOrigin => {
            words("Not from this page", "A page of another site tried to open a connection with your session.", "access_denied")
        }
        Reason::CrossSite => {
            words("Not from this page", "A page of another site asked for this. Open the app and try from there.", "access_denied")
        }
        Reason::PendingLoginsOfAddress => words(
            "Too many sign-ins at once",
            "Many sign-ins were begun from your network and not finished. Wait a little and try again.",
            "temporarily_unavailable",
        ),
        Reason::PendingLogins => words(
            "Too many sign-ins at once",
            "The gateway has more unfinished sign-ins than it takes. Wait a little and try again.",
            "temporarily_unavailable",
        ),
        Reason::NoCredential => words("Please sign in", "This page needs you to be signed in.", "login_required"),
        Reason::SessionIdle => words("Please sign in again", "You were away for a while, so your session has ended.", "login_required"),
        Reason::SessionTokenEnded => {
            words("Please sign in again", "The sign-in service gave your session a certain time, and that is over.", "login_required")
        }
        Reason::RefreshRefused => {
            words("Please sign in again", "The sign-in service does not prolong your session any more.", "login_required")
        }
        Reason::RevalidationRefused => {
            words("Please sign in again", "The sign-in service says that your access has ended.", "login_required")
        }
        Reason::SidEnded => words(
            "Signed out meanwhile",
            "The sign-in service ended this sign-in while it was under way. Please sign in again.",
            "login_required",
        ),
        Reason::SessionEnded => words("Please sign in again", "Your session ended while this was under way.", "login_required"),
        Reason::SessionExpired => words("Please sign in again", "Your session has reached its longest time.", "login_required"),
        Reason::SessionAmbiguous => words("Please sign in again", "Your browser shows two sessions, so none counts.", "login_required"),
        Reason::TokenMalformed => words("The token cannot be read", "It is not a signed JWT.", "invalid_token"),
        Reason::TokenIssuerUnknown => words("The token is not from here", "Its issuer is not configured.", "invalid_token"),
        Reason::TokenAlgorithm => words("The token is not accepted", "Its signature algorithm is not allowed.", "invalid_token"),
        Reason::TokenType => words("The token is not accepted", "Its type is not that of an access token.", "invalid_token"),
        Reason::TokenIsIdToken => words("The token is not accepted", "It is an ID token, not an access token.", "invalid_token"),
        Reason::TokenCritical => words("The token is not accepted", "It demands an extension that is not known here.", "invalid_token"),
        Reason::TokenKeyUnknown => words("The token is not accepted", "Its issuer has no key of this name.", "invalid_token"),
        Reason::TokenSignature => words("The token is not accepted", "Its signature does not verify.", "invalid_token"),
        Reason::TokenClaims => words("The token is not accepted", "A claim is missing or malformed.", "invalid_token"),
        Reason::TokenAudience => words("The token is for somebody else", "It was issued for another audience.", "invalid_token"),
        Reason::TokenExpired => words("The token has expired", "Fetch a new one.", "invalid_token"),
        Reason::TokenNotYetValid => words("The token is not valid yet", "Check the clocks on both sides.", "invalid_token"),
        Reason::TokenInactive => words("The token does not count", "Its issuer says that it is over, or not its own.", "invalid_token"),
        Reason::TokenBound => {
            words("The token is bound to a key", "It counts only together with the proof that belongs to it.", "invalid_token")
        }
        Reason::DpopUnbound => words("The token is bound to no key", "It was not issued for DPoP: show it as Bearer.", "invalid_token"),
        Reason::DpopRequired => words("The token is bound to no key", "This address takes DPoP-bound tokens only.", "invalid_token"),
        Reason::DpopProofMissing => {
            words("The proof is missing", "A DPoP header has to prove the key that the token is bound to.", "invalid_dpop_proof")
        }
        Reason::DpopProofRepeated => words("Two DPoP proofs", "A request may show one.", "invalid_dpop_proof"),
        Reason::DpopProofMalformed => words("The DPoP proof cannot be read", "It is not a signed JWT.", "invalid_dpop_proof"),
        Reason::DpopProofClaims => words("The DPoP proof is not accepted", "A claim is missing or malformed.", "invalid_dpop_proof"),
        Reason::DpopProofType => words("The DPoP proof is not accepted", "Its type is that of another token.", "invalid_dpop_proof"),
        Reason::DpopProofAlgorithm => {
            words("The DPoP proof is not accepted", "Its signature algorithm is not allowed.", "invalid_dpop_proof")
        }
        Reason::DpopProofKey => words("The DPoP proof is not accepted", "It has to bring one sound public key.", "invalid_dpop_proof"),
        Reason::DpopProofSignature => words("The DPoP proof is not accepted", "Its signature does not verify.", "invalid_dpop_proof"),
        Reason::DpopProofMethod => words("The DPoP proof is for something else", "Its htm is another method.", "invalid_dpop_proof"),
        Reason::DpopProofUrl => words("The DPoP proof is for something else", "Its htu is another address.", "invalid_dpop_proof"),
        Reason::DpopNonce => words("The DPoP proof needs a nonce", "Take the one in DPoP-Nonce and try again.", "use_dpop_nonce"),
        Reason::DpopProofAge => words("The DPoP proof is not of now", "Check the clocks on both sides.", "invalid_dpop_proof"),
        Reason::DpopProofToken => words("The DPoP proof is for something else", "Its ath is of another token.", "invalid_dpop_proof"),
        Reason::DpopKeyMismatch => words("The token is bound to another key", "It is not the key of the DPoP proof.", "invalid_token"),
        Reason::DpopProofReplayed => words("The DPoP proof was used before", "Each request needs a new one.", "invalid_dpop_proof"),
        Reason::CertificateRequired => {
            words("The token is bound to no certificate", "This address takes certificate-bound tokens only.", "invalid_token")
        }
        Reason::CertificateMissing => {
            words("The token is bound to a certificate", "It counts only over a connection with that certificate.", "invalid_token")
        }
        Reason::CertificateMismatch => {
            words("The token is bound to another certificate", "It is not the one of this connection.", "invalid_token")
        }
        Reason::CertificateUnreadable => {
            words("The certificate cannot be read", "The proxy in front has to send it once, by RFC 9440.", "invalid_request")
        }
        Reason::CertificateExpired => {
            words("The certificate is not valid now", "Its time is over, or has not begun.", "invalid_certificate")
        }
        Reason::CertificateNameless => {
            words("The certificate names nobody", "It holds no name of the kind that counts here, or several.", "invalid_certificate")
        }
        Reason::IssuedTokenMalformed => words("The token cannot be read", "It is not one that was given out here.", "invalid_token"),
        Reason::IssuedTokenUnknown => {
            words("The token is not known", "It was never given out here, or was ended. Sign in again.", "invalid_token")
        }
        Reason::IssuedTokenExpired => words("The token has expired", "Sign in again for a new one.", "invalid_token"),
        Reason::IssuedTokenEnded => {
            words("The token was ended", "The sign-in service does not prolong it. Sign in again.", "invalid_token")
        }
        Reason::ApiKeyMalformed => {
            words("The API key cannot be read", "Expected: dwk_ and 64 hexadecimal digits, and nothing else.", "invalid_api_key")
        }
        Reason::ApiKeyUnknown => {
            words("The API key is not known here", "It was mistyped, taken back, or made for another place.", "invalid_api_key")
        }
        Reason::ApiKeyExpired => words("The API key has expired", "Ask the people who run this page for a new one.", "invalid_api_key"),
        Reason::ApiKeyRepeated => words("Two API keys", "A request may show one credential.", "invalid_request"),
        Reason::DeniedByRule => words("This is not open to you", "A rule for this page leaves you out.", "access_denied"),
        Reason::NotAllowed => words("This is not open to you", "The rules for this page do not include you.", "access_denied"),
        Reason::InsufficientScope => {
            words("The token does not reach this far", "It lacks a scope that this address needs.", "insufficient_scope")
        }
        // `error` by RFC 9470 §3.
        Reason::LoginTooWeak => words(
            "A stronger sign-in is needed",
            "This page asks for a stronger sign-in than the one you made.",
            "insufficient_user_authentication",
        ),
        Reason::LoginTooOld => {
            words("Please sign in again", "This page asks for a sign-in that was made more recently.", "insufficient_user_authentication")
        }
        Reason::WrongProvider => words("Signed in elsewhere", "This page takes people who signed in another way.", "access_denied"),
        Reason::EmailNotVerified => words(
            "Your e-mail address is not verified",
            "The page goes by e-mail addresses, and your provider has not confirmed yours. Confirm it there and sign in again.",
            "access_denied",
        ),
        Reason::EmailMalformed => {
            words("Your e-mail address cannot be read", "The page goes by e-mail addresses, and yours is not one.", "access_denied")
        }
        Reason::GroupsOverage => words(
            "Your groups were not sent",
            "You are a member of so many groups that your provider left them out. Ask the people who run this page.",
            "access_denied",
        ),
        Reason::IdentityTooLarge => words(
            "What is known of you is too large",
            "Your groups and names together exceed what can be passed to the app. Ask the people who run this page.",
            "access_denied",
        ),
        Reason::StateUnknown => words(
            "This sign-in is not known here",
            "It was begun in another browser, is too old, or your browser keeps no cookies. Nothing is lost: begin again.",
            "invalid_request",
        ),
        Reason::AttemptSpent => words("This sign-in is over", "It was used already or took too long. Begin again.", "invalid_request"),
        Reason::FlowExhausted => words(
            "Signing in did not work",
            "Several sign-ins in a row did not lead on. Begin again, or ask the people who run this page.",
            "invalid_request",
        ),
        Reason::SessionNotKept => words(
            "Your browser does not stay signed in",
            "You signed in several times, and each time your browser came back without its session cookie. Allow cookies for this site, check that the address has not changed between http and https, and try again.",
            "invalid_request",
        ),
        Reason::StepUpNotGiven => words(
            "A stronger sign-in is needed",
            "This page asks for a stronger or a fresh sign-in, and the one you made was not. Try again with your second factor; if it keeps happening, tell the people who run this page.",
            "access_denied",
        ),
        Reason::FormNotKept => words(
            "Your form was not sent",
            "Your session had ended, and the form cannot be kept for you: it is too large, has a file in it, or is one of very many. What you wrote is still on the page before: sign in in another tab, then go back in this one and send it again.",
            "login_required",
        ),
        Reason::FormGone => words(
            "There is no form to send",
            "It was sent already, was written by somebody else, or waited for too long.",
            "invalid_request",
        ),
        Reason::IssuerUnknown => words(
            "This sign-in is not for here",
            "A link asked to sign you in at a provider that this site does not use. Open the app directly instead.",
            "invalid_request",
        ),
        Reason::ProviderError => words(
            "The sign-in was not completed",
            "The provider says that it was refused or cancelled. You can try again.",
            "access_denied",
        ),
        Reason::ResponseIssuer | Reason::ResponseIssuerMissing => words(
            "The answer came from elsewhere",
            "It is not from the provider that you were sent to, so it was not used. Begin again.",
            "invalid_request",
        ),
        Reason::PushedRequestRefused | Reason::PushedResponse => words(
            "The provider did not take the sign-in",
            "You can try again; if it keeps happening, tell the people who run this page.",
            "server_error",
        ),
        Reason::CodeRefused => words(
            "The provider did not confirm the sign-in",
            "You can try again; if it keeps happening, tell the people who run this page.",
            "server_error",
        ),
        Reason::TokenResponse
        | Reason::IdTokenMissing
        | Reason::IdTokenMalformed
        | Reason::IdTokenAlgorithm
        | Reason::IdTokenKeyUnknown
        | Reason::IdTokenSignature
        | Reason::IdTokenIssuer
        | Reason::IdTokenAudience
        | Reason::IdTokenAuthorizedParty
        | Reason::IdTokenExpired
        | Reason::IdTokenNotYetValid
        | Reason::IdTokenClaims
        | Reason::IdTokenNonce
        | Reason::IdTokenAccessTokenHash
        | Reason::AccessTokenClaims
        | Reason::UserinfoSubject
        | Reason::UserinfoMalformed => words(
            "The provider's answer cannot be trusted",
            "It did not pass the checks, so nobody was signed in. You can try again; if it keeps happening, tell the people who run this page.",
            "server_error",
        ),
        Reason::TenantUnlisted => words(
            "Your organisation is not admitted",
            "You signed in well, and this page takes people of other organisations. Sign in with another account, or ask the people who run this page.",
            "access_denied",
        ),
        Reason::ProviderMetadata => words(
            "The provider is not set up as expected",
            "Its own description does not fit this gateway's configuration. Tell the people who run this page.",
            "server_error",
        ),
        Reason::PasswordWrong => words("That did not fit", "The user name or the password is wrong. Please try again.", "access_denied"),
        Reason::CodeWrong => {
            words("That did not fit", "The code is wrong or too old. Please type the one that your app shows now.", "access_denied")
        }
        Reason::CodeUsed => {
            words("That did not fit", "This code was used already. Please wait for the next one, which comes soon.", "access_denied")
        }
        Reason::CodeNotSet => words(
            "Your account needs a second proof",
            "This page wants the code of an authenticator app, and none is set up for your account. Ask the people who run this page.",
            "access_denied",
        ),
        Reason::GuessesOfName | Reason::GuessesOfAddress => {
            words("Too many attempts", "Too many sign-ins went wrong, so the next ones have to wait a while.", "temporarily_unavailable")
        }
        Reason::PasswordQueue => {
            words("Just a moment", "Many people are signing in right now. Try again shortly.", "temporarily_unavailable")
        }
        // Of the token endpoint; `error` by RFC 6749 §5.2.
        Reason::GrantUnsupported => {
            words("Not this way", "This grant_type is not offered here, or is not known.", "unsupported_grant_type")
        }
        Reason::ForeignTokenRefused => words("The token is not accepted", "Whoever issued it says that it is not good.", "invalid_grant"),
        Reason::ForeignTokenAudience => words("The token is for somebody else", "It was issued for another application.", "invalid_grant"),
        Reason::ForeignTokenExpired => words("The token has expired", "Fetch a new one where it came from.", "invalid_grant"),
        Reason::ForeignTokenSubject => words("The token is not accepted", "It does not say clearly whose it is.", "invalid_grant"),
        Reason::SignOutState => words(
            "Signed out here",
            "You are signed out of this site. Whether the provider ended its own session is not certain.",
            "invalid_request",
        ),
        // OpenID Connect Back-Channel Logout §2.8: errors as RFC 6749 §5.2 has them.
        Reason::LogoutIssuer => words("This logout is not for this site", "Its issuer is no provider of this gateway.", "invalid_request"),
        Reason::LogoutTokenMalformed => words("The logout token cannot be read", "It is not a signed JWT.", "invalid_request"),
        Reason::LogoutTokenType => words("The logout token is not accepted", "Its type is that of another token.", "invalid_request"),
        Reason::LogoutTokenAlgorithm => {
            words("The logout token is not accepted", "Its signature algorithm is not allowed.", "invalid_request")
        }
        Reason::LogoutTokenKeyUnknown => {
            words("The logout token is not accepted", "Its issuer has no key of this name.", "invalid_request")
        }
        Reason::LogoutTokenKeyLater => words(
            "Please send it again",
            "Its key is not known yet, and the issuer's keys were asked for a moment ago. They are asked for again within a minute.",
            "temporarily_unavailable",
        ),
        Reason::LogoutTokenSignature => words("The logout token is not accepted", "Its signature does not verify.", "invalid_request"),
        Reason::LogoutTokenAudience => {
            words("The logout token is for somebody else", "It was issued for another audience.", "invalid_request")
        }
        Reason::LogoutTokenExpired => words("The logout token has expired", "It is over, or was issued too long ago.", "invalid_request"),
        Reason::LogoutTokenNotYetValid => words("The logout token is not valid yet", "Check the clocks on both sides.", "invalid_request"),
        Reason::LogoutTokenClaims => words("The logout token is not accepted", "A claim is missing or malformed.", "invalid_request"),
        Reason::LogoutTokenSubject => words("The logout token names nobody", "It holds neither sub nor sid.", "invalid_request"),
        Reason::LogoutTokenEvent => words("This is no logout token", "Its events do not name the back-channel logout.", "invalid_request"),
        Reason::LogoutTokenNonce => words("This is no logout token", "It holds a nonce, as an ID token does.", "invalid_request"),
        Reason::LogoutTokenReplayed => words("The logout token was used before", "Its jti has been received already.", "invalid_request"),
        Reason::RevocationRefused => {
            words("Signed out here", "The provider did not take back what it had issued for this session.", "server_error")
        }
        Reason::ProviderUnreachable => words(
            "The sign-in service does not answer",
            "It should be back soon. Those who are signed in are not affected.",
            "temporarily_unavailable",
        ),
        Reason::KeysUnreachable => words(
            "The sign-in service does not answer",
            "Its keys could not be fetched, so nothing can be checked right now.",
            "temporarily_unavailable",
        ),
        Reason::IntrospectionUnreachable => words(
            "The sign-in service does not answer",
            "It could not be asked about the token, so nothing can be decided right now.",
            "temporarily_unavailable",
        ),
        Reason::TokenCheckUnreachable => words(
            "The sign-in service does not answer",
            "Whoever issued the token could not be asked about it. Try again shortly.",
            "temporarily_unavailable",
        ),
        Reason::ExchangeRefused => words(
            "This app is not for you",
            "The sign-in service gives you no token for it. Whoever runs it can change that.",
            "access_denied",
        ),
        Reason::OutgoingHost => {
            words("Not from here", "This listener calls only the hosts that its configuration lists (outgoing.hosts).", "access_denied")
        }
        Reason::HeaderFileUnreadable => words(
            "The app cannot be reached right now",
            "The gateway lacks what it has to show to the app. Your sign-in is not affected. Try again shortly.",
            "temporarily_unavailable",
        ),
        Reason::BasicNameUnfit => {
            words("This app does not know names like yours", "Your name holds characters that it cannot be told.", "access_denied")
        }
        Reason::UpstreamTokenUnreachable => words(
            "The app cannot be reached right now",
            "The gateway could not get the token that the app asks for. Your sign-in is not affected. Try again shortly.",
            "temporarily_unavailable",
        ),
        Reason::StoreUnreachable => words(
            "Just a moment",
            "Sessions cannot be looked up right now. Nobody was signed out; try again shortly.",
            "temporarily_unavailable",
        ),
        Reason::UpstreamUnreachable => words("The app does not answer", "Your sign-in is not affected. Try again shortly.", "bad_gateway"),
        Reason::UpstreamTimeout => words("The app takes too long", "Your sign-in is not affected. Try again shortly.", "gateway_timeout"),
        Reason::UpstreamBusy => words(
            "The app is busy",
            "More ask for it than it can serve at once. Your sign-in is not affected. Try again shortly.",
            "temporarily_unavailable",
        ),
        Reason::UpstreamBroken => words("The app broke off", "Your sign-in is not affected. Try again shortly.", "bad_gateway"),
        Reason::Internal => words("Something went wrong here", "It has been noted under the number below. Try again.", "server_error"),
    }
}
