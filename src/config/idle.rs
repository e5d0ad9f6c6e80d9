//! What stands there and does nothing: whoever wrote it meant something, and is told what is missing.

use super::api_keys::ApiKeys;
use super::gateway::Gateway;
use super::providers::Provider;
use super::reader::Section;
use super::routes::Routes;
use super::storage::{SessionSettings, Store, StoreKind};
use super::token::{PasswordsAt, TokenEndpoint};
use super::token_issuers::TokenIssuer;
use super::users::Users;
use crate::authenticate::CertificateName;
use crate::credential::CredentialKind;
use crate::identity::EmailVerification;
use crate::provider::Pushed;
use crate::route::Access;
use crate::session::TokenEnd;

/// Keys of a route that need something else of it.
pub(super) fn of_route(section: &Section<'_>, access: Option<&Access>) {
    if section.has("tls") && !section.has("upstream") {
        section.problem("tls", "stands on a route without an upstream, which is for forward-auth only: nobody is called here; remove it, or write upstream = \"https://…\"");
    }
    let Some(access) = access else { return };
    let accept = match access {
        Access::Public => None,
        Access::Optional(accept) | Access::Protected(accept, _) => Some(accept),
    };
    let takes = |kinds: &[CredentialKind]| accept.is_some_and(|accept| kinds.iter().any(|kind| accept.takes(*kind)));
    if section.has("audience") && !takes(&[CredentialKind::Bearer]) {
        section.problem("audience", "is about bearer tokens, and the route reads none; write accept = [\"bearer\"], or remove it");
    }
    if section.has("provider") && accept.is_none() {
        section.problem("provider", "stands beside access = \"public\", where nobody has to be vouched for; remove one of them");
    }
    if section.has("origins") && !takes(&[CredentialKind::Session, CredentialKind::Basic, CredentialKind::Certificate]) {
        section.problem(
            "origins",
            "is about what browsers send along by themselves (\"session\", \"basic\", \"certificate\"), and the route accepts none of it; remove it",
        );
    }
    let signed_in = [CredentialKind::Session, CredentialKind::Bearer, CredentialKind::Basic];
    for key in ["acr", "max_age"].into_iter().filter(|key| section.has(key)) {
        if accept.is_some() && !takes(&signed_in) {
            section.warning(
                key,
                "is about how people signed in, and nothing that the route accepts says so: nobody gets in; add \"session\" or \"bearer\" to accept, or remove it",
            );
        }
    }
}

/// Keys of a provider.
pub(super) fn of_provider(section: &Section<'_>, pushed: Pushed) {
    let endpoints = section.section("endpoints");
    if pushed == Pushed::Never && endpoints.has("pushed_authorization_request") {
        endpoints.problem("pushed_authorization_request", "stands beside par = \"never\", which pushes nothing; remove one of them");
    }
}

/// An address from another claim than `email`, of which `email_verified` says nothing (OpenID Connect Core §5.1).
pub(super) fn warn_of_email_claim(section: &Section<'_>, verification: Option<EmailVerification>) {
    if section.secret_text("email_claim").is_none_or(|claim| claim == "email") || verification == Some(EmailVerification::IfPresent) {
        return;
    }
    let remedy = if verification.is_some() { "; where nobody can set it for themselves write email_verified = \"if-present\"" } else { "" };
    section.warning(
        "email_claim",
        format!(
            "is not \"email\", of which alone email_verified speaks: an address from there counts only where \"email\" is the same{remedy}"
        ),
    );
}

/// `tls` of a table of which all calls are in plain http. `urls` are where they go.
pub(super) fn tls_beside_http<'a>(section: &Section<'_>, urls: impl IntoIterator<Item = &'a str>) {
    let mut urls = urls.into_iter().peekable();
    if section.has("tls") && urls.peek().is_some() && urls.all(|url| url.starts_with("http://")) {
        section.problem("tls", "stands beside plain http, where it does nothing; write https, or remove it");
    }
}

/// `[session]` and `[admin]`, held against where people sign in and where sessions are kept.
pub(super) fn warn_of_settings(
    root: &Section<'_>,
    gateway: Option<&Gateway>,
    session: &SessionSettings,
    providers: &[Provider],
    store: Option<&Store>,
) {
    let section = root.section("session");
    let ends = session.lifetimes.token_end == TokenEnd::Ends;
    for (key, there) in [("end_with_token", ends), ("revalidate", session.revalidate.is_some())] {
        if there && providers.is_empty() {
            section.warning(key, "is about sessions of a [provider], and there is none: it does nothing for local accounts");
        }
    }
    let admin = root.section("admin");
    if gateway.is_some_and(|gateway| gateway.admin.ready_needs_store) && store.is_some_and(|store| matches!(store.kind, StoreKind::Memory))
    {
        admin.warning("ready_needs_store", "does nothing for kind = \"memory\": such a store is always there");
    }
}

