//! Hearing from the sentinels that another server is the primary now, so that one that was replaced is left at once, though it still answers us.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::{PushInfo, PushKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connect::OnPush;
use super::nodes::{Nodes, Topology};
use super::primary::Sentinels;
use super::url::Place;
use crate::fault::Outage;

/// How often each is asked, though it tells by itself: a sentinel that is silent for longer is not there.
const BEAT: Duration = Duration::from_secs(1);

/// Listens to all of them, for as long as the store is there.
pub(super) async fn follow(nodes: Weak<Nodes>, sentinels: Arc<Sentinels>) {
    let mut all = JoinSet::new();
    for place in sentinels.places.clone() {
        let (nodes, sentinels) = (Weak::clone(&nodes), Arc::clone(&sentinels));
        all.spawn(async move {
            while nodes.strong_count() > 0 {
                if let Err(outage) = listen(&nodes, &sentinels, &place).await {
                    tracing::debug!(detail = outage.source.as_str(), "a sentinel does not answer");
                }
                sleep(BEAT).await;
            }
        });
    }
    all.join_all().await;
}

/// To one of them, until it is silent.
async fn listen(nodes: &Weak<Nodes>, sentinels: &Arc<Sentinels>, place: &Place) -> Result<(), Outage> {
    let (switched, mut switches) = mpsc::unbounded_channel();
    let pushes: OnPush = Arc::new(move |push: PushInfo| {
        if push.kind == PushKind::Message {
            // Nobody listens any more: then this connection is about to be closed.
            let _ = switched.send(());
        }
    });
    let silent = |_elapsed| super::connect::outage(place, format_args!("silent for {BEAT:?}"));
    let opening = timeout(BEAT, async {
        let mut opened = sentinels.connector.connect(place, Some(pushes)).await?;
        opened.subscribe("+switch-master").await?;
        Ok(opened)
    });
    let mut opened = opening.await.map_err(silent)??;
    loop {
        // What it says now counts; the message only says that it is time to ask.
        let told = timeout(BEAT, sentinels.ask(&mut opened)).await.map_err(silent)??;
        let Some(nodes) = nodes.upgrade() else { return Ok(()) };
        if is_elsewhere(&nodes, &told.primary) {
            // Or it is the one that has not heard yet: all of them together know.
            let primary = sentinels.primary().await?;
            if let Topology::One(node) = &nodes.topology {
                node.leave_unless_at(&primary);
            }
            nodes.watched.relies_on(&primary, None);
        }
        drop(nodes);
        tokio::select! {
            () = &mut opened.driver => return Err(super::connect::outage(place, "closed by the server")),
            _ = timeout(BEAT, switches.recv()) => {}
        }
    }
}

/// Whether this store is connected to another server than this.
fn is_elsewhere(nodes: &Nodes, primary: &Place) -> bool {
    let linked = matches!(&nodes.topology, Topology::One(node) if !node.is_at(primary));
    linked || nodes.watched.is_elsewhere(primary)
}
