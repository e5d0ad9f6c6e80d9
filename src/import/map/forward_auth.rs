//! How the proxy in front asks, and the rules that it asked with.

use super::super::Out;
use super::super::document::{Table, inline, text};
use super::super::old::{Old, Target};
use super::super::report::Part;
use super::provider::Mapped;
use super::routes::Draft;
use super::server::Front;
use super::who;

pub(super) fn asked(old: &Old, front: &Front, forward_only: Option<String>, drafts: &[Draft], out: &mut Out) {
    let asked = forward_only.is_some() || old.tells_a_proxy() || !old.around.auth_urls.is_empty();
    let preflight = old.rest.switched("skip-auth-preflight", true);
    if let Some(given) = preflight {
        let words = "preflight = \"pass\": real CORS preflights alone, where any OPTIONS passed there; forward-auth knows one by the method that the proxy in front names";
        out.report.say(Part::Different, given, words);
    }
    if !asked {
        return;
    }
    let by_method = drafts.iter().any(|draft| !draft.methods.is_empty());
    let as_main = forward_only
        .as_deref()
        .is_some_and(|said| old.upstreams.iter().any(|upstream| upstream.said == said && matches!(upstream.target, Target::Static(_))));
    let (word, words) = if old.around.ingress_nginx {
        ("ingress-nginx", "as ingress-nginx asks: X-Original-URL and X-Original-Method")
    } else if as_main && !old.response_headers.iter().any(|header| header.name.to_ascii_lowercase().starts_with("x-auth-request-user")) {
        (
            "traefik",
            "as Traefik's ForwardAuth asks; its address is prefix + \"/forward\" here in place of \"/\", which also leads to the login",
        )
    } else if by_method {
        (
            "nginx",
            "routes go by methods, so that nginx has to send X-Original-Method and the others as deploy/nginx/doorward.conf does; the old snippet does not",
        )
    } else {
        (
            "oauth2-proxy",
            "as the nginx snippet of oauth2-proxy asks: Host and X-Forwarded-Uri, no method; \"nginx\" with deploy/nginx/doorward.conf says more",
        )
    };
    out.document
        .table("[forward_auth]")
        .set("headers", text(word), &[])
        .explain(format!("The one set of headers that the proxy in front names the request by: {words}."));
    out.report.note(
        Part::Different,
        "forward-auth",
        format!("forward_auth.headers = {word:?}: {words}. Others: nginx, caddy, traefik, envoy, ingress-nginx"),
    );
    if word == "traefik" {
        out.report.first(format!("let Traefik's ForwardAuth ask {}/forward in place of /", front.prefix));
    }
    let prefix = &front.prefix;
    out.report.note(Part::Different, format!("{prefix}/auth"), "200 where it was 202; 401 and 403 as before, 503 while provider or store do not answer; always Cache-Control: no-store. A rule may narrow by ?policy=NAME");
    out.report.note(Part::Different, "auth-cache-key", "take $cookie__oauth2_proxy out of proxy_cache_key and auth-cache-key: the cookie has another name, so that the key would be the same for everybody");
}

/// `?allowed_groups=…` of the addresses that a proxy asks.
pub(super) fn narrowed(old: &Old, front: &Front, provider: &Mapped, out: &mut Out) {
    let mut count = 0;
    for address in &old.around.auth_urls {
        let Some((_, query)) = address.split_once('?') else { continue };
        let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let keys = who::narrowed(&query, provider);
        let asked = query.iter().any(|(name, _)| matches!(name.as_str(), "allowed_groups" | "allowed_emails" | "allowed_email_domains"));
        if !asked {
            continue;
        }
        if keys.iter().all(|(key, _)| *key == "provider") {
            out.report.note(Part::Different, address.clone(), "an empty rule is 403 here");
            continue;
        }
        count += 1;
        let name = format!("auth-{count}");
        let mut table = Table::new(&format!("[policy.{name}]"));
        table.note(format!("For {address}: ask {}/auth?policy={name} in its place.", front.prefix));
        for (key, value) in &keys {
            table.set(key, value.clone(), &[]);
        }
        out.document.push(table);
        let rule = inline(keys);
        out.report.note(
            Part::Different,
            address.clone(),
            format!("[policy.{name}] = {rule}: ask {}/auth?policy={name}; the old query is 403 inline-rule, or narrows with forward_auth.narrow = true", front.prefix),
        );
        out.report
            .first(format!("ask {}/auth?policy={name} where {address} was asked: the old query is 403, and never ignored", front.prefix));
    }
}
