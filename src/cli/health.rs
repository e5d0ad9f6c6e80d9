//! `doorward health`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::admin::{Ask, reachable};
use super::{ConfigArgs, complain, complain_of, say};
use crate::config::{Sources, admin_listen};

const PATIENCE: Duration = Duration::from_secs(3);
const ANSWER_BYTES: u64 = 64 * 1024;

#[derive(clap::Args)]
pub(super) struct Health {
    #[command(flatten)]
    config: ConfigArgs,
    /// The admin listener's address; by default that of the configuration
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Ask whether it is alive, not whether it is ready: for liveness probes
    #[arg(long)]
    live: bool,
}

impl Health {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let sources = Sources { file: self.config.config.as_deref(), environment, flags: Vec::new() };
        let address = match self.admin_listen.map_or_else(|| admin_listen(&sources), Ok) {
            Ok(address) => reachable(address),
            Err(problems) => {
                complain_of(&problems);
                return ExitCode::FAILURE;
            }
        };
        let path = if self.live { "/livez" } else { "/readyz" };
        match (Ask { address, method: "GET", target: path, token: None, patience: PATIENCE, bytes: ANSWER_BYTES }).send() {
            Ok((200, body)) => {
                say(body.trim_end());
                ExitCode::SUCCESS
            }
            Ok((status, body)) => {
                complain(format!("{status}: {}", body.trim_end()));
                ExitCode::FAILURE
            }
            Err(error) => {
                complain(format!("no answer from the admin listener at {address}: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}
