//! Spans at a collector: what they say, what never stands in them, who decides what is recorded, and a collector that is away.

#![allow(clippy::disallowed_methods, reason = "what other programs do is waited for by the machine's own clock")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use serde_json::json;

use crate::harness::body::full;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::collector::{Collector, Span};
use crate::harness::gateway::GatewayProcess;
use crate::harness::http::{fetch, get};
use crate::harness::mutual_tls::MutualTls;
use crate::harness::scene::{PUBLIC, Scene};
use crate::harness::temp::TempDir;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, eventually, free_port};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

const ROUTES: &str = "[[route]]\nid = \"open\"\npath = \"/open/\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n\
                      [[route]]\nid = \"app\"\npath = \"/app/\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\nupstream = \"@UPSTREAM@\"\n\
                      [[route]]\nid = \"away\"\npath = \"/away/\"\naccess = \"public\"\nupstream = \"http://127.0.0.1:1\"\n\
                      [[route]]\nid = \"fixed\"\npath = \"/fixed/\"\naccess = \"public\"\nupstream = \"static:204\"\n";

fn traced(collector: &Collector, keys: &str) -> String {
    format!("[tracing]\nendpoint = \"{}\"\n{keys}\n{ROUTES}", collector.endpoint())
}

fn given(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// The span of the answered request with this path.
fn answered<'a>(spans: &'a [Span], path: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.is_server() && span.attribute("url.path") == path);
    found.unwrap_or_else(|| panic!("no span of {path} in {spans:#?}"))
}

fn children<'a>(spans: &'a [Span], of: &Span) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.text("parent") == of.text("id")).collect()
}

