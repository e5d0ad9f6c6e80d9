//! Every key of `config.toml.example` with wrong values: what `check` says of each names the file and the key, says what would be right, and
//! tells no secret. Nothing wrong is taken in silence.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::tests::{File, awakened};
use super::{Problem, Severity, Sources, known_keys, load};

/// A text that no key which means something has for a value; what takes any text has it.
const NONSENSE: &str = "no such § thing";
/// What must never be told, where a secret belongs.
const SECRET: &str = "hunter2hunter2hunter2";
const SECRET_NUMBER: u64 = 77_001_122;

/// One step from the root: a key, and for lists of tables the item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step(String, Option<usize>);

/// A key of the example: how to get there, and what stands there.
struct Key {
    way: Vec<Step>,
    value: Value,
    /// Whether its name is somebody's own: a header, say.
    free: bool,
}

impl Key {
    /// As problems name it.
    fn path(&self) -> String {
        let step = |step: &Step| match step.1 {
            Some(index) => format!("{}[{index}]", step.0),
            None => step.0.clone(),
        };
        self.way.iter().map(step).collect::<Vec<_>>().join(".")
    }

    fn name(&self) -> &str {
        &self.way[self.way.len() - 1].0
    }

    /// As the code asks for it: without indexes and names that are free.
    fn shape(&self) -> String {
        let named = |at: usize, step: &Step| at == 1 && ["policy", "outbound"].contains(&self.way[0].0.as_str()) && step.1.is_none();
        let shape = self.way.iter().enumerate().map(|(at, step)| if named(at, step) { "NAME" } else { step.0.as_str() });
        shape.collect::<Vec<_>>().join(".")
    }
}

/// Tables whose names are the writer's own.
fn names_are_free(path: &[Step]) -> bool {
    let names = ["headers", "response_headers", "claims", "parameters", "authorize", "authorize_from_start", "policy", "outbound"];
    path.last()
        .is_some_and(|last| names.contains(&last.0.as_str()) && (path.len() > 1 || ["policy", "outbound"].contains(&last.0.as_str())))
}

fn example() -> Value {
    let file = File::new("config.toml", &awakened());
    figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::file(&file.0)).extract().unwrap()
}

fn keys(table: &Map<String, Value>, above: &[Step], out: &mut Vec<Key>) {
    for (name, value) in table {
        let way: Vec<Step> = above.iter().cloned().chain([Step(name.clone(), None)]).collect();
        out.push(Key { way: way.clone(), value: value.clone(), free: names_are_free(above) });
        match value {
            Value::Object(inner) => keys(inner, &way, out),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Object(inner) = item {
                        let mut way = way.clone();
                        way.last_mut().unwrap().1 = Some(index);
                        keys(inner, &way, out);
                    }
                }
            }
            _ => {}
        }
    }
}

fn all_keys(root: &Value) -> Vec<Key> {
    let mut out = Vec::new();
    keys(root.as_object().unwrap(), &[], &mut out);
    out
}

/// The table that holds the key.
fn table<'a>(root: &'a mut Value, way: &[Step]) -> &'a mut Map<String, Value> {
    let mut at = root;
    for step in &way[..way.len() - 1] {
        at = &mut at[&step.0];
        if let Some(index) = step.1 {
            at = &mut at[index];
        }
    }
    at.as_object_mut().unwrap()
}

fn told(root: &Value) -> Vec<Problem> {
    let file = File::new("config.json", &root.to_string());
    let sources = Sources { file: Some(&file.0), ..Sources::default() };
    let problems = load(&sources).map_or_else(|problems| problems, |config| config.warnings);
    let name = file.0.display().to_string();
    problems.into_iter().map(|problem| Problem { source: problem.source.replace(&name, "FILE"), ..problem }).collect()
}

