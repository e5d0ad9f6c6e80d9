//! A Redis Cluster: a link for each node, and the map that says which node has which key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Pipeline, Value};

use super::connect::{Connector, explain, outage};
use super::link::{Common, Failed, Link};
use super::nodes::Node;
use super::primary::{Origin, Source};
use super::slots::SlotMap;
use super::url::Place;
use crate::fault::Outage;

/// The nodes that are known.
pub(super) struct Cluster {
    seeds: Vec<Place>,
    connector: Arc<Connector>,
    common: Common,
    connect_timeout: Duration,
    /// Whether each node has a second connection, for writes that wait for replicas.
    waits: bool,
    nodes: Mutex<HashMap<Place, Node>>,
    map: Mutex<Known>,
    /// Held while a node is asked for the map.
    asking: tokio::sync::Mutex<()>,
}

/// The map, and how often it was learnt.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) map: Arc<SlotMap>,
    /// 0: nobody was asked yet.
    pub(super) version: u64,
    /// How often it became another.
    pub(super) changes: u64,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Place>, connector: Arc<Connector>, common: Common, connect_timeout: Duration, waits: bool) -> Self {
        let (nodes, map) = (Mutex::default(), Mutex::default());
        Self { seeds, connector, common, connect_timeout, waits, nodes, map, asking: tokio::sync::Mutex::new(()) }
    }

    /// What is known now.
    pub(super) fn known(&self) -> Known {
        lock(&self.map).clone()
    }

    /// The connections to a node.
    pub(super) fn node(&self, place: &Place) -> Node {
        lock(&self.nodes).entry(place.clone()).or_insert_with(|| Node::new(self.waits, || self.link(place))).clone()
    }

    /// How to connect to a node.
    pub(super) fn source(&self, place: &Place) -> Source {
        Source { connector: Arc::clone(&self.connector), origin: Origin::Fixed(place.clone()), connect_timeout: self.connect_timeout }
    }

    /// A node said that this slot is another's.
    pub(super) fn moved(&self, slot: u16, place: Place) {
        let mut known = lock(&self.map);
        Arc::make_mut(&mut known.map).give(slot, slot, Some(place));
        known.version += 1;
        known.changes += 1;
    }

    /// Asks for the map, unless somebody else just did: `seen` is the version that did not help. `doubted` is asked last.
    pub(super) async fn learn(&self, seen: u64, doubted: Option<&Place>, end: Instant) -> Result<Known, Outage> {
        let _asking = self.asking.lock().await;
        let known = self.known();
        if known.version != seen {
            return Ok(known);
        }
        let mut places: Vec<Place> = known.map.primaries().into_iter().chain(self.seeds.iter().cloned()).collect();
        places.sort_by_key(|place| Some(place) == doubted);
        let mut last = Outage::store("no node of the cluster is known");
        for place in places {
            // One that hangs must not use up the time that the others need.
            let patience = end.saturating_duration_since(self.common.clock.instant()) / 2;
            match self.ask(&place, self.common.clock.instant() + patience).await {
                Ok(map) => {
                    let (former, known) = self.learnt(map);
                    let replaced = &former.map.primaries() - &known.map.primaries();
                    // One that was replaced may still answer, as if it had not been.
                    for node in replaced.iter().filter_map(|place| lock(&self.nodes).remove(place)) {
                        node.end();
                    }
                    return Ok(known);
                }
                Err(outage) => last = outage,
            }
        }
        Err(last)
    }

    /// What was known before, and now.
    fn learnt(&self, map: SlotMap) -> (Known, Known) {
        let mut known = lock(&self.map);
        let changes = known.changes + u64::from(known.map.joined() != map.joined());
        let now = Known { map: Arc::new(map), version: known.version + 1, changes };
        (std::mem::replace(&mut known, now.clone()), now)
    }

    async fn ask(&self, place: &Place, end: Instant) -> Result<SlotMap, Outage> {
        let mut question = Pipeline::new();
        question.cmd("CLUSTER").arg("SLOTS");
        let answer = self.node(place).shared.send(&question, 0, end).await;
        let answer = answer.map_err(|failed| match failed {
            Failed::Unsent(outage) | Failed::Lost(outage) => outage,
        })?;
        let value = answer.values.into_iter().next().unwrap_or(Value::Nil);
        read_map(value, place)
    }

    fn link(&self, place: &Place) -> Link {
        Link::new(self.source(place), self.common.clone())
    }
}

/// The map that a node of the cluster gave.
pub(super) fn read_map(answer: Value, place: &Place) -> Result<SlotMap, Outage> {
    let answer = answer.extract_error().map_err(|error| outage(place, explain(&error)))?;
    SlotMap::read(answer, place).ok_or_else(|| outage(place, "no answer to CLUSTER SLOTS"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
