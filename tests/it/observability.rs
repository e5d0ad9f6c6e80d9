//! Latencies, people in the log, the dashboard and the alerts: what those name is really there, and promtool agrees.

#![allow(clippy::disallowed_methods, reason = "what other programs do is waited for by the machine's own clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward::reason::Reason;
use figment::providers::{Format as _, Yaml};
use regex::Regex;
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::hostile::Endpoint;
use crate::harness::hostile_lie::Lie;
use crate::harness::process::{Launch, run};
use crate::harness::scene::Scene;
use crate::harness::temp::TempDir;
use crate::harness::wait::PATIENCE;
use crate::harness::world::{Shape, World};

const ROUTES: &str = "[[route]]\nid = \"open\"\npath = \"/open/\"\naccess = \"public\"\nupstream = \"@UPSTREAM@\"\n\
                      [[route]]\nid = \"app\"\npath = \"/app/\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\nupstream = \"@UPSTREAM@\"\n\
                      [[route]]\nid = \"away\"\npath = \"/away/\"\naccess = \"public\"\nupstream = \"http://127.0.0.1:1\"\n";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The sum of a histogram's series.
fn seconds(metrics: &str, histogram: &str, route: &str) -> f64 {
    let series = format!("doorward_{histogram}_seconds_sum{{route=\"{route}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_else(|| panic!("{series} not in\n{metrics}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstreams_and_providers_take_is_not_the_gateways_own_time() {
    let scene = Scene::start("", ROUTES);
    scene.get("/open/slow?ms=400", &[]).await;
    scene.get("/away/x", &[]).await;
    let metrics = scene.gateway.metrics().await;
    let (upstream, own) = (seconds(&metrics, "upstream", "open"), seconds(&metrics, "own", "open"));
    assert!((0.4..10.0).contains(&upstream), "{upstream}");
    assert!(own > 0.0 && own < 0.3, "{own}");
    assert!(metrics.contains("doorward_upstream_seconds_count{route=\"open\"} 1\n"), "{metrics}");
    assert!(metrics.contains("doorward_upstream_seconds_bucket{le=\"0.25\",route=\"open\"} 0\n"), "{metrics}");
    assert!(metrics.contains("doorward_own_seconds_count{route=\"away\"} 1\n"), "{metrics}");

    // A provider that takes its time: the callback waits, and is not at work.
    let mut browser = Browser::new();
    let page = browser.get(&scene.url("/oauth2/start")).await;
    let page = browser.follow_up_to(page, &scene.gateway.redirect_uri()).await;
    let before = seconds(&scene.gateway.metrics().await, "own", "doorward");
    scene.provider.set(Lie::SlowAnswer(Endpoint::Token, Duration::from_millis(900)));
    browser.follow(&page).await;
    assert!(browser.cookie("doorward").is_some(), "{:?}", scene.provider.complaints());
    let metrics = scene.gateway.metrics().await;
    let own = seconds(&metrics, "own", "doorward") - before;
    assert!(own > 0.0 && own < 0.8, "{own}");
    assert!(!metrics.contains("doorward_upstream_seconds_count{route=\"doorward\"}"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_names_people_as_it_is_told_to() {
    for (format, word, user) in [
        ("json", "name", Some("\"user\":\"alice@example.test\"")),
        ("text", "name", Some(" user=alice@example.test ")),
        ("json", "sub", Some("\"user\":\"alice\"")),
        ("text", "sub", Some(" user=alice ")),
        ("json", "none", None),
        ("text", "none", None),
    ] {
        let top = format!("log = {{ format = \"{format}\", user = \"{word}\" }}");
        let routes = ROUTES.replace(", \"bearer\"", "");
        let shape = Shape { top: &top, provider: "user_claim = \"email\"", routes: Some(&routes), ..Shape::default() };
        let world = World::shaped(shape, |provider| provider);
        let mut browser = Browser::new();
        assert_eq!(world.visit(&mut browser, "/app/who?secret=1").await.status, 200);
        let line = world.gateway.access_line(if format == "json" { "\"credential\":\"session\"" } else { " credential=session " }).await;
        match user {
            Some(user) => assert!(line.contains(user), "{word}: {line}"),
            None => assert!(!line.contains("user") && !line.contains("alice"), "{word}: {line}"),
        }
        // Route, reason, credential and trace stand there in any case; a query never does.
        let parts = match format {
            "json" => ["\"route\":\"app\"", "\"reason\":\"allowed\"", "\"credential\":\"session\"", "\"trace_id\":\""],
            _ => [" route=app ", " reason=allowed ", " credential=session ", " trace_id="],
        };
        assert!(parts.iter().all(|part| line.contains(part)) && !line.contains("secret"), "{line}");
    }
}

/// Everything that is counted, by family, with the names of its labels: from gateways where all of it has happened.
async fn counted() -> BTreeMap<String, BTreeSet<String>> {
    let dir = TempDir::new("counted");
    let emails = dir.write("emails", "alice@example.com\n");
    let listed = format!(
        "[session]\nrevalidate = \"1m\"\n{ROUTES}[[route]]\nid = \"listed\"\npath = \"/listed/\"\nupstream = \"@UPSTREAM@\"\nallow = {{ emails_file = \"{}\" }}\n\
         [[route]]\nid = \"trial\"\npath = \"/trial/\"\nupstream = \"@UPSTREAM@\"\nallow = {{ groups = [\"nobody\"] }}\ndry_run = true\n",
        emails.display()
    );
    let scene = Scene::start("limits.header_timeout = \"1s\"", &listed);
    let mut browser = scene.sign_in().await;
    browser.get(&scene.url("/app/one")).await;
    scene.gateway.advance(Duration::from_secs(120));
    browser.get(&scene.url("/app/two")).await;
    browser.get(&scene.url("/trial/")).await;
    assert!(scene.gateway.reload("leeway = 1").await.is_err());
    scene.get("/app/bad", &[("authorization", "Bearer nonsense"), ("x-forwarded-for", "192.0.2.1")]).await;
    let slow = tokio::net::TcpStream::connect(scene.gateway.address).await.unwrap();
    slow.writable().await.unwrap();
    slow.try_write(b"GET / HTTP/1.1\r\n").unwrap();
    // Its issuer is nowhere.
    let away = Gateway::start(&format!(
        "{TOP}upstream = [\"http://127.0.0.1:1\", \"http://nowhere.invalid:1\"]\nallow = \"any-authenticated\"\n[provider]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"a\"\nclient_secret = \"b\"\n"
    ));
    crate::harness::http::fetch(crate::harness::http::get(&format!("{}/oauth2/start", away.url))).await;
    dir.write("emails", "nobody\n");
    let mut text = String::new();
    let end = std::time::Instant::now() + PATIENCE;
    for wanted in [
        "dry_run_total{",
        "config_reloads_total{",
        "connections_cut_total{",
        "file_errors_total{",
        "session_renewals_total{",
        "dependency_errors_total{",
        "logins_total{",
        "upstream_lookups_failed_total{",
    ] {
        loop {
            text = format!("{}{}", scene.gateway.metrics().await, away.metrics().await);
            if text.contains(wanted) {
                break;
            }
            assert!(std::time::Instant::now() < end, "{wanted} not in\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let sample = Regex::new(r#"(?m)^(doorward_\w+?)(_total|_bucket|_sum|_count|_info)?(?:\{(.*)\})? \S+$"#).unwrap();
    let name = Regex::new(r#"(\w+)=""#).unwrap();
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for found in sample.captures_iter(&text) {
        let labels = families.entry(found[1].to_owned()).or_default();
        if let Some(written) = found.get(3) {
            labels.extend(name.captures_iter(written.as_str()).map(|label| label[1].to_owned()));
        }
    }
    families
}

/// What a query names: metrics with the labels that it matches or groups by. Labels that Prometheus adds are left out.
fn names(query: &str) -> Vec<(String, Vec<String>)> {
    let selector = Regex::new(r"(doorward_\w+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let grouped = Regex::new(r"by \(([^)]*)\)").unwrap();
    let by: Vec<String> = grouped
        .captures_iter(query)
        .flat_map(|found| found[1].split(',').map(|label| label.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    let added = ["job", "instance"];
    selector
        .captures_iter(query)
        .map(|found| {
            let matched = found.get(2).map(|inner| inner.as_str()).unwrap_or_default();
            let labels = matcher.captures_iter(matched).map(|label| label[1].to_owned()).chain(by.clone());
            (found[1].to_owned(), labels.filter(|label| !added.contains(&label.as_str())).collect())
        })
        .collect()
}

fn family(metric: &str) -> String {
    let ends = ["_total", "_bucket", "_sum", "_count", "_info"];
    ends.iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric).to_owned()
}

/// Each metric is counted, has these labels, and reasons are words that there are.
fn hold(query: &str, families: &BTreeMap<String, BTreeSet<String>>, used: &mut BTreeSet<String>) {
    let named = names(query);
    for (metric, labels) in named {
        let name = family(&metric);
        used.insert(name.clone());
        let known = families.get(&name).unwrap_or_else(|| panic!("{metric} is counted nowhere: {query}"));
        for label in labels {
            assert!(known.contains(&label), "{metric} has no label {label}, but {known:?}: {query}");
        }
    }
    for found in Regex::new(r#"reason(?:=~|!~|=|!=)"([^"]*)""#).unwrap().captures_iter(query) {
        for word in found[1].split('|') {
            let prefix = word.strip_suffix(".*");
            let is = |reason: &Reason| prefix.map_or(reason.as_str() == word, |prefix| reason.as_str().starts_with(prefix));
            assert!(Reason::ALL.iter().any(is), "{word} is no reason: {query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_alerts_name_what_is_counted() {
    let families = counted().await;
    let mut used = BTreeSet::new();

    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(deploy("grafana/doorward.json")).unwrap()).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38 && dashboard["uid"] == "doorward");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let kinds: Vec<_> = variables.iter().map(|variable| (variable["name"].as_str().unwrap(), variable["type"].as_str().unwrap())).collect();
    assert_eq!(kinds, [("datasource", "datasource"), ("job", "query"), ("instance", "query")]);
    for variable in &variables[1..] {
        assert_eq!(variable["datasource"]["uid"], "${datasource}");
        hold(variable["definition"].as_str().unwrap(), &families, &mut used);
    }
    let mut ids = BTreeSet::new();
    let mut places: Vec<[u64; 4]> = Vec::new();
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "the id of {title} is another's as well");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is too wide");
        assert!(
            places.iter().all(|[ox, oy, ow, oh]| x >= ox + ow || *ox >= x + w || y >= oy + oh || *oy >= y + h),
            "{title} lies on another"
        );
        places.push([x, y, w, h]);
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title} says nothing of itself");
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty()).unwrap_or_else(|| panic!("{title} asks nothing"));
        let letters: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert_eq!(letters.len(), targets.len(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"], json!({ "type": "prometheus", "uid": "${datasource}" }), "{title}");
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("job=~\"$job\"") && query.contains("instance=~\"$instance\""), "{title}: {query}");
            hold(query, &families, &mut used);
            queries += 1;
        }
    }
    assert!(queries > 25, "{queries}");
    // What is counted is shown.
    for name in families.keys() {
        assert!(used.contains(name), "{name} is on no panel");
    }

    let rules = std::fs::read_to_string(deploy("prometheus/alerts.yaml")).unwrap();
    let rules: Value = Yaml::from_str(&rules).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().expect("rules").clone();
    let tests = std::fs::read_to_string(deploy("prometheus/alerts_test.yaml")).unwrap();
    assert!(rules.len() > 10);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        hold(rule["expr"].as_str().unwrap(), &families, &mut used);
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("page" | "ticket")), "{name}");
        for (text, least) in [("summary", 15), ("description", 80)] {
            assert!(rule["annotations"][text].as_str().is_some_and(|text| text.len() > least), "{name} has no {text}");
        }
        let fires = format!("exp_samples: [{{ labels: 'ALERTS{{alertname=\"{name}\"");
        assert!(tests.contains(&fires), "{name} never fires in alerts_test.yaml");
    }
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_for_what_it_is_for() {
    let rules = deploy("prometheus/alerts.yaml");
    let told = run("promtool", &["check", "rules", "--lint-fatal", rules.to_str().unwrap()]);
    assert!(told.contains("SUCCESS"), "{told}");
    let told = run("promtool", &["test", "rules", deploy("prometheus/alerts_test.yaml").to_str().unwrap()]);
    assert!(told.contains("SUCCESS"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_reads_what_is_counted() {
    let scene = Scene::start("", ROUTES);
    scene.get("/open/one", &[]).await;
    scene.sign_in().await;
    let (dir, port) = (TempDir::new("prometheus"), crate::harness::wait::free_port());
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: doorward\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
        deploy("prometheus/alerts.yaml").display(),
        scene.gateway.admin.trim_start_matches("http://")
    );
    let file = dir.write("prometheus.yml", config);
    let prometheus = Launch::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .start();
    let ask = async |query: &str| -> Value {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let request = crate::harness::http::get(&format!("http://127.0.0.1:{port}/api/v1/query?query={encoded}"));
        match crate::harness::http::HttpClient::new().try_fetch(request).await {
            Ok(answer) if answer.status == 200 => answer.json()["data"]["result"].clone(),
            _ => Value::Null,
        }
    };
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let found = ask("histogram_quantile(0.99, sum by (le, route) (doorward_own_seconds_bucket{route=\"open\"}))").await;
        if found[0]["value"][1].as_str().and_then(|value| value.parse::<f64>().ok()).is_some_and(|value| value > 0.0 && value < 5.0) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{found}\n{}", prometheus.output());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ask("doorward_requests_total{route=\"open\"}").await[0]["metric"]["reason"], "public");
    assert_eq!(ask("up{job=\"doorward\"}").await[0]["value"][1], "1");
    assert_eq!(ask("count(doorward_logins_total{outcome=\"success\"})").await[0]["value"][1], "1");
}
