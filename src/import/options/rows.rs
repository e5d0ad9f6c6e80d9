//! The rows, in the order of its documentation.

use super::Fate::{self, Different, Mapped, Missing, OffHere, OnHere, Same};
use super::{Kind, OptionRow, Verdict};

const fn switch(name: &'static str, fate: Fate) -> OptionRow {
    OptionRow { name, kind: Kind::Switch, fate }
}

const fn text(name: &'static str, fate: Fate) -> OptionRow {
    OptionRow { name, kind: Kind::Text, fate }
}

const fn list(name: &'static str, fate: Fate) -> OptionRow {
    OptionRow { name, kind: Kind::List, fate }
}

pub(super) const ALL: &[&[OptionRow]] = &[SOURCES, PROVIDER, BY_PROVIDER, WHO, COOKIES, STORE, HEADERS, UPSTREAMS, ANSWERS, SERVER, LOGS];

const SOURCES: &[OptionRow] = &[
    text("config", Mapped),
    text("alpha-config", Mapped),
    switch("convert-config-to-alpha", OffHere(Verdict::Different("one format here from the start; nothing to convert to"))),
    switch("config-test", OffHere(Verdict::Different("`doorward check` names all problems at once"))),
    switch("version", OffHere(Verdict::Different("`doorward --version`"))),
];

const PROVIDER: &[OptionRow] = &[
    text("provider", Mapped),
    text("provider-display-name", Mapped),
    text("client-id", Mapped),
    text("client-secret", Mapped),
    text("client-secret-file", Mapped),
    text("oidc-issuer-url", Mapped),
    switch("skip-oidc-discovery", Mapped),
    text("login-url", Mapped),
    text("redeem-url", Mapped),
    text("profile-url", Mapped),
    text("oidc-jwks-url", Mapped),
    text("validate-url", Same("not needed: tokens are verified by their signature")),
    list(
        "oidc-public-key-file",
        Missing("keys of a provider come from its jwks_uri; for tokens of programs: jwks_file of [[token_issuer]]"),
    ),
    list("oidc-enabled-signing-alg", Mapped),
    list("provider-ca-file", Mapped),
    switch("use-system-trust-store", Mapped),
    switch(
        "ssl-insecure-skip-verify",
        OffHere(Verdict::Missing(
            "verification is never off, the login rests on it: tls = { ca_file = \"…\" } of [provider] trusts your own authority, and pin_sha256 holds it to one key",
        )),
    ),
    switch("insecure-oidc-skip-issuer-verification", Mapped),
    switch("insecure-oidc-skip-nonce", Different("the nonce of the ID token is always checked; there it was not, unless switched on")),
    text("code-challenge-method", Mapped),
    text("force-code-challenge-method", Mapped),
    switch("insecure-oidc-allow-unverified-email", Mapped),
    text("oidc-email-claim", Mapped),
    text("user-id-claim", Mapped),
    text("oidc-groups-claim", Mapped),
    list("oidc-audience-claim", Mapped),
    list("oidc-extra-audience", Mapped),
    text("scope", Mapped),
    switch("skip-claims-from-profile-url", Mapped),
    text("prompt", Mapped),
    text("approval-prompt", Mapped),
    text("acr-values", Mapped),
    text("resource", Mapped),
    text("auth-request-response-mode", Mapped),
    text("jwt-key", Mapped),
    text("jwt-key-file", Mapped),
    text("pubjwk-url", Same("not needed: the provider's keys are those that its discovery document names")),
    text("redirect-url", Mapped),
    switch(
        "relative-redirect-url",
        OffHere(Verdict::Missing("RFC 6749 §3.1.2 wants it absolute; it is public_url + prefix + \"/callback\"")),
    ),
    switch("encode-state", Same("`state` holds only letters, digits, - and _ here")),
    text("backend-logout-url", Mapped),
];

const GITHUB: &str =
    "Doorward speaks OpenID Connect only; put Dex or Keycloak between, whose GitHub connector shows organisations and teams as groups";
const BITBUCKET: &str = "Doorward speaks OpenID Connect only; put Dex or Keycloak between, whose Bitbucket connector shows teams as groups";
const GOOGLE: &str = "Google's ID tokens hold no groups and Doorward does not ask the Admin API; Dex's Google connector shows them as groups, or list the people in a file (emails_file)";

