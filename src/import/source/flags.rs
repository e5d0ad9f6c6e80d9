//! `--flag=value`, `--flag value`, `-flag`, and the variables that a script sets before the command.

use super::super::given::Given;
use super::super::options::{self, Kind};
use super::{Collected, Resolved, by_commas, variables};

/// Reads the words of a command line or script.
pub fn read(words: &[String], into: &mut Collected) {
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|flag| is_name(flag)) else {
            if let Some((name, value)) = variables::assignment(word) {
                let value = into.resolve(value);
                variables::one(name, value, into);
            }
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let Some(row) = options::by_flag(name) else {
            into.unknown(format!("--{name}"), name);
            continue;
        };
        let value = match (value, row.kind) {
            (Some(value), _) => value,
            (None, Kind::Switch) => "true",
            (None, _) => words.next_if(|next| !next.starts_with("--")).map_or("", String::as_str),
        };
        let said = format!("--{name}");
        let given = match into.resolve(value) {
            Resolved::Kept(place) => Given::kept(row, said, place),
            Resolved::Value(value) if row.kind == Kind::List => Given::new(row, said, by_commas(&value)),
            Resolved::Value(value) => Given::new(row, said, vec![value]),
        };
        into.flags.add(given);
    }
}

fn is_name(flag: &str) -> bool {
    let name = flag.split('=').next().unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && name.len() > 1
}
