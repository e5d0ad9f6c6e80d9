//! Its own file: TOML with keys in `snake_case`.

use figment::providers::{Format as _, Toml};
use serde_json::Value;

use super::super::given::Given;
use super::super::options::{self, Kind};
use super::{Collected, Resolved};

/// Whether a line looks like one of such a file.
#[must_use]
pub fn begins(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| options::by_key(key.trim()).is_some())
}

/// Reads it.
pub fn read(text: &str, into: &mut Collected) -> Result<(), String> {
    let values: serde_json::Map<String, Value> =
        Toml::from_str(text).map_err(|error| format!("is no TOML that can be read{}", place(&error.to_string())))?;
    for (key, value) in values {
        let Some(row) = options::by_key(&key) else {
            into.unknown(key.clone(), &key);
            continue;
        };
        let texts: Vec<String> = match value {
            Value::Array(items) => items.iter().map(plain).collect(),
            other => vec![plain(&other)],
        };
        // Its file takes no variables; people write them all the same, and some start scripts put them in.
        let kept = texts.iter().find_map(|text| match into.resolve(text) {
            Resolved::Kept(place) if text.starts_with("${") => Some(place),
            _ => None,
        });
        // A list of nothing but an empty text is not an empty list: as a group it let nobody in.
        let nothing = !texts.is_empty() && texts.iter().all(String::is_empty);
        let texts = if row.kind == Kind::List && !nothing { texts.into_iter().filter(|text| !text.is_empty()).collect() } else { texts };
        if into.file.get(row.name).is_some() {
            return Err(format!("{key} stands in another file too: an oauth2-proxy reads one file, so give them one at a time"));
        }
        into.file.add(match kept {
            Some(place) => Given::kept(row, key, place),
            None => Given::new(row, key, texts),
        });
    }
    Ok(())
}

/// A scalar as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `, line 3`, without the line itself, which may hold a secret.
fn place(message: &str) -> String {
    let line = message.split("line ").nth(1).and_then(|rest| rest.split([',', ' ', '\n']).next());
    line.filter(|line| line.parse::<u32>().is_ok()).map(|line| format!(": look at line {line}")).unwrap_or_default()
}
