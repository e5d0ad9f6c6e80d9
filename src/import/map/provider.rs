//! Where people sign in.

use super::super::Out;
use super::super::document::{inline, text, texts};
use super::super::given::{Given, Givens};
use super::super::old::Old;
use super::super::report::Part;
use super::{claims, parameters};

/// What the other subjects need to know of it.
pub struct Mapped {
    /// Its options.
    pub givens: Givens,
    /// Its issuer.
    pub issuer: String,
    /// Our registration.
    pub client_id: String,
    /// Whose word counts in rules: its id, and issuers of tokens.
    pub vouching: Vec<String>,
}

const FILL_IN: &str = "https://fill-in.example.com";
const GOOGLE: &str = "https://accounts.google.com";

/// What is particular about a kind of provider.
pub(super) struct Profile {
    /// Its issuer, where there is one.
    issuer: Option<String>,
    /// The claim that `X-Forwarded-User` was.
    pub(super) user: &'static str,
    /// Whether it says that addresses are verified.
    pub(super) verifies: bool,
    /// Spoken to in OpenID Connect.
    openid: bool,
}

fn profile(kind: &str, givens: &Givens) -> Profile {
    let issuer = givens.text("oidc-issuer-url").map(|(_, text)| text.to_owned());
    let openid = |issuer: Option<String>, user, verifies| Profile { issuer, user, verifies, openid: true };
    match kind {
        "google" => openid(issuer.or_else(|| Some(GOOGLE.to_owned())), "sub", true),
        "gitlab" => openid(issuer.or_else(|| Some("https://gitlab.com".to_owned())), "nickname", true),
        "keycloak-oidc" | "login.gov" => openid(issuer, "sub", true),
        "azure" => {
            let tenant = givens.text("azure-tenant").map(|(_, text)| text);
            let made = tenant.filter(|tenant| *tenant != "common").map(|tenant| format!("https://login.microsoftonline.com/{tenant}/v2.0"));
            openid(issuer.or(made), "sub", false)
        }
        "oidc" | "entra-id" | "adfs" | "cidaas" => openid(issuer, "sub", false),
        "github" | "gitea" => Profile { issuer, user: "preferred_username", verifies: true, openid: false },
        _ => Profile { issuer, user: "sub", verifies: true, openid: kind == "keycloak" },
    }
}

pub(super) fn map(old: &Old, out: &mut Out) -> Mapped {
    let nothing = super::super::old::OldProvider::default();
    let provider = old.providers.first().unwrap_or(&nothing);
    let givens = &provider.givens;
    let kind = givens.text("provider").map_or("google", |(_, text)| text);
    let id: String = provider
        .id
        .as_deref()
        .unwrap_or(kind)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(64)
        .collect();
    let id = if matches!(id.as_str(), "" | "local" | "api_key" | "certificate") { "provider".to_owned() } else { id };
    let profile = profile(kind, givens);
    said_of_kind(kind, givens, &profile, out);
    let issuer = profile.issuer.clone().unwrap_or_else(|| {
        out.report.first("write the issuer of [provider]: the input does not say one");
        FILL_IN.to_owned()
    });
    let mut from: Vec<&str> = Vec::new();
    from.extend(givens.text("provider").map(|(given, _)| given.said.as_str()));
    let issuer_from: Vec<&str> =
        givens.text("oidc-issuer-url").or_else(|| givens.text("azure-tenant")).map(|(given, _)| given.said.as_str()).into_iter().collect();
    let table = out.document.table("[provider]");
    let named: Vec<&str> = if provider.id.is_some() { vec!["providers[0].id"] } else { from.clone() };
    table.set("id", text(&id), &named);
    table.set("issuer", text(&issuer), if issuer_from.is_empty() { &from } else { &issuer_from });
    if let Some((given, _)) = givens.text("oidc-issuer-url") {
        out.report.say(Part::Taken, given, "issuer; asked for when it is needed, not at the start");
    }
    let client_id = client(givens, kind, out);
    if let Some((given, name)) = givens.text("provider-display-name") {
        out.document.table("[provider]").set("name", text(name), &[&given.said]);
        out.report.say(Part::Taken, given, "name");
    }
    places(givens, out);
    scopes(old, givens, kind, out);
    claims::map(old, givens, &profile, kind, out);
    parameters::map(provider, kind, out);
    network(givens, out);
    for (index, other) in old.providers.iter().enumerate().skip(1) {
        let text = "only the first provider was used there; several may stand here as [[provider]], with a chooser: write it by hand";
        out.report.note(Part::Different, format!("providers[{index}]"), text);
        for given in other.givens.all() {
            out.report.say(Part::Different, given, text);
        }
    }
    Mapped { givens: givens.clone(), issuer, client_id, vouching: vec![id] }
}

