//! `doorward hash-password`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, stdin};
use std::process::ExitCode;

use super::{complain, say};
use crate::provider::local::{PasswordHash, TotpKey, check_name, otpauth};
use crate::secret::Secret;

/// The longest line that is read from a pipe.
const LONGEST: u64 = 4096;

#[derive(clap::Args)]
pub(super) struct HashPassword {
    /// Make a new secret for an authenticator app as well, and print its otpauth: address with this user name
    #[arg(long, value_name = "NAME")]
    totp: Option<String>,
}

impl HashPassword {
    pub(super) fn execute(self) -> ExitCode {
        if let Some(name) = &self.totp
            && let Err(error) = check_name(name)
        {
            complain(format!("error: --totp: {error}"));
            return ExitCode::FAILURE;
        }
        let hash = if stdin().is_terminal() { asked() } else { piped() };
        match hash.and_then(|password| PasswordHash::make(&password)) {
            Ok(hash) => {
                say(format!("password = \"{hash}\""));
                if let Some(name) = &self.totp {
                    let secret = TotpKey::make();
                    say(format!("totp = \"{}\"", secret.expose()));
                    say(format!("# {}", otpauth(name, &secret).expose()));
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(format!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Twice, without echo.
fn asked() -> Result<Secret, String> {
    let ask = |prompt: &str| rpassword::prompt_password(prompt).map(Secret::new).map_err(|error| format!("the terminal: {error}"));
    let password = sound(ask("Password: ")?)?;
    if ask("Once more: ")? == password { Ok(password) } else { Err("the two differ; nothing was made".to_owned()) }
}

/// One line, without its end.
fn piped() -> Result<Secret, String> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = std::io::BufReader::new(stdin().lock().take(LONGEST + 1)).read_line(&mut line);
    let bytes = read.map_err(|error| format!("standard input: {error}"))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > LONGEST) {
        return Err(format!("the line is longer than {LONGEST} bytes"));
    }
    sound(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

fn sound(password: Secret) -> Result<Secret, String> {
    if password.expose().is_empty() {
        Err("an empty password opens the door to everybody; nothing was made".to_owned())
    } else {
        Ok(password)
    }
}
