//! What answers now of all that a config names, for `doorward check --online`. Documents and keys are fetched, the store is greeted, everybody else
//! gets a connection that is closed again: nothing is written, and no secret is sent but where the greeting is one.

mod peers;
mod provider;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{StartError, stores};
use crate::clock::SharedClock;
use crate::config::{Config, StoreKind};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something may not be as it is meant.
    Warning,
    /// It does not work.
    Problem,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// Whom it concerns: `provider corp`, `store` and so on.
    pub about: String,
    /// What was found, and what would be right.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        };
        write!(f, "{word:<8} {}: {}", self.about, self.text)
    }
}

/// What is found about one peer.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, about: &str, text: impl Into<String>) {
        self.0.push(Finding { verdict, about: about.to_owned(), text: text.into() });
    }
}

/// What all questions are asked with.
struct Around {
    config: Config,
    clock: SharedClock,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    /// For one connection, or one call.
    limit: Duration,
}

/// One question, under way.
type Asked<'a> = Pin<Box<dyn Future<Output = Findings> + Send + 'a>>;

/// Asks everybody at once.
///
/// # Errors
/// When no runtime can be had.
pub fn ask(config: Config, clock: SharedClock) -> Result<Vec<Finding>, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(StartError::new)?;
    let limit = config.gateway.limits.provider_timeout;
    let around = Around { config, clock, tasks: Tasks::new(runtime.handle().clone()), metrics: Metrics::new(), limit };
    let found = runtime.block_on(async {
        let around = Arc::new(around);
        let mut asked: Vec<tokio::task::JoinHandle<Findings>> = Vec::new();
        for index in 0..around.config.providers.len() {
            asked.push(spawned(&around, move |around| Box::pin(provider::ask(around, index))));
        }
        for index in 0..around.config.token_issuers.len() {
            asked.push(spawned(&around, move |around| Box::pin(provider::ask_issuer(around, index))));
        }
        asked.push(spawned(&around, |around| Box::pin(store(around))));
        for peer in peers::of(&around.config) {
            asked.push(spawned(&around, move |around| Box::pin(peers::reach(around, peer))));
        }
        let mut found = Vec::new();
        for one in asked {
            match one.await {
                Ok(findings) => found.extend(findings.0),
                Err(error) => return Err(StartError::new(error)),
            }
        }
        Ok(found)
    });
    // What nobody waits for any more is not waited for.
    runtime.shutdown_background();
    found
}

fn spawned(around: &Arc<Around>, ask: impl for<'a> FnOnce(&'a Around) -> Asked<'a> + Send + 'static) -> tokio::task::JoinHandle<Findings> {
    let around = Arc::clone(around);
    #[expect(clippy::disallowed_methods, reason = "a command asks for itself: there is no request, and nothing to drain")]
    tokio::spawn(async move { ask(&around).await })
}

/// Greets the store. A file is not opened: a running gateway holds it.
async fn store(around: &Around) -> Findings {
    let mut found = Findings::default();
    match &around.config.store.kind {
        StoreKind::Memory => found.add(Verdict::Ok, "store", "in memory: nobody to ask"),
        StoreKind::Embedded { path } => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder.map(std::fs::metadata) {
                Some(Ok(folder)) if !folder.is_dir() => {
                    found.add(Verdict::Problem, "store", format!("{}: expected a folder before the file", path.display()))
                }
                Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                    found.add(Verdict::Problem, "store", format!("{}: {error}", path.display()));
                }
                Some(Err(_)) => found.add(Verdict::Ok, "store", format!("{} is made at the first start", path.display())),
                _ => found.add(Verdict::Ok, "store", format!("{}: a file of this machine, not opened here", path.display())),
            }
        }
        StoreKind::Redis(_) => {
            let handle = tokio::runtime::Handle::current();
            let opened = stores::open(&around.config, &handle, &around.clock, &around.tasks, &around.metrics);
            let greeted = match opened {
                Ok(opened) => match tokio::time::timeout(around.limit, opened.store.ping()).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(outage)) => Err(outage.to_string()),
                    Err(_) => Err(format!("no answer within {:?}", around.limit)),
                },
                Err(error) => Err(error.to_string()),
            };
            match greeted {
                Ok(()) => found.add(Verdict::Ok, "store", "Redis answers, and takes the user and password"),
                Err(error) => found.add(Verdict::Problem, "store", error),
            }
        }
    }
    found
}
