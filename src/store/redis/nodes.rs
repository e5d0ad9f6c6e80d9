//! Sending a command to the server that has its key, and again where a server says that it did not do it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, ServerErrorKind, ToRedisArgs, Value};
use tokio::time::sleep;

use super::cluster::Cluster;
use super::connect::{explain, outage};
use super::link::{Failed, Link};
use super::scripts::Script;
use super::slots::{Redirect, slot_of};
use super::url::Place;
use super::watched::Watched;
use crate::clock::SharedClock;
use crate::fault::Outage;

/// How long to leave a cluster alone that is about to change.
const PAUSE: Duration = Duration::from_millis(20);
/// How many redirections are followed without a pause.
const HOPS: u32 = 5;

/// The servers, whichever kind they are.
pub(super) struct Nodes {
    pub(super) topology: Topology,
    pub(super) watched: Arc<Watched>,
    pub(super) clock: SharedClock,
    pub(super) response_timeout: Duration,
    pub(super) wait_replicas: u32,
}

pub(super) enum Topology {
    /// One server has everything; which one may change.
    One(Node),
    Cluster(Arc<Cluster>),
}

/// The connections to one server.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) shared: Link,
    /// For writes that wait for replicas: `WAIT` holds up what is behind it on its connection.
    confirmed: Option<Link>,
}

impl Node {
    pub(super) fn new(waits: bool, link: impl Fn() -> Link) -> Self {
        Self { shared: link(), confirmed: waits.then(&link) }
    }

    /// Whether no connection leads elsewhere.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        std::iter::once(&self.shared).chain(&self.confirmed).all(|link| link.is_at(place))
    }

    /// Ends the connections: this server is asked no more.
    pub(super) fn end(&self) {
        for link in std::iter::once(&self.shared).chain(&self.confirmed) {
            link.end();
        }
    }

    /// Gives up the connections that there are; which one was the last on which anything is read.
    pub(super) fn leave(&self) -> u64 {
        if let Some(confirmed) = &self.confirmed {
            confirmed.leave();
        }
        self.shared.leave()
    }

    /// Gives up connections that lead elsewhere.
    pub(super) fn leave_unless_at(&self, place: &Place) {
        for link in std::iter::once(&self.shared).chain(&self.confirmed) {
            link.leave_unless_at(place);
        }
    }
}

/// A command or script with its key: all its keys lie in the slot of the first.
pub(super) struct Order<'a> {
    command: Cmd,
    slot: u16,
    script: Option<&'a Script>,
    confirmed: bool,
}

impl<'a> Order<'a> {
    pub(super) fn new(command: &str, key: &str) -> Self {
        let (mut cmd, slot) = (::redis::cmd(command), slot_of(key));
        cmd.arg(key);
        Self { command: cmd, slot, script: None, confirmed: false }
    }

    pub(super) fn script(script: &'a Script, keys: &[&str]) -> Self {
        let mut cmd = ::redis::cmd("EVALSHA");
        cmd.arg(script.hash()).arg(keys.len()).arg(keys);
        Self { command: cmd, slot: keys.first().map_or(0, |key| slot_of(key)), script: Some(script), confirmed: false }
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// To be answered only when enough replicas have it, if the settings say so.
    pub(super) fn confirmed(mut self) -> Self {
        self.confirmed = true;
        self
    }
}

/// One call of the store, and when its time is over.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    nodes: &'a Nodes,
    pub(super) end: Instant,
}

/// What a server made of an order.
enum Outcome {
    Done(Value, Said),
    Refused(RedisError, Place),
    Failed(Failed),
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) place: Place,
    pub(super) connection: u64,
}

impl Nodes {
    /// Begins a call: its time runs.
    pub(super) fn call(&self) -> Call<'_> {
        Call { nodes: self, end: self.clock.instant() + self.response_timeout }
    }

    /// Whether a write of this store waits for replicas.
    pub(super) const fn waits(&self) -> bool {
        self.wait_replicas > 0
    }
}

