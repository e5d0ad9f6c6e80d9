//! `doorward sessions list` and `doorward sessions revoke`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use super::admin::{Ask, reachable};
use super::{ConfigArgs, complain, complain_of, say};
use crate::config::{Sources, admin_listen, admin_token};
use crate::secret::Secret;

/// A list of a hundred thousand sessions takes a store a while.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Subcommand)]
pub(super) enum Sessions {
    /// Who is signed in, the latest first
    List(List),
    /// End sessions, on all replicas at once; what the provider granted stays with it
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    whose: Whose,
    /// Print the gateway's own JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["user", "sub", "issuer", "id", "all"])))]
pub(super) struct Revoke {
    #[command(flatten)]
    whose: Whose,
    /// The session with this id, as `list` shows it
    #[arg(long, value_name = "ID", allow_hyphen_values = true, conflicts_with_all = ["user", "sub", "issuer", "all"])]
    id: Option<String>,
    /// Every session there is
    #[arg(long, conflicts_with_all = ["user", "sub", "issuer"])]
    all: bool,
    /// Print the gateway's own JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

// What others have named may begin with a hyphen, and so does one id of 64.
#[derive(Args)]
struct Whose {
    /// Sessions of the person whom `list` shows under this name
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    user: Option<String>,
    /// Sessions of the person whom the issuer knows by this `sub`
    #[arg(long, value_name = "SUB", allow_hyphen_values = true)]
    sub: Option<String>,
    /// Sessions of people of this issuer
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
}

/// Which gateway, and what opens it.
#[derive(Args)]
struct Gateway {
    #[command(flatten)]
    config: ConfigArgs,
    /// The admin listener's address; by default that of the configuration
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// A file with the admin token; by default that of the configuration
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A session in the gateway's answer.
#[derive(Deserialize)]
struct Shown {
    id: String,
    user: String,
    signed_in_at: String,
    last_used_at: String,
    address: String,
    browser: String,
}

#[derive(Deserialize)]
struct Answer {
    sessions: Vec<Shown>,
}

#[derive(Deserialize)]
struct Ended {
    ended: u64,
}

impl Sessions {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        match self {
            Self::List(list) => list.execute(environment),
            Self::Revoke(revoke) => revoke.execute(environment),
        }
    }
}

impl List {
    fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let target = format!("/sessions{}", self.whose.query(false));
        let Some(body) = self.gateway.ask(environment, "GET", &target) else { return ExitCode::FAILURE };
        if self.json {
            say(body.trim_end());
            return ExitCode::SUCCESS;
        }
        let Some(answer) = read::<Answer>(&body) else { return ExitCode::FAILURE };
        if answer.sessions.is_empty() {
            say("nobody is signed in");
        } else {
            table(&answer.sessions).iter().for_each(say);
        }
        ExitCode::SUCCESS
    }
}

impl Revoke {
    fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let target = match &self.id {
            Some(id) => format!("/sessions/{}", form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>()),
            None => format!("/sessions{}", self.whose.query(self.all)),
        };
        let Some(body) = self.gateway.ask(environment, "DELETE", &target) else { return ExitCode::FAILURE };
        if self.json {
            say(body.trim_end());
            return ExitCode::SUCCESS;
        }
        let Some(Ended { ended }) = read::<Ended>(&body) else { return ExitCode::FAILURE };
        say(format!("{ended} {} ended", if ended == 1 { "session" } else { "sessions" }));
        ExitCode::SUCCESS
    }
}

impl Whose {
    fn query(&self, all: bool) -> String {
        let named = [("user", &self.user), ("sub", &self.sub), ("issuer", &self.issuer)];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in named {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if all {
            query.append_pair("all", "true");
        }
        let query = query.finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }
}

impl Gateway {
    /// The body of a good answer; what went wrong is told.
    fn ask(&self, environment: BTreeMap<String, String>, method: &str, target: &str) -> Option<String> {
        let sources = Sources { file: self.config.config.as_deref(), environment, flags: Vec::new() };
        let address = match self.admin_listen.map_or_else(|| admin_listen(&sources), Ok) {
            Ok(address) => reachable(address),
            Err(problems) => {
                complain_of(&problems);
                return None;
            }
        };
        let token = self.token(&sources)?;
        match (Ask { address, method, target, token: Some(&token), patience: PATIENCE, bytes: ANSWER_BYTES }).send() {
            Ok((200, body)) => Some(body),
            Ok((status, body)) => {
                let told = serde_json::from_str::<Value>(&body).ok();
                let told = told.as_ref().and_then(|told| told.get("error_description")).and_then(Value::as_str);
                complain(format!("{status}: {}", told.unwrap_or(body.trim_end())));
                None
            }
            Err(error) => {
                complain(format!("no answer from the admin listener at {address}: {error}"));
                None
            }
        }
    }

