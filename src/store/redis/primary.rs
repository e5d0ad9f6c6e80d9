//! Which server to connect to: the one of the config, or the one that the sentinels call the primary.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Value, cmd};
use tokio::task::JoinSet;
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
                Origin::Sentinels(sentinels) => {
                    is_primary(&place, opened.ask(&cmd("ROLE")).await?)?;
                    // It may have slept for a while, and believe what was true before.
                    if sentinels.primary().await? != place {
                        return Err(outage(&place, "was replaced as the primary"));
                    }
                }
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

/// Those who know which server is the primary. They learn of a new one a moment after each other.
pub(super) struct Sentinels {
    pub(super) connector: Connector,
    pub(super) places: Vec<Place>,
    pub(super) master_name: String,
    /// The longest that one of them may take.
    pub(super) patience: Duration,
}

impl Sentinels {
    /// Asks all of them at once: whose configuration is the newest knows.
    pub(super) async fn primary(self: &Arc<Self>) -> Result<Place, Outage> {
        let mut asked = JoinSet::new();
        for place in self.places.clone() {
            let sentinels = Arc::clone(self);
            asked.spawn(async move {
                let answer = timeout(sentinels.patience, async {
                    let mut sentinel = sentinels.connector.connect(&place, None).await?;
                    sentinels.ask(&mut sentinel).await
                });
                answer.await.unwrap_or_else(|_elapsed| Err(outage(&place, format_args!("no answer within {:?}", sentinels.patience))))
            });
        }
        let (mut newest, mut last): (Option<Told>, _) = (None, Outage::store("no sentinel is known"));
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(told)) if newest.as_ref().is_none_or(|newest| newest.epoch < told.epoch) => newest = Some(told),
                Ok(Ok(_)) => {}
                Ok(Err(outage)) => last = outage,
                Err(_) => last = Outage::store("asking a sentinel broke off"),
            }
        }
        newest.map(|told| told.primary).ok_or(last)
    }

    /// What one of them knows, on an open connection.
    pub(super) async fn ask(&self, sentinel: &mut Opened) -> Result<Told, Outage> {
        let (mut state, mut address) = (cmd("SENTINEL"), cmd("SENTINEL"));
        state.arg("master").arg(&self.master_name);
        address.arg("get-master-addr-by-name").arg(&self.master_name);
        // The address last: it is never older than the epoch that it is judged by.
        let state: HashMap<String, String> = sentinel.ask(&state).await?;
        let address: Option<(String, u16)> = sentinel.ask(&address).await?;
        match (address, state.get("config-epoch").and_then(|epoch| epoch.parse().ok())) {
            (Some((host, port)), Some(epoch)) => Ok(Told { primary: sentinel.place.beside(&host, port), epoch }),
            _ => Err(outage(&sentinel.place, format_args!("knows no primary by the name {:?}", self.master_name))),
        }
    }
}

/// What a sentinel knows.
pub(super) struct Told {
    pub(super) primary: Place,
    /// Of two sentinels the one with the higher epoch knows better.
    epoch: u64,
}
