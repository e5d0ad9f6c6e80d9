//! Why a request was let through or refused: one closed list. The same kebab-case word stands in the log line, the metric label,
//! the JSON body, the error page and the test.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// One entry of the closed list; [`Reason::as_str`] is its word everywhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// Every reason there is, in the order of this file.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The word, in kebab-case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $word),+ }
            }
        }
    };
}

reasons! {
    // --- let through
    /// The route is public; no credential was read.
    Public = "public",
    /// The route is optional and nobody is signed in.
    OptionalAnonymous = "optional-anonymous",
    /// A CORS preflight that the route lets through without credentials.
    Preflight = "preflight",
    /// An identity that the policy allows.
    Allowed = "allowed",
    /// An identity that the policy would refuse, on a route whose policy is on trial (`dry_run`).
    DryRun = "dry-run",
    /// An endpoint of the gateway itself answered.
    Endpoint = "endpoint",
    /// A call that leaves, to a listed host.
    Outgoing = "outgoing",
    /// A request without TLS, sent on to https.
    ToHttps = "to-https",

    // --- the request itself
    /// The path has more than one reading (`%2f`, `..;`, `\` and the like).
    PathAmbiguous = "path-ambiguous",
    /// The path holds an escaped slash, and the route has no `encoded_slash = "keep"`.
    EncodedSlash = "encoded-slash",
    /// No `Host`, two of them, or one that is no host.
    HostMalformed = "host-malformed",
    /// A `Host` that the config does not name.
    HostUnknown = "host-unknown",
    /// No route matches.
    NoRoute = "no-route",
    /// More than one `Authorization` header.
    AuthorizationRepeated = "authorization-repeated",
    /// The token stands in a form that RFC 6750 calls `invalid_request`.
    AuthorizationMalformed = "authorization-malformed",
    /// Two access tokens, in one place or in two that the route reads (RFC 6750 §2).
    TokenRepeated = "token-repeated",
    /// What stands where the route reads a token outside of `Authorization` is none.
    TokenUnreadable = "token-unreadable",
    /// Headers larger or more numerous than the limits allow.
    HeadersTooLarge = "headers-too-large",
    /// A body larger than this endpoint takes.
    BodyTooLarge = "body-too-large",
    /// What came is no HTTP request, or one that two readers would read differently.
    RequestMalformed = "request-malformed",
    /// The body stopped coming.
    BodyTimeout = "body-timeout",
    /// The body broke off, or is framed wrongly.
    BodyBroken = "body-broken",
    /// Nobody waited for the answer any more: the downstream went away, or a drain came to its deadline. Never sent.
    Unanswered = "unanswered",
    /// An endpoint that does not take this method.
    MethodNotAllowed = "method-not-allowed",
    /// A parameter missing, repeated or malformed at one of our endpoints.
    ParameterInvalid = "parameter-invalid",
    /// An endpoint under the prefix that does not exist.
    EndpointUnknown = "endpoint-unknown",
    /// Where to go after login is neither ours nor in `redirect_origins`.
    ReturnToRefused = "return-to-refused",
    /// Forward-auth: the peer is not in `trusted_proxies`.
    PeerNotTrusted = "peer-not-trusted",
    /// Forward-auth: a forwarded header that is needed is missing.
    ForwardedMissing = "forwarded-missing",
    /// Forward-auth: a forwarded header doubled or malformed.
    ForwardedAmbiguous = "forwarded-ambiguous",
    /// Forward-auth: rules in the query (`allowed_groups` and the like).
    InlineRule = "inline-rule",
    /// Forward-auth: `?policy=` names none that the config has.
    PolicyUnknown = "policy-unknown",
    /// An upgrade with a session from an `Origin` that the route does not list.
    UpgradeOrigin = "upgrade-origin",
    /// A cross-site request to an endpoint that changes something.
    CrossSite = "cross-site",
    /// Too many logins under way from this address.
    PendingLoginsOfAddress = "pending-logins-of-address",
    /// Too many logins under way in all.
    PendingLogins = "pending-logins",

    // --- the credential
    /// Nothing was shown.
    NoCredential = "no-credential",
    /// The session was not used for longer than `session.idle`.
    SessionIdle = "session-idle",
    /// The session reached `session.absolute`.
    SessionExpired = "session-expired",
    /// The session ended while a request in its name was still under way.
    SessionEnded = "session-ended",
    /// The provider's token is over, no new one can be had, and `session.end_with_token` is set.
    SessionTokenEnded = "session-token-ended",
    /// The provider refused to renew the session's token.
    RefreshRefused = "refresh-refused",
    /// The provider was asked again and does not know the person any more.
    RevalidationRefused = "revalidation-refused",
    /// The provider ended the session for which this login was under way.
    SidEnded = "sid-ended",
    /// Two cookies that both open a session: none counts.
    SessionAmbiguous = "session-ambiguous",
    /// A bearer token that is no JWT.
    TokenMalformed = "token-malformed",
    /// A token whose `iss` no `[[token_issuer]]` names.
    TokenIssuerUnknown = "token-issuer-unknown",
    /// A token signed by an algorithm that its issuer's table does not list.
    TokenAlgorithm = "token-algorithm",
    /// `typ` is not what the issuer's tokens carry.
    TokenType = "token-type",
    /// An ID token where an access token belongs.
    TokenIsIdToken = "token-is-id-token",
    /// A critical header parameter that we do not know (RFC 7515 §4.1.11).
    TokenCritical = "token-critical",
    /// No key of the issuer has the token's `kid`.
    TokenKeyUnknown = "token-key-unknown",
    /// The signature does not verify.
    TokenSignature = "token-signature",
    /// A required claim is missing or of another type.
    TokenClaims = "token-claims",
    /// Issued for another audience.
    TokenAudience = "token-audience",
    /// `exp` has passed.
    TokenExpired = "token-expired",
    /// `nbf` or `iat` lies ahead.
    TokenNotYetValid = "token-not-yet-valid",
    /// An opaque token that its issuer says is not active: over, revoked, or none of its.
    TokenInactive = "token-inactive",
    /// A bound token (`cnf`) that this gateway has no means to check.
    TokenBound = "token-bound",
    /// A token shown as `DPoP` that is bound to no key.
    DpopUnbound = "dpop-unbound",
    /// The route takes only tokens that are bound to a key by DPoP.
    DpopRequired = "dpop-required",
    /// No DPoP proof beside a token that needs one.
    DpopProofMissing = "dpop-proof-missing",
    /// More than one DPoP proof.
    DpopProofRepeated = "dpop-proof-repeated",
    /// The DPoP proof is no JWT.
    DpopProofMalformed = "dpop-proof-malformed",
    /// A claim of the DPoP proof is missing or of another type.
    DpopProofClaims = "dpop-proof-claims",
    /// `typ` of the DPoP proof is another.
    DpopProofType = "dpop-proof-type",
    /// The DPoP proof is signed by an algorithm that is not allowed.
    DpopProofAlgorithm = "dpop-proof-algorithm",
    /// The DPoP proof brings no key, a private one, or one that does not fit its algorithm.
    DpopProofKey = "dpop-proof-key",
    /// The DPoP proof's signature does not verify.
    DpopProofSignature = "dpop-proof-signature",
    /// The DPoP proof is for another method (`htm`).
    DpopProofMethod = "dpop-proof-method",
    /// The DPoP proof is for another URL (`htu`).
    DpopProofUrl = "dpop-proof-url",
    /// The DPoP proof lacks the nonce that is asked for, or has one that no longer counts.
    DpopNonce = "dpop-nonce",
    /// The DPoP proof was made too long ago, or in the future (`iat`).
    DpopProofAge = "dpop-proof-age",
    /// The DPoP proof is for another token (`ath`).
    DpopProofToken = "dpop-proof-token",
    /// The token is bound to another key than the DPoP proof's (`cnf.jkt`).
    DpopKeyMismatch = "dpop-key-mismatch",
    /// The DPoP proof was there before (`jti`).
    DpopProofReplayed = "dpop-proof-replayed",
    /// The route takes only tokens that are bound to a certificate.
    CertificateRequired = "certificate-required",
    /// A token bound to a certificate, and none was shown.
    CertificateMissing = "certificate-missing",
    /// The token is bound to another certificate (`cnf.x5t#S256`).
    CertificateMismatch = "certificate-mismatch",
    /// The header in which a trusted proxy names the certificate cannot be read, or is there twice.
    CertificateUnreadable = "certificate-unreadable",
    /// The certificate's time is over, or has not begun.
    CertificateExpired = "certificate-expired",
    /// The certificate holds no name of the kind that the config asks for, or several.
    CertificateNameless = "certificate-nameless",

    /// A session token that is none: longer, shorter, or of other letters than any we gave out.
    IssuedTokenMalformed = "issued-token-malformed",
    /// A session token that opens nothing: never given out, ended, or of another gateway.
    IssuedTokenUnknown = "issued-token-unknown",
    /// A session token whose time is over (`token.lifetime`).
    IssuedTokenExpired = "issued-token-expired",
    /// A session token whose session the provider ended.
    IssuedTokenEnded = "issued-token-ended",
    /// What stands in the header of API keys is none.
    ApiKeyMalformed = "api-key-malformed",
    /// An API key that the file does not name.
    ApiKeyUnknown = "api-key-unknown",
    /// An API key whose time is over.
    ApiKeyExpired = "api-key-expired",
    /// More than one header with an API key.
    ApiKeyRepeated = "api-key-repeated",

    // --- the policy
    /// No rule of the policy lets this identity through.
    NotAllowed = "not-allowed",
    /// `deny` of the route means this identity.
    DeniedByRule = "denied-by-rule",
    /// A scope is missing.
    InsufficientScope = "insufficient-scope",
    /// The login was worth less than the route asks for (`acr`).
    LoginTooWeak = "login-too-weak",
    /// The login was longer ago than the route allows (`max_age`).
    LoginTooOld = "login-too-old",
    /// Signed in with a provider that this route does not take.
    WrongProvider = "wrong-provider",
    /// The policy asks for an e-mail and the provider has not verified it.
    EmailNotVerified = "email-not-verified",
    /// The policy asks for an e-mail and the address is malformed.
    EmailMalformed = "email-malformed",
    /// The provider left the groups out because they are too many.
    GroupsOverage = "groups-overage",
    /// The caller's token gets none for the upstream.
    ExchangeRefused = "exchange-refused",
    /// A call that leaves names a host that its listener does not list.
    OutgoingHost = "outgoing-host",
    /// The identity headers would exceed 8 KiB.
    IdentityTooLarge = "identity-too-large",

    // --- the way through login
    /// The callback holds no `state`, or one that no login of this browser has.
    StateUnknown = "state-unknown",
    /// The login is known and its attempt is spent or over.
    AttemptSpent = "attempt-spent",
    /// The login did not get through after several attempts.
    FlowExhausted = "flow-exhausted",
    /// Several logins in a row succeeded, and the browser came back without their session.
    SessionNotKept = "session-not-kept",
    /// The login was not worth what the place asks for (`acr`), or too long ago (`max_age`).
    StepUpNotGiven = "step-up-not-given",
    /// A form whose sender's session had ended, and that is too large to be kept, or brings a file.
    FormNotKept = "form-not-kept",
    /// A form that was kept was sent already, belongs to somebody else, or was kept too long.
    FormGone = "form-gone",
    /// A login that another site began at a provider that the config does not name.
    IssuerUnknown = "issuer-unknown",
    /// A callback parameter appears twice.
    ParameterRepeated = "parameter-repeated",
    /// The provider answered with `error`.
    ProviderError = "provider-error",
    /// `iss` of the response is another (RFC 9207).
    ResponseIssuer = "response-issuer",
    /// The provider promises `iss` in its responses and left it out (RFC 9207).
    ResponseIssuerMissing = "response-issuer-missing",
    /// The provider refused the authorization request that was pushed to it (RFC 9126).
    PushedRequestRefused = "pushed-request-refused",
    /// Its answer to the pushed authorization request is none.
    PushedResponse = "pushed-response",
    /// The token endpoint refused the code.
    CodeRefused = "code-refused",
    /// The token endpoint's answer is not a token response.
    TokenResponse = "token-response",
    /// The token response holds no ID token.
    IdTokenMissing = "id-token-missing",
    /// The ID token is no JWS.
    IdTokenMalformed = "id-token-malformed",
    /// Its algorithm is not allowed.
    IdTokenAlgorithm = "id-token-algorithm",
    /// No key of the provider fits it.
    IdTokenKeyUnknown = "id-token-key-unknown",
    /// Its signature does not verify.
    IdTokenSignature = "id-token-signature",
    /// Its `iss` is another.
    IdTokenIssuer = "id-token-issuer",
    /// It is of a tenant that `tenants` does not list.
    TenantUnlisted = "tenant-unlisted",
    /// Its `aud` is another, or names others we do not trust.
    IdTokenAudience = "id-token-audience",
    /// Its `azp` is another or missing.
    IdTokenAuthorizedParty = "id-token-authorized-party",
    /// It is over.
    IdTokenExpired = "id-token-expired",
    /// It was issued in the future, or `nbf` lies ahead.
    IdTokenNotYetValid = "id-token-not-yet-valid",
    /// A required claim is missing or of another type.
    IdTokenClaims = "id-token-claims",
    /// Its `nonce` is missing or another.
    IdTokenNonce = "id-token-nonce",
    /// Its `at_hash` does not fit the access token.
    IdTokenAccessTokenHash = "id-token-access-token-hash",
    /// The access token, whose claims count, is no JWT of the provider's, or speaks of somebody else.
    AccessTokenClaims = "access-token-claims",
    /// Userinfo speaks of somebody else.
    UserinfoSubject = "userinfo-subject",
    /// Userinfo's answer is not a JSON object of claims.
    UserinfoMalformed = "userinfo-malformed",
    /// The provider's document names another issuer, or lacks what login needs.
    ProviderMetadata = "provider-metadata",
    /// Local accounts: nobody has this name, or the password is another.
    PasswordWrong = "password-wrong",
    /// Local accounts: the code is another, or too old.
    CodeWrong = "code-wrong",
    /// Local accounts: the code was right and had been used before.
    CodeUsed = "code-used",
    /// Local accounts: the place wants a code and the account has no authenticator app.
    CodeNotSet = "code-not-set",
    /// Local accounts: too many wrong guesses for this name.
    GuessesOfName = "guesses-of-name",
    /// Too many wrong guesses, or wrong API keys, from this address.
    GuessesOfAddress = "guesses-of-address",
    /// Local accounts: too many passwords wait to be checked.
    PasswordQueue = "password-queue",
    /// Token endpoint: a `grant_type` that is unknown, or that `token.grants` does not name.
    GrantUnsupported = "grant-unsupported",
    /// Token endpoint: whoever issued a foreign token says that it is not good.
    ForeignTokenRefused = "foreign-token-refused",
    /// Token endpoint: a foreign token that was issued for another application.
    ForeignTokenAudience = "foreign-token-audience",
    /// Token endpoint: a foreign token that is over.
    ForeignTokenExpired = "foreign-token-expired",
    /// Token endpoint: a foreign token of nobody, or of somebody else than was said before.
    ForeignTokenSubject = "foreign-token-subject",
    /// The sign-out came back without the `state` that went out.
    SignOutState = "sign-out-state",

    // --- the provider signs somebody out
    /// A logout for an issuer that no provider has, or a logout token whose `iss` is another.
    LogoutIssuer = "logout-issuer",
    /// A logout token that is no JWS.
    LogoutTokenMalformed = "logout-token-malformed",
    /// Its `typ` is that of another kind of token.
    LogoutTokenType = "logout-token-type",
    /// Its algorithm is not allowed.
    LogoutTokenAlgorithm = "logout-token-algorithm",
    /// No key of the provider fits it.
    LogoutTokenKeyUnknown = "logout-token-key-unknown",
    /// No key at hand fits it, and newer ones are not asked for so soon: to be sent again.
    LogoutTokenKeyLater = "logout-token-key-later",
    /// Its signature does not verify.
    LogoutTokenSignature = "logout-token-signature",
    /// Its `aud` or `azp` is another, or names others we do not trust.
    LogoutTokenAudience = "logout-token-audience",
    /// It is over, or was issued too long ago.
    LogoutTokenExpired = "logout-token-expired",
    /// It was issued in the future, or `nbf` lies ahead.
    LogoutTokenNotYetValid = "logout-token-not-yet-valid",
    /// A required claim is missing or of another type.
    LogoutTokenClaims = "logout-token-claims",
    /// It names neither `sub` nor `sid`.
    LogoutTokenSubject = "logout-token-subject",
    /// Its `events` do not say that it is about a logout.
    LogoutTokenEvent = "logout-token-event",
    /// It holds a `nonce`.
    LogoutTokenNonce = "logout-token-nonce",
    /// Its `jti` was there before.
    LogoutTokenReplayed = "logout-token-replayed",
    /// The provider did not revoke the tokens of a session that ended. Only in the log: who signed out is signed out.
    RevocationRefused = "revocation-refused",

    // --- a dependency did not answer
    /// The provider did not answer, or not in time.
    ProviderUnreachable = "provider-unreachable",
    /// The issuer's keys could not be fetched.
    KeysUnreachable = "keys-unreachable",
    /// The issuer did not answer about an opaque token.
    IntrospectionUnreachable = "introspection-unreachable",
    /// Whoever checks tokens of others did not answer.
    TokenCheckUnreachable = "token-check-unreachable",
    /// A file that a header tells of cannot be read.
    HeaderFileUnreadable = "header-file-unreadable",
    /// No token for the upstream could be had.
    UpstreamTokenUnreachable = "upstream-token-unreachable",
    /// The session store did not answer.
    StoreUnreachable = "store-unreachable",

    // --- the upstream
    /// No connection to the upstream.
    UpstreamUnreachable = "upstream-unreachable",
    /// The upstream took longer than allowed.
    UpstreamTimeout = "upstream-timeout",
    /// So many requests are under way at the upstream as it may have at once, and none ended in time.
    UpstreamBusy = "upstream-busy",
    /// The upstream broke off or spoke no HTTP.
    UpstreamBroken = "upstream-broken",
    /// A name that Basic authentication cannot carry to the upstream.
    BasicNameUnfit = "basic-name-unfit",
    /// What `rewrite` makes of the path has more than one reading.
    RewriteAmbiguous = "rewrite-ambiguous",
    /// The route has no upstream: it exists for forward-auth.
    UpstreamAbsent = "upstream-absent",
    /// A WebSocket or other upgrade, to an upstream that takes HTTP/2 alone.
    UpgradeUnsupported = "upgrade-unsupported",

    // --- the gateway
    /// A defect of ours; the request ended, nothing else did.
    Internal = "internal",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_word_is_kebab_case_and_its_own() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{word}");
        }
    }
}
