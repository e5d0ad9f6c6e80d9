//! The five floors of `src/lib.rs`, held against the code: imports lead downward, sideways only along the arrows listed here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FLOORS: [&[&str]; 5] = [
    &["request", "identity", "credential", "session", "login", "fault", "reason", "secret", "clock"],
    &["decision", "respond", "route", "policy", "token", "header"],
    &["authenticate", "store", "provider", "verify", "outbound", "upstream", "telemetry", "tasks"],
    &["server", "endpoint"],
    &["main", "lib", "cli", "app", "config", "demo", "import"],
];

/// Sideways on one floor. `*` is every module of that floor.
const SIDEWAYS: &[(&str, &[&str])] = &[
    ("session", &["identity", "secret", "clock", "reason"]),
    ("login", &["request", "secret", "clock"]),
    ("identity", &["clock"]),
    ("credential", &["identity", "session", "secret", "fault", "reason"]),
    ("fault", &["reason"]),
    ("respond", &["decision", "route", "token"]),
    ("decision", &["route", "policy"]),
    ("route", &["policy", "header"]),
    ("*", &["telemetry", "tasks"]),
    ("authenticate", &["store", "provider", "verify"]),
    ("verify", &["provider", "store"]),
    ("outbound", &["provider", "store"]),
    ("provider", &["store"]),
    ("endpoint", &["server"]),
    ("main", &["cli"]),
    ("cli", &["app", "config", "demo", "import"]),
    ("app", &["config"]),
    ("demo", &["app", "config"]),
];

#[test]
fn imports_lead_downward_or_along_a_listed_arrow() {
    let mut arrows = 0;
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let from = module_of(&file);
        for to in imports(&code) {
            if to == from {
                continue;
            }
            arrows += 1;
            if !allowed(&from, &to) {
                wrong.push(format!("{} imports {to}", file.display()));
            }
        }
    }
    assert!(arrows > 200, "the check found next to nothing to check: {arrows} imports");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_arrow_that_is_listed_is_used_and_none_leads_back() {
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    for (file, code) in sources() {
        let from = module_of(&file);
        used.extend(imports(&code).into_iter().filter(|to| *to != from && floor(&from) == floor(to)).map(|to| (from.clone(), to)));
    }
    for (from, to) in
        SIDEWAYS.iter().filter(|(from, _)| *from != "*").flat_map(|(from, targets)| targets.iter().map(move |to| (*from, *to)))
    {
        // `verify`, `outbound` and `provider` may reach for the store, for replay caches and local accounts; what they do today does not.
        let allowed_ahead = to == "store" && matches!(from, "verify" | "outbound" | "provider");
        assert!(allowed_ahead || used.contains(&(from.to_owned(), to.to_owned())), "nothing imports {to} from {from}: strike the arrow");
    }
    let mut onward: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in &used {
        onward.entry(from).or_default().insert(to);
    }
    for start in onward.keys() {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = onward[start].iter().copied().collect();
        while let Some(module) = next.pop() {
            assert_ne!(module, *start, "a circle through {start}: {onward:?}");
            if reached.insert(module) {
                next.extend(onward.get(module).into_iter().flatten());
            }
        }
    }
}

#[test]
fn words_and_rules_neither_wait_nor_read_the_clock() {
    let mut checked = 0;
    for (file, code) in sources() {
        let module = module_of(&file);
        if floor(&module) > 1 {
            continue;
        }
        checked += 1;
        let banned: &[&str] = if module == "clock" {
            &["async ", ".await", "tokio::"]
        } else {
            &["async ", ".await", "tokio::", "::now(", ".now()", "std::net::Tcp", "std::net::Udp", "std::fs::", "std::thread::sleep"]
        };
        for word in banned {
            let line = code.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(line.is_none(), "{} is on a lower floor and holds {word:?}: {line:?}", file.display());
        }
    }
    assert!(checked > 40, "the check found next to nothing to check: {checked} files");
}

#[test]
fn every_module_stands_on_a_floor_and_in_the_crate_docs() {
    let docs = std::fs::read_to_string(root().join("lib.rs")).expect("src/lib.rs");
    let docs: String = docs.lines().take_while(|line| line.starts_with("//!")).collect();
    let mut seen = BTreeSet::new();
    for (file, _) in sources() {
        let module = module_of(&file);
        assert!(FLOORS.iter().any(|floor| floor.contains(&module.as_str())), "{} stands on no floor", file.display());
        seen.insert(module);
    }
    for module in seen.iter().filter(|module| *module != "lib") {
        assert!(docs.contains(module.as_str()), "the picture in src/lib.rs lacks {module}");
    }
    for module in FLOORS.iter().flat_map(|floor| floor.iter()) {
        assert!(seen.contains(*module), "{module} is on a floor and not in src");
    }
}

#[test]
fn files_stay_small() {
    // Closed lists with one entry a reason: one concern, however many there are.
    let lists = [root().join("reason.rs"), root().join("respond/words.rs")];
    for (file, code) in sources().into_iter().filter(|(file, _)| !lists.contains(file)) {
        let lines = code.lines().count();
        assert!(lines <= 420, "{} has {lines} lines without its tests; one concern a file", file.display());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with its code before the tests; files of tests are left out.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of src").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            if entry.is_dir() {
                if name != "tests" {
                    folders.push(entry);
                }
            } else if name.ends_with(".rs")
                && name != "tests.rs"
                && name != "testing.rs"
                && name != "contract.rs"
                && !name.ends_with("_tests.rs")
            {
                let text = std::fs::read_to_string(&entry).expect("a source file");
                let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
                found.push((entry, code));
            }
        }
    }
    found
}

fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("below src");
    let first = inside.iter().next().and_then(|part| part.to_str()).expect("a name");
    first.trim_end_matches(".rs").to_owned()
}

/// Modules named after `crate::`, also in braces; `doorward::` is the binary's way to say it.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for start in ["crate::", "doorward::"] {
            for rest in line.split(start).skip(1) {
                let names = match rest.strip_prefix('{') {
                    Some(list) => list
                        .split('}')
                        .next()
                        .unwrap_or_default()
                        .split(',')
                        .map(|item| item.trim().split("::").next().unwrap_or_default().to_owned())
                        .collect(),
                    None => vec![rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>()],
                };
                found.extend(names.into_iter().filter(|name| FLOORS.iter().any(|floor| floor.contains(&name.as_str()))));
            }
        }
    }
    found
}

fn floor(module: &str) -> usize {
    FLOORS.iter().position(|floor| floor.contains(&module)).unwrap_or_else(|| panic!("{module} stands on no floor"))
}

fn allowed(from: &str, to: &str) -> bool {
    let (above, below) = (floor(from), floor(to));
    let listed = |name: &str| SIDEWAYS.iter().any(|(module, targets)| *module == name && targets.contains(&to));
    below < above || (below == above && (listed(from) || listed("*")))
}