const BY_PROVIDER: &[OptionRow] = &[
    text("github-org", Mapped),
    text("github-team", Mapped),
    text("github-repo", Missing(GITHUB)),
    text("github-token", Missing(GITHUB)),
    list("github-user", Mapped),
    list("google-group", Mapped),
    text("google-admin-email", Missing(GOOGLE)),
    text("google-service-account-json", Missing(GOOGLE)),
    switch("google-use-application-default-credentials", OffHere(Verdict::Missing(GOOGLE))),
    text("google-target-principal", Missing(GOOGLE)),
    switch("google-use-organization-id", OffHere(Verdict::Missing("user_claim takes any claim that Google puts into the ID token"))),
    text("google-admin-api-user-scope", Missing(GOOGLE)),
    list("entra-id-allowed-tenant", Mapped),
    switch("entra-id-federated-token-auth", Mapped),
    text("azure-tenant", Mapped),
    text(
        "azure-graph-group-field",
        Missing("groups come from the token, by object id; in the app registration choose what the groups claim holds"),
    ),
    list("keycloak-group", Mapped),
    list("allowed-role", Mapped),
    list("gitlab-group", Mapped),
    list(
        "gitlab-project",
        Missing(
            "GitLab's API is not asked for access levels; a group of those people in GitLab, and `groups` of the policy, comes nearest",
        ),
    ),
    text("bitbucket-team", Missing(BITBUCKET)),
    text("bitbucket-repository", Missing(BITBUCKET)),
];

const WHO: &[OptionRow] = &[
    list("email-domain", Mapped),
    text("authenticated-emails-file", Mapped),
    list("allowed-group", Mapped),
    list("skip-auth-route", Mapped),
    list("skip-auth-regex", Mapped),
    switch("skip-auth-preflight", Mapped),
    list("trusted-ip", Mapped),
    list("api-route", Mapped),
    switch("force-json-errors", Mapped),
    switch("bearer-token-login-fallback", OffHere(Verdict::Different("a bad bearer token is 401 here always, never a login"))),
    switch("skip-jwt-bearer-tokens", Mapped),
    list("extra-jwt-issuers", Mapped),
    text("htpasswd-file", Mapped),
    list("htpasswd-user-group", Mapped),
    switch(
        "display-htpasswd-form",
        OnHere(Verdict::Missing("local accounts always have the form; without it give programs keys ([api_keys])")),
    ),
];

const SEALED: &str = "not carried over: sessions are sealed with keys of the gateway's own, and everybody signs in once";
const CSRF: &str = "every login has a short-lived cookie of its own here, at most 20 in a browser; tabs never disturb each other";

const COOKIES: &[OptionRow] = &[
    text("cookie-name", Mapped),
    text("cookie-path", Mapped),
    list("cookie-domain", Mapped),
    text("cookie-secret", Different(SEALED)),
    text("cookie-secret-file", Different(SEALED)),
    text("cookie-expire", Mapped),
    text(
        "cookie-refresh",
        Different(
            "tokens are renewed by their own expiry, once per session across replicas; session.revalidate = \"15m\" asks the provider more often",
        ),
    ),
    switch("cookie-secure", Mapped),
    switch("cookie-httponly", OnHere(Verdict::Missing("scripts never see the cookie; they may ask {prefix}/userinfo"))),
    text("cookie-samesite", Mapped),
    text("cookie-csrf-samesite", Different("Lax, or None with response_mode = \"form_post\", which needs it")),
    switch("cookie-csrf-per-request", Same(CSRF)),
    text("cookie-csrf-per-request-limit", Same(CSRF)),
    text("cookie-csrf-expire", Different("an attempt to sign in lasts 10 minutes, its cookie an hour")),
];

const STORE: &[OptionRow] = &[
    text("session-store-type", Mapped),
    switch("session-cookie-minimal", Same("not needed: the cookie holds an id and a key, never tokens")),
    text("redis-connection-url", Mapped),
    text("redis-username", Mapped),
    text("redis-password", Mapped),
    switch("redis-use-sentinel", Mapped),
    text("redis-sentinel-master-name", Mapped),
    list("redis-sentinel-connection-urls", Mapped),
    text("redis-sentinel-password", Mapped),
    switch("redis-use-cluster", Mapped),
    list("redis-cluster-connection-urls", Mapped),
    text("redis-ca-path", Mapped),
    switch(
        "redis-insecure-skip-tls-verify",
        OffHere(Verdict::Missing("verification is never off; tls = { ca_file = \"…\" } of [store] trusts your own authority")),
    ),
    text("redis-connection-idle-timeout", Same("connections are pinged and opened again where Redis closed them")),
];

