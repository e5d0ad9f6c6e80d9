//! The word that something long is to end: said by a session that ends or a drain at its deadline, heard by tunnels on any core.

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
        Ending(Some(self.0.subscribe()))
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
#[derive(Clone, Debug)]
pub struct Ending(Option<watch::Receiver<bool>>);

impl Ending {
    /// For what nobody ends from outside.
    #[must_use]
    pub const fn never() -> Self {
        Self(None)
    }

    /// Waits for the word.
    pub async fn ended(&mut self) {
        match &mut self.0 {
            // An error says that the `Ender` is gone, which is the same word.
            Some(word) => drop(word.wait_for(|ended| *ended).await),
            None => std::future::pending().await,
        }
    }
}
