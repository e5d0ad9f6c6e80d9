//! The `doorward` command. Everything is in the library, so that tests can start it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorward::cli::main(
        std::env::args_os(),
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect(),
    )
}
