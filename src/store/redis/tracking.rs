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
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, read_map};
use super::connect::{OnPush, Opened, explain, outage};
use super::nodes::{Nodes, Topology};
use super::primary::{Origin, Source, is_primary};
use super::watched::Watched;
use crate::fault::Outage;
use crate::secret;
use crate::store::{Change, RecordId};

/// A server that was silent for two of these is not there.
const BEAT: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections that are held, each until it is of no more use; why it is not.
type Held = JoinSet<Outage>;

/// Has every change told, for as long as the store is there.
pub(super) async fn run(nodes: Weak<Nodes>, one: Option<Arc<Source>>, prefix: String) {
    let mut said = false;
    while let Some(strong) = nodes.upgrade() {
        let watched = Arc::clone(&strong.watched);
        let held = match (&strong.topology, &one) {
            (Topology::Cluster(cluster), _) => track_cluster(&strong, Arc::clone(cluster), &prefix).await,
            (Topology::One(_), Some(source)) => Ok(track_one(&strong, Arc::clone(source), &prefix)),
            (Topology::One(_), None) => return,
        };
        // What holds the connections does not hold the store.
        drop(strong);
        let why = match held {
            Ok(mut held) => tokio::select! {
                ended = held.join_next() => ended_by(ended),
                () = watched.anew() => Outage::store("an answer came from a server whose changes are not told"),
            },
            Err(outage) => outage,
        };
        if watched.lost() || !said {
            tracing::warn!(detail = why.source.as_str(), "changes in Redis are not told; until they are, no session is kept in memory");
            said = true;
        }
        sleep(PAUSE).await;
    }
}

/// One server, or the one that is the primary now: what was read from another before is not relied on.
fn track_one(nodes: &Arc<Nodes>, source: Arc<Source>, prefix: &str) -> Held {
    let mut held = JoinSet::new();
    let (watched, nodes, prefix) = (Arc::clone(&nodes.watched), Arc::downgrade(nodes), prefix.to_owned());
    held.spawn(async move {
        let opened = match track(&source, &watched, prefix).await {
            Ok(opened) => opened,
            Err(outage) => return outage,
        };
        let place = opened.place.clone();
        // What is read from now on is read where this leads to, though the name led elsewhere when the connections were made.
        let after = match nodes.upgrade().as_deref().map(|nodes| &nodes.topology) {
            Some(Topology::One(node)) => {
                node.leave_unless_at(&place);
                Some(node.leave())
            }
            _ => None,
        };
        let question = match &source.origin {
            Origin::Fixed(_) => cmd("PING"),
            Origin::Sentinels(_) => cmd("ROLE"),
        };
        let began = || watched.on(BTreeSet::from([place.clone()]), after);
        let judge = |answer: Value| match &source.origin {
            Origin::Fixed(_) => Ok(()),
            Origin::Sentinels(_) => is_primary(&place, answer),
        };
        hold(opened, &nodes, &question, began, judge).await
    });
    held
}

/// All primaries of a cluster, which agree about who they are. The map is asked for anew: what is known may be what led here.
async fn track_cluster(nodes: &Arc<Nodes>, cluster: Arc<Cluster>, prefix: &str) -> Result<Held, Outage> {
    let end = nodes.clock.instant() + nodes.response_timeout;
    let known = cluster.learn(cluster.known().version, None, end).await?;
    let (map, primaries) = (Arc::new(known.map.joined()), known.map.primaries());
    if !map.is_whole() {
        return Err(Outage::store("the cluster has no node for some slots"));
    }
    let (mut held, (up, mut all_up)) = (JoinSet::new(), mpsc::channel(primaries.len().max(1)));
    for place in &primaries {
        let (source, map, up) = (cluster.source(place), Arc::clone(&map), up.clone());
        let (watched, prefix, place, nodes) = (Arc::clone(&nodes.watched), prefix.to_owned(), place.clone(), Arc::downgrade(nodes));
        held.spawn(async move {
            let opened = match track(&source, &watched, prefix).await {
                Ok(opened) => opened,
                Err(outage) => return outage,
            };
            let mut question = cmd("CLUSTER");
            question.arg("SLOTS");
            // There is room for all of them; where nobody listens any more this task is about to be ended.
            let began = || _ = up.try_send(());
            let agrees = |answer: Value| match read_map(answer, &place)?.joined() == *map {
                true => Ok(()),
                false => Err(outage(&place, "has another map of the cluster than its peers")),
            };
            hold(opened, &nodes, &question, began, agrees).await
        });
    }
    drop(up);
    for _ in &primaries {
        tokio::select! {
            // `None`: all tasks have ended, and the other branch says why.
            Some(()) = all_up.recv() => {}
            ended = held.join_next() => return Err(ended_by(ended)),
        }
    }
    nodes.watched.on(primaries, None);
    Ok(held)
}

fn ended_by(ended: Option<Result<Outage, JoinError>>) -> Outage {
    match ended {
        Some(Ok(outage)) => outage,
        Some(Err(_)) | None => Outage::store("a connection on which changes are told broke off"),
    }
}

/// Opens a connection on which every change under the prefix is told.
async fn track(source: &Source, watched: &Arc<Watched>, prefix: String) -> Result<Opened, Outage> {
    let mut tracking = cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&prefix);
    let watched = Arc::clone(watched);
    let pushes: OnPush = Arc::new(move |push| heard(&watched, &prefix, push));
    let mut opened = source.connect(Some(pushes)).await?;
    match timeout(source.connect_timeout, opened.ask::<()>(&tracking)).await {
        Ok(answered) => answered.map(|()| opened),
        Err(_elapsed) => Err(outage(&opened.place, "no answer to CLIENT TRACKING")),
    }
}

/// Drives a connection and asks its server each second, until it breaks, falls silent or says what it should not, or until there is no store
/// any more. `began` is called when the first answer was well.
async fn hold(
    opened: Opened,
    nodes: &Weak<Nodes>,
    question: &Cmd,
    began: impl FnOnce(),
    judge: impl Fn(Value) -> Result<(), Outage>,
) -> Outage {
    let Opened { place, connection, driver } = opened;
    let asks = async {
        let (mut began, mut asked): (_, MultiplexedConnection) = (Some(began), connection);
        while nodes.strong_count() > 0 {
            let judged = match timeout(BEAT, question.query_async::<Value>(&mut asked)).await {
                Ok(Ok(answer)) => judge(answer),
                Ok(Err(error)) => Err(outage(&place, explain(&error))),
                Err(_elapsed) => Err(outage(&place, format_args!("silent for {:?}", BEAT * 2))),
            };
            if let Err(outage) = judged {
                return outage;
            }
            if let Some(began) = began.take() {
                began();
            }
            if let Some(nodes) = nodes.upgrade() {
                nodes.watched.heard();
            }
            sleep(BEAT).await;
        }
        outage(&place, "not needed any more")
    };
    tokio::select! {
        () = driver => outage(&place, "closed by the server"),
        why = asks => why,
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_push_names_sessions_or_everything() {
        let (watched, said) = (Watched::default(), Arc::new(Mutex::new(Vec::new())));
        let told = Arc::clone(&said);
        watched.begin(Arc::new(move |change| told.lock().unwrap().push(change)));
        watched.on(BTreeSet::new(), None);
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
