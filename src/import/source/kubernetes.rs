//! Kubernetes: `args`, `command` and `env` of a container, ConfigMaps and Secrets, the Ingress around it; and the values of its Helm chart.

use base64::Engine as _;
use serde_json::Value;

use super::super::given::Given;
use super::super::options;
use super::{Collected, Resolved, flags, nested, variables, words};

/// Learns the values of ConfigMaps and Secrets, which containers name in other documents.
pub fn gather(documents: &[Value], into: &mut Collected) {
    for document in documents.iter().flat_map(objects) {
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
        let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if !matches!(kind, "ConfigMap" | "Secret") {
            continue;
        }
        for (key, value) in ["data", "stringData"].iter().filter_map(|part| document.get(part)?.as_object()).flatten() {
            let Some(text) = value.as_str() else { continue };
            let coded = kind == "Secret" && document.pointer(&format!("/data/{}", key.replace('~', "~0").replace('/', "~1"))).is_some();
            let decoded = || String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok();
            let text = if coded { decoded() } else { Some(text.to_owned()) };
            if let Some(text) = text {
                into.environment.insert(place(kind, name, key), text.trim_end_matches('\n').to_owned());
            }
        }
    }
}

/// Where a value of a ConfigMap or Secret is kept; the name under which `gather` keeps it too.
fn place(kind: &str, name: &str, key: &str) -> String {
    format!("key {key} of {kind} {name}")
}

/// A List holds others.
fn objects(document: &Value) -> Vec<&Value> {
    match document.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().collect(),
        None => vec![document],
    }
}

/// Reads one document.
pub fn read(document: &Value, into: &mut Collected) -> Result<(), String> {
    for object in objects(document) {
        into.around.kubernetes = true;
        match object.get("kind").and_then(Value::as_str).unwrap_or_default() {
            "Ingress" => ingress(object, into),
            "ConfigMap" => config_map(object, into)?,
            "Secret" => {}
            _ => workload(object, into)?,
        }
    }
    Ok(())
}

fn ingress(object: &Value, into: &mut Collected) {
    let rules = object.pointer("/spec/rules").and_then(Value::as_array);
    for host in rules.into_iter().flatten().filter_map(|rule| rule.get("host")?.as_str()) {
        if !into.around.hosts.iter().any(|there| there == host) {
            into.around.hosts.push(host.to_owned());
        }
    }
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    for (name, value) in annotations.into_iter().flatten() {
        if name == "nginx.ingress.kubernetes.io/auth-url" {
            into.around.ingress_nginx = true;
            into.around.auth_urls.extend(value.as_str().map(str::to_owned));
        }
    }
}

fn config_map(object: &Value, into: &mut Collected) -> Result<(), String> {
    let data = object.get("data").and_then(Value::as_object);
    for (key, text) in data.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?))) {
        if let Some(name) = key.strip_prefix(variables::PREFIX) {
            // What a container says itself counts before this, wherever it stands.
            if !into.environment.contains_key(key) {
                variables::one(&format!("{}{name}", variables::PREFIX), Resolved::Value(text.to_owned()), into);
            }
        } else {
            nested(key, text, into)?;
        }
    }
    Ok(())
}

fn workload(object: &Value, into: &mut Collected) -> Result<(), String> {
    let pod = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"];
    let containers = pod.iter().filter_map(|path| object.pointer(path)?.get("containers")?.as_array()).flatten();
    for container in containers.filter(|container| is_ours(container)) {
        into.one_more(object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("a workload"))?;
        into.around.replicas = into.around.replicas.or_else(|| object.pointer("/spec/replicas").and_then(Value::as_u64));
        // `env` counts before `envFrom`.
        for source in container.get("envFrom").and_then(Value::as_array).into_iter().flatten() {
            let named = [("configMapRef", "ConfigMap"), ("secretRef", "Secret")];
            for (kind, name) in named.into_iter().filter_map(|(key, kind)| Some((kind, source.get(key)?.get("name")?.as_str()?))) {
                take_all(kind, name, into);
            }
        }
        for entry in container.get("env").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = entry.get("name").and_then(Value::as_str) else { continue };
            if let Some(value) = value_of(entry, into) {
                variables::one(name, value, into);
            }
        }
        let list = |key: &str| container.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut words_of: Vec<String> = Vec::new();
        for word in list("command").iter().chain(&list("args")).filter_map(Value::as_str) {
            // `sh -c "exec oauth2-proxy --…"` is a command line in one word.
            let shell = !word.starts_with('-') && word.contains(" --");
            words_of.extend(if shell { words::split(word) } else { vec![word.to_owned()] });
        }
        flags::read(&words_of, into);
    }
    Ok(())
}

