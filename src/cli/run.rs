//! `doorward run`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use super::{ConfigArgs, complain, complain_of};
use crate::app;
use crate::clock::SystemClock;
use crate::config::{Sources, load};

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArgs,
    /// Serve on this address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Run {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let flags = [("listen", self.listen), ("log.level", self.log_level), ("log.format", self.log_format)];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let sources = Sources { file: self.config.config.as_deref(), environment, flags };
        let config = match load(&sources) {
            Ok(config) => config,
            Err(problems) => {
                complain_of(&problems);
                complain("the gateway does not start; `doorward check` shows the same");
                return ExitCode::FAILURE;
            }
        };
        complain_of(&config.warnings);
        match app::run(config, Arc::new(SystemClock)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}
