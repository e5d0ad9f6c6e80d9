//! The word that something long is to end: said by a session that ends or a drain at its deadline, heard by tunnels and streams on any core.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Says it. Dropping an `Ender` says it too: what nobody could end any more must not go on.
#[derive(Debug)]
pub struct Ender(watch::Sender<bool>);

impl Ender {
    /// Nothing said yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Someone who hears it.
    #[must_use]
    pub fn ending(&self) -> Ending {
        Ending { word: Some(self.0.subscribe()), _guard: None }
    }

    /// Says it, to those who listen now and those who will.
    pub fn end(&self) {
        self.0.send_replace(true);
    }
}

impl Default for Ender {
    fn default() -> Self {
        Self::new()
    }
}

/// Hears it.
#[derive(Clone)]
pub struct Ending {
    word: Option<watch::Receiver<bool>>,
    /// Kept for as long as anybody listens.
    _guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("word", &self.word).finish_non_exhaustive()
    }
}

impl Ending {
    /// For what nobody ends from outside.
    #[must_use]
    pub const fn never() -> Self {
        Self { word: None, _guard: None }
    }

    /// The same word; `guard` is dropped when the last who listens is gone. Whoever counts what is open learns so that it is not any more.
    #[must_use]
    pub fn guarded(self, guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _guard: Some(guard), ..self }
    }

    /// Whether nobody can say the word.
    #[must_use]
    pub const fn is_never(&self) -> bool {
        self.word.is_none()
    }

    /// Waits for the word.
    pub async fn ended(&mut self) {
        match &mut self.word {
            // An error says that the `Ender` is gone, which is the same word.
            Some(word) => drop(word.wait_for(|ended| *ended).await),
            None => std::future::pending().await,
        }
    }
}