/// What is wrong for a key that has such a value in the example.
fn wrong(value: &Value) -> Vec<Value> {
    let mut wrong = match value {
        Value::String(text) => {
            let mut wrong = vec![json!(SECRET_NUMBER), json!(true), json!({ "x": 1 }), json!([]), json!(""), json!("  "), json!(NONSENSE)];
            if humantime::parse_duration(text).is_ok() {
                wrong.extend([json!("-5s"), json!("5 parsecs"), json!("999999d"), json!("5"), json!(5)]);
            }
            if text.ends_with("iB") {
                wrong.extend([json!("-5KiB"), json!("5 GiB"), json!("1"), json!("99999999999999999999KiB")]);
            }
            wrong
        }
        Value::Bool(_) => vec![json!("yes"), json!("true"), json!(1), json!([]), json!({})],
        Value::Number(_) => vec![json!("many"), json!("1"), json!(-1), json!(1.5), json!(1e18), json!([]), json!(true)],
        Value::Array(items) if items.iter().all(Value::is_string) => {
            vec![json!(7), json!(true), json!([]), json!([""]), json!([7]), json!([NONSENSE])]
        }
        Value::Array(_) => vec![json!(7), json!("word"), json!([7])],
        Value::Object(_) => vec![json!(7), json!("word"), json!(true), json!([7])],
        Value::Null => Vec::new(),
    };
    wrong.retain(|wrong| wrong != value);
    wrong
}

/// Keys that take any text, since it is a name, a sentence or a secret of somebody's own.
const ANY_TEXT: [&str; 35] = [
    "admin.token",
    "client_certificate.issuer",
    "foreign_token.app_id",
    "foreign_token.app_secret",
    "foreign_token.audience",
    "foreign_token.audience_claim",
    "foreign_token.email_claim",
    "foreign_token.expires_claim",
    "foreign_token.groups_claim",
    "foreign_token.sub_claim",
    "foreign_token.user_claim",
    "pages.notice",
    "pages.title",
    "provider.email_claim",
    "provider.groups_claim",
    "provider.name",
    "provider.user_claim",
    "route.assertion_audience",
    "route.assertion_claims",
    "route.audience",
    "route.denied.text",
    "route.path_regex",
    "store.master_name",
    "store.password",
    "store.path",
    "store.sentinel_password",
    "store.sentinel_username",
    "store.username",
    "token_issuer.audience",
    "token_issuer.email_claim",
    "token_issuer.groups_claim",
    "token_issuer.scope_claim",
    "token_issuer.user_claim",
    "tracing.service_name",
    "user.name",
];
/// The same wherever they stand.
const ANY_TEXT_ANYWHERE: [&str; 5] = ["client_id", "client_secret", "groups", "key_id", "audience"];
/// The word that a table's `client_auth` has beside a private key.
const BY_KEY: [&str; 4] = ["assertion_audience", "key_algorithm", "key_file", "key_id"];

fn takes(key: &Key, wrong: &Value) -> bool {
    let shape = key.shape();
    let text = *wrong == json!(NONSENSE) || *wrong == json!([NONSENSE]);
    // What stands under a name of the writer's own: blank is no text there either, but "" takes a header out of answers.
    if key.free {
        let scalar = wrong.is_number() || wrong.is_boolean() || wrong.as_array().is_some_and(|items| items.iter().all(Value::is_number));
        return match key.way[key.way.len() - 2].0.as_str() {
            "response_headers" => *wrong == json!(""),
            "parameters" => text || *wrong == json!("") || *wrong == json!("  "),
            "claims" => text || (scalar && *wrong != json!([])),
            "authorize_from_start" | "authorize" | "headers" => text || (*wrong == json!("  ") && shape.contains("authorize_from_start")),
            _ => text,
        };
    }
    (text && (ANY_TEXT.contains(&shape.as_str()) || ANY_TEXT_ANYWHERE.contains(&key.name())))
        || (shape == "route.identity_headers" && *wrong == json!([]))
}

