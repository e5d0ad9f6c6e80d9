//! The structured ("alpha") config: providers, upstreams, headers, servers. Its keys are read under the names that flags give them, each is
//! asked for once, and what nobody asked for is told.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::legacy;
use super::old::{LoginParameter, Old, OldHeader, OldPath, OldProvider, OldSecret, OldUpstream, OldValue, Target, given};
use super::report::{Part, Report};

/// A key of a provider, and the option that says the same.
const OF_PROVIDER: &[(&str, &str)] = &[
    ("provider", "provider"),
    ("name", "provider-display-name"),
    ("clientID", "client-id"),
    ("clientSecret", "client-secret"),
    ("clientSecretFile", "client-secret-file"),
    ("caFiles", "provider-ca-file"),
    ("useSystemTrustStore", "use-system-trust-store"),
    ("loginURL", "login-url"),
    ("redeemURL", "redeem-url"),
    ("profileURL", "profile-url"),
    ("skipClaimsFromProfileURL", "skip-claims-from-profile-url"),
    ("resource", "resource"),
    ("validateURL", "validate-url"),
    ("scope", "scope"),
    ("allowedGroups", "allowed-group"),
    ("code_challenge_method", "code-challenge-method"),
    ("codeChallengeMethod", "code-challenge-method"),
    ("backendLogoutURL", "backend-logout-url"),
    ("authRequestResponseMode", "auth-request-response-mode"),
    ("keycloakConfig.groups", "keycloak-group"),
    ("keycloakConfig.roles", "allowed-role"),
    ("azureConfig.tenant", "azure-tenant"),
    ("azureConfig.graphGroupField", "azure-graph-group-field"),
    ("microsoftEntraIDConfig.allowedTenants", "entra-id-allowed-tenant"),
    ("microsoftEntraIDConfig.federatedTokenAuth", "entra-id-federated-token-auth"),
    ("bitbucketConfig.team", "bitbucket-team"),
    ("bitbucketConfig.repository", "bitbucket-repository"),
    ("githubConfig.org", "github-org"),
    ("githubConfig.team", "github-team"),
    ("githubConfig.repo", "github-repo"),
    ("githubConfig.token", "github-token"),
    ("githubConfig.users", "github-user"),
    ("gitlabConfig.group", "gitlab-group"),
    ("gitlabConfig.projects", "gitlab-project"),
    ("googleConfig.group", "google-group"),
    ("googleConfig.adminEmail", "google-admin-email"),
    ("googleConfig.serviceAccountJson", "google-service-account-json"),
    ("googleConfig.useApplicationDefaultCredentials", "google-use-application-default-credentials"),
    ("googleConfig.targetPrincipal", "google-target-principal"),
    ("googleConfig.useOrganizationID", "google-use-organization-id"),
    ("googleConfig.adminAPIUserScope", "google-admin-api-user-scope"),
    ("loginGovConfig.jwtKey", "jwt-key"),
    ("loginGovConfig.jwtKeyFile", "jwt-key-file"),
    ("loginGovConfig.pubjwkURL", "pubjwk-url"),
    ("oidcConfig.issuerURL", "oidc-issuer-url"),
    ("oidcConfig.insecureAllowUnverifiedEmail", "insecure-oidc-allow-unverified-email"),
    ("oidcConfig.insecureSkipIssuerVerification", "insecure-oidc-skip-issuer-verification"),
    ("oidcConfig.insecureSkipNonce", "insecure-oidc-skip-nonce"),
    ("oidcConfig.skipDiscovery", "skip-oidc-discovery"),
    ("oidcConfig.jwksURL", "oidc-jwks-url"),
    ("oidcConfig.publicKeyFiles", "oidc-public-key-file"),
    ("oidcConfig.publicKeys", "oidc-public-key-file"),
    ("oidcConfig.enabledSigningAlgs", "oidc-enabled-signing-alg"),
    ("oidcConfig.emailClaim", "oidc-email-claim"),
    ("oidcConfig.groupsClaim", "oidc-groups-claim"),
    ("oidcConfig.audienceClaims", "oidc-audience-claim"),
    ("oidcConfig.extraAudiences", "oidc-extra-audience"),
];

const OF_SERVER: &[(&str, &str)] = &[
    ("server.BindAddress", "http-address"),
    ("server.SecureBindAddress", "https-address"),
    ("server.TLS.Cert.fromFile", "tls-cert-file"),
    ("server.TLS.Key.fromFile", "tls-key-file"),
    ("server.TLS.MinVersion", "tls-min-version"),
    ("server.TLS.CipherSuites", "tls-cipher-suite"),
    ("metricsServer.BindAddress", "metrics-address"),
    ("metricsServer.SecureBindAddress", "metrics-secure-address"),
    ("metricsServer.TLS.Cert.fromFile", "metrics-tls-cert-file"),
    ("metricsServer.TLS.Key.fromFile", "metrics-tls-key-file"),
];