fn is_ours(container: &Value) -> bool {
    let text = |key: &str| container.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let words = ["command", "args"].iter().filter_map(|key| container.get(key)?.as_array()).flatten().filter_map(Value::as_str);
    let mut words = words.map(str::to_owned).chain([text("image")]);
    words.any(|word| word.contains("oauth2-proxy") || word.contains("--oidc-issuer-url")) || text("name").contains("oauth2-proxy")
}

fn value_of(entry: &Value, into: &Collected) -> Option<Resolved> {
    if let Some(text) = entry.get("value").and_then(Value::as_str) {
        return Some(into.resolve(text));
    }
    let kinds = [("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")];
    kinds.iter().find_map(|(key, kind)| {
        let reference = entry.get("valueFrom")?.get(key)?;
        let named = |key: &str| reference.get(key)?.as_str();
        let place = place(kind, named("name")?, named("key")?);
        // Values of Secrets stay where they are; a gateway that mounts them has no copy lying about.
        let known = into.environment.get(&place).filter(|_| *kind == "ConfigMap");
        Some(known.map_or(Resolved::Kept(place), |value| Resolved::Value(value.clone())))
    })
}

/// `envFrom`: every key of it is a variable.
fn take_all(kind: &str, name: &str, into: &mut Collected) {
    let end = format!(" of {kind} {name}");
    let known: Vec<(String, String)> = into
        .environment
        .iter()
        .filter_map(|(place, value)| Some((place.strip_prefix("key ")?.strip_suffix(&end)?.to_owned(), value.clone())))
        .collect();
    if known.is_empty() {
        into.absent.push(format!("its variables come from {kind} {name}, which was not given: run the import again with it"));
    }
    for (key, value) in known {
        let value = if kind == "Secret" { Resolved::Kept(place(kind, name, &key)) } else { Resolved::Value(value) };
        variables::one(&key, value, into);
    }
}

/// Reads the values of the chart `oauth2-proxy`.
pub fn read_chart(values: &Value, into: &mut Collected) -> Result<(), String> {
    into.around.kubernetes = true;
    into.around.replicas = values.get("replicaCount").and_then(Value::as_u64);
    let text = |path: &str| values.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
    let existing = text("/config/existingSecret").map(str::to_owned);
    for (path, option, key) in [
        ("/config/clientID", "client-id", "client-id"),
        ("/config/clientSecret", "client-secret", "client-secret"),
        ("/config/cookieSecret", "cookie-secret", "cookie-secret"),
        ("/config/cookieName", "cookie-name", ""),
    ] {
        let Some(row) = options::by_flag(option) else { continue };
        let said = path.trim_start_matches('/').replace('/', ".");
        match (&existing, text(path)) {
            (Some(secret), _) if !key.is_empty() => into.variables.add(Given::kept(row, said, place("Secret", secret, key))),
            (_, Some(value)) => into.variables.add(Given::new(row, said, vec![value.to_owned()])),
            _ => {}
        }
    }
    if let Some(file) = text("/config/configFile") {
        let file = file.to_owned();
        super::toml::read(&file, into)?;
    }
    match values.pointer("/alphaConfig/configData") {
        Some(alpha) if alpha.is_object() => super::structured("alphaConfig.configData", alpha.clone(), into),
        _ => {}
    }
    for host in values.pointer("/ingress/hosts").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        into.around.hosts.push(host.to_owned());
    }
    let mut line = Vec::new();
    match values.get("extraArgs") {
        Some(Value::Object(entries)) => {
            for (name, value) in entries {
                let items = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
                line.extend(items.iter().map(|item| match item {
                    Value::String(text) => format!("--{name}={text}"),
                    Value::Null => format!("--{name}"),
                    other => format!("--{name}={other}"),
                }));
            }
        }
        Some(Value::Array(words)) => line.extend(words.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
    for entry in values.get("extraEnv").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(name), Some(value)) = (entry.get("name").and_then(Value::as_str), value_of(entry, into)) {
            variables::one(name, value, into);
        }
    }
    if text("/sessionStorage/type") == Some("redis") {
        let row = options::by_flag("session-store-type");
        row.into_iter().for_each(|row| into.variables.add(Given::new(row, "sessionStorage.type", vec!["redis".to_owned()])));
        if let (Some(row), Some(url)) = (options::by_flag("redis-connection-url"), text("/sessionStorage/redis/standalone/connectionUrl")) {
            let url = url.to_owned();
            into.variables.add(Given::new(row, "sessionStorage.redis.standalone.connectionUrl", vec![url]));
        }
    }
    if values.pointer("/htpasswdFile/enabled").and_then(Value::as_bool) == Some(true) {
        let row = options::by_flag("htpasswd-file");
        row.into_iter()
            .for_each(|row| into.variables.add(Given::new(row, "htpasswdFile", vec!["/etc/oauth2_proxy/htpasswd/users.txt".to_owned()])));
    }
    flags::read(&line, into);
    Ok(())
}