/// A config in which the key counts: its own table, without what takes its place or shuts it out, and little beside it.
fn around(root: &Value, key: &Key) -> Value {
    let top = key.way[0].0.as_str();
    let mut root = root.clone();
    let kept = ["public_url", "provider", top];
    root.as_object_mut().unwrap().retain(|name, _| kept.contains(&name.as_str()));
    if key.shape() == "keys.assertion_file" {
        root["provider"] = json!({ "issuer": "https://login.test", "client_id": "app", "client_secret": "x" });
        root["keys"].as_object_mut().unwrap().remove("seal_file");
        root["route"] = json!([{ "id": "a", "allow": "any-authenticated", "assertion": true }]);
        return root;
    }
    if key.free && top == "tracing" {
        root["tracing"].as_object_mut().unwrap().remove("headers_file");
    }
    let own = table(&mut root, &key.way);
    let name = key.name();
    own.remove(&format!("{name}_file"));
    if let Some(plain) = name.strip_suffix("_file").filter(|plain| *plain != "key") {
        own.remove(plain);
    }
    if BY_KEY.contains(&name) && own.contains_key("client_auth") {
        own.retain(|name, _| !name.starts_with("client_secret"));
        own.insert("client_auth".to_owned(), json!("private_key_jwt"));
    }
    let instead: &[&str] = match key.shape().as_str() {
        "route.path" => &["path_regex", "rewrite"],
        "route.path_regex" => &["path", "rewrite", "strip_prefix"],
        "route.rewrite" => &["path_regex", "strip_prefix"],
        "route.strip_prefix" => &["path_regex", "rewrite"],
        _ => &[],
    };
    own.retain(|name, _| !instead.contains(&name.as_str()));
    root
}

/// What is said anew when a key is changed.
fn said(root: &Value, key: &Key, change: impl FnOnce(&mut Map<String, Value>)) -> Vec<Problem> {
    let mut root = around(root, key);
    let before: BTreeSet<String> = told(&root).iter().map(ToString::to_string).collect();
    change(table(&mut root, &key.way));
    told(&root).into_iter().filter(|problem| !before.contains(&problem.to_string())).collect()
}

/// Whether it is about this key: at it, inside it, or of its table and naming it.
fn is_about(problem: &Problem, path: &str, name: &str) -> bool {
    let inside = problem.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    let above = path.strip_suffix(name).is_some_and(|above| problem.path == above.trim_end_matches('.'));
    inside || (above && problem.message.contains(name))
}

/// Whether a sentence says what would be right.
fn says_what_is_right(message: &str) -> bool {
    let words =
        ["expected ", "write ", "such as ", "for example", "leave ", "remove ", "take ", "cannot be read", "there is ", "did you mean"];
    words.iter().any(|word| message.contains(word))
}

#[test]
fn no_wrong_value_is_taken_in_silence_and_each_is_told_what_would_be_right() {
    let root = example();
    let (mut silent, mut unclear, mut tried) = (Vec::new(), Vec::new(), 0);
    for key in all_keys(&root) {
        let path = key.path();
        for wrong in wrong(&key.value).into_iter().filter(|wrong| !takes(&key, wrong)) {
            tried += 1;
            let found = said(&root, &key, |table| drop(table.insert(key.name().to_owned(), wrong.clone())));
            let about: Vec<&Problem> =
                found.iter().filter(|problem| problem.severity == Severity::Error && is_about(problem, &path, key.name())).collect();
            if about.is_empty() {
                silent.push(format!("{path} = {wrong}"));
            }
            for problem in &about {
                let line = problem.to_string();
                if !says_what_is_right(&problem.message) || !line.starts_with("error: FILE: ") {
                    unclear.push(format!("{path} = {wrong}: {line}"));
                }
            }
        }
    }
    assert!(tried > 1500, "next to nothing was tried: {tried}");
    assert!(silent.is_empty() && unclear.is_empty(), "in silence:\n{}\nunclear:\n{}", silent.join("\n"), unclear.join("\n"));
}