/// Keys in it are told apart by case at will.
fn folded(value: &Value) -> Value {
    match value {
        Value::Object(entries) => Value::Object(entries.iter().map(|(key, value)| (key.to_lowercase(), folded(value))).collect()),
        Value::Array(items) => items.iter().map(folded).collect(),
        other => other.clone(),
    }
}

/// Takes what stands at a dotted path.
fn take(value: &mut Value, path: &str) -> Option<Value> {
    let path = path.to_lowercase();
    let (first, rest) = path.split_once('.').map_or((path.as_str(), None), |(first, rest)| (first, Some(rest)));
    let entries = value.as_object_mut()?;
    match rest {
        None => entries.remove(first).filter(|value| !value.is_null()),
        Some(rest) => {
            let found = take(entries.get_mut(first)?, rest);
            if entries.get(first).and_then(Value::as_object).is_some_and(Map::is_empty) {
                entries.remove(first);
            }
            found
        }
    }
}

fn take_text(value: &mut Value, path: &str) -> Option<String> {
    take(value, path).map(|value| plain(&value))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Null => Vec::new(),
        other => vec![plain(other)],
    }
}

fn items(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    }
}

/// Tells what nobody asked for.
fn leftovers(value: &Value, at: &str, report: &mut Report) {
    match value {
        Value::Object(entries) => entries.iter().for_each(|(key, value)| leftovers(value, &format!("{at}.{key}"), report)),
        Value::Null => {}
        _ => report.note(Part::Missing, at.trim_start_matches('.'), "is no key of the structured config of oauth2-proxy 7.15"),
    }
}

/// Reads it.
pub fn read(value: &Value, old: &mut Old, report: &mut Report) {
    let mut value = folded(value);
    for (index, mut one) in items(take(&mut value, "providers")).into_iter().enumerate() {
        old.providers.push(provider(&mut one, index, report));
        leftovers(&one, &format!("providers[{index}]"), report);
    }
    if take(&mut value, "upstreamConfig.proxyRawPath").is_some_and(|on| on == true) {
        old.raw_path = Some("upstreamConfig.proxyRawPath".to_owned());
    }
    let upstreams = take(&mut value, "upstreamConfig.upstreams").or_else(|| take(&mut value, "upstreams"));
    for (index, mut one) in items(upstreams).into_iter().enumerate() {
        let at = format!("upstreams[{index}]");
        old.upstreams.push(upstream(&mut one, &at, report));
        leftovers(&one, &at, report);
    }
    for (key, into) in [("injectRequestHeaders", &mut old.request_headers), ("injectResponseHeaders", &mut old.response_headers)] {
        for (index, mut one) in items(take(&mut value, key)).into_iter().enumerate() {
            let at = format!("{key}[{index}]");
            into.push(header(&mut one, &at, report));
            leftovers(&one, &at, report);
        }
    }
    for (path, option) in OF_SERVER {
        if let Some(found) = take(&mut value, path)
            && let Some(given) = given(option, (*path).to_owned(), texts(&found))
        {
            old.rest.add(given);
        }
    }
    for path in ["server.TLS.Cert", "server.TLS.Key"] {
        if take(&mut value, path).is_some() {
            report.note(
                Part::Missing,
                path,
                "certificate and key are read from files: put them there, and name them in [tls] certificate_file and key_file",
            );
        }
    }
    leftovers(&value, "", report);
}

fn provider(value: &mut Value, index: usize, report: &mut Report) -> OldProvider {
    let mut provider = OldProvider { id: take_text(value, "id"), ..OldProvider::default() };
    for (path, option) in OF_PROVIDER {
        if let Some(found) = take(value, path)
            && let Some(given) = given(option, format!("providers[{index}].{path}"), texts(&found))
        {
            provider.givens.add(given);
        }
    }
    // The default spelling of an older option, which says nothing that emailClaim does not.
    if let Some(claim) = take_text(value, "oidcConfig.userIDClaim").filter(|claim| claim != "email") {
        let said = format!("providers[{index}].oidcConfig.userIDClaim");
        given("user-id-claim", said, vec![claim]).into_iter().for_each(|given| provider.givens.add(given));
    }
    if take(value, "ADFSConfig.skipScope").is_some_and(|on| on == true) {
        report.note(
            Part::Missing,
            format!("providers[{index}].ADFSConfig.skipScope"),
            "OpenID Connect wants the scope openid; AD FS 2016 and later take it",
        );
    }
    if take(value, "additionalClaims").is_some() {
        let text = "every claim of the ID token and of userinfo is there for policies and headers by its path";
        report.note(Part::Taken, format!("providers[{index}].additionalClaims"), text);
    }
    for mut one in items(take(value, "loginURLParameters")) {
        let name = take_text(&mut one, "name").unwrap_or_default();
        let mut parameter = LoginParameter {
            said: format!("providers[{index}].loginURLParameters {name}"),
            name,
            default: take(&mut one, "default").map(|value| texts(&value)).unwrap_or_default(),
            ..LoginParameter::default()
        };
        for mut rule in items(take(&mut one, "allow")) {
            parameter.values.extend(take_text(&mut rule, "value"));
            parameter.patterns.extend(take_text(&mut rule, "pattern"));
        }
        provider.parameters.push(parameter);
    }
    provider
}