impl Call<'_> {
    /// Has it done by the server of its key.
    pub(super) async fn ask<T: FromRedisValue>(self, order: Order<'_>) -> Result<T, Outage> {
        let (value, said) = match &self.nodes.topology {
            Topology::One(node) => match self.on(node, &order, false).await {
                Outcome::Done(value, said) => (value, said),
                Outcome::Refused(error, place) => return Err(outage(&place, explain(&error))),
                Outcome::Failed(Failed::Unsent(outage) | Failed::Lost(outage)) => return Err(outage),
            },
            Topology::Cluster(cluster) => self.routed(cluster, &order).await?,
        };
        // Nothing is read on the other connection, and a cluster's nodes say themselves what is theirs.
        let reads = matches!(self.nodes.topology, Topology::One(_)) && !(order.confirmed && self.nodes.waits());
        self.nodes.watched.relies_on(&said.place, reads.then_some(said.connection));
        read(value, &said.place)
    }

    /// Has it done by this server, whatever its key.
    pub(super) async fn ask_at<T: FromRedisValue>(self, node: &Node, command: Cmd) -> Result<(T, Said), Outage> {
        match self.on(node, &Order { command, slot: 0, script: None, confirmed: false }, false).await {
            Outcome::Done(value, said) => Ok((read(value, &said.place)?, said)),
            Outcome::Refused(error, place) => Err(outage(&place, explain(&error))),
            Outcome::Failed(Failed::Unsent(outage) | Failed::Lost(outage)) => Err(outage),
        }
    }

    async fn routed(self, cluster: &Cluster, order: &Order<'_>) -> Result<(Value, Said), Outage> {
        let mut known = cluster.known();
        let (mut asking, mut hops) = (None, 0);
        loop {
            let owner = known.map.owner(order.slot).cloned();
            let Some(place) = asking.clone().or(owner) else {
                let before = known.version;
                known = cluster.learn(before, None, self.end).await?;
                if known.map.owner(order.slot).is_none() {
                    self.pause(|| Outage::store("the cluster has no node for a slot")).await?;
                }
                continue;
            };
            let outcome = self.on(&cluster.node(&place), order, asking.take().is_some()).await;
            let error = match outcome {
                Outcome::Done(value, said) => return Ok((value, said)),
                Outcome::Failed(Failed::Lost(outage)) => return Err(outage),
                Outcome::Failed(Failed::Unsent(outage)) => {
                    known = cluster.learn(known.version, Some(&place), self.end).await.map_err(|_| outage.clone())?;
                    if known.map.owner(order.slot) == Some(&place) {
                        return Err(outage);
                    }
                    continue;
                }
                Outcome::Refused(error, _) => error,
            };
            match Redirect::read(&error, &place) {
                Some(Redirect::Moved(to)) => {
                    cluster.moved(order.slot, to);
                    known = cluster.known();
                    hops += 1;
                }
                Some(Redirect::Ask(to)) => {
                    asking = Some(to);
                    hops += 1;
                }
                Some(Redirect::Again) => hops = HOPS + 1,
                Some(Redirect::Down) => {
                    known = cluster.learn(known.version, Some(&place), self.end).await?;
                    hops = HOPS + 1;
                }
                None => return Err(outage(&place, explain(&error))),
            }
            if hops > HOPS {
                self.pause(|| outage(&place, explain(&error))).await?;
                known = cluster.known();
            }
        }
    }

    /// Waits a little, unless the call's time is over by then.
    async fn pause(self, over: impl Fn() -> Outage) -> Result<(), Outage> {
        let left = self.end.saturating_duration_since(self.nodes.clock.instant());
        if left <= PAUSE {
            return Err(over());
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// Sends it to one server; a script that the server does not know is taught first.
    async fn on(self, node: &Node, order: &Order<'_>, asking: bool) -> Outcome {
        let link = node.confirmed.as_ref().filter(|_| order.confirmed).unwrap_or(&node.shared);
        let wait = order.confirmed && self.nodes.waits();
        let mut taught = false;
        loop {
            let mut commands = Pipeline::new();
            if asking {
                commands.cmd("ASKING");
            }
            commands.add_command(order.command.clone());
            if wait {
                // Fewer answers than asked for come in time to be told as such.
                let left = self.end.saturating_duration_since(self.nodes.clock.instant());
                let patience = u64::try_from((left / 2).as_millis()).unwrap_or(u64::MAX).max(1);
                commands.cmd("WAIT").arg(self.nodes.wait_replicas).arg(patience);
            }
            let answer = match link.send(&commands, usize::from(asking), self.end).await {
                Ok(answer) => answer,
                Err(failed) => return Outcome::Failed(failed),
            };
            let said = Said { place: answer.place, connection: answer.connection };
            let mut values = answer.values.into_iter();
            let (value, acknowledged) = (values.next().unwrap_or(Value::Nil), values.next());
            let error = match value.extract_error() {
                Ok(value) => {
                    return match self.confirmed(wait, acknowledged, &said.place) {
                        Ok(()) => Outcome::Done(value, said),
                        Err(outage) => Outcome::Failed(Failed::Lost(outage)),
                    };
                }
                Err(error) => error,
            };
            match order.script {
                Some(script) if !taught && error.kind() == ::redis::ErrorKind::Server(ServerErrorKind::NoScript) => {
                    taught = true;
                    let mut load = Pipeline::new();
                    load.cmd("SCRIPT").arg("LOAD").arg(script.code());
                    if let Err(failed) = link.send(&load, 0, self.end).await {
                        return Outcome::Failed(failed);
                    }
                }
                _ => return Outcome::Refused(error, said.place),
            }
        }
    }

    /// What too few replicas have is not acknowledged, though it is written here and may come to them yet.
    fn confirmed(self, wait: bool, acknowledged: Option<Value>, place: &Place) -> Result<(), Outage> {
        if !wait {
            return Ok(());
        }
        let wanted = self.nodes.wait_replicas;
        let count: u32 = read(acknowledged.unwrap_or(Value::Nil), place)?;
        if count >= wanted {
            Ok(())
        } else {
            Err(outage(place, format_args!("written, but only {count} of {wanted} replicas confirmed it (store.wait_replicas)")))
        }
    }
}

fn read<T: FromRedisValue>(value: Value, place: &Place) -> Result<T, Outage> {
    let value = value.extract_error().map_err(|error| outage(place, explain(&error)))?;
    ::redis::from_redis_value(value).map_err(|_| outage(place, "an answer of another kind than expected"))
}
