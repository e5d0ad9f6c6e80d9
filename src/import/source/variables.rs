//! `OAUTH2_PROXY_*`: an env file, as a shell, systemd or Docker reads it.

use super::super::given::Given;
use super::super::options::{self, Kind};
use super::{Collected, Resolved, by_commas, words};

/// What its variables begin with.
pub const PREFIX: &str = "OAUTH2_PROXY_";

/// Reads an env file.
pub fn read(text: &str, into: &mut Collected) {
    // A line that ends in a backslash goes on in the next (systemd.exec(5), EnvironmentFile=).
    let text = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some((name, value)) = assignment(line) {
            let value = unquoted(value.trim());
            let value = into.resolve(&value);
            one(name, value, into);
        }
    }
}

/// `NAME=value`, with or without `export`.
#[must_use]
pub fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, value) = line.split_once('=')?;
    let mut bytes = name.bytes();
    let sound = bytes.next().is_some_and(|byte| byte.is_ascii_uppercase() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    sound.then_some((name, value))
}

/// A value in quotes is without them; one in none is as it stands, `#` and spaces included.
fn unquoted(value: &str) -> String {
    if value.starts_with(['"', '\'']) { words::split(value).into_iter().next().unwrap_or_default() } else { value.to_owned() }
}

/// Takes one variable.
pub fn one(name: &str, value: Resolved, into: &mut Collected) {
    if let Resolved::Value(value) = &value {
        into.environment.insert(name.to_owned(), value.clone());
    }
    let Some(key) = name.strip_prefix(PREFIX) else { return };
    let Some(row) = options::by_key(&key.to_lowercase()) else {
        into.unknown(name.to_owned(), &key.to_lowercase());
        return;
    };
    // The last counts, lists included.
    into.variables.set(match value {
        Resolved::Kept(place) => Given::kept(row, name, place),
        Resolved::Value(value) if row.kind == Kind::List => Given::new(row, name, by_commas(&value)),
        Resolved::Value(value) => Given::new(row, name, vec![value]),
    });
}
