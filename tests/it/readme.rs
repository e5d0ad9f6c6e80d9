//! README.md is true: every config in it loads, every path in it is there, every command is one.

use std::path::Path;
use std::process::Command;

use crate::deploy::load;
use crate::harness::gateway::command;

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).expect("README.md is there")
}

/// The blocks of this language, in order.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(found)) => open = Some((found == language, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, block)| block)),
            (Some((_, block)), None) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn every_config_in_the_readme_loads() {
    let blocks = blocks(&readme(), "toml");
    assert!(blocks.len() > 5, "{} configs", blocks.len());
    let smallest = &blocks[0];
    for block in &blocks {
        // A block is a config of its own, or what is added to the first one: keys before its tables, tables after.
        let lines: Vec<&str> = block.lines().collect();
        let tables = lines.iter().position(|line| line.starts_with('[')).unwrap_or(lines.len());
        let (keys, tables) = lines.split_at(tables);
        // What is said of tokens counts on routes that read them.
        let tokens = block.contains("[[token_issuer]]") && !block.contains("[[route]]");
        let api = "[[route]]\nupstream = \"http://127.0.0.1:8080\"\naccept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\n";
        let head = |line: &&str| !line.starts_with("upstream");
        let with_api =
            || smallest.lines().take_while(|line| !line.starts_with("[allow]")).filter(head).collect::<Vec<_>>().join("\n") + "\n" + api;
        let smallest = if tokens { with_api() } else { smallest.clone() };
        let config = if block.contains("public_url") {
            load(block, &[])
        } else {
            load(&format!("{}\n{smallest}\n{}", keys.join("\n"), tables.join("\n")), &[])
        };
        assert!(!config.routes.table.routes().is_empty(), "{block}");
    }
}

#[test]
fn what_the_readme_points_at_is_there() {
    let text = readme();
    let mut seen = 0;
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if !target.contains("://") {
            seen += 1;
            let path = target.split('#').next().unwrap_or_default();
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{target}");
        }
    }
    assert!(seen > 3, "{seen} links");
}

#[test]
fn what_the_readme_runs_is_a_command_of_ours() {
    let text = readme();
    let mut seen = 0;
    for line in blocks(&text, "sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let line = line.split('#').next().unwrap_or_default().trim().to_owned();
        if let Some(arguments) = line.strip_prefix("doorward ") {
            seen += 1;
            let output = Command::new(command()).args(arguments.split_whitespace()).arg("--help").output().expect("the binary is built");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(seen > 1, "{seen} commands");
}
