//! Where an oauth2-proxy is configured, file by file: what shape a file has is told by its content, then by its name. `words` and `flags` are
//! command lines, `variables` the environment, `toml` its own file, `alpha` finds the structured one; `unit`, `kubernetes` (Helm values
//! too) and `compose` hold one or more of the others.

mod compose;
mod flags;
mod kubernetes;
mod toml;
mod unit;
mod variables;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use figment::providers::{Format as _, Yaml};
use serde_json::Value;

use super::given::Givens;
use super::{Input, options};

/// What all files say, by the place that says it.
#[derive(Default)]
pub struct Collected {
    /// Command lines: the strongest.
    pub flags: Givens,
    /// `OAUTH2_PROXY_*`.
    pub variables: Givens,
    /// The TOML file: the weakest.
    pub file: Givens,
    /// The structured file, and its name.
    pub alpha: Option<(String, Value)>,
    /// Words that are no option, with the option that may have been meant.
    pub unknown: Vec<(String, Option<&'static str>)>,
    /// What stands around it.
    pub around: Around,
    /// What the input speaks of and does not hold.
    pub absent: Vec<String>,
    /// Every variable there is, for `${NAME}` in values.
    environment: BTreeMap<String, String>,
    /// Names of the files that were given.
    names: Vec<String>,
    /// Containers and services that are an oauth2-proxy.
    instances: Vec<String>,
    /// Variables that nothing sets, whose default was taken.
    defaulted: RefCell<BTreeSet<String>>,
}

/// What is known of the place where it ran.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Hosts of an Ingress.
    pub hosts: Vec<String>,
    /// `auth-url` of ingresses, and those of the command line.
    pub auth_urls: Vec<String>,
    /// ingress-nginx asks it.
    pub ingress_nginx: bool,
    /// It runs in Kubernetes.
    pub kubernetes: bool,
    /// How many there are.
    pub replicas: Option<u64>,
}

/// A value, or where it is to be had.
pub enum Resolved {
    /// This.
    Value(String),
    /// `the variable CLIENT_SECRET`.
    Kept(String),
}

/// Reads all files.
///
/// # Errors
/// Which of them cannot be read, and why; never with a line of it, which may hold a secret.
pub fn collect(inputs: &[Input]) -> Result<Collected, String> {
    let mut into = Collected { names: inputs.iter().map(|input| last_part(&input.name).to_owned()).collect(), ..Collected::default() };
    // Variables first: other files name them.
    let (early, late): (Vec<&Input>, Vec<&Input>) = inputs.iter().partition(|input| matches!(shape(input), Shape::Variables));
    for input in early.into_iter().chain(late) {
        let wrong = |error: String| format!("{}: {error}", input.name);
        let flags_before = std::mem::take(&mut into.flags);
        match shape(input) {
            Shape::Variables => variables::read(&input.text, &mut into),
            Shape::Unit => unit::read(&input.text, &mut into),
            Shape::Toml => toml::read(&input.text, &mut into).map_err(wrong)?,
            Shape::Yaml => yaml(&input.name, &input.text, &mut into).map_err(wrong)?,
            Shape::CommandLine => flags::read(&words::split(&input.text), &mut into),
        }
        let (before, here) = (flags_before.all().next().is_some(), into.flags.all().next().is_some());
        match (before, here) {
            (true, false) => into.flags = flags_before,
            (true, true) => {
                let error = "holds a second command line: each is an oauth2-proxy of its own, so give them one at a time";
                return Err(wrong(error.to_owned()));
            }
            (false, _) => {}
        }
    }
    for (option, what) in [("config", "its config file"), ("alpha-config", "its structured config")] {
        let givens = [&into.flags, &into.variables];
        let named = givens.iter().find_map(|givens| givens.text(option).map(|(given, text)| (given.said.clone(), text.to_owned())));
        if let Some((said, path)) = named
            && !into.names.iter().any(|name| name == last_part(&path))
        {
            into.absent.push(format!("{said} names {what}, {path}, which was not given: run the import again with it"));
        }
    }
    for name in into.defaulted.take() {
        into.absent.push(format!(
            "${{{name}:-…}} was read as its default, since nothing that was given sets {name}: where something does, run the import again with it"
        ));
    }
    Ok(into)
}

