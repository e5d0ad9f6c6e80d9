//! Files of addresses (`emails_file`), looked at while the gateway runs.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::Routes;
use crate::policy::{EmailList, Policy};
use crate::provider::Looks;
use crate::route::Access;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Watches every list that a policy goes by, for as long as there is the policy.
pub(super) fn watch(routes: &Routes, tasks: &Tasks, metrics: &Arc<Metrics>) {
    let table = routes.table.routes();
    let allow = table.iter().filter_map(|route| match &route.access {
        Access::Protected(_, policy) => Some(policy),
        Access::Public | Access::Optional(_) => None,
    });
    let all = allow.chain(table.iter().filter_map(|route| route.deny.as_ref())).chain(routes.policies.values());
    let mut watched: Vec<&Arc<EmailList>> = Vec::new();
    for list in all.flat_map(|policy: &Arc<Policy>| policy.email_lists()) {
        if !watched.iter().any(|known| Arc::ptr_eq(known, list)) {
            watched.push(list);
            tasks.background(watch_one(Arc::downgrade(list), list.file().into(), Arc::clone(metrics)));
        }
    }
}

async fn watch_one(list: Weak<EmailList>, file: Box<Path>, metrics: Arc<Metrics>) {
    // What it looked like when it was read is not known any more: so it is read once again.
    let mut last: Option<Looks> = None;
    loop {
        let (path, before) = (file.clone(), last);
        let looked = tokio::task::spawn_blocking(move || {
            let looks = Looks::at([&*path]);
            // Looked at before it is read: what is written in between is found the next time.
            let read = (before.as_ref() != Some(&looks)).then(|| std::fs::read_to_string(&path));
            (looks, read)
        });
        let Ok((looks, read)) = looked.await else { return };
        last = Some(looks);
        let Some(list) = list.upgrade() else { return };
        let read = read.map(|read| read.map_err(|error| vec![error.to_string()]).and_then(|text: String| EmailList::parse(&text)));
        match read {
            None => {}
            Some(Ok(addresses)) => list.replace(addresses),
            Some(Err(wrong)) => {
                metrics.file_error("emails_file");
                tracing::error!(
                    file = file.display().to_string(),
                    error = wrong.join("; "),
                    "a file of addresses changed and cannot be used; those of before go on"
                );
            }
        }
        drop(list);
        tokio::time::sleep(LOOK).await;
    }
}
