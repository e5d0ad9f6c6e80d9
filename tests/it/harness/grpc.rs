//! A real gRPC server and real gRPC calls, by Google's own C core (`grpc_peers.py` on python; `tests/run` installs it).

use std::time::Duration;

use super::process::{Launch, Process};
use super::wait::PATIENCE;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/grpc_peers.py");

/// A server on a free port of 127.0.0.1, without TLS. What its methods do stands in `grpc_peers.py`.
pub struct GrpcServer {
    /// Says a line for each call that begins or ends.
    pub process: Process,
    /// Where it listens.
    pub port: u16,
}

impl GrpcServer {
    /// Starts it; it takes calls when this returns.
    pub async fn start() -> Self {
        let process = Launch::new("python-with-grpc").arg(SCRIPT).args(["server", "0"]).start();
        let line = process.wait_for_line(|line| line.starts_with("listening "), PATIENCE).await;
        let port = line.rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { process, port }
    }

    /// As the gateway's config names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("h2c://127.0.0.1:{}", self.port)
    }

    /// How often it said this.
    #[must_use]
    pub fn said(&self, text: &str) -> usize {
        self.process.stdout().lines().filter(|line| *line == text).count()
    }
}

/// One call, from a process of its own.
pub struct Call(Process);

/// Makes a call; `more` are further arguments, messages among them.
pub async fn call(target: &str, method: &str, more: &[&str]) -> Outcome {
    let call = begin("call", target, method, more);
    call.0.wait_for_line(|line| line.starts_with("status "), PATIENCE).await;
    call.outcome()
}

/// Makes a call whose request has no end.
#[must_use]
pub fn hold(target: &str, method: &str, more: &[&str]) -> Call {
    begin("hold", target, method, more)
}

fn begin(verb: &str, target: &str, method: &str, more: &[&str]) -> Call {
    Call(Launch::new("python-with-grpc").arg(SCRIPT).args([verb, target, method]).args(more).start())
}

impl Call {
    /// Waits for this line.
    pub async fn says(&self, text: &str) {
        self.0.wait_for_line(|line| line == text, PATIENCE).await;
    }

    /// What it ended with; `None` when it is not over by then.
    pub async fn ends_within(&self, time: Duration) -> Option<Outcome> {
        self.0.try_wait_for_line(|line| line.starts_with("status "), time).await?;
        Some(self.outcome())
    }

    fn outcome(&self) -> Outcome {
        Outcome { lines: self.0.stdout().lines().map(str::to_owned).collect() }
    }
}

/// What a call brought.
#[derive(Debug)]
pub struct Outcome {
    lines: Vec<String>,
}

impl Outcome {
    /// The status by its name.
    #[must_use]
    pub fn status(&self) -> &str {
        self.of("status").first().and_then(|rest| rest.split(' ').next()).expect("a status")
    }

    /// The status's own words.
    #[must_use]
    pub fn details(&self) -> &str {
        self.of("status").first().and_then(|rest| rest.split_once(' ')).map_or("", |(_, details)| details)
    }

    /// The messages.
    #[must_use]
    pub fn messages(&self) -> Vec<&str> {
        self.of("message")
    }

    /// Everything of one kind: `initial` and `trailing` metadata, `bytes` in all.
    #[must_use]
    pub fn of(&self, kind: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).collect()
    }
}