/// Reads the environment of this process.
pub fn environment(environment: &BTreeMap<String, String>, into: &mut Collected) {
    for (name, value) in environment {
        variables::one(name, Resolved::Value(value.clone()), into);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Variables,
    Unit,
    Toml,
    Yaml,
    CommandLine,
}

fn shape(input: &Input) -> Shape {
    let lines = || input.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let ends = |endings: &[&str]| endings.iter().any(|ending| input.name.to_ascii_lowercase().ends_with(ending));
    let flagged = lines().any(|line| line.starts_with("--") && line.len() > 3);
    if lines().any(|line| line.starts_with("ExecStart=")) || lines().any(|line| line == "[Service]") {
        Shape::Unit
    } else if ends(&[".yaml", ".yml"]) || lines().next().is_some_and(begins_yaml) {
        Shape::Yaml
    } else if !flagged && lines().any(|line| variables::assignment(line).is_some_and(|(name, _)| name.starts_with(variables::PREFIX))) {
        Shape::Variables
    } else if ends(&[".toml"]) || (!flagged && lines().any(toml::begins)) {
        Shape::Toml
    } else {
        Shape::CommandLine
    }
}

fn begins_yaml(line: &str) -> bool {
    let key = |line: &str| {
        line.split_once(':').is_some_and(|(key, rest)| {
            key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !key.is_empty() && (rest.is_empty() || rest.starts_with(' '))
        })
    };
    line == "---" || key(line)
}

/// The YAML documents of a file, each by what it holds.
fn yaml(name: &str, text: &str, into: &mut Collected) -> Result<(), String> {
    let documents = documents(text)?;
    kubernetes::gather(&documents, into);
    for document in documents {
        let has = |key: &str| document.get(key).is_some_and(|value| !value.is_null());
        if has("apiVersion") && has("kind") {
            kubernetes::read(&document, into)?;
        } else if has("services") && document.get("services").is_some_and(Value::is_object) {
            compose::read(&document, into)?;
        } else if has("extraArgs") || document.pointer("/config/configFile").is_some() || document.pointer("/config/clientID").is_some() {
            kubernetes::read_chart(&document, into)?;
        } else if is_structured(&document) {
            structured(name, document, into);
        } else {
            into.absent.push(format!("{} is nothing of an oauth2-proxy's that is known, and was left out", last_part(name)));
        }
    }
    Ok(())
}

/// Other programs' files lie about in the same ConfigMaps. One that was taken for the structured config would take the place of options.
fn is_structured(document: &Value) -> bool {
    let Some(entries) = document.as_object() else { return false };
    entries.iter().any(|(key, value)| match key.to_lowercase().as_str() {
        "providers" => value.is_array(),
        "upstreamconfig" | "injectrequestheaders" | "injectresponseheaders" => true,
        "server" | "metricsserver" => {
            value.as_object().is_some_and(|server| server.keys().any(|key| key.to_lowercase().ends_with("bindaddress")))
        }
        _ => false,
    })
}

fn structured(name: &str, mut document: Value, into: &mut Collected) {
    resolve_all(&mut document, into);
    match &mut into.alpha {
        Some((_, Value::Object(there))) => {
            if let Value::Object(more) = document {
                there.extend(more);
            }
        }
        alpha => *alpha = Some((name.to_owned(), document)),
    }
}

/// `${NAME}` in a structured config is replaced before it is read.
fn resolve_all(value: &mut Value, into: &Collected) {
    match value {
        Value::String(text) => {
            if let Resolved::Value(known) = into.resolve(text) {
                *text = known;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| resolve_all(item, into)),
        Value::Object(entries) => entries.values_mut().for_each(|item| resolve_all(item, into)),
        _ => {}
    }
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut pieces = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            pieces.push(String::new());
        } else if let Some(piece) = pieces.last_mut() {
            piece.push_str(line);
            piece.push('\n');
        }
    }
    let filled = pieces.iter().filter(|piece| piece.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')));
    let read = |piece: &String| Yaml::from_str::<Value>(piece).map(merged).map_err(|_| "is no YAML that can be read".to_owned());
    filled.map(read).collect()
}

/// With what `<<` puts in: what stands beside it counts before it, and of several the first.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(mut entries) => {
            let more = match entries.remove("<<") {
                Some(Value::Array(several)) => several,
                Some(one) => vec![one],
                None => Vec::new(),
            };
            let mut entries: serde_json::Map<String, Value> = entries.into_iter().map(|(key, value)| (key, merged(value))).collect();
            for (key, value) in
                more.into_iter().map(merged).filter_map(|one| if let Value::Object(one) = one { Some(one) } else { None }).flatten()
            {
                entries.entry(key).or_insert(value);
            }
            Value::Object(entries)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(merged).collect()),
        other => other,
    }
}