    fn token(&self, sources: &Sources<'_>) -> Option<Secret> {
        if let Some(file) = &self.token_file {
            return read_token(file);
        }
        match admin_token(sources) {
            Ok(Some(token)) => fit(token.get(), "admin.token"),
            Ok(None) => {
                complain("no admin token: name a file with --token-file, or give the configuration, whose admin.token_file says which");
                None
            }
            Err(problems) => {
                complain_of(&problems);
                None
            }
        }
    }
}

fn read_token(file: &Path) -> Option<Secret> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            complain(format!("{}: {error}", file.display()));
            return None;
        }
    };
    fit(Secret::new(text.trim_end_matches(['\r', '\n'])), &file.display().to_string())
}

/// It stands in a header line of our own making.
fn fit(token: Secret, place: &str) -> Option<Secret> {
    if token.expose().is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        complain(format!("{place}: expected one token, of printable characters without blanks"));
        return None;
    }
    Some(token)
}

fn read<T: for<'de> Deserialize<'de>>(body: &str) -> Option<T> {
    let read = serde_json::from_str(body).ok();
    if read.is_none() {
        complain("the admin listener's answer cannot be read; is it a doorward of this version?");
    }
    read
}

/// Lines for people. What others named themselves cannot move the cursor or change colours.
fn table(sessions: &[Shown]) -> Vec<String> {
    let head = ["USER", "SIGNED IN", "LAST USED", "ADDRESS", "BROWSER", "ID"].map(str::to_owned);
    let rows = sessions.iter().map(|one| {
        [plain(&one.user), minute(&one.signed_in_at), minute(&one.last_used_at), plain(&one.address), plain(&one.browser), plain(&one.id)]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn plain(text: &str) -> String {
    let bad = |character: char| {
        character.is_control() || matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if bad(character) { '?' } else { character }).collect()
}

/// `2026-11-21 10:15Z`.
fn minute(time: &str) -> String {
    match (time.get(..10), time.get(11..16)) {
        (Some(day), Some(minute)) => plain(&format!("{day} {minute}Z")),
        _ => plain(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(user: &str) -> Shown {
        Shown {
            id: "AAAA".into(),
            user: user.into(),
            signed_in_at: "2026-11-21T10:15:30Z".into(),
            last_used_at: "2026-11-21T11:00:00Z".into(),
            address: "192.0.2.7".into(),
            browser: "Firefox on Linux".into(),
        }
    }

    #[test]
    fn an_id_and_a_name_may_begin_with_a_hyphen() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(subcommand)]
            sessions: Sessions,
        }
        let given = |args: &[&str]| {
            let args = ["sessions", "revoke"].iter().chain(args);
            match <Command as clap::Parser>::try_parse_from(args).ok()?.sessions {
                Sessions::Revoke(revoke) => Some((revoke.id, revoke.whose.user, revoke.whose.sub)),
                Sessions::List(_) => None,
            }
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(given(&["--id", "-Ab_c"]), Some((some("-Ab_c"), None, None)));
        assert_eq!(given(&["--user", "-ann", "--sub", "--1"]), Some((None, some("-ann"), some("--1"))));
        assert_eq!(given(&["--id", "-Ab_c", "--all"]), None);
        assert_eq!(given(&["--id"]), None);
    }

    #[test]
    fn the_table_is_aligned_and_cannot_be_made_to_lie() {
        let lines = table(&[shown("Zoë"), shown("\u{1b}[31mroot\u{202e}\n")]);
        assert_eq!(
            lines,
            [
                "USER         SIGNED IN          LAST USED          ADDRESS    BROWSER           ID",
                "Zoë          2026-11-21 10:15Z  2026-11-21 11:00Z  192.0.2.7  Firefox on Linux  AAAA",
                "?[31mroot??  2026-11-21 10:15Z  2026-11-21 11:00Z  192.0.2.7  Firefox on Linux  AAAA",
            ]
        );
    }
}