const HEADERS: &[OptionRow] = &[
    switch("pass-user-headers", Mapped),
    switch("pass-basic-auth", Mapped),
    text("basic-auth-password", Mapped),
    switch("pass-access-token", Mapped),
    switch("pass-authorization-header", Mapped),
    switch("set-xauthrequest", Mapped),
    switch("set-authorization-header", Mapped),
    switch("set-basic-auth", Mapped),
    switch("prefer-email-to-user", Mapped),
    switch(
        "skip-auth-strip-headers",
        OnHere(Verdict::Missing(
            "identity headers that a browser or program sends are always taken out: whoever wrote them could be anybody",
        )),
    ),
    text("signature-key", Missing("GAP-Signature is not sent; `assertion = true` on a route sends a signed Doorward-Assertion instead")),
];

const UPSTREAMS: &[OptionRow] = &[
    list("upstream", Mapped),
    switch("pass-host-header", Mapped),
    switch("ssl-upstream-insecure-skip-verify", Mapped),
    switch(
        "proxy-websockets",
        OnHere(Verdict::Missing(
            "upgrades always pass, from our own origin and those in `origins`; an upstream that speaks none refuses them itself",
        )),
    ),
    text("flush-interval", Same("answers are streamed at once")),
    text("upstream-timeout", Mapped),
    switch("disable-keep-alives", OffHere(Verdict::Missing("limits.upstream_idle_timeout = \"1s\" comes nearest"))),
    switch("allow-query-semicolons", Same("the query passes as it came")),
];

const ANSWERS: &[OptionRow] = &[
    text("proxy-prefix", Mapped),
    list("whitelist-domain", Mapped),
    switch("skip-provider-button", Same("with one provider people go straight to it")),
    text(
        "custom-templates-dir",
        Missing("pages are the gateway's own, since templates could carry script; [pages] has title, logo_file and accent"),
    ),
    text("custom-sign-in-logo", Mapped),
    text("banner", Mapped),
    text("footer", Mapped),
    switch("show-debug-on-error", OffHere(Verdict::Missing("error pages show a request id, by which the log tells the rest"))),
];

const SERVER: &[OptionRow] = &[
    text("http-address", Mapped),
    text("https-address", Mapped),
    switch("force-https", Mapped),
    text("tls-cert-file", Mapped),
    text("tls-key-file", Mapped),
    text("tls-min-version", Mapped),
    list("tls-cipher-suite", Different("the suites of TLS 1.2 and 1.3 here have no weak one among them and cannot be chosen")),
    switch("reverse-proxy", Mapped),
    list("trusted-proxy-ip", Mapped),
    text("real-client-ip-header", Mapped),
    text("ping-path", Mapped),
    text("ready-path", Mapped),
    text("ping-user-agent", Missing("nothing is decided by User-Agent, which anybody can send (CVE-2026-34457); probes ask health_path")),
    switch("gcp-healthchecks", Mapped),
    text("metrics-address", Mapped),
    text("metrics-secure-address", Mapped),
    text("metrics-tls-cert-file", Missing("the admin listener speaks plain http; keep it on loopback or behind a NetworkPolicy")),
    text("metrics-tls-key-file", Missing("the admin listener speaks plain http; keep it on loopback or behind a NetworkPolicy")),
];

const FORMAT: &str = "lines have one form, text or JSON ([log] format); tools that read the old lines need the new fields";
const ROTATION: &str = "access lines go to stdout, events to stderr; journald, the container runtime or logrotate keep and rotate them";
const ON: &str = "access lines and events are always written; [log] level says how much of the events";

const LOGS: &[OptionRow] = &[
    switch("standard-logging", OnHere(Verdict::Missing(ON))),
    text("standard-logging-format", Different(FORMAT)),
    switch("auth-logging", OnHere(Verdict::Missing(ON))),
    text("auth-logging-format", Different(FORMAT)),
    switch("request-logging", OnHere(Verdict::Missing("log = false on a route silences what passes there, never a refusal"))),
    text("request-logging-format", Different(FORMAT)),
    switch("errors-to-info-log", OffHere(Verdict::Different(ROTATION))),
    text("logging-filename", Different(ROTATION)),
    text("logging-max-size", Different(ROTATION)),
    text("logging-max-age", Different(ROTATION)),
    text("logging-max-backups", Different(ROTATION)),
    switch("logging-local-time", Different("times are UTC")),
    switch("logging-compress", OffHere(Verdict::Different(ROTATION))),
    list("exclude-logging-path", Mapped),
    switch("silence-ping-logging", Same("health_path is never logged")),
    text("request-id-header", Different("every request gets an id of the gateway's own, which the log, our pages and JSON errors show")),
];
