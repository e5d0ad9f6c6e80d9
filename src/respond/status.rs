//! The one table from reason to status; its words stand in `words`. No wildcard: a new reason has to say what it looks like.

use http::StatusCode;

use crate::reason::Reason;

/// The HTTP status of a refusal.
#[must_use]
pub const fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::Public
        | Reason::OptionalAnonymous
        | Reason::Preflight
        | Reason::Allowed
        | Reason::DryRun
        | Reason::Endpoint
        | Reason::Outgoing
        | Reason::ToHttps => StatusCode::OK,
        Reason::PathAmbiguous
        | Reason::RewriteAmbiguous
        | Reason::EncodedSlash
        | Reason::HostMalformed
        | Reason::AuthorizationRepeated
        | Reason::AuthorizationMalformed
        | Reason::TokenRepeated
        | Reason::TokenUnreadable
        | Reason::CertificateUnreadable
        | Reason::ParameterInvalid
        | Reason::GrantUnsupported
        | Reason::ParameterRepeated
        | Reason::ReturnToRefused
        | Reason::StateUnknown
        | Reason::AttemptSpent
        | Reason::SidEnded
        | Reason::FlowExhausted
        | Reason::SessionNotKept
        | Reason::StepUpNotGiven
        | Reason::IssuerUnknown
        | Reason::ProviderError
        | Reason::ResponseIssuer
        | Reason::ResponseIssuerMissing
        | Reason::SignOutState
        | Reason::LogoutIssuer
        | Reason::LogoutTokenMalformed
        | Reason::LogoutTokenType
        | Reason::LogoutTokenAlgorithm
        | Reason::LogoutTokenKeyUnknown
        | Reason::LogoutTokenSignature
        | Reason::LogoutTokenAudience
        | Reason::LogoutTokenExpired
        | Reason::LogoutTokenNotYetValid
        | Reason::LogoutTokenClaims
        | Reason::LogoutTokenSubject
        | Reason::LogoutTokenEvent
        | Reason::LogoutTokenNonce
        | Reason::LogoutTokenReplayed => StatusCode::BAD_REQUEST,
        Reason::ApiKeyRepeated => StatusCode::BAD_REQUEST,
        Reason::HostUnknown => StatusCode::MISDIRECTED_REQUEST,
        Reason::NoRoute | Reason::EndpointUnknown | Reason::UpstreamAbsent => StatusCode::NOT_FOUND,
        Reason::UpgradeUnsupported => StatusCode::NOT_IMPLEMENTED,
        Reason::FormGone => StatusCode::GONE,
        Reason::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Reason::BodyBroken | Reason::RequestMalformed | Reason::Unanswered => StatusCode::BAD_REQUEST,
        Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Reason::PendingLoginsOfAddress | Reason::PendingLogins => StatusCode::TOO_MANY_REQUESTS,
        Reason::GuessesOfName | Reason::GuessesOfAddress => StatusCode::TOO_MANY_REQUESTS,
        Reason::PasswordWrong | Reason::CodeWrong | Reason::CodeUsed => StatusCode::UNAUTHORIZED,
        Reason::ApiKeyMalformed | Reason::ApiKeyUnknown | Reason::ApiKeyExpired => StatusCode::UNAUTHORIZED,
        Reason::NoCredential
        | Reason::SessionIdle
        | Reason::SessionExpired
        | Reason::SessionEnded
        | Reason::SessionTokenEnded
        | Reason::RefreshRefused
        | Reason::RevalidationRefused
        | Reason::SessionAmbiguous
        | Reason::TokenMalformed
        | Reason::TokenIssuerUnknown
        | Reason::TokenAlgorithm
        | Reason::TokenType
        | Reason::TokenIsIdToken
        | Reason::TokenCritical
        | Reason::TokenKeyUnknown
        | Reason::TokenSignature
        | Reason::TokenClaims
        | Reason::TokenAudience
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenInactive
        | Reason::TokenBound
        | Reason::IssuedTokenMalformed
        | Reason::IssuedTokenUnknown
        | Reason::IssuedTokenExpired
        | Reason::IssuedTokenEnded
        | Reason::ForeignTokenRefused
        | Reason::ForeignTokenAudience
        | Reason::ForeignTokenExpired
        | Reason::ForeignTokenSubject
        | Reason::DpopUnbound
        | Reason::DpopRequired
        | Reason::DpopProofMissing
        | Reason::DpopProofRepeated
        | Reason::DpopProofMalformed
        | Reason::DpopProofClaims
        | Reason::DpopProofType
        | Reason::DpopProofAlgorithm
        | Reason::DpopProofKey
        | Reason::DpopProofSignature
        | Reason::DpopProofMethod
        | Reason::DpopProofUrl
        | Reason::DpopNonce
        | Reason::DpopProofAge
        | Reason::DpopProofToken
        | Reason::DpopKeyMismatch
        | Reason::DpopProofReplayed
        | Reason::CertificateRequired
        | Reason::CertificateMissing
        | Reason::CertificateMismatch
        | Reason::CertificateExpired
        | Reason::CertificateNameless
        | Reason::LoginTooWeak
        | Reason::LoginTooOld
        | Reason::FormNotKept => StatusCode::UNAUTHORIZED,
        Reason::PeerNotTrusted
        | Reason::ForwardedMissing
        | Reason::ForwardedAmbiguous
        | Reason::InlineRule
        | Reason::PolicyUnknown
        | Reason::UpgradeOrigin
        | Reason::CrossSite
        | Reason::NotAllowed
        | Reason::DeniedByRule
        | Reason::InsufficientScope
        | Reason::WrongProvider
        | Reason::EmailNotVerified
        | Reason::EmailMalformed
        | Reason::GroupsOverage
        | Reason::TenantUnlisted
        | Reason::CodeNotSet
        | Reason::ExchangeRefused
        | Reason::OutgoingHost
        | Reason::BasicNameUnfit
        | Reason::IdentityTooLarge => StatusCode::FORBIDDEN,
        Reason::PushedRequestRefused
        | Reason::PushedResponse
        | Reason::CodeRefused
        | Reason::TokenResponse
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
        | Reason::UserinfoMalformed
        | Reason::ProviderMetadata
        | Reason::RevocationRefused
        | Reason::UpstreamUnreachable
        | Reason::UpstreamBroken => StatusCode::BAD_GATEWAY,
        Reason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::LogoutTokenKeyLater
        | Reason::ProviderUnreachable
        | Reason::KeysUnreachable
        | Reason::IntrospectionUnreachable
        | Reason::TokenCheckUnreachable
        | Reason::UpstreamTokenUnreachable
        | Reason::HeaderFileUnreadable
        | Reason::UpstreamBusy
        | Reason::StoreUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::PasswordQueue => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
