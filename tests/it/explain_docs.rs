//! `docs/explain.md` is true: every command in it prints what stands below it.

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

#[test]
fn what_the_page_shows_is_what_the_command_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/explain.md")).expect("docs/explain.md is there");
    let shown = shown(&page);
    assert!(shown.len() >= 10, "{} commands", shown.len());
    let dir = TempDir::new("explain-docs");
    dir.write("doorward.toml", std::fs::read(root.join("config.toml.example")).expect("the example is there"));
    let folder = PathBuf::from(command()).parent().expect("the binary lies somewhere").to_owned();
    for (run, expected) in shown {
        let output = Command::new("/bin/sh")
            .args(["-c", &run])
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", &folder)
            .output()
            .expect("sh is there");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{run}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(printed.trim_end(), expected.trim_end(), "{run}");
    }
}