#[test]
fn every_misspelt_key_is_told_its_name() {
    let root = example();
    let mut wrong = Vec::new();
    for key in all_keys(&root).iter().filter(|key| !key.free) {
        let (name, camel) = (key.name(), camel(key.name()));
        for misspelt in [format!("{name}x"), camel, name.replace('_', "-"), name.to_ascii_uppercase()] {
            if misspelt == name || !is_leaf(key) {
                continue;
            }
            let found = said(&root, key, |table| {
                let value = table.remove(name).unwrap();
                table.insert(misspelt.clone(), value);
            });
            let path = format!("{}{misspelt}", key.path().strip_suffix(name).unwrap());
            let hint = format!("did you mean {name:?}?");
            if !found.iter().any(|problem| problem.path == path && problem.message.contains(&hint)) {
                wrong.push(format!("{path}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether it is given to a table as a whole, not to one of several of its kind.
fn is_leaf(key: &Key) -> bool {
    key.way.last().is_some_and(|step| step.1.is_none())
}

fn camel(name: &str) -> String {
    let mut pieces = name.split('_');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| format!("{all}{}{}", piece[..1].to_ascii_uppercase(), &piece[1..]))
}

#[test]
fn what_is_written_where_a_secret_belongs_is_never_told() {
    let root = example();
    let shapes = known_keys(&Sources { file: Some(&File::new("config.json", &root.to_string()).0), ..Sources::default() });
    let secret = |key: &&Key| {
        let shape = key.shape();
        // People's addresses are no secrets.
        if key.name().starts_with("emails") {
            return false;
        }
        let headers = key.free && key.way[key.way.len() - 2].0 == "headers" && key.way[0].0 == "tracing";
        headers || shapes.contains(&format!("{shape}_file")) || shape.strip_suffix("_file").is_some_and(|plain| shapes.contains(plain))
    };
    let all = all_keys(&root);
    let secrets: Vec<&Key> = all.iter().filter(secret).collect();
    let names: BTreeSet<&str> = secrets.iter().map(|key| key.name()).collect();
    for name in
        ["client_secret", "client_secret_file", "password", "totp", "proxy", "token", "app_secret", "sentinel_password", "Authorization"]
    {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    for key in secrets {
        for value in [json!(SECRET_NUMBER), json!([SECRET]), json!({ "x": SECRET }), json!([{ "x": SECRET }]), json!(SECRET)] {
            for name in [key.name().to_owned(), format!("{}x", key.name())] {
                let found = said(&root, key, |table| {
                    table.remove(key.name());
                    table.insert(name.clone(), value.clone());
                });
                let told = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                assert!(!told.contains(SECRET) && !told.contains(&SECRET_NUMBER.to_string()), "{name} = {value}: {told}");
            }
        }
    }
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    let provider = "[provider]\nissuer = \"https://login.test\"\nclient_id = \"app\"\nclient_secret = \"x\"\n";
    let top = "public_url = \"https://app.test\"\nupstream = \"http://127.0.0.1:1\"\nallow = \"any-authenticated\"\n";
    for (text, path, words) in [
        (format!("{top}{provider}trusted_proxies = [\"10.0.0.1\"]\n"), "provider.trusted_proxies", "above the first [table]"),
        (format!("{top}issuer = \"https://login.test\"\n{provider}"), "issuer", "is no key at the top; there is one of that name in"),
        (format!("{top}{provider}[session]\nclient_id = \"x\"\n"), "session.client_id", "[provider]"),
        (
            format!("{top}{provider}[admin]\nseal_file = \"/x\"\n"),
            "admin.seal_file",
            "is no key of [admin]; there is one of that name in [keys]",
        ),
        (format!("{top}{provider}[policy.a]\ngroups = [\"a\"]\nseal_file = \"/x\"\n"), "policy.a.seal_file", "is no key of [policy.a];"),
        (format!("{top}{provider}[admin]\nnonsense = 1\n"), "admin.nonsense", "known here: listen, ready_needs_store, token, token_file"),
    ] {
        let found = super::tests::problems(&text);
        assert!(found.iter().any(|(at, message)| at == path && message.contains(words)), "{path} {words}: {found:?}");
    }
}