/// Text that stands in a file inside a file, such as a ConfigMap's.
fn nested(name: &str, text: &str, into: &mut Collected) -> Result<(), String> {
    into.names.push(last_part(name).to_owned());
    let input = Input { name: name.to_owned(), text: text.to_owned() };
    match shape(&input) {
        Shape::Toml => toml::read(text, into),
        Shape::Yaml => yaml(name, text, into),
        Shape::Variables => {
            variables::read(text, into);
            Ok(())
        }
        Shape::Unit | Shape::CommandLine => Ok(()),
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Collected {
    /// Counts an oauth2-proxy. Two of them together would be one that lets everybody in whom either lets in.
    fn one_more(&mut self, name: &str) -> Result<(), String> {
        self.instances.push(name.to_owned());
        match self.instances.as_slice() {
            [_] => Ok(()),
            several => Err(format!(
                "holds several oauth2-proxies ({}): each is a config of its own, so give them one at a time",
                several.join(", ")
            )),
        }
    }

    /// A word that is no option.
    fn unknown(&mut self, said: String, name: &str) {
        let nearest = options::nearest(name);
        if !self.unknown.iter().any(|(there, _)| *there == said) {
            self.unknown.push((said, nearest));
        }
    }

    /// Puts in what `$NAME`, `${NAME}`, `${NAME:-default}` and `$(NAME)` stand for, as far as that is known.
    fn resolve(&self, text: &str) -> Resolved {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let Some((name, default, after)) = reference(after) else {
                out.push('$');
                rest = after;
                continue;
            };
            rest = after;
            match (self.environment.get(name), default) {
                (Some(value), _) => out.push_str(value),
                (None, Some(default)) => {
                    self.defaulted.borrow_mut().insert(name.to_owned());
                    out.push_str(default);
                }
                (None, None) => return Resolved::Kept(format!("the variable {name}")),
            }
        }
        out.push_str(rest);
        Resolved::Value(out)
    }
}

/// Name, default and what follows a reference, whose `$` is gone.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let sound = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    for (open, close) in [('{', '}'), ('(', ')')] {
        if let Some((inside, after)) = text.strip_prefix(open).and_then(|text| text.split_once(close)) {
            let (name, default) = match inside.split_once(':').or_else(|| inside.split_once('-').map(|(name, _)| (name, ""))) {
                Some((name, default)) => (name, default.strip_prefix('-')),
                None => (inside, None),
            };
            return sound(name).then_some((name, default, after));
        }
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    // Regular expressions end in `$`, and refer to groups by $1: only names in capitals are variables without braces.
    (sound(name) && !name.bytes().any(|byte| byte.is_ascii_lowercase())).then_some((name, None, after))
}

/// The items of a list that is one text, as Go's flags read it: commas part them, quotes keep them together.
fn by_commas(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match (c, items.last_mut()) {
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => items.push(String::new()),
            (c, Some(item)) => item.push(c),
            (_, None) => {}
        }
    }
    items.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests;
