//! Having changes told (RESP3 invalidations in broadcast mode): one connection beside the shared one for each primary.
//!
//! Only when all of them are up are changes watched; when one breaks, falls silent or disagrees about who is a primary, changes may be missed
//! from that moment on, and all of them are made anew. `CLIENT TRACKING` tells of a write on the server it is asked of and on no other, so
//! an answer from a server that is not tracked ends the watch too (`watched`).

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, PushInfo, PushKind, Value, cmd};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, read_map};
use super::connect::{OnPush, Opened};
use super::nodes::{Nodes, Topology};
use super::primary::{Origin, Sentinels, Source, is_primary};
use super::slots::SlotMap;
use super::url::Place;
use super::watched::Watched;
use crate::secret;
use crate::store::{Change, RecordId};

/// A server that was silent for two of these is not there.
const BEAT: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Has every change told, for as long as the store is there.
pub(super) async fn run(nodes: Weak<Nodes>, one: Option<Arc<Source>>, prefix: String) {
    while let Some(nodes) = nodes.upgrade() {
        let watched = Arc::clone(&nodes.watched);
        let held = match (&nodes.topology, &one) {
            (Topology::Cluster(cluster), _) => track_cluster(&nodes, Arc::clone(cluster), &prefix).await,
            (Topology::One(_), Some(source)) => Some(track_one(&nodes, Arc::clone(source), &prefix)),
            (Topology::One(_), None) => None,
        };
        // What holds the connections does not hold the store.
        drop(nodes);
        if let Some(mut held) = held {
            tokio::select! {
                _ = held.join_next() => {}
                () = watched.anew() => {}
            }
            watched.lost();
        }
        sleep(PAUSE).await;
    }
}

/// One server, or the one that is the primary now: what was read from another before is not relied on.
fn track_one(nodes: &Arc<Nodes>, source: Arc<Source>, prefix: &str) -> JoinSet<Option<()>> {
    let mut held = JoinSet::new();
    let (watched, nodes, prefix) = (Arc::clone(&nodes.watched), Arc::downgrade(nodes), prefix.to_owned());
    held.spawn(async move {
        let opened = track(&source, &watched, prefix).await?;
        let place = opened.place.clone();
        if let Topology::One(node) = &nodes.upgrade()?.topology {
            node.leave_unless_at(&place);
        }
        let question = match &source.origin {
            Origin::Fixed(_) => cmd("PING"),
            Origin::Sentinels(_) => cmd("ROLE"),
        };
        let began = || watched.on(BTreeSet::from([place.clone()]));
        let is_well = |answer: Value| match &source.origin {
            Origin::Fixed(_) => true,
            Origin::Sentinels(_) => is_primary(&place, answer).is_ok(),
        };
        hold(opened, &question, began, is_well).await
    });
    held
}

/// All primaries of a cluster, which agree about who they are. The map is asked for anew: what is known may be what led here.
async fn track_cluster(nodes: &Arc<Nodes>, cluster: Arc<Cluster>, prefix: &str) -> Option<JoinSet<Option<()>>> {
    let end = nodes.clock.instant() + nodes.response_timeout;
    let known = cluster.learn(cluster.known().version, None, end).await.ok()?;
    let (map, primaries) = (Arc::new(known.map.joined()), known.map.primaries());
    if !map.is_whole() {
        return None;
    }
    let (mut held, (up, mut all_up)) = (JoinSet::new(), mpsc::channel(primaries.len().max(1)));
    for place in &primaries {
        let (source, map, up) = (cluster.source(place), Arc::clone(&map), up.clone());
        let (watched, prefix, place) = (Arc::clone(&nodes.watched), prefix.to_owned(), place.clone());
        held.spawn(async move {
            let opened = track(&source, &watched, prefix).await?;
            let mut question = cmd("CLUSTER");
            question.arg("SLOTS");
            let agrees = |answer: Value| read_map(answer, &place).is_ok_and(|told: SlotMap| told.joined() == *map);
            // There is room for all of them; where nobody listens any more this task is about to be ended.
            let began = || _ = up.try_send(());
            hold(opened, &question, began, agrees).await
        });
    }
    drop(up);
    for _ in &primaries {
        tokio::select! {
            up = all_up.recv() => up?,
            _broken = held.join_next() => return None,
        }
    }
    nodes.watched.on(primaries);
    Some(held)
}

/// Opens a connection on which every change under the prefix is told.
async fn track(source: &Source, watched: &Arc<Watched>, prefix: String) -> Option<Opened> {
    let mut tracking = cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&prefix);
    let watched = Arc::clone(watched);
    let pushes: OnPush = Arc::new(move |push| heard(&watched, &prefix, push));
    let mut opened = source.connect(Some(pushes)).await.ok()?;
    let answered = timeout(source.connect_timeout, opened.ask::<()>(&tracking)).await;
    answered.ok()?.ok()?;
    Some(opened)
}

