//! Which server to connect to: the one of the config, or the one that the sentinels call the primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::{Value, cmd};
use tokio::time::timeout;

use super::connect::{Connector, OnPush, Opened, outage};
use super::url::Place;
use crate::fault::Outage;

/// Makes connections to one server, or to whichever has its part now.
pub(super) struct Source {
    pub(super) connector: Arc<Connector>,
    pub(super) origin: Origin,
    pub(super) connect_timeout: Duration,
}

/// Where the server is.
pub(super) enum Origin {
    Fixed(Place),
    Sentinels(Arc<Sentinels>),
}

impl Source {
    /// Connects to a server that answers; behind sentinels to one that says of itself that it is a primary.
    pub(super) async fn connect(&self, pushes: Option<OnPush>) -> Result<Opened, Outage> {
        let place = match &self.origin {
            Origin::Fixed(place) => place.clone(),
            Origin::Sentinels(sentinels) => sentinels.primary().await?,
        };
        let connecting = timeout(self.connect_timeout, async {
            let mut opened = self.connector.connect(&place, pushes).await?;
            // Without a password nothing was said yet: the answer tells a Redis that is loading, wants a password or is none.
            match &self.origin {
                Origin::Fixed(_) => opened.ask::<()>(&cmd("PING")).await?,
                Origin::Sentinels(_) => is_primary(&place, opened.ask(&cmd("ROLE")).await?)?,
            }
            Ok(opened)
        });
        connecting.await.unwrap_or_else(|_elapsed| Err(outage(&place, format_args!("no connection within {:?}", self.connect_timeout))))
    }

    /// The server's name for errors that come before it is known.
    pub(super) fn outage(&self, why: impl std::fmt::Display) -> Outage {
        match &self.origin {
            Origin::Fixed(place) => outage(place, why),
            Origin::Sentinels(sentinels) => Outage::store(format_args!("{} by its sentinels: {why}", sentinels.master_name)),
        }
    }
}

/// What `ROLE` says first is `master`.
pub(super) fn is_primary(place: &Place, role: Value) -> Result<(), Outage> {
    let Value::Array(parts) = role else { return Err(outage(place, "no answer to ROLE")) };
    match parts.into_iter().next().map(::redis::from_redis_value::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        Some(Ok(role)) => Err(outage(place, format_args!("is a {role}, and the sentinels call it the primary"))),
        Some(Err(_)) | None => Err(outage(place, "no answer to ROLE")),
    }
}

/// Those who know which server is the primary.
pub(super) struct Sentinels {
    pub(super) connector: Connector,
    pub(super) places: Vec<Place>,
    pub(super) master_name: String,
    /// The longest that one of them may take.
    pub(super) patience: Duration,
    /// Who answered last: asked first the next time.
    first: AtomicUsize,
}

impl Sentinels {
    pub(super) fn new(connector: Connector, places: Vec<Place>, master_name: String, patience: Duration) -> Self {
        Self { connector, places, master_name, patience, first: AtomicUsize::new(0) }
    }

    /// Asks them in turn.
    async fn primary(&self) -> Result<Place, Outage> {
        let asked = async |place: &Place| {
            let mut sentinel = self.connector.connect(place, None).await?;
            self.ask(&mut sentinel).await
        };
        let mut last = Outage::store("no sentinel is known");
        for (number, place) in self.in_turn() {
            match timeout(self.patience, asked(place)).await {
                Ok(Ok(primary)) => {
                    self.first.store(number, Ordering::Relaxed);
                    return Ok(primary);
                }
                Ok(Err(outage)) => last = outage,
                Err(_elapsed) => last = outage(place, format_args!("no answer within {:?}", self.patience)),
            }
        }
        Err(last)
    }

    /// From one of them, on an open connection.
    pub(super) async fn ask(&self, sentinel: &mut Opened) -> Result<Place, Outage> {
        let mut question = cmd("SENTINEL");
        let address: Option<(String, u16)> = sentinel.ask(question.arg("get-master-addr-by-name").arg(&self.master_name)).await?;
        match address {
            Some((host, port)) => Ok(sentinel.place.beside(&host, port)),
            None => Err(outage(&sentinel.place, format_args!("knows no primary by the name {:?}", self.master_name))),
        }
    }

    /// All of them with their numbers, the one who answered last first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Place)> {
        let first = self.first.load(Ordering::Relaxed) % self.places.len().max(1);
        let numbered = || self.places.iter().enumerate();
        numbered().skip(first).chain(numbered().take(first))
    }
}
