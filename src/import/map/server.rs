//! Where it is reached, where it listens, whom it believes, what probes ask.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Url;

use super::super::Out;
use super::super::document::{text, texts};
use super::super::given::Given;
use super::super::old::Old;
use super::super::report::Part;

/// What the other subjects need to know of it.
pub struct Front {
    /// Hosts by which browsers reach it, the first first.
    pub hosts: Vec<String>,
    /// Whether that is https.
    pub https: bool,
    /// Where its endpoints lie.
    pub prefix: String,
    /// Whether it stands behind a proxy.
    pub proxied: bool,
    /// Whether it is known which.
    pub trusts_some: bool,
}

/// The host that stands where nothing says one.
const UNKNOWN_HOST: &str = "fill-in.example.com";

pub(super) fn map(old: &Old, out: &mut Out) -> Front {
    let mut front = public(old, out);
    listen(old, &front, out);
    believed(old, &mut front, out);
    probes(old, &front, out);
    front
}

fn public(old: &Old, out: &mut Out) -> Front {
    let redirect =
        old.rest.text("redirect-url").and_then(|(given, text)| Some((given, Url::parse(text).ok()?))).filter(|(_, url)| url.has_host());
    let mut prefix = old.rest.text("proxy-prefix").map_or_else(|| "/oauth2".to_owned(), |(_, text)| text.trim_end_matches('/').to_owned());
    let mut urls: Vec<String> = Vec::new();
    let mut from: Vec<&str> = Vec::new();
    let mut https = true;
    if let Some((given, url)) = &redirect {
        https = url.scheme() == "https";
        urls.push(url.origin().ascii_serialization());
        from.push(&given.said);
        match url.path().strip_suffix("/callback").filter(|start| !start.is_empty()) {
            Some(start) if old.rest.get("proxy-prefix").is_none() || start == prefix => start.clone_into(&mut prefix),
            _ => {
                out.document.table("[provider]").set("callback", text(url.path()), &[&given.said]);
                out.report.say(Part::Taken, given, format!("callback = {:?} of [provider], beside {prefix}/callback", url.path()));
            }
        }
        out.report.say(Part::Taken, given, "public_url, with prefix + \"/callback\" behind it as redirect URI");
        let public = url.origin().ascii_serialization();
        out.report
            .first(format!("register {public}{prefix}/signed_out at the provider as post-logout redirect URI: signing out reaches it now"));
    } else if let Some(given) = old.rest.get("redirect-url") {
        out.report.say(
            Part::Missing,
            given,
            "names no host; public_url needs one, and the redirect URI is public_url + prefix + \"/callback\"",
        );
    }
    for host in &old.around.hosts {
        let url = format!("{}://{}", if https { "https" } else { "http" }, host.trim_start_matches("*."));
        if !host.starts_with('*') && !urls.contains(&url) {
            urls.push(url);
        }
    }
    let insecure = old.rest.switched("cookie-secure", false);
    if urls.is_empty() {
        let parent = old.rest.list("cookie-domain").first().map(|domain| domain.trim_start_matches('.').to_owned());
        let host = parent.map_or_else(|| UNKNOWN_HOST.to_owned(), |parent| format!("fill-in.{parent}"));
        https = insecure.is_none();
        urls.push(if https { format!("https://{host}") } else { format!("http://{host}") });
        out.report.first(format!("write public_url: the host under which browsers reach it, which the input does not say ({host} stands there); another Host is 421 here"));
    }
    let hosts: Vec<String> = urls.iter().filter_map(|url| Url::parse(url).ok()?.host_str().map(str::to_owned)).collect();
    let value = if let [one] = urls.as_slice() { text(one) } else { texts(&urls) };
    if !old.around.hosts.is_empty() {
        from.push("the Ingress");
    }
    let root = out.document.root();
    root.set("public_url", value, &from).explain("Where browsers reach the gateway; a Host that is not named here is 421.");
    let local = hosts
        .iter()
        .all(|host| host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    if !https && !local {
        root.set("insecure_http", "true".to_owned(), &[]).explain("Cookies and codes can be read on the way; give it https.");
        out.report.note(
            Part::Different,
            "http",
            "plain http is refused off this machine unless insecure_http = true says that it is meant; it is written, and better taken out",
        );
    }
    if let Some(given) = insecure {
        let words = if https {
            "with an https public_url every cookie is Secure"
        } else {
            "with an http public_url cookies are not Secure, as before"
        };
        out.report.say(if https { Part::Different } else { Part::Taken }, given, words);
    } else if let Some(given) = old.rest.switched("cookie-secure", true) {
        out.report.say(Part::Taken, given, "cookies are Secure wherever public_url is https");
    }
    out.report.note(
        Part::Different,
        "Host",
        format!("any Host was served there, each with a redirect URI of its own; here a Host that neither public_url nor a route names is 421. Named: {}", hosts.join(", ")),
    );
    if let Some(given) = old.rest.get("proxy-prefix") {
        out.document.root().set("prefix", text(&prefix), &[&given.said]);
        out.report.say(Part::Taken, given, "prefix");
    } else if prefix != "/oauth2" {
        let from = redirect.as_ref().map(|(given, _)| given.said.clone()).unwrap_or_default();
        out.document.root().set("prefix", text(&prefix), &[&from]);
    }
    Front { hosts, https, prefix, proxied: old.rest.switched("reverse-proxy", true).is_some(), trusts_some: false }
}

/// An address of ours for one of its own.
fn address(text: &str) -> Option<String> {
    let text = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")).map_or(text, |(_, rest)| rest);
    if let Some(rest) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
        let (path, mode) = rest.split_once(",mode=").map_or((rest, None), |(path, mode)| (path, Some(mode)));
        let mode = mode.map(|mode| format!("?mode={mode}")).unwrap_or_default();
        return Some(format!("unix:/{}{mode}", path.trim_start_matches('/')));
    }
    if text.to_ascii_lowercase().starts_with("fd:") {
        return Some("fd:doorward".to_owned());
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    match host {
        "" => Some(format!("0.0.0.0:{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        host => host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .ok()
            .map(|ip| std::net::SocketAddr::new(ip, port.parse().unwrap_or_default()).to_string()),
    }
}

fn listen(old: &Old, front: &Front, out: &mut Out) {
    let files = (old.rest.text("tls-cert-file"), old.rest.text("tls-key-file"));
    let tls = matches!(files, (Some(_), Some(_)));
    let key = if tls { "https-address" } else { "http-address" };
    let unused = if tls { "http-address" } else { "https-address" };
    let place = old.rest.text(key).filter(|(_, text)| *text != "-");
    let text_of = place.map_or(if tls { ":443" } else { "127.0.0.1:4180" }, |(_, text)| text);
    match (address(text_of), place) {
        (Some(address), place) => {
            let from: Vec<&str> = place.iter().map(|(given, _)| given.said.as_str()).collect();
            out.document.root().set("listen", text(&address), &from);
            if let Some((given, _)) = place {
                out.report.say(Part::Taken, given, format!("listen = {address:?}"));
            }
            if address.starts_with("fd:") {
                out.report.first(
                    "write FileDescriptorName=doorward into the .socket unit: sockets of systemd are known by name here, not by number",
                );
            }
            if address.starts_with("0.0.0.0") {
                out.document.root().explain("\"[::]:PORT\" listens on IPv6 and IPv4.");
            }
        }
        (None, Some((given, wrong))) => {
            out.report.say(
                Part::Missing,
                given,
                format!("{wrong:?} is no address that can be listened at; write listen = \"0.0.0.0:4180\" or another"),
            );
        }
        (None, None) => {}
    }
    if let (true, (Some((certificate, certificate_file)), Some((key, key_file)))) = (tls, files) {
        let table = out.document.table("[tls]");
        table.set("certificate_file", text(certificate_file), &[&certificate.said]);
        table.set("key_file", text(key_file), &[&key.said]);
        for given in [certificate, key] {
            out.report.say(Part::Taken, given, "[tls], read again when it changes");
        }
    }
    if let Some((given, version)) = old.rest.text("tls-min-version") {
        match (version, tls) {
            ("TLS1.3", true) => {
                out.document.table("[tls]").set("min_version", text("1.3"), &[&given.said]);
                out.report.say(Part::Taken, given, "[tls] min_version");
            }
            _ => out.report.say(Part::Taken, given, "TLS 1.2 and 1.3, as here by default"),
        }
    }
    https_only(old, front, tls, unused, out);
}

fn https_only(old: &Old, front: &Front, tls: bool, unused: &str, out: &mut Out) {
    let forced = old.rest.switched("force-https", true);
    let other = old.rest.text(unused).filter(|(_, text)| *text != "-");
    if let Some(given) = forced {
        let plain = old.rest.text("http-address").and_then(|(_, text)| address(text)).filter(|_| tls && front.https);
        match plain {
            Some(plain) => {
                out.document.root().set("redirect_from", text(&plain), &[&given.said]).explain("308 to the same path on the https host.");
                out.report.say(Part::Taken, given, format!("redirect_from = {plain:?}"));
            }
            None if tls => {
                out.document
                    .root()
                    .set("redirect_from", text("0.0.0.0:80"), &[&given.said])
                    .explain("308 to the same path on the https host.");
                out.report.say(Part::Taken, given, "redirect_from = \"0.0.0.0:80\"");
            }
            None => {
                let text = "where TLS ends in front, the proxy there has to redirect from http; redirect_from is for TLS that ends here";
                out.report.say(Part::Missing, given, text);
            }
        }
    }
    if let Some((given, _)) = other {
        let text = if tls { "with a certificate only https was served" } else { "without a certificate https was not served" };
        if !out.report.accounts_for(given) {
            out.report.say(Part::Taken, given, format!("{text}, as here"));
        }
    }
}

fn believed(old: &Old, front: &mut Front, out: &mut Out) {
    let mut nets = Vec::new();
    if let Some(given) = old.rest.get("trusted-proxy-ip").filter(|_| !front.proxied) {
        let words = "did nothing without reverse-proxy, and is left out; write trusted_proxies where a proxy in front is to be believed";
        out.report.say(Part::Different, given, words);
    } else if let Some(given) = old.rest.get("trusted-proxy-ip") {
        for net in old.rest.list("trusted-proxy-ip") {
            match network(&net) {
                Some(parsed) if parsed.prefix_len() > 0 => {
                    out.report.say(Part::Taken, given, "trusted_proxies");
                    nets.push(net);
                }
                Some(_) => out.report.say(
                    Part::Missing,
                    given,
                    format!("{net} is everybody, who could then write any address; name the proxies that stand in front"),
                ),
                None => out.report.say(Part::Missing, given, format!("{net:?} is neither an address nor a network")),
            }
        }
    }
    front.trusts_some = !nets.is_empty();
    if front.trusts_some {
        let from = old.rest.get("trusted-proxy-ip").map(|given| given.said.clone()).unwrap_or_default();
        out.document.root().set("trusted_proxies", texts(&nets), &[&from]);
    }
    let header = old.rest.text("real-client-ip-header");
    if let Some(given) = old.rest.switched("reverse-proxy", true) {
        if front.trusts_some {
            out.report.say(Part::Different, given, "forwarded headers count from trusted_proxies alone");
        } else {
            let text = "forwarded headers counted from everybody there; here only from trusted_proxies, which the input does not say and nobody can guess. It is left empty: logs and limits see the proxy's address, and forward-auth answers 403, until the proxy is named";
            out.report.say(Part::Different, given, text);
            out.report
                .first("write trusted_proxies: the addresses of the proxy in front; empty means that nobody's forwarded headers count");
            out.document
                .root()
                .leave("trusted_proxies", texts(["10.0.0.0/8"]), &[&given.said])
                .explain("FILL IN the addresses or networks of the proxies in front. Until then nobody's forwarded headers count.");
        }
    }
    let name = header.map_or("X-Real-IP", |(_, text)| text);
    let default = name.eq_ignore_ascii_case("X-Forwarded-For");
    if front.proxied && front.trusts_some && !default {
        let from: Vec<&str> = header.iter().map(|(given, _)| given.said.as_str()).collect();
        out.document
            .root()
            .set("client_address", text(&name.to_ascii_lowercase()), &from)
            .explain("The one header that names the address that people come from. \"x-forwarded-for\" is walked from the right instead.");
    }
    if let Some((given, name)) = header {
        let said = match (front.proxied, front.trusts_some, default) {
            (false, ..) => "did nothing without reverse-proxy, and is left out".to_owned(),
            (true, _, true) => "X-Forwarded-For, walked from the right over trusted_proxies, as here by default".to_owned(),
            (true, true, false) => format!("client_address = {:?}", name.to_ascii_lowercase()),
            (true, false, false) => format!("write client_address = {:?} beside trusted_proxies", name.to_ascii_lowercase()),
        };
        out.report.say(if front.proxied { Part::Taken } else { Part::Different }, given, said);
    }
}

/// An address or network.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn probes(old: &Old, front: &Front, out: &mut Out) {
    let ping = old.rest.text("ping-path");
    let google = old.rest.switched("gcp-healthchecks", true);
    let path = match (ping, google) {
        (Some((_, path)), _) => path,
        (None, Some(_)) => "/liveness_check",
        (None, None) => "/ping",
    };
    let from: Vec<&str> = ping.map(|(given, _)| given).into_iter().chain(google).map(|given: &Given| given.said.as_str()).collect();
    let under = path.starts_with(&format!("{}/", front.prefix)) || path == front.prefix || !path.starts_with('/') || path == "/";
    if under {
        if let Some((given, _)) = ping {
            out.report.say(
                Part::Missing,
                given,
                format!("{path:?} lies where the gateway's own endpoints are; choose another health_path such as \"/ping\""),
            );
        }
    } else {
        out.document
            .root()
            .set("health_path", text(path), &from)
            .explain("Answers probes with 200, or 503 while draining, whatever Host they name.");
        match ping {
            Some((given, _)) => out.report.say(Part::Taken, given, "health_path"),
            None => out.report.note(Part::Taken, "/ping", format!("health_path = {path:?}, on the serving port and for any Host")),
        }
    }
    if let Some(given) = google {
        out.report.say(Part::Different, given, "one path for probes: health_path; /readiness_check and the answer by User-Agent are gone");
    }
    let ready = "readiness is /readyz on the admin listener: not ready before the start and while draining; a store outage is 503 there only with admin.ready_needs_store";
    match old.rest.get("ready-path") {
        Some(given) => out.report.say(Part::Different, given, ready),
        None => out.report.note(Part::Different, "/ready", ready),
    }
    for option in ["metrics-address", "metrics-secure-address"] {
        let Some((given, text_of)) = old.rest.text(option).filter(|(_, text)| *text != "-") else { continue };
        match address(text_of).filter(|address| !address.contains("unix:") && !address.starts_with("fd:")) {
            Some(address) if option == "metrics-address" => {
                out.document.table("[admin]").set("listen", text(&address), &[&given.said]);
                out.report.say(Part::Taken, given, "[admin] listen: /metrics, /livez and /readyz; metrics have other names (doorward_…)");
            }
            _ => out.report.say(
                Part::Missing,
                given,
                "the admin listener speaks plain http at an address; keep it on loopback or behind a NetworkPolicy",
            ),
        }
    }
}