/// Whose credentials could be read.
pub(super) struct Tables<'a> {
    pub(super) token_issuers: &'a [TokenIssuer],
    pub(super) token: Option<&'a TokenEndpoint>,
    pub(super) api_keys: Option<&'a ApiKeys>,
    pub(super) users: Option<&'a Users>,
    pub(super) certificates: Option<CertificateName>,
}

/// Tables of credentials that no route reads.
pub(super) fn warn_of_tables(root: &Section<'_>, routes: &Routes, tables: &Tables<'_>) {
    let read = |kind| routes.table.routes().iter().any(|route| route.takes(kind));
    let warn = |key: &str, what: &str, word: &str| {
        root.warning(
            key,
            format!("{what}: no route accepts {word:?}; write accept = [{word:?}, …] where it is meant, or remove the table"),
        );
    };
    if !read(CredentialKind::Bearer) {
        if !tables.token_issuers.is_empty() {
            warn("token_issuer", "names whose tokens count, and none is read", "bearer");
        }
        if tables.token.is_some() {
            warn("token", "gives out tokens that count nowhere", "bearer");
        }
    }
    if tables.api_keys.is_some() && !read(CredentialKind::ApiKey) {
        warn("api_keys", "holds keys that count nowhere", "api_key");
    }
    let by_token = tables.token.is_some_and(|token| token.passwords == Some(PasswordsAt::Local));
    if tables.users.is_some() && !by_token && !read(CredentialKind::Session) && !read(CredentialKind::Basic) {
        warn(if root.has("user") { "user" } else { "users_file" }, "holds accounts that nobody can use", "session");
    }
    if tables.certificates.is_some() && !read(CredentialKind::Certificate) {
        let section = root.section("client_certificate");
        for key in ["user", "issuer"].into_iter().filter(|key| section.has(key)) {
            section.warning(key, "says who somebody with a certificate is, and no route accepts \"certificate\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::tests::load_text;

    const PROVIDER: &str = "[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"s3cret\"\n";
    const ISSUER: &str = "[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"api\"\n";
    const USER: &str = "[[user]]\nname = \"ann\"\npassword = \"$2y$12$FvZ/Pz0vn2hJpe5GgaD/HezSF2u4sY7TBWxdpLaMFNa7vYtT.jky.\"\n";

    /// What is said, of which kind, of which key.
    fn told(top: &str, tables: &str) -> Vec<(Severity, String, String)> {
        let text = format!("public_url = \"https://app.test\"\n{top}\n{tables}");
        let found = load_text("config.toml", &text, &[]).map_or_else(|problems| problems, |config| config.warnings);
        found.into_iter().map(|problem| (problem.severity, problem.path, problem.message)).collect()
    }

    fn route(keys: &str) -> String {
        format!("[[route]]\nid = \"r\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n{keys}\n")
    }

    fn refused(top: &str, tables: &str, path: &str, words: &str) {
        let found = told(top, tables);
        let there = found.iter().any(|(kind, at, message)| *kind == Severity::Error && at == path && message.contains(words));
        assert!(there, "{path} {words}: {top} {tables}: {found:?}");
    }

    fn warned(top: &str, tables: &str, path: &str, words: &str) {
        let found = told(top, tables);
        assert!(found.iter().all(|(kind, _, _)| *kind == Severity::Warning), "{top} {tables}: {found:?}");
        assert!(found.iter().any(|(_, at, message)| at == path && message.contains(words)), "{path} {words}: {top} {tables}: {found:?}");
    }

    fn silent(top: &str, tables: &str) {
        assert_eq!(told(top, tables), [], "{top} {tables}");
    }

    #[test]
    fn a_route_says_nothing_of_credentials_that_it_does_not_read() {
        let both = format!("{PROVIDER}{ISSUER}");
        let bearer = "accept = [\"bearer\"]\n";
        silent("", &format!("{both}{}", route(&format!("{bearer}audience = [\"orders\"]"))));
        refused("", &format!("{both}{}", route("audience = [\"orders\"]")), "route[0].audience", "accept = [\"bearer\"]");
        let origins = "origins = [\"https://a.test\"]";
        silent("", &format!("{PROVIDER}{}", route(origins)));
        refused("", &format!("{both}{}", route(&format!("{bearer}{origins}"))), "route[0].origins", "\"session\"");
        let public = "[[route]]\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"\n";
        refused("", &format!("{PROVIDER}{public}provider = [\"default\"]\n"), "route[0].provider", "public");
        refused("", &format!("{PROVIDER}{public}{origins}\n"), "route[0].origins", "remove it");
        let forward = "[[route]]\nallow = \"any-authenticated\"\n";
        silent("", &format!("{PROVIDER}{forward}"));
        refused("", &format!("{PROVIDER}{forward}tls = {{ server_name = \"a\" }}\n"), "route[0].tls", "forward-auth only");
    }

    #[test]
    fn what_a_login_was_worth_is_asked_of_those_who_signed_in() {
        let top = "trusted_proxies = [\"10.0.0.1\"]\nclient_certificate = { header = \"Client-Cert\" }";
        let accept = |kinds: &str, key: &str| format!("{PROVIDER}{}", route(&format!("accept = [{kinds}]\n{key}")));
        for key in ["acr = [\"mfa\"]", "max_age = 60"] {
            let path = format!("route[0].{}", key.split(' ').next().unwrap());
            silent(top, &accept("\"session\", \"certificate\"", key));
            warned(top, &accept("\"certificate\"", key), &path, "nobody gets in");
        }
    }

    #[test]
    fn tls_is_for_calls_over_tls() {
        let tls = "tls = { server_name = \"a.test\" }\n";
        let plain = PROVIDER.replace("https://login.test", "http://127.0.0.1:1");
        silent("", &format!("{PROVIDER}{tls}{}", route("")));
        refused("", &format!("{plain}{tls}{}", route("")), "provider.tls", "write https");
        silent("", &format!("{plain}internal_url = \"https://inside.test\"\n{tls}{}", route("")));
        let bearer = route("accept = [\"bearer\"]");
        silent("", &format!("{ISSUER}{tls}{bearer}"));
        refused(
            "",
            &format!("{}{tls}{bearer}", ISSUER.replace("https://i.test", "http://127.0.0.1:1")),
            "token_issuer[0].tls",
            "write https",
        );
        let outbound = |url: &str| {
            format!(
                "{PROVIDER}[outbound.o]\ntoken_endpoint = \"{url}\"\nclient_id = \"g\"\nclient_secret = \"s\"\n{tls}{}",
                route("outbound = \"o\"")
            )
        };
        silent("", &outbound("https://t.test/token"));
        refused("", &outbound("http://127.0.0.1:1/token"), "outbound.o.tls", "write https");
        let outgoing = |host: &str| {
            format!(
                "{PROVIDER}[outbound.o]\nprovider = \"default\"\n[[outgoing]]\nlisten = \"127.0.0.1:1\"\nhosts = [\"{host}\"]\noutbound = \"o\"\n{tls}{}",
                route("")
            )
        };
        silent("", &outgoing("https://api.test"));
        refused("", &outgoing("http://api.test"), "outgoing[0].tls", "write https");
        let foreign = |url: &str| {
            format!(
                "{PROVIDER}[token]\n[[foreign_token]]\nid = \"f\"\nkind = \"check\"\ncheck_url = \"{url}\"\ntoken_in = \"bearer\"\naudience = [\"x\"]\n{tls}{bearer}"
            )
        };
        silent("", &foreign("https://c.test/check"));
        refused("", &foreign("http://127.0.0.1:1/check"), "foreign_token[0].tls", "write https");
        let redis = |url: &str, keys: &str| {
            format!("{PROVIDER}[store]\nkind = \"redis\"\nurl = \"{url}\"\n{keys}\n[keys]\nseal_file = \"/nowhere\"\n{}", route(""))
        };
        let of_store = |tables: &str| told("", tables).into_iter().filter(|(_, at, _)| at.starts_with("store")).count();
        let ca = "tls = { ca_file = \"/dev/null\" }";
        assert_eq!(of_store(&redis("rediss://r.test", ca)), 0);
        refused("", &redis("redis://r.test", ca), "store.tls", "rediss://");
        refused("", &redis("rediss://r.test", "tls = { ca_file = \"/nowhere/ca\" }"), "store.tls.ca_file", "cannot be read");
        assert_eq!(of_store(&redis("redis://r.test", "username = \"u\"\npassword = \"p\"")), 0);
        refused("", &redis("redis://r.test", "username = \"u\""), "store.username", "password_file");
    }

    #[test]
    fn tables_of_credentials_that_no_route_reads_are_warned_of() {
        let session = route("accept = [\"session\"]");
        warned("", &format!("{PROVIDER}{ISSUER}{session}"), "token_issuer", "accept = [\"bearer\", …]");
        silent("", &format!("{PROVIDER}{ISSUER}{}", route("accept = [\"session\", \"bearer\"]")));
        warned("", &format!("{USER}[token]\n{session}"), "token", "\"bearer\"");
        warned("", &format!("{PROVIDER}{USER}{ISSUER}{}", route("accept = [\"bearer\"]")), "user", "nobody can use");
        silent("", &format!("{USER}{}", route("accept = [\"basic\"]")));
        silent("", &format!("{USER}[token]\n{}", route("accept = [\"bearer\"]")));
        let keys = "[api_keys]\nfile = \"/dev/null\"\n";
        warned("", &format!("{PROVIDER}{keys}{session}"), "api_keys", "\"api_key\"");
        let top = "trusted_proxies = [\"10.0.0.1\"]\nclient_certificate = { header = \"Client-Cert\", user = \"san_dns\" }";
        warned(top, &format!("{PROVIDER}{session}"), "client_certificate.user", "\"certificate\"");
        silent(top, &format!("{PROVIDER}{}", route("accept = [\"certificate\"]")));
    }

    #[test]
    fn settings_for_what_is_not_there_are_warned_of() {
        for key in ["end_with_token = true", "revalidate = \"15m\""] {
            let path = format!("session.{}", key.split(' ').next().unwrap());
            silent("", &format!("{PROVIDER}[session]\n{key}\n{}", route("")));
            warned("", &format!("{USER}[session]\n{key}\n{}", route("")), &path, "there is none");
        }
        silent("", &format!("{USER}[session]\nrevalidate = \"off\"\n{}", route("")));
        let store = |kind: &str| format!("{PROVIDER}[admin]\nready_needs_store = true\n[store]\nkind = \"{kind}\"\n{}", route(""));
        silent("", &store("embedded"));
        warned("", &store("memory"), "admin.ready_needs_store", "always there");
        silent("leeway = \"60s\"", &format!("{PROVIDER}{}", route("")));
        warned("leeway = \"61s\"", &format!("{PROVIDER}{}", route("")), "leeway", "NTP");
        let pushed = |par: &str| {
            let endpoint = "endpoints = { pushed_authorization_request = \"https://login.test/par\" }";
            format!("{PROVIDER}par = \"{par}\"\n{endpoint}\n{}", route(""))
        };
        silent("", &pushed("auto"));
        refused("", &pushed("never"), "provider.endpoints.pushed_authorization_request", "par = \"never\"");
    }

    #[test]
    fn an_address_that_nobody_vouches_for_is_warned_of() {
        let with = |provider: &str, issuer: &str| {
            format!("{PROVIDER}{provider}\n{ISSUER}{issuer}\n{}", route("accept = [\"session\", \"bearer\"]"))
        };
        silent("", &with("email_claim = \"email\"", "email_claim = \"email\""));
        silent("", &with("email_claim = \"upn\"\nemail_verified = \"if-present\"", ""));
        warned("", &with("email_claim = \"upn\"", ""), "provider.email_claim", "email_verified = \"if-present\"");
        warned("", &with("", "email_claim = \"upn\""), "token_issuer[0].email_claim", "is the same");
    }

    #[test]
    fn whoever_is_always_sent_to_sign_in_has_to_be_seen_asking() {
        let forward = |keys: &str| format!("{PROVIDER}[[route]]\nid = \"r\"\nallow = \"any-authenticated\"\n{keys}\n");
        let set = |set: &str| format!("trusted_proxies = [\"10.0.0.1\"]\nforward_auth = {{ headers = \"{set}\" }}");
        silent(&set("traefik"), &forward("login = \"always\""));
        silent(&set("oauth2-proxy"), &forward("login = \"never\""));
        warned(&set("oauth2-proxy"), &forward("login = \"always\""), "forward_auth.headers", "login = \"always\" of route \"r\"");
        warned(&set("oauth2-proxy"), &format!("{PROVIDER}{}", route("login = \"always\"")), "forward_auth.headers", "proxied here");
    }

    #[test]
    fn one_header_is_named_once_whatever_its_spelling() {
        silent("", &format!("{PROVIDER}{}", route("headers = { X-A = \"1\", X-B = \"2\" }")));
        for key in ["headers", "response_headers"] {
            let keys = route(&format!("{key} = {{ X-Tenant = \"1\", x-tenant = \"2\" }}"));
            refused("", &format!("{PROVIDER}{keys}"), &format!("route[0].{key}"), "is there twice");
        }
        refused("", &format!("{PROVIDER}{}", route("headers = { X-A = \" \" }")), "route[0].headers", "is empty");
    }
}
