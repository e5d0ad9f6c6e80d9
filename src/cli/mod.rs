//! The command line, one file per command.

mod admin;
mod check;
mod demo;
mod explain;
mod explained;
mod hash_password;
mod health;
mod import;
mod run;
mod sessions;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Problem;

/// Below the list of commands.
const FIRST_STEPS: &str = "\
First steps:
  doorward demo                          look at it; needs nothing else
  doorward check --config doorward.toml  is this configuration sound, and what does it mean?
  doorward run --config doorward.toml    serve";

/// Login in front of apps which have none: a reverse proxy that sends browsers through OpenID Connect and checks the tokens of programs.
#[derive(Parser)]
#[command(name = "doorward", version, about, disable_help_subcommand = true, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, as the configuration says, until SIGTERM
    Run(run::Run),
    /// Try it out: gateway, demo provider and sample app on loopback, nothing else needed
    Demo(demo::Demo),
    /// Name all problems of a configuration at once, else what it means: addresses, routes in order. Exits with 0 or 1
    Check(check::Check),
    /// Tell which route and rule a request meets, what would happen, and why; asks nobody and opens no store
    Explain(explain::Explain),
    /// Ask the admin listener of a running gateway whether it is ready, for container health checks and exec probes
    Health(health::Health),
    /// List who is signed in at a running gateway, and end sessions
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Make the hash of a password for a local account: asks twice without echo, or reads one line from a pipe
    HashPassword(hash_password::HashPassword),
    /// Turn another gateway's configuration into ours, with a report of what became of each option
    #[command(subcommand)]
    Import(import::Import),
}

/// Where the configuration comes from: defaults, then the file, then `DOORWARD_*` variables, then flags.
#[derive(Args, Clone, Debug, Default)]
struct ConfigArgs {
    /// The configuration: TOML, or YAML or JSON by its ending. Without it the environment (DOORWARD_*) has to say everything
    #[arg(long, value_name = "FILE", env = "DOORWARD_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the command line. `environment` is what the configuration may read.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>, environment: BTreeMap<String, String>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" that go to stdout with 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Run(run) => run.execute(environment),
        Command::Demo(demo) => demo.execute(),
        Command::Check(check) => check.execute(environment),
        Command::Explain(explain) => explain.execute(environment),
        Command::Health(health) => health.execute(environment),
        Command::Sessions(sessions) => sessions.execute(environment),
        Command::HashPassword(hash) => hash.execute(),
        Command::Import(import) => import.execute(environment),
    }
}

/// A line for people on stdout.
fn say(line: impl std::fmt::Display) {
    // Whoever closed our stdout does not want to hear it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line for people on stderr.
fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn complain_of(problems: &[Problem]) {
    for problem in problems {
        complain(problem);
    }
}