fn said_of_kind(kind: &str, givens: &Givens, profile: &Profile, out: &mut Out) {
    let user = match kind {
        "github" | "gitea" => "the login name",
        "gitlab" => "the nickname",
        _ => "sub",
    };
    let openid = format!("[provider], spoken to in OpenID Connect; X-Forwarded-User was {user}, and user_claim is written to match");
    let bridge = format!(
        "{kind} is plain OAuth 2.0, which Doorward does not speak: put Dex or Keycloak between, with its connector for {kind}, and write its issuer; X-Forwarded-User was {user}"
    );
    match (givens.text("provider"), profile.openid) {
        (Some((given, _)), true) => out.report.say(Part::Taken, given, openid),
        (None, true) => out.report.note(Part::Taken, "provider", format!("google, its default: {openid}")),
        (Some((given, _)), false) => {
            out.report.say(Part::Missing, given, bridge);
            out.report.first(format!(
                "put an OpenID provider between (Dex, Keycloak) that signs people in at {kind}, and write its issuer, client_id and secret"
            ));
        }
        (None, false) => {}
    }
    if let Some((given, tenant)) = givens.text("azure-tenant") {
        let text = "the retired v1 endpoints are not spoken to: issuer is Entra ID's v2.0, which the same app registration has";
        out.report.say(Part::Different, given, text);
        if tenant == "common" && givens.text("oidc-issuer-url").is_none() {
            out.report.first("name the tenant in issuer (https://login.microsoftonline.com/TENANT-ID/v2.0): \"common\" is anybody with an account at Microsoft");
        }
    } else if kind == "azure" {
        out.report.note(
            Part::Different,
            "azure",
            "the retired v1 endpoints are not spoken to: issuer is Entra ID's v2.0, which the same app registration has",
        );
    }
}

/// `client_id`, and how we prove ourselves.
fn client(givens: &Givens, kind: &str, out: &mut Out) -> String {
    let given = givens.get("client-id");
    let client_id = given.and_then(Given::text).unwrap_or("fill-in").to_owned();
    let from: Vec<&str> = given.iter().map(|given| given.said.as_str()).collect();
    out.document.table("[provider]").set("client_id", text(&client_id), &from);
    match given {
        Some(given) => match &given.kept {
            Some(place) => {
                out.report.say(Part::Taken, given, format!("client_id; its value is kept elsewhere ({place})"));
                out.report.first(format!("write client_id, or set DOORWARD_PROVIDER__CLIENT_ID in the environment: its value is {place}"));
            }
            None => out.report.say(Part::Taken, given, "client_id"),
        },
        None => out.report.first("write client_id: the input does not say it"),
    }
    prove(givens, kind, out);
    client_id
}

