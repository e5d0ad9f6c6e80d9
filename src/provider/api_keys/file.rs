//! The file of API keys: TOML, one `[[key]]` table each, with hashes alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use serde_json::json;

use super::shape::{KeyHash, parse_hash};
use crate::clock::UnixTime;
use crate::identity::{Claims, Email, Groups, Identity, Scopes, Source};

/// Bytes of a name: it stands in headers and logs.
const LONGEST_NAME: usize = 128;
/// What a table may hold.
const MEMBERS: [&str; 5] = ["name", "sha256", "scopes", "groups", "expires_at"];

/// A key that is known.
pub(super) struct ApiKey {
    /// Whom it stands for.
    pub(super) identity: Arc<Identity>,
    /// From then on it counts no more; `None`: it has no end.
    pub(super) expires_at: Option<UnixTime>,
}

/// All of them, by hash.
#[derive(Default)]
pub(super) struct Keys(HashMap<KeyHash, Arc<ApiKey>>);

impl Keys {
    /// The key of this hash. How long that takes may tell something of the hashes that are here; what they are hashes of it cannot, and the
    /// table's own order is random in each process.
    pub(super) fn get(&self, hash: &KeyHash) -> Option<&Arc<ApiKey>> {
        self.0.get(hash)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads the file's text; `issuer` is who vouches for all of them.
///
/// # Errors
/// Everything that is wrong, by table; never a hash or a key.
pub(super) fn parse(text: &str, issuer: &str) -> Result<Keys, Vec<String>> {
    let data: Dict = Figment::from(Toml::string(text)).extract().map_err(|error| vec![first_line(&error.kind.to_string())])?;
    let mut wrong: Vec<String> =
        data.keys().filter(|name| *name != "key").map(|name| format!("unknown {name:?}: expected [[key]] tables alone")).collect();
    let tables = match data.get("key") {
        None => &[][..],
        Some(Value::Array(_, tables)) => tables,
        Some(_) => return Err(vec!["key: expected [[key]], with two brackets".to_owned()]),
    };
    let mut keys = Keys::default();
    for (at, table) in tables.iter().enumerate() {
        let read = table.as_dict().ok_or_else(|| vec!["expected a table".to_owned()]).and_then(|table| read_key(table, issuer));
        match read {
            Ok((hash, key)) => {
                if keys.0.insert(hash, Arc::new(key)).is_some() {
                    wrong.push(format!("key[{at}]: its hash is there twice"));
                }
            }
            Err(errors) => wrong.extend(errors.into_iter().map(|error| format!("key[{at}]: {error}"))),
        }
    }
    if wrong.is_empty() { Ok(keys) } else { Err(wrong) }
}

/// A parser's message without the lines that it quotes.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or("no TOML").trim().to_owned()
}

fn read_key(table: &Dict, issuer: &str) -> Result<(KeyHash, ApiKey), Vec<String>> {
    let mut wrong: Vec<String> = table
        .keys()
        .filter(|name| !MEMBERS.contains(&name.as_str()))
        .map(|name| format!("unknown {name:?}: expected {}", MEMBERS.join(", ")))
        .collect();
    let mut told = |name: &str, error: &str| wrong.push(format!("{name}: {error}"));
    let name = match table.get("name").map(Value::as_str) {
        Some(Some(name)) if is_name(name) => Some(name.to_owned()),
        Some(_) => {
            told("name", &format!("expected 1 to {LONGEST_NAME} bytes without control characters or blanks around them"));
            None
        }
        None => {
            told("name", "is missing: what the key is for, such as \"backup\"");
            None
        }
    };
    let hash = match table.get("sha256").map(|value| value.as_str().map(parse_hash)) {
        Some(Some(Ok(hash))) => Some(hash),
        Some(Some(Err(error))) => {
            told("sha256", error);
            None
        }
        Some(None) => {
            told("sha256", "expected a text in quotes");
            None
        }
        None => {
            told("sha256", "is missing: printf %s KEY | sha256sum");
            None
        }
    };
    let mut lists = ["scopes", "groups"].map(|name| match table.get(name).map(texts) {
        None => Vec::new(),
        Some(Some(list)) => list,
        Some(None) => {
            told(name, "expected texts such as [\"read\"], none of them empty");
            Vec::new()
        }
    });
    let expires_at = match table.get("expires_at").map(time) {
        None => None,
        Some(Some(time)) => Some(time),
        Some(None) => {
            told("expires_at", "expected a time in UTC, such as 2027-01-31T00:00:00Z");
            None
        }
    };
    let [scopes, groups] = lists.each_mut().map(std::mem::take);
    if scopes.iter().any(|scope| scope.chars().any(char::is_whitespace)) {
        told("scopes", "expected one scope a text, without spaces");
    }
    match (name, hash) {
        (Some(name), Some(hash)) if wrong.is_empty() => {
            Ok((hash, ApiKey { identity: Arc::new(identity(issuer, &name, scopes, groups)), expires_at }))
        }
        _ => Err(wrong),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name.trim() == name && !name.contains(char::is_control)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
}

/// A TOML time, which the reader gives as a text in a table of its own, or the same in quotes.
fn time(value: &Value) -> Option<UnixTime> {
    let text = value.as_str().or_else(|| value.as_dict()?.values().next()?.as_str())?;
    let time = humantime::parse_rfc3339(text).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| UnixTime(since.as_secs()))
}

/// Whom a key of this name stands for.
#[must_use]
pub fn identity(issuer: &str, name: &str, scopes: Vec<String>, groups: Vec<String>) -> Identity {
    let scopes: Scopes = scopes.into_iter().collect();
    let mut claims = Claims::new();
    claims.insert("sub".to_owned(), json!(name));
    claims.insert("scope".to_owned(), json!(scopes.iter().collect::<Vec<_>>().join(" ")));
    claims.insert("groups".to_owned(), json!(groups));
    Identity {
        issuer: issuer.into(),
        sub: name.into(),
        source: Source::ApiKey,
        user: name.into(),
        email: Email::Absent,
        preferred_username: None,
        groups: Groups::Listed(groups.into_iter().map(Into::into).collect()),
        scopes,
        claims: claims.into(),
        auth_time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::sha256;

    const HASH: &str = "042dd1a66d0aaa69697145d672fb07c3ab59c96628ccd009cc2a5a7579233ef6";
    const OTHER: &str = "152dd1a66d0aaa69697145d672fb07c3ab59c96628ccd009cc2a5a7579233ef6";

    #[test]
    fn keys_have_names_scopes_groups_and_an_end() {
        let text = format!(
            "# ours\n[[key]]\nname = \"backup\"\nsha256 = \"{HASH}\"\nscopes = [\"write\", \"read\"]\ngroups = [\"machines\"]\n\
             expires_at = 2027-01-31T00:00:00Z\n[[key]]\nname = \"backup\"\nsha256 = \"{OTHER}\"\nexpires_at = \"2027-01-31T00:00:01Z\"\n"
        );
        let keys = parse(&text, "https://app.test/api_keys").unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let key = keys.get(&sha256(format!("dwk_{}", "0".repeat(64)).as_bytes())).unwrap();
        assert_eq!(key.expires_at, Some(UnixTime(1_801_353_600)));
        let identity = &key.identity;
        assert_eq!(
            (identity.issuer.as_str(), identity.sub.as_str(), &identity.source),
            ("https://app.test/api_keys", "backup", &Source::ApiKey)
        );
        assert_eq!(identity.scopes.iter().collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!((&identity.groups, identity.claims["scope"].as_str()), (&Groups::Listed(vec!["machines".into()]), Some("read write")));
        // While one is replaced, both are of one name.
        let other = keys.get(&parse_hash(OTHER).unwrap()).unwrap();
        assert_eq!(
            (other.identity.sub.as_str(), other.expires_at, other.identity.scopes.iter().count()),
            ("backup", Some(UnixTime(1_801_353_601)), 0)
        );
        assert_eq!(keys.len(), 2);
        assert_eq!(parse("# none yet\n", "i").ok().unwrap().len(), 0);
    }

    #[test]
    fn every_mistake_is_told_by_its_table_and_never_with_a_hash() {
        let key = format!("dwk_{}", "0".repeat(64));
        let table = |rest: &str| format!("[[key]]\nname = \"a\"\nsha256 = \"{HASH}\"\n{rest}\n");
        for (text, told) in [
            ("[[key]\n".to_owned(), "TOML"),
            (format!("sha256 = {HASH}\n"), "TOML"),
            ("[key]\nname = \"a\"\n".to_owned(), "two brackets"),
            ("key = [1]\n".to_owned(), "key[0]: expected a table"),
            ("keys = []\n".to_owned(), "unknown \"keys\""),
            (format!("[[key]]\nsha256 = \"{HASH}\"\n"), "key[0]: name: is missing"),
            (format!("[[key]]\nname = \" a\"\nsha256 = \"{HASH}\"\n"), "key[0]: name: expected"),
            (format!("[[key]]\nname = 1\nsha256 = \"{HASH}\"\n"), "key[0]: name: expected"),
            ("[[key]]\nname = \"a\"\n".to_owned(), "key[0]: sha256: is missing"),
            (format!("[[key]]\nname = \"a\"\nsha256 = \"{key}\"\n"), "is a key itself"),
            ("[[key]]\nname = \"a\"\nsha256 = 5\n".to_owned(), "sha256: expected a text"),
            (format!("[[key]]\nname = \"a\"\nsha256 = \"{}\"\n", &HASH[1..]), "64 hexadecimal digits"),
            (table("scope = \"read\""), "unknown \"scope\""),
            (table("scopes = \"read\""), "scopes: expected texts"),
            (table("scopes = [\"\"]"), "scopes: expected texts"),
            (table("scopes = [\"read write\"]"), "without spaces"),
            (table("groups = [1]"), "groups: expected texts"),
            (table("expires_at = 2027-01-31"), "expires_at: expected a time"),
            (table("expires_at = 2027-01-31T00:00:00"), "expires_at: expected a time"),
            (table("expires_at = \"soon\""), "expires_at: expected a time"),
            (table("expires_at = 1801353600"), "expires_at: expected a time"),
            (table("expires_at = 1927-01-31T00:00:00Z"), "expires_at: expected a time"),
            (table(&table("")), "key[1]: its hash is there twice"),
        ] {
            let Err(wrong) = parse(&text, "i") else { panic!("{text} is taken") };
            assert!(wrong.iter().any(|line| line.contains(told)), "{text}: {wrong:?}");
            let all = wrong.join(" ");
            assert!(!all.contains(&HASH[1..]) && !all.contains("0000"), "{all}");
        }
    }
}