/// Drives a connection and asks its server each second, until it breaks, falls silent or says what it should not. `began` is called when the
/// first answer was well.
async fn hold(opened: Opened, question: &Cmd, began: impl FnOnce(), is_well: impl Fn(Value) -> bool) -> Option<()> {
    let Opened { connection, driver, .. } = opened;
    let asks = async {
        let mut began = Some(began);
        let mut asked: MultiplexedConnection = connection;
        loop {
            let answer = timeout(BEAT, question.query_async::<Value>(&mut asked)).await;
            if !answer.is_ok_and(|answer| answer.is_ok_and(&is_well)) {
                return;
            }
            if let Some(began) = began.take() {
                began();
            }
            sleep(BEAT).await;
        }
    };
    tokio::select! {
        () = driver => {}
        () = asks => {}
    }
    None
}

fn heard(watched: &Watched, prefix: &str, push: PushInfo) {
    if push.kind != PushKind::Invalidate {
        return;
    }
    for keys in push.data {
        match keys {
            Value::Array(keys) => {
                for key in keys {
                    if let Some(id) = session_of(&key, prefix) {
                        watched.changed(Change::Session(id));
                    }
                }
            }
            // `FLUSHALL` names no keys.
            _ => watched.emptied(),
        }
    }
}

/// The session that a key belongs to: `PREFIX{ID}`.
fn session_of(key: &Value, prefix: &str) -> Option<RecordId> {
    let Value::BulkString(key) = key else { return None };
    let name = std::str::from_utf8(key).ok()?.strip_prefix(prefix)?.strip_prefix('{')?.strip_suffix('}')?;
    secret::decode(name)?.try_into().ok()
}

/// Hears from the sentinels who is the primary, so that one that was replaced is left at once, though it still answers us.
pub(super) async fn follow_switches(nodes: Weak<Nodes>, sentinels: Arc<Sentinels>) {
    loop {
        for (_, place) in sentinels.in_turn() {
            if nodes.strong_count() == 0 {
                return;
            }
            follow(&nodes, &sentinels, place).await;
            sleep(PAUSE).await;
        }
    }
}

/// As one sentinel sees it, until that is silent.
async fn follow(nodes: &Weak<Nodes>, sentinels: &Sentinels, place: &Place) -> Option<()> {
    let (switched, mut switches) = mpsc::unbounded_channel();
    let pushes: OnPush = Arc::new(move |push: PushInfo| {
        if push.kind == PushKind::Message {
            // Nobody listens any more: then this connection is about to be closed.
            let _ = switched.send(());
        }
    });
    let mut opened = timeout(sentinels.patience, async {
        let mut opened = sentinels.connector.connect(place, Some(pushes)).await.ok()?;
        opened.subscribe("+switch-master").await.ok()?;
        Some(opened)
    })
    .await
    .ok()??;
    loop {
        // What it says now counts; the message only says that it is time to ask.
        let primary = timeout(BEAT, sentinels.ask(&mut opened)).await.ok()?.ok()?;
        let nodes = nodes.upgrade()?;
        if let Topology::One(node) = &nodes.topology {
            node.leave_unless_at(&primary);
        }
        nodes.watched.relies_on(&primary);
        drop(nodes);
        tokio::select! {
            () = &mut opened.driver => return None,
            _ = timeout(BEAT, switches.recv()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_push_names_sessions_or_everything() {
        let (watched, said) = (Watched::default(), Arc::new(Mutex::new(Vec::new())));
        let told = Arc::clone(&said);
        watched.begin(Arc::new(move |change| told.lock().unwrap().push(change)));
        watched.on(BTreeSet::new());
        let push = |kind, data| heard(&watched, "doorward:session:", PushInfo { kind, data });
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let id = [7; 32];
        let key = format!("doorward:session:{{{}}}", secret::encode(&id));
        let strange = ["doorward:session:{x}", "doorward:session:", "other:session:{x}", &key[..key.len() - 1]].map(bulk);
        push(PushKind::Invalidate, vec![Value::Array([vec![bulk(&key)], strange.to_vec()].concat())]);
        push(PushKind::Message, vec![Value::Array(vec![bulk(&key)])]);
        push(PushKind::Invalidate, vec![Value::Nil]);
        push(PushKind::Disconnection, vec![]);
        assert_eq!(*said.lock().unwrap(), [Change::Watched, Change::Session(id), Change::Lost, Change::Watched]);
    }
}