fn upstream(value: &mut Value, at: &str, report: &mut Report) -> OldUpstream {
    let path = take_text(value, "path").unwrap_or_else(|| "/".to_owned());
    let rewrite = take_text(value, "rewriteTarget").filter(|text| !text.is_empty());
    let uri = take_text(value, "uri").unwrap_or_default();
    let is_static = take(value, "static").is_some_and(|on| on == true);
    let code = take(value, "staticCode").and_then(|code| code.as_u64()).and_then(|code| u16::try_from(code).ok());
    let (target, base) =
        if is_static { (Target::Static(code.unwrap_or(200)), OldPath::Prefix("/".to_owned())) } else { legacy::target(&uri) };
    if matches!((&target, base), (Target::Http(_), OldPath::Exact(base) | OldPath::Prefix(base)) if base != "/") {
        report.note(
            Part::Different,
            format!("{at}.uri"),
            "its path never reached the upstream there, and has no place in `upstream` here; `rewrite` puts one before",
        );
    }
    let pass_host = take(value, "passHostHeader").map_or((true, String::new()), |on| (on == true, format!("{at}.passHostHeader")));
    for (key, text) in [
        ("flushInterval", "answers are streamed at once"),
        ("proxyWebSockets", "upgrades always pass, from our own origin and those in `origins`"),
    ] {
        if take(value, key).is_some() {
            report.note(Part::Taken, format!("{at}.{key}"), text);
        }
    }
    if take(value, "disableKeepAlives").is_some_and(|on| on == true) {
        report.note(Part::Missing, format!("{at}.disableKeepAlives"), "limits.upstream_idle_timeout = \"1s\" comes nearest");
    }
    OldUpstream {
        said: at.to_owned(),
        id: take_text(value, "id"),
        path: if rewrite.is_some() || path.starts_with('^') { OldPath::Pattern(path) } else { legacy::path(&path) },
        target,
        rewrite,
        pass_host,
        insecure: take(value, "insecureSkipTLSVerify").filter(|on| *on == true).map(|_| format!("{at}.insecureSkipTLSVerify")),
        timeout: take_text(value, "timeout"),
    }
}

fn header(value: &mut Value, at: &str, report: &mut Report) -> OldHeader {
    let name = take_text(value, "name").unwrap_or_default();
    let preserved = take(value, "preserveRequestValue").is_some_and(|on| on == true);
    if take(value, "insecureSkipHeaderNormalization").is_some_and(|on| on == true) {
        report.note(
            Part::Missing,
            format!("{at} {name}"),
            "names are compared with _ as -, so that nobody writes an identity under another spelling",
        );
    }
    let mut values = Vec::new();
    for mut one in items(take(value, "values")) {
        for part in ["claimSource", "secretSource"] {
            if let Some(Value::Object(inner)) = take(&mut one, part)
                && let Some(entries) = one.as_object_mut()
            {
                entries.extend(inner);
            }
        }
        let password = take(&mut one, "basicAuthPassword").and_then(|mut value| secret(&mut value));
        match take_text(&mut one, "claim") {
            Some(claim) => {
                let prefix = take_text(&mut one, "prefix").unwrap_or_default();
                values.push(OldValue::Claim { claim, prefix, password });
            }
            None => values.extend(secret(&mut one).map(OldValue::Fixed)),
        }
        leftovers(&one, &format!("{at}.values"), report);
    }
    OldHeader { said: format!("{at} {name}"), name, values, preserved }
}

fn secret(value: &mut Value) -> Option<OldSecret> {
    if let Some(file) = take_text(value, "fromFile") {
        return Some(OldSecret::File(file));
    }
    if let Some(name) = take_text(value, "fromEnv") {
        return Some(OldSecret::Kept(format!("the variable {name}")));
    }
    let text = take_text(value, "value")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some(OldSecret::Value(decoded.unwrap_or(text)))
}
