//! `doorward demo`.

use std::process::ExitCode;
use std::sync::Arc;

use super::{complain, say};
use crate::clock::SystemClock;
use crate::demo;
use crate::tasks::Tasks;

#[derive(clap::Args)]
pub(super) struct Demo {
    /// The gateway's port on loopback; another free one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = 4180)]
    port: u16,
}

impl Demo {
    pub(super) fn execute(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(format!("error: no runtime: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let tasks = Tasks::new(runtime.handle().clone());
        let demo = match runtime.block_on(demo::start(self.port, Arc::new(SystemClock), tasks)) {
            Ok(demo) => demo,
            Err(error) => {
                complain(format!("error: {error}"));
                return ExitCode::FAILURE;
            }
        };
        for line in demo::lines(&demo) {
            say(line);
        }
        demo.app.run_until_signal();
        ExitCode::SUCCESS
    }
}
