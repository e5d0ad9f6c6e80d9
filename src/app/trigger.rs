//! When the config is read again: SIGHUP, and files that have changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::reload::{Reloading, Reread};
use crate::provider::Looks;

/// How often files are looked at. One that changed is read when it was the same in two looks: nobody writes a file at one stroke.
const LOOK: Duration = Duration::from_secs(2);

/// Hears SIGHUP.
pub(super) struct Hangups(Option<Signal>);

impl Hangups {
    /// To be called within the control runtime.
    pub(super) fn new() -> Self {
        match signal(SignalKind::hangup()) {
            Ok(hangups) => Self(Some(hangups)),
            Err(error) => {
                tracing::error!(%error, "SIGHUP cannot be heard; changed files are taken all the same");
                Self(None)
            }
        }
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(hangups) => drop(hangups.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Until the process ends.
pub(super) async fn heed(reloading: Arc<Reloading>, read: Reread, mut files: Vec<PathBuf>, mut hangups: Hangups) {
    let mut taken = looks(&files).await;
    let mut seen = taken.clone();
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = hangups.next() => true,
        };
        let now = looks(&files).await;
        let steady = now == seen;
        seen.clone_from(&now);
        if !asked && (now == taken || !steady) {
            continue;
        }
        tracing::info!(why = if asked { "SIGHUP" } else { "a file has changed" }, "the config is read again");
        // What is wrong is told once: the same files are not read a second time unasked.
        taken = now;
        if let Ok((_, named)) = reloading.again(&read).await
            && named != files
        {
            files = named;
            taken = looks(&files).await;
            seen.clone_from(&taken);
        }
    }
}

/// Off the runtime's threads: the files may lie on a network.
async fn looks(files: &[PathBuf]) -> Option<Looks> {
    let files = files.to_vec();
    spawn_blocking(move || Looks::at(files.iter().map(PathBuf::as_path))).await.ok()
}
