//! `doorward run`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use super::{ConfigArgs, complain, complain_of};
use crate::app::{self, Reread};
use crate::clock::SystemClock;
use crate::config::{Sources, load};

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
    /// Serve on this address, such as 127.0.0.1:4180, in place of `listen`
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// How much the event log says: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How both logs are written: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Run {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let flags = [("listen", self.listen), ("log.level", self.log_level), ("log.format", self.log_format)];
        let flags: Vec<(String, String)> = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let file = self.config.config;
        // The random generator gathers its first seed for some 25 ms of CPU, most of what a start takes: beside the reading of the config.
        let seed = || {
            let _: [u8; 1] = crate::secret::random();
        };
        drop(std::thread::Builder::new().name("doorward-seed".to_owned()).spawn(seed));
        // Environment and flags are those of the start for as long as the process lives.
        let reread: Reread =
            Arc::new(move || load(&Sources { file: file.as_deref(), environment: environment.clone(), flags: Vec::clone(&flags) }));
        let config = match reread() {
            Ok(config) => config,
            Err(problems) => {
                complain_of(&problems);
                complain("the gateway does not start; `doorward check` shows the same");
                return ExitCode::FAILURE;
            }
        };
        complain_of(&config.warnings);
        match app::run(config, Arc::new(SystemClock), reread) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}