fn prove(givens: &Givens, kind: &str, out: &mut Out) {
    if let Some(given) = givens.switched("entra-id-federated-token-auth", true) {
        let text = "a projected token in place of a secret is not taken yet; a certificate is the nearest: client_auth = \"private_key_jwt\" with key_file, its public key in the app registration";
        out.report.say(Part::Missing, given, text);
    }
    let key = givens.get("jwt-key").or_else(|| givens.get("jwt-key-file")).filter(|given| super::who::said(Some(given)));
    if let Some(given) = key.filter(|_| kind == "login.gov") {
        let path = match (given.row.name, given.text()) {
            ("jwt-key-file", Some(path)) => path.to_owned(),
            (_, Some(pem)) if pem.contains("-----BEGIN") => out.secrets.put(
                "client_key.pem",
                Some(&pem.replace("\\n", "\n")),
                "the private key (PEM) that signs the proof of who we are",
            ),
            _ => out.secrets.put("client_key.pem", None, kept("the private key (PEM) that signs the proof of who we are", given)),
        };
        let table = out.document.table("[provider]");
        table.set("client_auth", text("private_key_jwt"), &[&given.said]);
        table.set("key_file", text(&path), &[&given.said]);
        out.report.say(Part::Taken, given, "client_auth = \"private_key_jwt\" with key_file; `doorward check` prints the public key");
        return;
    }
    if let Some((given, path)) = givens.text("client-secret-file") {
        out.document.table("[provider]").set("client_secret_file", text(path), &[&given.said]);
        out.report.say(Part::Taken, given, "client_secret_file, read again whenever it is needed");
        return;
    }
    let given = givens.get("client-secret").filter(|given| super::who::said(Some(given)));
    let secret = given.and_then(Given::text);
    let what = match (given, secret) {
        (_, Some(_)) => "the client secret that the input holds".to_owned(),
        (Some(given), None) => kept("the client secret", given),
        (None, None) => "the client secret, which the input does not hold".to_owned(),
    };
    let path = out.secrets.put("client_secret", secret, what);
    let from: Vec<&str> = given.iter().map(|given| given.said.as_str()).collect();
    out.document.table("[provider]").set("client_secret_file", text(&path), &from);
    if let Some(given) = given {
        out.report.say(Part::Taken, given, format!("client_secret_file = {path:?}; the secret itself stays out of the config"));
    }
}

fn kept(what: &str, given: &Given) -> String {
    given.kept.as_ref().map_or_else(|| what.to_owned(), |place| format!("{what} ({place})"))
}

/// Endpoints that discovery does not name, or names otherwise.
fn places(givens: &Givens, out: &mut Out) {
    let mut endpoints = Vec::new();
    let mut from = Vec::new();
    for (option, key) in [("login-url", "authorization"), ("redeem-url", "token"), ("oidc-jwks-url", "jwks"), ("profile-url", "userinfo")] {
        if let Some((given, url)) = givens.text(option) {
            endpoints.push((key, text(url)));
            from.push(given.said.as_str());
            out.report.say(Part::Taken, given, format!("endpoints.{key}"));
        }
    }
    if !endpoints.is_empty() {
        out.document.table("[provider]").set("endpoints", inline(endpoints), &from);
    }
    if let Some(given) = givens.switched("skip-oidc-discovery", true) {
        let all = ["login-url", "redeem-url", "oidc-jwks-url"].iter().all(|option| givens.text(option).is_some());
        if all {
            out.document.table("[provider]").set("discovery", "false".to_owned(), &[&given.said]);
            out.report.say(Part::Taken, given, "discovery = false");
        } else {
            let words = "discovery = false needs endpoints with authorization, token and jwks, of which the input lacks some; the document is asked for";
            out.report.say(Part::Missing, given, words);
        }
    }
}

