//! Programs' tokens, places to return to, pages, and what the old habits of scripts and snippets meet.

use super::super::Out;
use super::super::document::{Table, text, texts};
use super::super::old::Old;
use super::super::report::Part;
use super::server::Front;

pub(super) fn map(old: &Old, front: &Front, out: &mut Out) {
    origins(old, front, out);
    pages(old, out);
    if let Some(given) = old.rest.get("exclude-logging-path").filter(|given| !given.values.is_empty()) {
        out.report.say(Part::Missing, given, "log = false on a route silences what passes there; probes of health_path are never logged");
    }
    for option in ["config", "alpha-config"] {
        if let Some(given) = old.rest.get(option) {
            out.report.say(Part::Taken, given, "one config here; what that file says is in it if the file was given");
        }
    }
    habits(front, out);
}

/// `whitelist-domain`: where people may be sent after signing in or out.
fn origins(old: &Old, front: &Front, out: &mut Out) {
    let Some(given) = old.rest.get("whitelist-domain") else { return };
    let mut origins: Vec<String> = Vec::new();
    for listed in old.rest.list("whitelist-domain") {
        let (host, port) = listed.rsplit_once(':').map_or((listed.as_str(), None), |(host, port)| (host, Some(port)));
        let parent = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        match (parent, port) {
            (Some(parent), _) => {
                let words = format!(
                    "{listed}: every host under {parent}; here each origin is named. Hosts of ours need not be; write others into redirect_origins, such as \"https://app.{parent}\""
                );
                out.report.say(Part::Missing, given, words);
            }
            (None, Some("*")) => out.report.say(
                Part::Missing,
                given,
                format!("{listed}: any port; redirect_origins names each, such as \"https://{host}:8443\""),
            ),
            (None, port) if front.hosts.iter().any(|ours| ours == host) && port.is_none() => {
                out.report.say(Part::Taken, given, format!("{host} is a host of ours, where people may always be sent"));
            }
            (None, port) => {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                origins.push(format!("https://{host}{port}"));
                out.report.say(Part::Different, given, "redirect_origins: scheme, host and port exactly; plain http counted too there");
            }
        }
    }
    if !origins.is_empty() {
        out.document.root().set("redirect_origins", texts(&origins), &[&given.said]);
    }
}

fn pages(old: &Old, out: &mut Out) {
    if let Some((given, logo)) = old.rest.text("custom-sign-in-logo") {
        let known = [".svg", ".png", ".jpg", ".jpeg", ".webp"].iter().any(|ending| logo.to_ascii_lowercase().ends_with(ending));
        if logo == "-" {
            out.report.say(Part::Taken, given, "no logo, as here by default");
        } else if logo.contains("://") || !known {
            out.report.say(
                Part::Missing,
                given,
                "logo_file of [pages] is a file (svg, png, jpg, webp): our pages load nothing from elsewhere",
            );
        } else {
            out.document.table("[pages]").set("logo_file", text(logo), &[&given.said]);
            out.report.say(Part::Taken, given, "pages.logo_file");
        }
    }
    for option in ["banner", "footer"] {
        let Some((given, words)) = old.rest.text(option) else { continue };
        if words == "-" {
            out.report.say(Part::Taken, given, "nothing, as here by default");
        } else {
            let plain = without_tags(words);
            let same = plain == words;
            let words =
                if same { "pages.notice, plain text" } else { "pages.notice without its HTML: pages show plain text; help_url is a link" };
            out.document.table("[pages]").set("notice", text(&plain), &[&given.said]);
            out.report.say(if same { Part::Taken } else { Part::Different }, given, words);
        }
    }
}

/// What a browser would show of it.
fn without_tags(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tokens of programs: the provider's own, and those of other issuers.
pub(super) fn issuers(old: &Old, provider: &mut super::provider::Mapped, out: &mut Out) {
    let on = old.rest.switched("skip-jwt-bearer-tokens", true);
    let extra = old.rest.list("extra-jwt-issuers");
    if on.is_none() {
        if let Some(given) = old.rest.get("extra-jwt-issuers") {
            out.report.say(Part::Different, given, "did nothing without skip-jwt-bearer-tokens, and is left out");
        }
        return;
    }
    let said = on.map(|given| given.said.clone()).unwrap_or_default();
    let mut audience = vec![provider.client_id.clone()];
    audience.extend(provider.givens.list("oidc-extra-audience"));
    let mut issuers: Vec<(String, Vec<String>, String)> = vec![(provider.issuer.clone(), audience, said)];
    if let Some(given) = old.rest.get("extra-jwt-issuers") {
        for pair in &extra {
            let Some((issuer, audience)) = pair.split_once('=') else {
                out.report.say(Part::Missing, given, format!("{pair:?} is not ISSUER=AUDIENCE"));
                continue;
            };
            match issuers.iter_mut().find(|(known, ..)| known == issuer) {
                Some((_, audiences, _)) => audiences.push(audience.to_owned()),
                None => issuers.push((issuer.to_owned(), vec![audience.to_owned()], given.said.clone())),
            }
            out.report.say(
                Part::Different,
                given,
                "[[token_issuer]] each, with typ = \"id_token\" as they were checked there; access tokens want \"at+jwt\" or \"any\". Where an issuer has no discovery document: jwks_uri",
            );
        }
    }
    for (issuer, audience, said) in issuers {
        let mut table = Table::new("[[token_issuer]]");
        table.set("issuer", text(&issuer), &[&said]);
        table.set("audience", texts(&audience), &[]);
        table.set("typ", text("id_token"), &[]).explain("ID tokens, as there. Programs better show access tokens: \"at+jwt\".");
        table.set("email_claim", text("email"), &[]);
        table.set("groups_claim", text("groups"), &[]);
        out.document.push(table);
        provider.vouching.push(issuer);
    }
}

/// What no option speaks of.
fn habits(front: &Front, out: &mut Out) {
    let prefix = &front.prefix;
    for (about, words) in [
        ("sign_out", format!("{prefix}/sign_out ends the session at the provider too, and needs {prefix}/signed_out registered there; a link to the provider's logout with {{id_token}} is no longer needed")),
        ("sign_in", "303 to the provider where there was 403 with a page, or 302; forbidden is 403 and leaves the session".to_owned()),
        ("callback", "errors are 400 or 403 where they were 403 or 500".to_owned()),
        ("paths", "%2F and other doubly encoded escapes are 400 unless the route says encoded_slash = \"keep\"; // and dots are resolved before matching, without a 301".to_owned()),
        ("WebSocket", "an upgrade with a session and a foreign Origin is 403; `origins` of the route lists those that are meant".to_owned()),
        ("metrics, logs", "metrics are doorward_…, log lines have fields of their own, variables are DOORWARD_…".to_owned()),
    ] {
        out.report.note(Part::Different, about, words);
    }
}
