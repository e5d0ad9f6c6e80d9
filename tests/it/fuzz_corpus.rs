//! What fuzzing found, and what it began with, holds for good: every input of `fuzz/corpus` through its target.

use std::path::{Path, PathBuf};

#[path = "../../fuzz/checks.rs"]
mod checks;
#[path = "../../fuzz/whole.rs"]
mod whole;

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("an input")))
        .collect();
    found.sort();
    found
}

#[test]
fn every_target_holds_over_its_corpus() {
    for (name, target) in checks::TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, input) in inputs {
            eprintln!("{}", path.display());
            target(&input);
        }
    }
}

#[test]
fn the_whole_gateway_holds_over_its_corpus() {
    let inputs = inputs("whole");
    assert!(inputs.len() > 5);
    for (path, input) in inputs {
        eprintln!("{}", path.display());
        whole::whole(&input);
    }
}

#[test]
fn every_target_is_a_target_of_the_fuzzer_and_the_other_way_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("its manifest");
    let mut names: Vec<&str> = checks::TARGETS.iter().map(|(name, _)| *name).chain(["whole"]).collect();
    names.sort_unstable();
    let mut files: Vec<String> = std::fs::read_dir(root.join("fuzz_targets"))
        .expect("targets")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, names);
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in fuzz/Cargo.toml");
    }
}
