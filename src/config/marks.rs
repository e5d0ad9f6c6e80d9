//! What two configs have in common, told by hashes of what is written: what was made from the same lines need not be made again. And which
//! keys hold until a restart.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::Config;
use crate::secret::sha256;

/// What was written under one key, or several.
pub type Mark = [u8; 32];

/// Keys that count at the start only.
const AT_START: [&str; 9] = [
    "tracing",
    "listen",
    "redirect_from",
    "proxy_protocol",
    "admin.listen",
    "store",
    "keys.seal_file",
    "log.format",
    "limits.cached_sessions",
];

/// After a key: anything in a table or list that is written as one text.
const WITHIN: &str = ".*";

/// A mark for each key: `leeway`, `limits.provider_timeout`, `provider[0]`, `outbound.orders`. Secrets are in it as hashes only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, Mark>);

impl Marks {
    pub(super) fn of(root: &Dict) -> Self {
        let mut marks = BTreeMap::new();
        for (key, value) in root {
            marks.insert(key.clone(), mark(value));
            match value {
                Value::Dict(_, inner) => {
                    // A table alone is a list of one.
                    marks.insert(format!("{key}[0]"), mark(value));
                    marks.extend(inner.iter().map(|(name, value)| (format!("{key}.{name}"), mark(value))));
                }
                Value::Array(_, items) => {
                    marks.extend(items.iter().enumerate().map(|(index, value)| (format!("{key}[{index}]"), mark(value))));
                }
                // A table or list in one text of the environment: whatever is asked for in it is this.
                _ => drop(marks.insert(format!("{key}{WITHIN}"), mark(value))),
            }
        }
        Self(marks)
    }

    /// One mark for what stands under all of these keys, in this order.
    #[must_use]
    pub fn together<K: AsRef<str>>(&self, keys: &[K]) -> Mark {
        let mut all = Vec::new();
        for key in keys {
            match self.find(key.as_ref()) {
                Some(mark) => {
                    all.push(1);
                    all.extend_from_slice(mark);
                }
                None => all.push(0),
            }
        }
        sha256(&all)
    }

    fn find(&self, key: &str) -> Option<&Mark> {
        let within = || {
            let (head, _) = key.split_once(['[', '.'])?;
            self.0.get(&format!("{head}{WITHIN}"))
        };
        self.0.get(key).or_else(within)
    }
}

impl Config {
    /// Keys that differ from those of `start`, with which the process began, and that wait for the next one.
    #[must_use]
    pub fn waits_for_restart(&self, start: &Marks) -> Vec<&'static str> {
        AT_START.into_iter().filter(|key| self.marks.find(key) != start.find(key)).collect()
    }
}

fn mark(value: &Value) -> Mark {
    let mut bytes = Vec::new();
    write(&mut bytes, value);
    let mark = sha256(&bytes);
    // It held secrets.
    zeroize::Zeroize::zeroize(&mut bytes);
    mark
}

/// Kind and length before each value, so that no two values are written alike.
fn write(out: &mut Vec<u8>, value: &Value) {
    let text = |out: &mut Vec<u8>, kind: u8, text: &str| {
        out.push(kind);
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    match value {
        Value::String(_, inner) => text(out, b's', inner),
        Value::Char(_, inner) => text(out, b'c', inner.encode_utf8(&mut [0; 4])),
        Value::Bool(_, inner) => out.extend_from_slice(&[b'b', u8::from(*inner)]),
        Value::Num(_, inner) => text(out, b'n', &format!("{inner:?}")),
        Value::Empty(..) => out.push(b'e'),
        Value::Dict(_, inner) => {
            out.push(b'd');
            out.extend_from_slice(&(inner.len() as u64).to_be_bytes());
            for (key, value) in inner {
                text(out, b'k', key);
                write(out, value);
            }
        }
        Value::Array(_, items) => {
            out.push(b'a');
            out.extend_from_slice(&(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| write(out, item));
        }
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Toml};

    use super::*;

    fn marks(text: &str) -> Marks {
        let figment = Figment::from(Toml::string(text));
        Marks::of(&figment.extract::<Dict>().unwrap())
    }

    #[test]
    fn a_mark_tells_whether_the_same_is_written() {
        let one =
            marks("leeway = \"1m\"\n[[provider]]\nid = \"a\"\nclient_secret = \"x\"\n[[provider]]\nid = \"b\"\n[limits]\nheaders = 1\n");
        let other =
            marks("[[provider]]\nid = \"b\"\n[[provider]]\nclient_secret = \"y\"\nid = \"a\"\n[limits]\nheaders = 1\nstreams = 2\n");
        let same = |a: &[&str], b: &[&str]| one.together(a) == other.together(b);
        assert!(same(&["provider[1]"], &["provider[0]"]));
        assert!(!same(&["provider[0]"], &["provider[1]"]), "another secret");
        assert!(same(&["limits.headers"], &["limits.headers"]));
        assert!(!same(&["limits"], &["limits"]));
        assert!(!same(&["leeway"], &["leeway"]), "there and not there");
        assert!(same(&["nothing", "limits.headers"], &["nowhere", "limits.headers"]));
        assert!(!same(&["nothing", "limits.headers"], &["limits.headers", "nothing"]));
        // One table is a list of one.
        assert_eq!(
            marks("[provider]\nid = \"b\"\n").together(&["provider[0]"]),
            marks("[[provider]]\nid = \"b\"\n").together(&["provider[0]"])
        );
        // In one text, as the environment has it, all changes with any of it.
        let [text, other] = ["[{\\\"id\\\":\\\"a\\\"}]", "[{\\\"id\\\":\\\"b\\\"}]"].map(|list| marks(&format!("provider = \"{list}\"\n")));
        assert_ne!(text.together(&["provider[0]"]), other.together(&["provider[0]"]));
        assert_ne!(text.together(&["provider[0]"]), marks("").together(&["provider[0]"]));
        assert!(!format!("{one:?}").contains("client_secret = "));
    }
}
