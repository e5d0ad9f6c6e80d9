//! What signs assertions: keys of a file, which is watched from now on, or keys that the gateways of one store make and share.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use zeroize::Zeroizing;

use super::StartError;
use crate::clock::SharedClock;
use crate::config::{AssertionKeys, Config, StoreKind};
use crate::outbound::assertion::{Alone, Assertions, FileKeys, Keys, SharedKeys};
use crate::secret::SealRing;
use crate::store::SessionStore;
use crate::tasks::Tasks;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// `None` where no route sends any.
pub(super) fn assertions(
    config: &Config,
    store: &Arc<dyn SessionStore>,
    ring: &Arc<SealRing>,
    clock: &SharedClock,
    tasks: &Tasks,
) -> Result<Option<Assertions>, StartError> {
    let keys = match &config.assertion {
        None => return Ok(None),
        Some(AssertionKeys::Given(file)) => {
            let unreadable = |error: &dyn std::fmt::Display| StartError::new(format!("keys.assertion_file: {}: {error}", file.display()));
            let pem = std::fs::read(file).map(Zeroizing::new).map_err(|error| unreadable(&error))?;
            let keys = Arc::new(FileKeys::read(&pem).map_err(|error| unreadable(&error))?);
            tasks.background(watched(file.clone(), Arc::downgrade(&keys)));
            Keys::File(keys)
        }
        Some(AssertionKeys::Made { rotation }) => {
            let alone = match config.store.kind {
                StoreKind::Embedded { .. } | StoreKind::Memory => Alone::Yes,
                StoreKind::Redis(_) => Alone::No,
            };
            let keys = SharedKeys::new(Arc::clone(store), Arc::clone(ring), Arc::clone(clock), tasks.clone(), *rotation, alone);
            tasks.background(Arc::clone(&keys).keep());
            Keys::Shared(keys)
        }
    };
    let gateway = config.gateway.sites.first().origin().ascii_serialization();
    Ok(Some(Assertions::new(gateway, keys, Arc::clone(clock))))
}

/// Takes over what the file holds when it changes. A file that holds no good keys changes nothing: the keys of before go on, and the log says why.
async fn watched(file: PathBuf, keys: Weak<FileKeys>) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(keys) = keys.upgrade() else { return };
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path).map(Zeroizing::new)).await;
        let read = read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
        match read.and_then(|pem| keys.replace(&pem)) {
            Ok(changed) => {
                told = None;
                if changed {
                    tracing::info!(file = file.display().to_string(), "the keys of the assertion were read again");
                }
            }
            Err(error) if told.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(
                    file = file.display().to_string(),
                    error,
                    "the keys of the assertion changed and cannot be used; those of before go on"
                );
                told = Some(error);
            }
        }
    }
}
