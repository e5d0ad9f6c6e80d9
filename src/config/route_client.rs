//! From where a request comes: `client` of a route, and `client_address`.

use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;

use super::listeners::not_mapped;
use super::reader::Section;
use super::route_parts::reserved;
use crate::header::AddressSource;
use crate::route::Networks;

/// `client` of a route.
pub(super) fn read_networks(section: &Section<'_>) -> Option<Networks> {
    let networks = section.parsed_list("client", |text| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| format!("expected an address or network such as \"10.0.0.0/8\"; found {text:?}"))?;
        if network.prefix_len() == 0 {
            return Err(format!("{text} is everywhere; leave client out for that"));
        }
        not_mapped(&network)?;
        // A typing error, more often than not.
        if network.trunc() != network {
            return Err(format!("expected {}, the network's own address; found {text:?}", network.trunc()));
        }
        Ok(network)
    });
    networks.map(Networks::new)
}

/// `client_address`.
pub(super) fn read_source(root: &Section<'_>) -> AddressSource {
    let source = root.parsed("client_address", |text| match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Ok(AddressSource::XForwardedFor),
        "forwarded" => Ok(AddressSource::Forwarded),
        other => {
            let name = HeaderName::from_bytes(other.as_bytes()).ok().filter(|name| !reserved(name) && name != http::header::AUTHORIZATION);
            name.map(AddressSource::Single).ok_or_else(|| {
                format!(
                    "expected \"x-forwarded-for\", \"forwarded\" or a header that holds one address, such as \"x-real-ip\"; found {text:?}"
                )
            })
        }
    });
    if source.is_some() && !root.has("trusted_proxies") {
        root.problem("client_address", "is believed from trusted_proxies only, and there are none; name the proxies that stand in front");
    }
    source.unwrap_or(AddressSource::XForwardedFor)
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;

    const TOP: &str =
        "public_url = \"https://app.test\"\n[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"s3cret\"\n";

    /// What is said of a route with these keys, or of these at the top.
    fn told(top: &str, keys: &str) -> Vec<(String, String)> {
        problems(&format!("{top}\n{TOP}[[route]]\nupstream = \"http://127.0.0.1:1\"\n{keys}\n"))
    }

    fn names(top: &str, keys: &str, path: &str, words: &str) {
        let found = told(top, keys);
        assert!(found.iter().any(|(at, message)| at == path && message.contains(words)), "{top} {keys}: {found:?}");
    }

    const ANY: &str = "allow = \"any-authenticated\"\n";

    #[test]
    fn networks_are_their_own_addresses_and_not_everywhere() {
        for sound in ["[\"10.0.0.0/8\", \"192.0.2.7\"]", "[\"2001:db8::/32\"]", "\"10.0.0.1\""] {
            assert_eq!(told("", &format!("{ANY}client = {sound}")), [], "{sound}");
        }
        for (wrong, words) in [
            ("[\"10.0.0.0/33\"]", "expected an address or network"),
            ("[\"office\"]", "expected an address or network"),
            ("[\"0.0.0.0/0\"]", "leave client out"),
            ("[\"10.0.0.1/8\"]", "expected 10.0.0.0/8"),
            ("[\"::ffff:10.0.0.0/104\"]", "expected 10.0.0.0/8"),
            ("[]", "empty list"),
        ] {
            names("", &format!("{ANY}client = {wrong}"), "route[0].client", words);
        }
        let twice = |one: &str, other: &str| {
            told(
                "",
                &format!(
                    "{ANY}client = [\"{one}\"]\n[[route]]\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"\nclient = [\"{other}\"]"
                ),
            )
        };
        assert_eq!(twice("10.0.0.0/8", "11.0.0.0/8"), []);
        assert!(twice("10.0.0.0/8", "10.1.0.0/16")[0].1.contains("other networks (client)"));
    }

    #[test]
    fn an_address_is_named_by_a_header_of_those_who_are_trusted() {
        let trusted = "trusted_proxies = [\"10.0.0.1\"]\n";
        for sound in ["x-forwarded-for", "Forwarded", "X-Real-IP", "cf-connecting-ip"] {
            assert_eq!(told(&format!("{trusted}client_address = \"{sound}\""), ANY), [], "{sound}");
        }
        for wrong in ["a b", "host", "cookie", "authorization", "x_real_ip"] {
            names(&format!("{trusted}client_address = \"{wrong}\""), ANY, "client_address", "a header that holds one address");
        }
        names("client_address = \"x-real-ip\"", ANY, "client_address", "name the proxies");
    }

    #[test]
    fn what_a_route_says_of_logins_is_for_routes_with_logins() {
        let issuer = "[[token_issuer]]\nissuer = \"https://i.test\"\naudience = \"api\"";
        for sound in ["login = \"never\"", "login = \"always\"", "scopes = [\"orders:read\", \"a/b\"]"] {
            assert_eq!(told("", &format!("{ANY}{sound}")), [], "{sound}");
        }
        assert_eq!(told("", "access = \"optional\"\nscopes = [\"a\"]"), []);
        for (keys, path, words) in [
            ("allow = \"any-authenticated\"\nlogin = \"sometimes\"", "login", "always"),
            ("allow = \"any-authenticated\"\nscopes = [\"a b\"]", "scopes", "an item each"),
            ("access = \"public\"\nlogin = \"never\"", "login", "nobody is sent to sign in"),
            ("access = \"optional\"\nlogin = \"always\"", "login", "nobody is sent to sign in"),
            ("access = \"public\"\nscopes = [\"a\"]", "scopes", "no login is begun"),
        ] {
            names("", keys, &format!("route[0].{path}"), words);
        }
        for key in ["login = \"always\"", "scopes = [\"a\"]"] {
            let keys = format!("{ANY}accept = [\"bearer\"]\n{key}\n{issuer}");
            names("", &keys, &format!("route[0].{}", key.split(' ').next().unwrap()), "add \"session\" to accept");
        }
    }

    #[test]
    fn who_is_kept_out_is_named_in_full() {
        assert_eq!(told("", &format!("{ANY}deny = {{ groups = [\"suspended\"] }}")), []);
        for (keys, path, words) in [
            ("allow = \"any-authenticated\"\ndeny = \"any-authenticated\"", "deny", "expected a table"),
            ("allow = \"any-authenticated\"\ndeny = {}", "deny", "expected emails"),
            ("allow = \"any-authenticated\"\ndeny = { group = [\"x\"] }", "deny.group", "did you mean"),
            ("access = \"public\"\ndeny = { groups = [\"x\"] }", "deny", "write allow instead"),
            ("access = \"optional\"\ndeny = { groups = [\"x\"] }", "deny", "write allow instead"),
        ] {
            names("", keys, &format!("route[0].{path}"), words);
        }
    }

    #[test]
    fn a_file_of_addresses_can_be_read_and_names_somebody() {
        let folder = std::env::temp_dir().join(format!("doorward-emails-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let with = |text: &str| {
            let file = folder.join("people");
            std::fs::write(&file, text).unwrap();
            told("", &format!("allow = {{ emails_file = {:?} }}", file.display().to_string()))
        };
        assert_eq!(with("ann@x.test\n"), []);
        for (text, words) in
            [("", "names nobody"), ("# nobody\n", "names nobody"), ("ann@x.test\nbob\n", "line 2: expected an e-mail address")]
        {
            let found = with(text);
            assert!(
                found.iter().any(|(path, message)| path == "route[0].allow.emails_file" && message.contains(words)),
                "{text}: {found:?}"
            );
        }
        std::fs::remove_dir_all(&folder).unwrap();
        names("", "allow = { emails_file = \"/nowhere/people\" }", "route[0].allow.emails_file", "cannot be read");
    }

    #[test]
    fn what_a_route_answers_by_itself() {
        let sound = format!(
            "{ANY}denied = {{ text = \"a\", link = \"https://x.test/y\" }}\ncors_origins = [\"https://spa.test\", \"http://localhost:3000\"]\nlog = false"
        );
        assert_eq!(told("", &sound), []);
        for (keys, path, words) in [
            ("denied = {}", "denied", "says nothing"),
            ("denied = { text = \"a\\tb\" }", "denied.text", "shown as it is"),
            ("denied = { link = \"javascript:alert(1)\" }", "denied.link", "expected an address"),
            ("denied = { link = \"https://user@x.test\" }", "denied.link", "expected an address"),
            ("cors_origins = [\"*\"]", "cors_origins", "everybody"),
            ("cors_origins = [\"null\"]", "cors_origins", "sandboxed"),
            ("cors_origins = [\"https://spa.test/app\"]", "cors_origins", "expected an origin"),
            ("cors_origins = [\"https://*.test\"]", "cors_origins", "expected an origin"),
            ("cors_origins = [\"spa.test\"]", "cors_origins", "expected an origin"),
            ("log = \"quiet\"", "log", "true or false"),
        ] {
            names("", &format!("{ANY}{keys}"), &format!("route[0].{path}"), words);
        }
        names("", "access = \"public\"\ndenied = { text = \"a\" }", "route[0].denied", "nobody is refused");
        names("", "access = \"public\"\ncors_origins = [\"https://a.test\"]", "route[0].cors_origins", "the app's");
        for (pages, path) in [("notice = \"\"", "notice"), ("help_url = \"ftp://x\"", "help_url"), ("help_url = \"x\"", "help_url")] {
            names(&format!("pages = {{ {pages} }}"), ANY, &format!("pages.{path}"), "expected");
        }
        names("merge_slashes = \"no\"", ANY, "merge_slashes", "true or false");
    }

    #[test]
    fn a_route_that_answers_everybody_alike_is_warned_of_behind_proxies() {
        let warned = |top: &str, keys: &str| {
            let text = format!("{top}\n{TOP}[[route]]\nid = \"all\"\n{keys}\n");
            let config = super::super::tests::load_text("config.toml", &text, &[]).unwrap_or_else(|problems| panic!("{problems:?}"));
            config.warnings.iter().any(|problem| problem.path == "route" && problem.message.contains("/forward"))
        };
        let trusted = "trusted_proxies = [\"10.0.0.1\"]";
        for (top, keys, expected) in [
            (trusted, "upstream = \"static:202\"\nallow = \"any-authenticated\"", true),
            ("", "upstream = \"static:202\"\nallow = \"any-authenticated\"", false),
            (trusted, "upstream = \"static:404\"\nallow = \"any-authenticated\"", false),
            (trusted, "upstream = \"static:202\"\naccess = \"public\"", false),
            (trusted, "upstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"", false),
        ] {
            assert_eq!(warned(top, keys), expected, "{top} {keys}");
        }
    }
}
