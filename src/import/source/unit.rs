//! A systemd unit: `ExecStart=`, `Environment=`, and the files that `EnvironmentFile=` names.

use super::{Collected, Resolved, flags, last_part, variables, words};

/// Reads it.
pub fn read(text: &str, into: &mut Collected) {
    // systemd.syntax(7): a backslash at the end of a line makes a space of both.
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let line = line.trim_end();
        let (line, goes_on) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            _ => lines.push(line.trim_start().to_owned()),
        }
        open = goes_on;
    }
    let of = |key: &str| lines.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect::<Vec<_>>();
    for line in of("Environment") {
        for word in words::split(&line) {
            if let Some((name, value)) = variables::assignment(&word) {
                variables::one(name, Resolved::Value(value.to_owned()), into);
            }
        }
    }
    for file in of("EnvironmentFile") {
        let file = file.trim_start_matches('-').trim().to_owned();
        if !into.names.iter().any(|name| name == last_part(&file)) {
            into.absent.push(format!("the unit reads variables from {file}, which was not given: run the import again with it"));
        }
    }
    for line in of("ExecStart") {
        flags::read(&words::split(line.trim_start_matches(['@', '-', ':', '+', '!'])), into);
    }
}
