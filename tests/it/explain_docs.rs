//! `docs/explain.md` and the README are true: every command in a `console` block prints what stands below it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::gateway::command;
use crate::harness::temp::TempDir;

/// The commands of the page, each with the output that it shows.
fn shown(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(run), _) => found.push((run.to_owned(), String::new())),
                (None, Some((run, _))) if run.ends_with('\\') => *run += &format!("\n{line}"),
                (None, Some((_, output))) => *output += &format!("{line}\n"),
                (None, None) => panic!("output before any command: {line}"),
            },
            (false, _) => {}
        }
    }
    found
}

/// Whether it prints nothing and later commands stand on it: a file that is copied, a name or a function that is set.
fn prepares(run: &str, expected: &str) -> bool {
    expected.is_empty()
        && (run.starts_with("cp ") || run.contains("() {") || run.split_once("='").is_some_and(|(name, _)| !name.contains(' ')))
}

/// Runs the commands of a page on the example config; gives how many explained something.
fn hold(page: &str, text: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = TempDir::new("explain-docs");
    let example = std::fs::read(root.join("config.toml.example")).expect("the example is there");
    dir.write("config.toml.example", &example);
    if !text.contains("$ cp config.toml.example doorward.toml") {
        dir.write("doorward.toml", &example);
    }
    let folder = PathBuf::from(command()).parent().expect("the binary lies somewhere").display().to_string();
    let (mut before, mut explained) = (String::new(), 0);
    for (run, expected) in shown(text) {
        if prepares(&run, &expected) {
            before += &format!("{run}\n");
            continue;
        }
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("{before}{run}")])
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .output()
            .expect("sh is there");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{page}: {run}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(printed.lines().any(|line| line.starts_with("outcome ")), "{page}: {run} explains nothing: {printed}");
        assert_eq!(printed.trim_end(), expected.trim_end(), "{page}: {run}");
        explained += 1;
    }
    explained
}

#[test]
fn what_the_pages_show_is_what_the_command_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["docs/explain.md", "README.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect("the page is there");
        let explained = hold(page, &text);
        assert!(explained >= 10, "{page}: {explained} requests");
    }
}
