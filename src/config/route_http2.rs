//! What a route cannot have whose upstream takes HTTP/2 alone.

use super::reader::Section;
use crate::upstream::UpstreamAddress;

/// Refuses keys about WebSockets beside `h2c://`: they come by an upgrade, which HTTP/2 has not, and without TLS nobody settles another version.
pub(super) fn refuse_websockets(section: &Section<'_>, upstream: Option<&UpstreamAddress>) {
    let Some(UpstreamAddress::H2c { .. }) = upstream else { return };
    if section.list("bearer_in").is_some_and(|places| places.iter().any(|place| place == "subprotocol")) {
        section.problem(
            "bearer_in",
            "holds \"subprotocol\", which WebSockets alone have, and an h2c:// upstream takes none; take it out, or write upstream = \"http://…\" on a route of its own for the app's WebSockets",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::problems;

    const TOP: &str = "public_url = \"https://app.test\"\n[[token_issuer]]\nissuer = \"https://login.test\"\naudience = \"api\"\n";

    fn route(keys: &str) -> String {
        format!("{TOP}[[route]]\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n{keys}\n")
    }

    #[test]
    fn what_does_not_go_with_http2_alone_is_told() {
        for (keys, key, told) in [
            ("upstream = \"h2c://127.0.0.1:1\"\nbearer_in = [\"header\", \"subprotocol\"]", "bearer_in", "an h2c:// upstream takes none"),
            ("upstream = \"h2c://127.0.0.1:1\"\ntls = { pin_sha256 = [\"r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E=\"] }", "tls", "h2://"),
            ("upstream = \"h2c:127.0.0.1:1\"", "upstream", "for HTTP/2 h2c://host:port, or h2://host:port with TLS"),
            ("upstream = \"grpc://127.0.0.1:1\"", "upstream", "for HTTP/2 h2c://host:port, or h2://host:port with TLS"),
        ] {
            let problems = problems(&route(keys));
            let found = problems.iter().any(|(path, message)| path.ends_with(key) && message.contains(told));
            assert!(found && problems.len() == 1, "{keys}: {problems:?}");
        }
        for keys in [
            "upstream = \"h2c://127.0.0.1:1\"\nbearer_in = [\"header\"]\nupstream_host = \"upstream\"",
            "upstream = \"h2://127.0.0.1:1\"\nbearer_in = [\"header\", \"subprotocol\"]",
            "upstream = \"h2://127.0.0.1:1\"\ntls = { server_name = \"app.internal\" }",
            "upstream = \"http://127.0.0.1:1\"\nbearer_in = [\"subprotocol\"]",
        ] {
            assert_eq!(problems(&route(keys)), [], "{keys}");
        }
    }

    #[test]
    fn calls_that_leave_are_not_told_a_protocol() {
        let text = format!(
            "{TOP}[[route]]\naccess = \"public\"\nupstream = \"http://127.0.0.1:1\"\n[outbound.o]\ntoken_url = \"https://login.test/t\"\nclient_id = \"a\"\nclient_secret = \"b\"\n\
             [[outgoing]]\nid = \"o\"\nlisten = \"127.0.0.1:1\"\noutbound = \"o\"\nhosts = [\"h2://api.test\"]\n"
        );
        let problems = problems(&text);
        assert!(
            problems.iter().any(|(path, message)| path.ends_with("hosts") && message.contains("expected hosts such as")),
            "{problems:?}"
        );
    }
}
