//! Load, by the real wrk: many connections that ask without a pause, and what came of it.

use std::time::Duration;

use super::process::{Launch, Process};
use super::wait::PATIENCE;

/// A run.
pub struct Load {
    wrk: Process,
    time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were answered.
    pub answered: u64,
    /// Answers whose status is neither 2xx nor 3xx.
    pub refused: u64,
    /// Connections that were refused, closed at the wrong time or silent for too long.
    pub broken: u64,
    /// What wrk wrote.
    pub text: String,
}

impl Load {
    /// Begins to ask for `url` on so many connections, with these further header lines. Other tests of this machine go before it.
    #[must_use]
    pub fn start(url: &str, connections: usize, time: Duration, headers: &[&str]) -> Self {
        let mut launch = Launch::new("nice").args(["-n", "10", "wrk", "-t", "2", "--timeout", "10s"]);
        launch = launch.args(["-c", &connections.to_string(), "-d", &format!("{}s", time.as_secs())]);
        for header in headers {
            launch = launch.args(["-H", header]);
        }
        Self { wrk: launch.arg(url).start(), time }
    }

    /// Waits for its end.
    pub async fn ended(self) -> Outcome {
        let status = self.wrk.wait(self.time + PATIENCE).await;
        let text = self.wrk.output();
        assert!(status.success(), "wrk: {status}; is it installed? tests/run does it\n{text}");
        Outcome::read(text)
    }
}

impl Outcome {
    /// What wrk wrote.
    pub fn read(text: String) -> Self {
        Self {
            answered: number_before(&text, " requests in "),
            refused: number_after(&text, "Non-2xx or 3xx responses: "),
            // "connect 0, read 0, write 0, timeout 0"
            broken: ["connect ", "read ", "write ", "timeout "].iter().map(|kind| number_after(socket_errors(&text), kind)).sum(),
            text,
        }
    }
}

fn socket_errors(text: &str) -> &str {
    text.split("Socket errors: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default()
}

fn number_after(text: &str, label: &str) -> u64 {
    let rest = text.split(label).nth(1).unwrap_or_default();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

fn number_before(text: &str, label: &str) -> u64 {
    let before = text.split(label).next().filter(|before| before.len() < text.len()).unwrap_or_default();
    before.rsplit(|character: char| !character.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