fn scopes(old: &Old, givens: &Givens, kind: &str, out: &mut Out) {
    let rules = ["allowed-group", "keycloak-group"].iter().any(|option| !givens.list(option).is_empty());
    match givens.text("scope") {
        Some((given, said)) => {
            let mut scopes: Vec<&str> = said.split_whitespace().collect();
            let added = !scopes.contains(&"openid");
            if added {
                scopes.insert(0, "openid");
            }
            out.document.table("[provider]").set("scopes", texts(&scopes), &[&given.said]);
            out.report.say(Part::Taken, given, if added { "scopes, with openid, without which there is no ID token" } else { "scopes" });
        }
        None if rules && matches!(kind, "oidc" | "keycloak-oidc" | "keycloak") => {
            out.document.table("[provider]").set("scopes", texts(["openid", "email", "profile", "groups"]), &[]).explain(
                "groups was asked for by itself there, where a rule goes by groups; take it out if the provider does not know it.",
            );
            out.report.note(Part::Taken, "scope", "groups is asked for, since a rule goes by groups");
        }
        None => {}
    }
    if old.rest.text("cookie-refresh").is_some()
        && kind != "google"
        && !givens.text("scope").is_some_and(|(_, said)| said.contains("offline_access"))
    {
        out.report.note(
            Part::Different,
            "refresh",
            "tokens are renewed where the provider gives a refresh token; many want the scope offline_access for that",
        );
    }
}

/// What has to do with how it is reached and trusted.
fn network(givens: &Givens, out: &mut Out) {
    let files = givens.list("provider-ca-file");
    if let (Some(given), Some(file)) = (givens.get("provider-ca-file"), files.first()) {
        out.document.table("[provider]").set("tls", inline([("ca_file", text(file))]), &[&given.said]);
        let more = if files.len() > 1 { "; only one file is taken: put the others into it" } else { "" };
        out.report.say(Part::Taken, given, format!("tls.ca_file{more}"));
        if files.len() > 1 {
            out.report.first(format!(
                "put the certificates of {} into {file}: ca_file is one file",
                files.iter().skip(1).cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        let words = "the system's authorities count beside ca_file always; pin_sha256 holds the provider to one key";
        match givens.get("use-system-trust-store") {
            Some(given) if given.is_on() => out.report.say(Part::Taken, given, words),
            Some(given) => out.report.say(Part::Different, given, words),
            None => out.report.note(Part::Different, "use-system-trust-store", words),
        }
    }
    if let Some(given) = givens.get("entra-id-allowed-tenant").filter(|given| !given.values.is_empty()) {
        out.document.table("[provider]").set("tenants", texts(&given.values), &[&given.said]);
        out.report.say(Part::Taken, given, "tenants: iss is held against the issuer's template with one of these");
    }
    if let Some(given) = givens.switched("insecure-oidc-skip-issuer-verification", true) {
        let text = "iss is always compared: [provider] tenants is for Entra ID with several tenants, internal_url for a provider that has another address inside";
        out.report.say(Part::Missing, given, text);
    }
    for option in ["code-challenge-method", "force-code-challenge-method"] {
        match givens.text(option) {
            Some((given, "plain")) => out.report.say(Part::Different, given, "PKCE is S256 always"),
            Some((given, _)) => out.report.say(Part::Taken, given, "PKCE with S256, as here always"),
            None => {}
        }
    }
    if let Some(given) = givens.get("oidc-enabled-signing-alg").filter(|given| !given.values.is_empty()) {
        let known = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
        let (taken, left): (Vec<&String>, Vec<&String>) = given.values.iter().partition(|name| known.contains(&name.as_str()));
        if !taken.is_empty() {
            out.document.table("[provider]").set("algorithms", texts(taken), &[&given.said]);
            out.report.say(Part::Taken, given, "algorithms");
        }
        if !left.is_empty() {
            out.report.say(Part::Missing, given, format!("not taken here: {left:?}"));
        }
    }
    if let Some((given, mode)) = givens.text("auth-request-response-mode") {
        match mode {
            "form_post" | "query" => {
                out.document.table("[provider]").set("response_mode", text(mode), &[&given.said]);
                out.report.say(Part::Taken, given, "response_mode");
            }
            other => out.report.say(Part::Missing, given, format!("{other:?}: expected query or form_post")),
        }
    }
    if let Some((given, _)) = givens.text("backend-logout-url") {
        out.report.say(
            Part::Different,
            given,
            "signing out asks the provider's end_session_endpoint and revokes its tokens; logout_url is for providers that have none",
        );
    }
}
