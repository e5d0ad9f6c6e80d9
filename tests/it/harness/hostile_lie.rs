//! How the hostile provider lies: one row per lie.

use std::time::Duration;

/// An endpoint of the hostile provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// `/jwks`.
    Jwks,
    /// `/authorize`.
    Authorization,
    /// `/par`: pushed authorization requests (RFC 9126).
    Par,
    /// `/token`, whatever for.
    Token,
    /// `/token` for a refresh: counted here and as [`Endpoint::Token`], and lied about apart, so that logins beside it go well.
    Refresh,
    /// `/userinfo`.
    Userinfo,
    /// `/end_session`.
    EndSession,
    /// `/revoke` (RFC 7009).
    Revocation,
    /// Where [`Lie::RedirectFromTokenEndpoint`] and [`Lie::RedirectFromPar`] lead: must never be asked.
    Elsewhere,
}

/// What the provider does wrong (or only unusually: see [`Lie::must_be_accepted`]). It holds from `set` to the next `set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// All is as it should be.
    None,

    // --- claims of the ID token
    /// `iss` is another one.
    WrongIss,
    /// `iss` is ours with a slash at the end: not the same string.
    IssWithSlash,
    /// No `iss`.
    NoIss,
    /// `aud` is another `client_id`.
    WrongAud,
    /// No `aud`.
    NoAud,
    /// `aud` is a list with ours alone (accept).
    AudAsList,
    /// `aud` holds ours and one nobody trusts, without `azp`.
    ExtraUntrustedAud,
    /// `azp` is another `client_id`.
    WrongAzp,
    /// No `nonce`.
    NonceMissing,
    /// Another `nonce`.
    NonceOther,
    /// `exp` an hour ago.
    Expired,
    /// No `exp`.
    NoExp,
    /// `iat` an hour ahead.
    FutureIat,
    /// No `iat`.
    NoIat,
    /// `nbf` an hour ahead.
    NotYetValid,
    /// No `sub`.
    NoSub,
    /// `sub` is the empty string.
    EmptySub,
    /// `sub` is a number.
    SubNotString,
    /// `at_hash` of another token.
    AtHashWrong,
    /// No `at_hash`, which the code flow allows (accept).
    AtHashMissing,

    // --- signature of the ID token
    /// One bit of the signature turned.
    BadSignature,
    /// Signed by another key under the right `kid`.
    OtherKeySameKid,
    /// `alg: none`, no signature.
    AlgNone,
    /// HMAC with the public key's PEM as the secret.
    Hs256WithPublicKey,
    /// HMAC with the `client_secret`, which nobody agreed on.
    Hs256WithClientSecret,
    /// A `kid` that the JWKS does not hold.
    UnknownKid,
    /// The keys change after the gateway may have fetched them: the token's `kid` is found only by asking again (accept).
    KeyRotatedBeforeSigning,
    /// No `kid`, one key in the JWKS (accept).
    KidAbsentOneKey,
    /// No `kid`, several keys that would fit (accept or refuse; never the wrong person).
    KidAbsentSeveralKeys,
    /// The JWKS also holds keys of types nobody knows (accept).
    UnknownKeyTypesInJwks,
    /// `alg` is an RSA one, `kid` names an EC key.
    EcKeyForRsaAlg,
    /// A critical header extension that nobody knows (`crit`, RFC 7515 §4.1.11).
    UnknownCrit,
    /// The JWKS has no key at all.
    JwksEmpty,

    // --- discovery
    /// `issuer` in the document is another one.
    DiscoveryIssuerMismatch,
    /// The document does not speak of PKCE (accept; S256 is sent all the same).
    PromisesS256Absent,
    /// The document offers PKCE `plain` only (S256 is sent all the same).
    PromisesPlainOnly,

    // --- userinfo
    /// Userinfo is about somebody else.
    UserinfoOtherSub,
    /// Userinfo has no `sub`.
    UserinfoNoSub,

    // --- the authorization response
    /// `iss` parameter of another provider (RFC 9207).
    ResponseIssWrong,
    /// No `iss` parameter though discovery promises it.
    ResponseIssMissingThoughPromised,
    /// Two `iss` parameters.
    ResponseIssTwice,
    /// No `state`.
    StateMissing,
    /// Another `state`.
    StateOther,
    /// Two `state` parameters.
    StateTwice,
    /// Two `code` parameters.
    CodeTwice,
    /// An error instead of a code, by this name, with HTML in its description.
    ErrorResponse(&'static str),

    // --- pushed authorization requests
    /// No `request_uri` in the answer.
    ParWithoutRequestUri,
    /// The right answer with status 200.
    ParNotCreated,
    /// 307 to [`Endpoint::Elsewhere`].
    RedirectFromPar,

    // --- the token endpoint
    /// No ID token in the answer.
    NoIdToken,
    /// No access token in the answer.
    NoAccessToken,
    /// `token_type` is one that nobody knows.
    TokenTypeOther,
    /// `token_type` is the right one in other letters: case does not count (accept).
    TokenTypeShouted,
    /// The access token is bound, and `token_type` says so in other letters (accept where that was asked for).
    TokenTypeDpop,
    /// 307 to [`Endpoint::Elsewhere`].
    RedirectFromTokenEndpoint,
    /// `invalid_grant` for a good code.
    CodeRefused,
    /// Userinfo takes no DPoP proof: it wants another nonce each time.
    UserinfoNewNonces,

    // --- a refresh (OpenID Connect Core §12.2; a login is honest)
    /// The ID token is about somebody else.
    RefreshOtherSub,
    /// Its `iss` is another one.
    RefreshOtherIss,
    /// Its `aud` is another `client_id`.
    RefreshOtherAud,
    /// It has an `azp` that the first one did not have.
    RefreshOtherAzp,
    /// It has a `nonce`, and not that of the login.
    RefreshOtherNonce,
    /// Its `auth_time` is not that of the login.
    RefreshOtherAuthTime,
    /// Its `exp` lies an hour back.
    RefreshExpired,
    /// One bit of its signature turned.
    RefreshBadSignature,
    /// There is none (accept: §12.2 says that it might not be there).
    RefreshNoIdToken,
    /// No access token in the answer.
    RefreshNoAccessToken,
    /// No new refresh token: the old one stays good (accept).
    RefreshNotRotated,
    /// A scope that is shorter than before.
    RefreshShorterScope,
    /// `invalid_grant`; the refresh token is not used up.
    RefreshRefused,
    /// `invalid_client`.
    RefreshInvalidClient,

    // --- how the user logged in (a route that asks for nothing does not care)
    /// No `acr`, whatever was asked for.
    AcrMissing,
    /// An `acr` of less worth, by this name, whatever was asked for.
    AcrWeaker(&'static str),
    /// No `auth_time`.
    AuthTimeMissing,
    /// `auth_time` lies a day back, whatever `max_age` says.
    AuthTimeOld,
    /// `auth_time` two hours ahead.
    AuthTimeAhead,

    // --- any endpoint
    /// This status instead of an answer.
    Status(Endpoint, u16),
    /// HTML instead of JSON, with status 200.
    NotJson(Endpoint),
    /// The connection closes instead of an answer; nothing was done.
    Closes(Endpoint),
    /// All was done (a rotating refresh token is used up), and the connection closes in the middle of the answer's body.
    HalfAnswer(Endpoint),
    /// No answer at all, on a connection that stays open.
    Silent(Endpoint),
    /// An answer that never ends, quickly sent.
    EndlessAnswer(Endpoint),
    /// The right answer, blown up to 32 MiB.
    HugeAnswer(Endpoint),
    /// The right answer, that much later.
    SlowAnswer(Endpoint, Duration),
    /// The right answer, a byte every 100 ms.
    DrippingAnswer(Endpoint),

    // --- claims of the user
    /// Groups left out because they are too many, by `_claim_names` (Entra ID, Core §5.6.2).
    GroupsOverage,
    /// The same, by `hasgroups`.
    GroupsOverageHasgroups,
    /// `email_verified` is the string `"true"`.
    EmailVerifiedString,
    /// `email_verified` is `false`.
    EmailVerifiedFalse,
    /// No `email_verified`.
    EmailAbsentVerified,
    /// 64 KiB of groups.
    HugeGroups,
    /// CR, LF, NUL, commas and non-ASCII in e-mail, name and groups.
    ClaimsWithControlBytes,
    /// `groups` is one string instead of a list.
    GroupsAsString,

    // --- logout
    /// After the logout, another `state`.
    LogoutStateOther,
    /// After the logout, no `state`.
    LogoutStateMissing,
}

impl Lie {
    /// Status 500 from the token endpoint.
    pub const TOKEN_ENDPOINT_500: Self = Self::Status(Endpoint::Token, 500);
    /// The token endpoint answers with a page.
    pub const TOKEN_NOT_JSON: Self = Self::NotJson(Endpoint::Token);
    /// Userinfo is down.
    pub const USERINFO_DOWN: Self = Self::Status(Endpoint::Userinfo, 503);

    /// Whether a login must succeed all the same.
    #[must_use]
    pub fn must_be_accepted(&self) -> bool {
        matches!(
            self,
            Self::None
                | Self::AudAsList
                | Self::AtHashMissing
                | Self::TokenTypeShouted
                | Self::KeyRotatedBeforeSigning
                | Self::KidAbsentOneKey
                | Self::UnknownKeyTypesInJwks
                | Self::PromisesS256Absent
                | Self::PromisesPlainOnly
                | Self::LogoutStateOther
                | Self::LogoutStateMissing
                | Self::AcrMissing
                | Self::AcrWeaker(_)
                | Self::AuthTimeMissing
                | Self::AuthTimeOld
                | Self::AuthTimeAhead
        ) || Self::of_refresh().contains(self)
    }

    /// Whether a session must go on after a refresh with it, as the one it was.
    #[must_use]
    pub fn must_refresh(&self) -> bool {
        matches!(self, Self::RefreshNoIdToken | Self::RefreshNotRotated | Self::RefreshShorterScope)
    }

    /// The lies that hold for a refresh only: each beside an honest login. Those of the transport come on top, with [`Endpoint::Refresh`].
    #[must_use]
    pub fn of_refresh() -> Vec<Self> {
        use Lie as L;
        vec![
            L::RefreshOtherSub,
            L::RefreshOtherIss,
            L::RefreshOtherAud,
            L::RefreshOtherAzp,
            L::RefreshOtherNonce,
            L::RefreshOtherAuthTime,
            L::RefreshExpired,
            L::RefreshBadSignature,
            L::RefreshNoIdToken,
            L::RefreshNoAccessToken,
            L::RefreshNotRotated,
            L::RefreshShorterScope,
            L::RefreshRefused,
            L::RefreshInvalidClient,
        ]
    }

    /// The lies of the ID token, each a login that must fail with the upstream untouched, and those that must not hurt: one table for a
    /// test that wants no row forgotten.
    #[must_use]
    pub fn of_id_token() -> Vec<Self> {
        use Lie as L;
        vec![
            L::None,
            L::WrongIss,
            L::IssWithSlash,
            L::NoIss,
            L::WrongAud,
            L::NoAud,
            L::AudAsList,
            L::ExtraUntrustedAud,
            L::WrongAzp,
            L::NonceMissing,
            L::NonceOther,
            L::Expired,
            L::NoExp,
            L::FutureIat,
            L::NoIat,
            L::NotYetValid,
            L::NoSub,
            L::EmptySub,
            L::SubNotString,
            L::AtHashWrong,
            L::AtHashMissing,
            L::BadSignature,
            L::OtherKeySameKid,
            L::AlgNone,
            L::Hs256WithPublicKey,
            L::Hs256WithClientSecret,
            L::UnknownKid,
            L::KeyRotatedBeforeSigning,
            L::KidAbsentOneKey,
            L::KidAbsentSeveralKeys,
            L::UnknownKeyTypesInJwks,
            L::EcKeyForRsaAlg,
            L::UnknownCrit,
            L::JwksEmpty,
        ]
    }

    /// The endpoint that a transport lie is about.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Status(endpoint, _)
            | Self::NotJson(endpoint)
            | Self::Closes(endpoint)
            | Self::HalfAnswer(endpoint)
            | Self::Silent(endpoint)
            | Self::EndlessAnswer(endpoint)
            | Self::HugeAnswer(endpoint)
            | Self::SlowAnswer(endpoint, _)
            | Self::DrippingAnswer(endpoint) => Some(*endpoint),
            _ => None,
        }
    }
}
