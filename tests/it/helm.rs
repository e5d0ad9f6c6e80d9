//! The chart in `deploy/helm`: rendered by the real helm, checked against the API's schemas, and its config loads.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use figment::providers::{Format, Yaml};
use serde_json::Value;

use crate::deploy::{assert_drains_within, assert_understood, deploy, load_as, texts, validate};
use crate::harness::temp::TempDir;

fn helm() -> Command {
    // tests/run builds it there; a plain `cargo test` finds it too.
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("bin/helm");
    let mut command = Command::new(if own.is_file() { own } else { PathBuf::from("helm") });
    // It keeps nothing, and asks nobody.
    command.env("HELM_CACHE_HOME", "/nonexistent").env("HELM_CONFIG_HOME", "/nonexistent").env("HELM_DATA_HOME", "/nonexistent");
    command
}

fn chart() -> PathBuf {
    deploy("helm/doorward")
}

fn template(values: &Path, more: &[&str]) -> Output {
    let mut command = helm();
    // Without a cluster it takes one of long ago.
    command.args(["template", "gateway", "--kube-version", "1.31.0"]).arg(chart()).arg("--values").arg(values).args(more);
    command.output().expect("helm is installed: tests/run does it")
}

/// What the chart makes of these values; every part is sound for Kubernetes.
fn rendered(values: &Path, more: &[&str]) -> Vec<Value> {
    let output = template(values, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let parts: Vec<&str> =
        text.split("\n---\n").map(|part| part.trim_start_matches("---\n")).filter(|part| part.contains("kind:")).collect();
    // The Prometheus operator's kinds are no part of Kubernetes' own schemas.
    let own = parts.iter().filter(|part| !part.contains("monitoring.coreos.com")).copied().collect::<Vec<_>>().join("\n---\n");
    let dir = TempDir::new("helm");
    validate(&dir.write("all.yaml", own));
    parts.into_iter().map(|part| Yaml::from_str(part).unwrap_or_else(|error| panic!("{error}\n{part}"))).collect()
}

fn part<'a>(parts: &'a [Value], kind: &str) -> Option<&'a Value> {
    parts.iter().find(|part| part["kind"] == kind)
}

/// What stderr says of values that are refused.
fn refused(values: &str) -> String {
    let dir = TempDir::new("helm");
    let output = template(&dir.write("values.yaml", values), &[]);
    assert!(!output.status.success(), "these values are taken:\n{values}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn example(name: &str) -> PathBuf {
    chart().join("examples").join(name)
}

#[test]
fn the_chart_makes_a_gateway_and_a_sidecar_whose_configs_load() {
    for (values, containers) in [("gateway.yaml", 1), ("sidecar.yaml", 2)] {
        let parts = rendered(&example(values), &[]);
        let text = part(&parts, "ConfigMap").expect("a config")["data"]["config.yaml"].as_str().expect("a text");
        let config = load_as("yaml", text, &[]);
        let pod = &part(&parts, "Deployment").expect("a deployment")["spec"]["template"]["spec"];
        assert_drains_within(pod["terminationGracePeriodSeconds"].as_u64().expect("a time"), &config);
        assert_eq!((&pod["enableServiceLinks"], &pod["automountServiceAccountToken"]), (&Value::Bool(false), &Value::Bool(false)));
        let all = pod["containers"].as_array().expect("containers");
        assert_eq!(all.len(), containers, "{values}");
        for container in all {
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], Value::Bool(true), "{values}");
        }
        let gateway = &all[0];
        assert_understood(&texts(&gateway["args"]));
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert_understood(&texts(&gateway[probe]["exec"]["command"])[1..]);
        }
        let ports: Vec<u64> =
            gateway["ports"].as_array().expect("ports").iter().filter_map(|port| port["containerPort"].as_u64()).collect();
        assert!(text.contains(&format!("listen: 0.0.0.0:{}", ports[0])), "{text}");
        assert_eq!(u64::from(config.gateway.admin.listen.port()), ports[1]);
        // Nobody reaches the app but through the gateway; the Service leads to the gateway's port by name.
        let policy = part(&parts, "NetworkPolicy").expect("a policy");
        assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], "http");
        assert_eq!(part(&parts, "Service").expect("a service")["spec"]["ports"][0]["targetPort"], "http");
        assert!(part(&parts, "PodDisruptionBudget").is_some(), "{values}");
    }
}

#[test]
fn metrics_are_open_to_whom_the_values_name_and_to_nobody_else() {
    let parts = rendered(&example("gateway.yaml"), &[]);
    let rules = |parts: &[Value]| part(parts, "NetworkPolicy").expect("a policy")["spec"]["ingress"].as_array().expect("rules").clone();
    assert_eq!(rules(&parts)[1]["ports"][0]["port"], "metrics");
    assert!(rules(&parts)[1]["from"][0]["namespaceSelector"].is_object());
    let monitor = part(&parts, "ServiceMonitor").expect("a monitor");
    assert_eq!(monitor["spec"]["endpoints"][0]["path"], "/metrics");
    // It finds the one service that has the port.
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels");
    let found: Vec<&Value> = parts
        .iter()
        .filter(|part| part["kind"] == "Service" && wanted.iter().all(|(name, value)| &part["metadata"]["labels"][name] == value))
        .collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["spec"]["ports"][0]["name"], "metrics");
    let closed = rendered(&example("sidecar.yaml"), &[]);
    assert_eq!(rules(&closed).len(), 1);
    assert!(part(&closed, "ServiceMonitor").is_none());
}

#[test]
fn one_replica_has_no_budget_that_would_keep_its_node() {
    let parts = rendered(&example("gateway.yaml"), &["--set", "replicas=1"]);
    assert!(part(&parts, "PodDisruptionBudget").is_none());
}

#[test]
fn values_that_cannot_work_are_refused_by_name() {
    let gateway = std::fs::read_to_string(example("gateway.yaml")).expect("an example");
    let sidecar = std::fs::read_to_string(example("sidecar.yaml")).expect("an example");
    assert!(refused("replicas: 1\n").contains("config is empty"));
    assert!(refused(&gateway.replace("kind: redis", "kind: memory")).contains("several replicas need config.store"));
    assert!(refused(&format!("{gateway}\nreplica: 2\n")).contains("replica"));
    assert!(refused(&gateway.replace("replicas: 3", "replicas: three")).contains("replicas"));
    assert!(refused(&gateway.replace("config:\n", "config:\n  listen: 0.0.0.0:80\n")).contains("config"));
    assert!(refused(&sidecar.replace("app:\n  container:", "app:\n  volumes: []\nx:")).contains('x'));
    let without_app: String = sidecar.split("app:\n").next().expect("the beginning").to_owned();
    assert!(refused(&without_app).contains("app.container is empty"));
    assert!(refused(&gateway.replace("hosts: [wiki.example.com, grafana.example.com]\n  tls", "tls")).contains("ingress.hosts is empty"));
}

#[test]
fn the_chart_lints() {
    let output = helm().arg("lint").arg("--strict").arg(chart()).arg("--values").arg(example("gateway.yaml")).output().expect("helm");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