/// What the upstream was told: trace, parent, flags.
fn told(upstream: &EchoUpstream) -> (String, String, String) {
    let [line] = <[String; 1]>::try_from(upstream.last().header_all("traceparent")).expect("one traceparent");
    let parts: Vec<&str> = line.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_the_call_to_its_upstream_are_spans_that_say_what_happened() {
    let collector = Collector::start();
    let scene = Scene::start("log.format = \"json\"", &traced(&collector, "sample = 1.0\nservice_name = \"front\""));
    assert_eq!(scene.get("/open/one?q=1", &[("tracestate", "of=nobody")]).await.status, 200);
    let (trace, parent, flags) = told(&scene.upstream);
    assert_eq!((flags.as_str(), scene.upstream.last().header("tracestate")), ("01", None));
    let spans = collector.spans_with("/open/one").await;

    let own = answered(&spans, "/open/one");
    assert_eq!((own.text("trace"), own.text("parent"), own.text("name")), (trace.as_str(), "", "GET open"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("server.address", "127.0.0.1"),
        ("server.port", &scene.gateway.address.port().to_string()),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.route", "open"),
        ("http.response.status_code", "200"),
        ("doorward.reason", "public"),
        ("error.type", ""),
    ] {
        assert_eq!(own.attribute(name), value, "{name} of {own:?}");
    }
    assert_eq!((own.number("kind"), own.number("status"), own.number("flags")), (2, 0, 0x101));
    assert_eq!(own.0["resource"]["service.name"], "front");
    let [call] = <[&Span; 1]>::try_from(children(&spans, own)).expect("one call");
    // Its id is what the upstream was told as its parent.
    assert_eq!((call.text("id"), call.text("trace"), call.number("kind"), call.text("name")), (parent.as_str(), trace.as_str(), 3, "GET"));
    assert_eq!(call.attribute("http.response.status_code"), "200");
    assert!(scene.upstream.url().ends_with(&format!("{}:{}", call.attribute("server.address"), call.attribute("server.port"))));
    assert!(own.number("start") <= call.number("start") && call.number("end") <= own.number("end"), "{own:?} {call:?}");
    assert!(own.attribute("doorward.upstream_us").parse::<u64>().unwrap() <= (own.number("end") - own.number("start")) / 1000);
    // The log names the same trace.
    assert!(scene.gateway.access_line("/open/one").await.contains(&format!("\"trace_id\":\"{trace}\"")));

    // An upstream that is away, an answer without an upstream, a refusal, an answer of no route.
    scene.get("/away/x", &[]).await;
    scene.get("/fixed/x", &[]).await;
    scene.get("/app/x", &[]).await;
    scene.get("/nowhere", &[]).await;
    let spans = collector.spans_with("/nowhere").await;
    let away = answered(&spans, "/away/x");
    assert_eq!((away.number("status"), away.attribute("error.type").as_str()), (2, "502"));
    assert_eq!(away.attribute("doorward.reason"), "upstream-unreachable");
    let [call] = <[&Span; 1]>::try_from(children(&spans, away)).expect("one call");
    assert_eq!((call.number("status"), call.attribute("error.type").as_str()), (2, "upstream-unreachable"));
    let fixed = answered(&spans, "/fixed/x");
    assert_eq!((fixed.attribute("http.response.status_code").as_str(), children(&spans, fixed).len()), ("204", 0));
    let refused = answered(&spans, "/app/x");
    assert_eq!((refused.attribute("http.response.status_code").as_str(), refused.number("status")), ("401", 0));
    assert_eq!((refused.attribute("doorward.reason").as_str(), children(&spans, refused).len()), ("no-credential", 0));
    let lost = answered(&spans, "/nowhere");
    assert_eq!((lost.text("name"), lost.attribute("http.route").as_str()), ("GET", ""));
    let ids: BTreeMap<&str, usize> = spans.iter().fold(BTreeMap::new(), |mut ids, span| {
        *ids.entry(span.text("id")).or_default() += 1;
        ids
    });
    assert!(ids.values().all(|times| *times == 1), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_shows_its_calls_to_provider_and_store() {
    let collector = Collector::start();
    let scene = Scene::start("", &traced(&collector, "sample = 1.0"));
    scene.sign_in().await;
    let spans = collector.spans_with("/oauth2/callback").await;
    let callback = answered(&spans, "/oauth2/callback");
    let names: Vec<&str> = children(&spans, callback).iter().map(|span| span.text("name")).collect();
    for call in ["provider token", "store take_login", "store put_session"] {
        assert!(names.contains(&call), "{call} not in {names:?}");
    }
    let token = children(&spans, callback).into_iter().find(|span| span.text("name") == "provider token").unwrap();
    assert_eq!((token.number("kind"), token.attribute("doorward.provider")), (3, scene.provider.issuer()));
    assert_eq!(token.text("trace"), callback.text("trace"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_cookie_token_or_name_of_a_person_is_in_a_span() {
    let collector = Collector::start();
    let scene = Scene::start("", &traced(&collector, "sample = 1"));
    let secret = "secret-that-must-not-be-seen";
    let mut browser = scene.sign_in().await;
    browser.get(&scene.url(&format!("/app/page?code={secret}&access_token={secret}"))).await;
    let token = scene.token(json!({}));
    scene.get(&format!("/app/api?x={secret}"), &[("authorization", &format!("Bearer {token}")), ("referer", secret)]).await;
    scene.get("/app/bad", &[("authorization", &format!("Bearer {secret}")), ("user-agent", secret), ("cookie", secret)]).await;
    scene.get("/open/state", &[("tracestate", &format!("a={secret}")), ("baggage", secret)]).await;
    let form = Request::post(scene.url("/open/form")).header("content-type", "application/x-www-form-urlencoded");
    fetch(form.body(full(format!("password={secret}"))).unwrap()).await;
    let page = browser.get(&scene.url("/oauth2/sign_out")).await;
    browser.follow_all(page).await;
    scene.get("/open/last", &[]).await;
    let spans = collector.spans_with("/open/last").await;
    for path in ["/oauth2/start", "/oauth2/callback", "/app/page", "/app/api", "/app/bad", "/open/form"] {
        answered(&spans, path);
    }
    let bytes = collector.bytes();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(secret) && !holds(&token) && !holds("alice"));
    let secrets = scene.provider.secrets();
    assert!(secrets.len() > 5, "{secrets:?}");
    for (kind, secret) in secrets {
        assert!(!holds(&secret), "{kind} is in a span");
    }
    for cookie in browser.cookies() {
        assert!(!holds(&cookie.value), "{} is in a span", cookie.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_listed_decides_what_is_recorded_and_others_do_not() {
    let collector = Collector::start();
    // A stranger's word does not count: nothing is recorded, and the upstream is told so.
    let scene = Scene::start("", &traced(&collector, "sample = 0"));
    scene.get("/open/stranger", &[("traceparent", &given("01"))]).await;
    let (trace, parent, flags) = told(&scene.upstream);
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    assert_ne!(parent, PARENT);
    scene.get("/open/nobody", &[]).await;
    assert_eq!(told(&scene.upstream).2, "00");
    drop(scene);

    // A listed proxy's does, in both directions.
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]", &traced(&collector, "sample = 0"));
    scene.get("/open/listed", &[("traceparent", &given("01")), ("tracestate", "a=1")]).await;
    let (trace, parent, flags) = told(&scene.upstream);
    assert_eq!((trace.as_str(), flags.as_str(), scene.upstream.last().header("tracestate").as_deref()), (TRACE, "01", Some("a=1")));
    scene.get("/open/none", &[]).await;
    let spans = collector.spans_with("/open/listed").await;
    let own = answered(&spans, "/open/listed");
    assert_eq!((own.text("trace"), own.text("parent"), own.number("flags")), (TRACE, PARENT, 0x301));
    assert_eq!(children(&spans, own).iter().map(|span| span.text("id")).collect::<Vec<_>>(), [parent.as_str()]);
    drop(scene);
    let scene = Scene::start("trusted_proxies = [\"127.0.0.1\"]", &traced(&collector, "sample = 1"));
    scene.get("/open/unwanted", &[("traceparent", &given("00"))]).await;
    assert_eq!(told(&scene.upstream).2, "00");
    scene.get("/open/last", &[]).await;
    let spans = collector.spans_with("/open/last").await;
    for path in ["/open/stranger", "/open/nobody", "/open/none", "/open/unwanted"] {
        assert!(spans.iter().all(|span| span.attribute("url.path") != path), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_may_want_a_token_and_a_certificate_of_its_own() {
    let authority = CertificateAuthority::new();
    let collector = Collector::with_tls(authority.leaf(&["localhost"]).server_config(&["http/1.1"]));
    let dir = TempDir::new("collector");
    let ca = dir.write("ca.pem", authority.pem());
    let file = dir.write_secret("headers", "# for the collector\nAuthorization: Bearer first\nX-Scope-OrgID: ops\n");
    let keys = format!("sample = 1\nheaders_file = \"{}\"\ntls = {{ ca_file = \"{}\" }}", file.display(), ca.display());
    let scene = Scene::start("", &traced(&collector, &keys));
    scene.get("/open/one", &[]).await;
    collector.spans_with("/open/one").await;
    let (line, headers) = collector.heads().pop().unwrap();
    assert_eq!((line.as_str(), headers["content-type"].as_bytes()), ("POST /v1/traces", &b"application/x-protobuf"[..]));
    assert_eq!((headers["authorization"].as_bytes(), headers["x-scope-orgid"].as_bytes()), (&b"Bearer first"[..], &b"ops"[..]));
    // A token that was changed counts from then on.
    dir.write_secret("headers", "Authorization: Bearer second\n");
    scene.get("/open/two", &[]).await;
    collector.spans_with("/open/two").await;
    assert_eq!(collector.heads().pop().unwrap().1["authorization"], "Bearer second");
    drop(scene);

    // Without its CA nothing is sent.
    let scene = Scene::start("", &traced(&collector, "sample = 1\nheaders = { Authorization = \"Bearer given\" }"));
    let before = collector.heads().len();
    scene.get("/open/three", &[]).await;
    scene.gateway.stop();
    assert_eq!(collector.heads().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_by_its_certificate_and_is_shown_ours() {
    let both = MutualTls::new();
    let collector = Collector::with_mutual_tls(&both);
    let mut ends = Vec::new();
    for (n, (tls, fits)) in both.ways().into_iter().enumerate() {
        let scene = Scene::start("", &traced(&collector, &format!("sample = 1\n{tls}")));
        let path = format!("/open/way-{n}");
        assert_eq!(scene.get(&path, &[]).await.status, 200);
        // What is left is sent at the end, as far as anybody takes it.
        ends.push((tokio::task::spawn_blocking(move || scene.gateway.stop()), path, tls, fits));
    }
    for (end, path, tls, fits) in ends {
        end.await.unwrap();
        assert_eq!(collector.holds(&path), fits, "{tls}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_requests_nothing_and_is_counted() {
    let collector = Collector::start();
    collector.answer(StatusCode::BAD_REQUEST);
    let scene = Scene::start("", &traced(&collector, "sample = 1\nheaders = { Authorization = \"Bearer given\" }"));
    for _ in 0..20 {
        assert_eq!(scene.get("/open/lost", &[]).await.status, 200);
    }
    let dropped = async |gateway: &crate::harness::gateway::Gateway| gateway.metric("doorward_spans_dropped_total").await;
    let end = Instant::now() + PATIENCE;
    while dropped(&scene.gateway).await < 40 {
        assert!(Instant::now() < end, "{}", scene.gateway.metrics().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    collector.answer(StatusCode::OK);
    scene.get("/open/again", &[]).await;
    collector.spans_with("/open/again").await;
    assert_eq!((dropped(&scene.gateway).await, scene.gateway.metric("doorward_spans_exported_total").await), (40, 2));
    assert_eq!(collector.heads().pop().unwrap().1["authorization"], "Bearer given");

    // Nobody is there at all: requests go on, and the end waits two seconds at most.
    collector.server.stop().await;
    assert_eq!(scene.get("/open/alone", &[]).await.status, 200);
    let told = Instant::now();
    scene.gateway.stop();
    assert!(told.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_nothing_is_told_once() {
    let (collector, upstream) = (Collector::start(), EchoUpstream::start());
    collector.answer(StatusCode::FORBIDDEN);
    let config = format!("public_url = \"http://127.0.0.1:@PORT@\"\nstore.kind = \"memory\"\n{}", traced(&collector, "sample = 1"));
    let config = config.replace("@UPSTREAM@", &upstream.url());
    let open = config.replace("accept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"", "access = \"public\"");
    let gateway = GatewayProcess::start_on(free_port(), &open).await;
    let told = |output: &str| output.lines().filter(|line| line.contains("the collector takes no spans")).count();
    fetch(get(&format!("{}/open/one", gateway.url))).await;
    eventually("the word", || (told(&gateway.process.output()) == 1).then_some(())).await;
    let dropped = async || {
        let text = fetch(get(&format!("http://{}/metrics", gateway.admin))).await.text();
        text.lines().find_map(|line| line.strip_prefix("doorward_spans_dropped_total ")?.parse::<u64>().ok()).unwrap()
    };
    fetch(get(&format!("{}/open/two", gateway.url))).await;
    let end = Instant::now() + PATIENCE;
    while dropped().await < 4 {
        assert!(Instant::now() < end, "{}", gateway.process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = gateway.process.output();
    assert!(told(&output) == 1 && output.contains("status 403"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_sent_when_the_gateway_ends() {
    let collector = Collector::start();
    let scene = Scene::start("", &traced(&collector, "sample = 1"));
    scene.get("/open/last", &[]).await;
    scene.gateway.access_line("/open/last").await;
    scene.gateway.stop();
    assert!(collector.holds("/open/last"), "it was not sent before the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_unless_a_collector_is_named() {
    let scene = Scene::start("", PUBLIC);
    scene.get("/x", &[]).await;
    assert_eq!(scene.upstream.last().header_all("traceparent").len(), 0);
    scene.get("/x", &[("traceparent", &given("01"))]).await;
    let (trace, parent, flags) = told(&scene.upstream);
    assert!(trace == TRACE && parent != PARENT && flags == "01");
    assert_eq!(scene.gateway.metric("doorward_spans_exported_total").await + scene.gateway.metric("doorward_spans_dropped_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_is_told_for_a_request_names_it_and_its_trace() {
    for format in ["json", "text"] {
        let scene = Scene::start("", PUBLIC);
        let upstream = scene.upstream.url();
        let sign_in =
            crate::harness::gateway::provider(&scene.provider.issuer(), scene.provider.client_id(), scene.provider.client_secret());
        let config = format!(
            "public_url = \"http://127.0.0.1:@PORT@\"\nlog = {{ level = \"debug\", format = \"{format}\" }}\n{sign_in}\n\
             [[route]]\nid = \"app\"\nupstream = \"{upstream}\"\nallow = {{ groups = [\"nobody-is-in-it\"] }}\n"
        );
        let gateway = GatewayProcess::start_on(free_port(), &config).await;
        let mut browser = Browser::new();
        let page = browser.get(&format!("{}/page", gateway.url)).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 403, "{}", page.text());
        let page = browser.get(&format!("{}/oauth2/sign_out", gateway.url)).await;
        browser.follow_all(page).await;
        let wanted = ["login-succeeded", "refused"];
        let lines = eventually("the events", || {
            let lines: Vec<String> =
                gateway.process.output().lines().filter(|line| line.contains("doorward::security")).map(str::to_owned).collect();
            wanted.iter().all(|event| lines.iter().any(|line| line.contains(event))).then_some(lines)
        })
        .await;
        for line in lines {
            let value = |name: &str| match format {
                "json" => serde_json::from_str::<serde_json::Value>(&line).unwrap()[name].as_str().unwrap_or_default().to_owned(),
                _ => {
                    let rest = line.split(&format!("{name}=")).nth(1).unwrap_or_default();
                    rest.split(' ').next().unwrap_or_default().trim_matches('"').to_owned()
                }
            };
            let (id, trace) = (value("request_id"), value("trace_id"));
            assert!(id.len() == 16 && trace.len() == 32, "{line}");
            assert_eq!(line.matches("request_id").count(), 1, "{line}");
            // The access line of the same request says the same.
            let same =
                eventually("its access line", || gateway.process.stdout().lines().find(|access| access.contains(&id)).map(str::to_owned))
                    .await;
            assert!(same.contains(&trace), "{same}\n{line}");
        }
    }
}
