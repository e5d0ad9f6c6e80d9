//! Where the config comes from: defaults stand in the code that reads a key, then the file, then the environment, then flags.

use std::collections::BTreeMap;
use std::path::Path;

use figment::providers::{Format, Json, Toml, Yaml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use regex::Regex;

use super::problem::{Problem, Problems, Severity};

/// What environment variables of ours begin with.
pub const ENVIRONMENT_PREFIX: &str = "DOORWARD_";
const ENVIRONMENT: &str = "environment";
const FLAG: &str = "flag";

/// The merged layers, with the knowledge where each value stands.
pub struct Layers {
    figment: Figment,
    /// The merged tree.
    pub root: Dict,
    file: String,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The config file: values have their own types.
    File,
    /// A variable or flag: values are texts, typed by the key that they fill.
    Text,
}

impl Layers {
    /// Merges file, environment and flags. The environment is passed in as a map, so that nothing below reads the process's own.
    /// `None` when the file cannot be read; the problem says why.
    pub fn load(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        flags: &[(String, String)],
        problems: &Problems,
    ) -> Option<Self> {
        let mut figment = Figment::new();
        let name = file.map_or_else(|| "no --config FILE".to_owned(), |file| file.display().to_string());
        if let Some(path) = file {
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) => {
                    problems.push(fatal(&name, format!("cannot be read: {error}")));
                    return None;
                }
            };
            figment = match path.extension().and_then(|ending| ending.to_str()) {
                Some("toml") | None => figment.merge(Toml::string(&text)),
                Some("yaml" | "yml") => figment.merge(Yaml::string(&text)),
                Some("json") => figment.merge(Json::string(&text)),
                Some(other) => {
                    problems.push(fatal(&name, format!("expected a name ending in .toml, .yaml, .yml or .json; found .{other}")));
                    return None;
                }
            };
        }
        figment = figment.merge(Texts::environment(environment)).merge(Texts::flags(flags));
        let data = match figment.data() {
            Ok(data) => data,
            Err(error) => {
                for error in error {
                    problems.push(fatal(&name, without_excerpt(&error.kind.to_string())));
                }
                return None;
            }
        };
        let root = data.get(&Profile::Default).cloned().unwrap_or_default();
        Some(Self { figment, root, file: name })
    }

    /// Where a value stands, by kind.
    #[must_use]
    pub fn origin(&self, value: &Value) -> Origin {
        match self.figment.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref()) {
            Some(ENVIRONMENT | FLAG) => Origin::Text,
            _ => Origin::File,
        }
    }

    /// Where a value stands, in words; `path` is its key path.
    #[must_use]
    pub fn source(&self, value: Option<&Value>, path: &str) -> String {
        match value.and_then(|value| self.figment.get_metadata(value.tag())).map(|metadata| metadata.name.as_ref()) {
            Some(ENVIRONMENT) => format!("environment variable {ENVIRONMENT_PREFIX}{}", path.replace('.', "__").to_uppercase()),
            Some(FLAG) => format!("flag --{}", path.replace(['.', '_'], "-")),
            _ => self.file.clone(),
        }
    }
}

fn fatal(source: &str, message: String) -> Problem {
    Problem { source: source.to_owned(), path: String::new(), message, severity: Severity::Error }
}

/// A parser's message without the lines that it quotes: one of them may hold a secret.
fn without_excerpt(message: &str) -> String {
    let quoted = |line: &str| {
        let numbered = line.split_once('|').is_some_and(|(head, _)| head.trim().parse::<u32>().is_ok());
        numbered || line.trim_start().starts_with('|')
    };
    message.lines().filter(|line| !quoted(line)).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}

/// A layer of texts: `__` nests.
struct Texts {
    name: &'static str,
    dict: Dict,
}

impl Texts {
    fn environment(environment: &BTreeMap<String, String>) -> Self {
        let ours = environment.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(ENVIRONMENT_PREFIX)?;
            // DOORWARD_CONFIG names the file itself; it is the command line's.
            (key != "CONFIG" && !is_service_link(key)).then(|| (key.to_lowercase(), value.clone()))
        });
        Self::nested(ENVIRONMENT, ours, "__")
    }

    fn flags(flags: &[(String, String)]) -> Self {
        Self::nested(FLAG, flags.iter().cloned(), ".")
    }

    fn nested(name: &'static str, texts: impl Iterator<Item = (String, String)>, separator: &str) -> Self {
        let mut dict = Dict::new();
        for (key, value) in texts {
            let path: Vec<&str> = key.split(separator).collect();
            put(&mut dict, &path, value);
        }
        Self { name, dict }
    }
}

fn put(dict: &mut Dict, path: &[&str], text: String) {
    match path {
        [] => {}
        [last] => drop(dict.insert((*last).to_owned(), Value::from(text))),
        [first, rest @ ..] => {
            let entry = dict.entry((*first).to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if !matches!(entry, Value::Dict(..)) {
                *entry = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = entry {
                put(inner, rest, text);
            }
        }
    }
}

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// Whoever moved over and kept the old variables alone would start a gateway that knows nothing of them.
pub fn refuse_foreign_variables(environment: &BTreeMap<String, String>, problems: &Problems) {
    let ours = |name: &String| name.strip_prefix(ENVIRONMENT_PREFIX).is_some_and(|key| !is_service_link(key));
    let foreign: Vec<&str> = environment.keys().map(String::as_str).filter(|name| name.starts_with("OAUTH2_PROXY_")).collect();
    if let Some(first) = foreign.first().filter(|_| !environment.keys().any(ours)) {
        let many = if foreign.len() > 1 { format!(" and {} more OAUTH2_PROXY_*", foreign.len() - 1) } else { String::new() };
        problems.push(fatal(
            "environment",
            format!(
                "{first}{many} are set, and no {ENVIRONMENT_PREFIX}* is: variables of oauth2-proxy are not read; `doorward import oauth2-proxy --environment` makes a config of them, then unset them"
            ),
        ));
    }
}

/// Variables that Kubernetes sets for a service named `doorward`: `DOORWARD_PORT=tcp://…`, `DOORWARD_SERVICE_HOST` and the like. They are not
/// ours and must not stop a start.
fn is_service_link(key: &str) -> bool {
    let shape = r"^(PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?|SERVICE_(HOST|PORT(_[A-Z0-9_]+)?))$";
    Regex::new(shape).is_ok_and(|shape| shape.is_match(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_not_ours() {
        for key in ["PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP"] {
            assert!(is_service_link(key), "{key}");
        }
        for key in ["LISTEN", "PORTS", "SERVICE", "PROVIDER__ISSUER"] {
            assert!(!is_service_link(key), "{key}");
        }
    }

    #[test]
    fn a_parsers_quotes_are_left_out() {
        let message = "TOML parse error at line 2, column 17\n  |\n2 | client_secret = hunter2\n  |                 ^\ninvalid string\n";
        assert_eq!(without_excerpt(message), "TOML parse error at line 2, column 17: invalid string");
    }
}
