use super::super::tests::{load_text, problems};
use super::*;

const TOP: &str =
    "public_url = \"https://app.test\"\n[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"s\"\n";
const TWO: &str = "upstream = [\"http://10.0.0.5:1\", \"http://10.0.0.6:1\"]\n";

fn loaded(top: &str, keys: &str) -> crate::config::Config {
    let text = format!("{top}{TOP}[[route]]\naccess = \"public\"\n{keys}\n");
    let told = |problems: Vec<super::super::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    load_text("config.toml", &text, &[]).unwrap_or_else(|problems| panic!("{keys}: {}", told(problems)))
}

fn upstream(keys: &str) -> Upstream {
    loaded("", keys).routes.upstreams.remove(0)
}

fn told(keys: &str) -> String {
    let found = problems(&format!("{TOP}[[route]]\naccess = \"public\"\n{keys}\n"));
    found.into_iter().map(|(path, message)| format!("{}: {message}", path.trim_start_matches("route[0]."))).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_upstream_is_an_address_or_several_each_with_a_weight() {
    let entries = |keys: &str| {
        let all = upstream(keys).entries;
        all.iter().map(|entry| format!("{} {}", entry.address, entry.weight)).collect::<Vec<_>>().join(", ")
    };
    for (keys, expected) in [
        ("upstream = \"http://a:1\"", "http://a:1 1"),
        ("upstream = [\"http://a:1\", \"http://b:1\"]", "http://a:1 1, http://b:1 1"),
        ("upstream = { url = \"http://a:1\" }", "http://a:1 1"),
        (
            "upstream = [{ url = \"http://a:1\", weight = 3 }, \"http://b:1\", { url = \"http://c:1\" }]",
            "http://a:1 3, http://b:1 1, http://c:1 1",
        ),
        (
            "[[route.upstream]]\nurl = \"https://a\"\nweight = 2\n[[route.upstream]]\nurl = \"https://b\"",
            "https://a:443 2, https://b:443 1",
        ),
    ] {
        assert_eq!(entries(keys), expected, "{keys}");
    }
    let short = load_text("config.toml", &format!("{TWO}allow = \"any-authenticated\"\n{TOP}"), &[]).ok().unwrap();
    assert_eq!(short.routes.upstreams[0].entries.len(), 2, "at the top too");
}

#[test]
fn every_key_is_read_and_has_its_default() {
    assert_eq!(upstream(TWO).settings, GroupSettings::default());
    let all = upstream(&format!(
        "{TWO}balance = \"sticky\"\nconnections = 7\nejection = {{ failures = 5, time = \"20s\", most = \"1m\" }}\n\
         health_check = {{ path = \"/up?x\", host = \"app.internal\", interval = \"7s\", timeout = \"3s\", status = 204, healthy_after = 4, unhealthy_after = 5 }}"
    ));
    let check = HealthCheck {
        path: PathAndQuery::from_static("/up?x"),
        host: Some(HeaderValue::from_static("app.internal")),
        interval: 7 * SECOND,
        timeout: 3 * SECOND,
        status: Some(StatusCode::NO_CONTENT),
        healthy_after: 4,
        unhealthy_after: 5,
    };
    let ejection = Ejection { failures: 5, time: 20 * SECOND, most: 60 * SECOND };
    assert_eq!(all.settings, GroupSettings { balance: Balance::Sticky, ejection, check: Some(check), connections: Some(7) });
    let check = upstream(&format!("{TWO}health_check = {{ path = \"/\" }}")).settings.check.unwrap();
    assert_eq!((check.interval, check.timeout, check.status), (5 * SECOND, 2 * SECOND, None));
    assert_eq!((check.host, check.healthy_after, check.unhealthy_after), (None, 2, 3));
    let check = upstream(&format!("{TWO}health_check = {{ path = \"/\", interval = \"500ms\" }}")).settings.check.unwrap();
    assert_eq!(check.timeout, SECOND / 2, "never longer than the interval, where only that is written");
    // The most is never shorter than the time, where only that is written.
    assert_eq!(upstream(&format!("{TWO}ejection = {{ time = \"10m\" }}")).settings.ejection.most, 600 * SECOND);
    let config = loaded(
        "dns_servers = [\"10.0.0.10\", \"[::1]:5353\"]\n",
        &format!("{TWO}timeouts = {{ connect = \"1s\", response = \"2s\", idle = \"3s\" }}"),
    );
    assert_eq!(config.gateway.dns_servers, ["10.0.0.10:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    let timeouts = config.routes.table.routes()[0].timeouts;
    assert_eq!(timeouts, Timeouts { connect: Some(SECOND), response: Some(2 * SECOND), idle: Some(3 * SECOND) });
}

#[test]
fn a_name_may_have_several_addresses_and_a_number_has_one() {
    for key in ["balance = \"sticky\"", "ejection = { failures = 1 }", "health_check = { path = \"/\" }"] {
        assert_eq!(told(&format!("upstream = \"http://app.internal\"\n{key}")), "", "{key}");
        for single in ["http://10.0.0.5:1", "unix:/run/app.sock", "http://[::1]:1"] {
            let problem = told(&format!("upstream = \"{single}\"\n{key}"));
            assert!(problem.contains("stands beside a single address") && !problem.contains('\n'), "{key}: {problem}");
        }
    }
    assert_eq!(told("upstream = \"http://10.0.0.5:1\"\nconnections = 5"), "");
}

#[test]
fn what_does_not_go_together_is_told() {
    for (keys, expected) in [
        ("upstream = [\"http://a\", \"https://b\"]", "upstream: mixes kinds of addresses; expected all of one kind"),
        ("upstream = [\"http://a\", \"unix:/b\"]", "upstream: mixes kinds"),
        ("upstream = [\"http://a\", \"static:200\"]", "upstream: holds a static: answer beside other addresses"),
        ("upstream = [\"http://a\", \"http://A:80\"]", "upstream: http://a:80 is there twice; write it once, with a weight"),
        ("upstream = [\"http://a/x\"]", "upstream: expected only scheme, host and port"),
        ("upstream = [{ weight = 2 }]", "upstream.url: is missing; for example"),
        ("upstream = [{ url = \"http://a\", weight = 0 }, \"http://b\"]", "upstream[0].weight: expected a whole number from 1 to 1000"),
        ("upstream = { url = \"http://10.0.0.5\", weight = 2 }", "upstream.weight: stands beside no other address"),
        ("upstream = [{ url = \"http://a\", weight = 1 }]", "upstream.weight: stands beside no other address"),
        ("upstream = [{ url = \"http://a\", wait = 1 }, \"http://b\"]", "upstream[0].wait: is no key"),
        ("upstream = [{ url = \"http://a\" }, 7]", "upstream: expected a list of texts and tables; item 1 is 7"),
        ("upstream = []", "upstream: is an empty list"),
        (
            "upstream = [\"http://a\", \"http://b\"]\nbalance = \"random\"",
            "balance: expected \"least-outstanding\" or \"round-robin\" or \"sticky\"",
        ),
        ("upstream = [\"http://a\", \"http://b\"]\nupstream_host = \"upstream\"", "upstream_host: is \"upstream\", and there are several"),
        ("upstream = \"http://a\"\nejection = { failures = 0, time = \"5s\" }", "ejection.failures: is 0, which leaves no address out"),
        ("upstream = \"http://a\"\nejection = { time = \"1m\", most = \"5s\" }", "ejection.most: is shorter than time"),
        ("upstream = \"http://a\"\nejection = { time = \"10ms\" }", "ejection.time: expected a time with its unit"),
        ("upstream = \"http://a\"\nhealth_check = { interval = \"5s\" }", "health_check.path: is missing"),
        (
            "upstream = \"http://a\"\nhealth_check = { path = \"/\", interval = \"1s\", timeout = \"1100ms\" }",
            "health_check.timeout: is longer than interval",
        ),
        ("upstream = \"http://a\"\nhealth_check = { path = \"healthz\" }", "health_check.path: expected a path such as \"/healthz\""),
        ("upstream = \"http://a\"\nhealth_check = { path = \"/\", host = \"a/b\" }", "health_check.host: expected a host's name"),
        (
            "upstream = \"http://a\"\nhealth_check = { path = \"/\", status = 700 }",
            "health_check.status: expected a whole number from 200 to 599",
        ),
        ("upstream = \"http://a\"\nconnections = 0", "connections: expected a whole number from 1"),
        ("upstream = \"static:204\"\nconnections = 5", "connections: stands beside a static: upstream"),
        ("upstream = \"static:204\"\ntimeouts = { idle = \"5s\" }", "timeouts: stands beside a static: upstream"),
        ("upstream = \"http://a\"\ntimeouts = { answer = \"5s\" }", "timeouts.answer: is no key"),
        ("balance = \"sticky\"", "balance: stands on a route without an upstream"),
        ("tls = { server_name = \"a\" }", "tls: stands on a route without an upstream"),
        ("connections = 5", "connections: stands on a route without an upstream"),
        ("timeouts = { idle = \"5s\" }", "timeouts: stands on a route without an upstream"),
        ("upstream = [\"http://a\", \"http://b\"]\ntls = { server_name = \"a\" }", "tls: stands beside an upstream that is not https://"),
    ] {
        let problem = told(keys);
        assert!(problem.contains(expected), "{keys}: {problem}");
    }
    let problem = problems(&format!("dns_servers = [\"dns.internal\"]\n{TOP}[[route]]\naccess = \"public\"\nupstream = \"http://a\"\n"));
    assert!(problem[0].1.contains("expected addresses such as \"10.0.0.10\""), "{problem:?}");
}

#[test]
fn two_routes_that_share_an_address_have_one_limit() {
    let table = |id: &str, rest: &str| format!("[[route]]\nid = \"{id}\"\npath = \"/{id}/\"\naccess = \"public\"\n{rest}\n");
    let two = |rest: &str| problems(&format!("{TOP}{}{}", table("a", &format!("{TWO}connections = 5")), table("b", rest)));
    let one = "upstream = \"http://10.0.0.6:1\"\n";
    let told = two(&format!("{one}connections = 6"));
    assert!(told[0].1.contains("route \"b\" has connections = 6 and route \"a\" 5"), "{told:?}");
    for fine in [format!("{one}connections = 5"), one.to_owned(), "upstream = \"http://10.0.0.7:1\"\nconnections = 6".to_owned()] {
        assert_eq!(two(&fine), [], "{fine}");
    }
}

#[test]
fn two_routes_that_share_an_address_share_an_app() {
    // The open one would pass what the other guards, though their lists differ.
    let tables = "[[route]]\nid = \"open\"\npath = \"/open/\"\naccess = \"public\"\nstrip_prefix = true\nupstream = [\"http://10.0.0.5:1\", \"http://10.0.0.6:1\"]\n\
                  [[route]]\nid = \"guarded\"\npath = \"/admin/\"\nallow = \"any-authenticated\"\nupstream = \"http://10.0.0.6:1\"\n";
    let found = problems(&format!("{TOP}{tables}"));
    assert!(found.iter().any(|(_, message)| message.contains("\"open\" is for everybody")), "{found:?}");
    assert_eq!(problems(&format!("{TOP}{}", tables.replace("upstream = \"http://10.0.0.6:1\"", "upstream = \"http://10.0.0.7:1\""))), []);
}
