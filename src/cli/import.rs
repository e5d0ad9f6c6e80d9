//! `doorward import`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{complain, complain_of, say};
use crate::config::{Sources, load};
use crate::import::{Imported, Input, Request, import};

/// Where secrets are said to lie when nothing is written.
const SECRETS: &str = "/etc/doorward";

/// Which gateway.
#[derive(clap::Subcommand)]
pub(super) enum Import {
    /// From oauth2-proxy: command lines and scripts, env files, its TOML, its structured (alpha) YAML, systemd units, Kubernetes and Helm and compose
    /// YAML. Without --out the config goes to stdout and the report to stderr
    #[command(name = "oauth2-proxy")]
    Oauth2Proxy(Oauth2Proxy),
}

#[derive(clap::Args)]
pub(super) struct Oauth2Proxy {
    /// The files that configure it, in any order, each told by its content; `-` is stdin. Of several the stronger counts: flags, then environment, then TOML
    #[arg(value_name = "FILE", required_unless_present = "environment")]
    files: Vec<PathBuf>,
    /// Write config.toml and the secrets (mode 0600) into this folder, and hold the config against `check`. Nothing there is overwritten
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    /// Read the OAUTH2_PROXY_* variables of this environment too
    #[arg(long)]
    environment: bool,
    /// An address that the proxy in front asks, such as https://app.example.com/oauth2/auth?allowed_groups=staff: its rule becomes a policy
    #[arg(long, value_name = "URL")]
    auth_url: Vec<String>,
}

impl Import {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let Self::Oauth2Proxy(command) = self;
        match command.run(&environment) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                complain(message);
                ExitCode::FAILURE
            }
        }
    }
}

impl Oauth2Proxy {
    fn run(self, environment: &BTreeMap<String, String>) -> Result<(), String> {
        let inputs = self.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let out =
            self.out.as_ref().map(|out| std::path::absolute(out).map_err(|error| format!("{}: {error}", out.display()))).transpose()?;
        let secrets_at = out.as_ref().map_or_else(|| SECRETS.to_owned(), |out| out.display().to_string());
        let request = Request {
            inputs: &inputs,
            environment: self.environment.then_some(environment),
            auth_urls: &self.auth_url,
            secrets_at: &secrets_at,
        };
        let imported = import(&request)?;
        let report = if self.json { format!("{:#}\n", imported.report.json()) } else { imported.report.text() };
        match out {
            Some(out) => {
                let config = write(&out, &imported)?;
                say(report.trim_end());
                judge(&config, self.json);
            }
            None => {
                say(imported.config.trim_end());
                for file in imported.files.iter().filter(|file| file.content.is_some()) {
                    complain(format!("put into {secrets_at}/{}: {}; with --out DIR it is written", file.name, file.what));
                }
                complain(report.trim_end());
            }
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Input, String> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut text).map_err(|error| format!("stdin: {error}"))?;
        return Ok(Input { name: "stdin".to_owned(), text });
    }
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Input { name, text }),
        Err(error) => Err(format!("error: {name} cannot be read: {error}")),
    }
}

/// Writes config and secrets; says where the config is.
fn write(out: &Path, imported: &Imported) -> Result<PathBuf, String> {
    let wrong = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already and is not overwritten; name a fresh folder", path.display()),
        _ => format!("{}: {error}", path.display()),
    };
    DirBuilder::new().recursive(true).mode(0o750).create(out).map_err(|error| wrong(out, error))?;
    let config = out.join("config.toml");
    let known = imported.files.iter().filter_map(|file| Some((out.join(&file.name), file.content.as_ref()?)));
    let secrets: Vec<_> = known.collect();
    // All or nothing: a file that is in the way is found before anything is written.
    for path in secrets.iter().map(|(path, _)| path).chain([&config]) {
        if path.symlink_metadata().is_ok() {
            return Err(wrong(path, io::ErrorKind::AlreadyExists.into()));
        }
    }
    let put = |path: &Path, mode: u32, text: &str| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    for (path, secret) in &secrets {
        put(path, 0o600, &format!("{}\n", secret.expose())).map_err(|error| wrong(path, error))?;
    }
    put(&config, 0o640, &imported.config).map_err(|error| wrong(&config, error))?;
    Ok(config)
}

/// What `check` says of it.
fn judge(config: &Path, quiet: bool) {
    let found = match load(&Sources { file: Some(config), ..Sources::default() }) {
        Ok(config) => config.warnings,
        Err(problems) => problems,
    };
    complain_of(&found);
    if !quiet {
        say(format!(
            "\nWritten: {}. `doorward check --config {}` holds it to the rules again once you have changed it.",
            config.display(),
            config.display()
        ));
    }
}
