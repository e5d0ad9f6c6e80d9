//! What signs assertions: keys of a file, which is watched from now on, or keys that the gateways of one store make and share.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use zeroize::Zeroizing;

use super::StartError;
use super::generation::Standing;
use super::kept::Keeping;
use crate::config::{AssertionKeys, Config, StoreKind};
use crate::outbound::assertion::{Alone, Assertions, FileKeys, Keys, SharedKeys};
use crate::tasks::Ongoing;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The keys, and what keeps them up to date for as long as they are used.
struct Signing {
    keys: Keys,
    _kept: Option<Ongoing>,
}

/// `None` where no route sends any.
pub(super) fn assertions(config: &Config, keeping: &Keeping<'_>, standing: &Standing) -> Result<Option<Assertions>, StartError> {
    let Standing { store, ring, clock, tasks, .. } = standing;
    let Some(wanted) = &config.assertion else { return Ok(None) };
    let signing = keeping.same(("keys of the assertion", ""), &["keys"], || match wanted {
        AssertionKeys::Given(file) => {
            let unreadable = |error: &dyn std::fmt::Display| StartError::new(format!("keys.assertion_file: {}: {error}", file.display()));
            let pem = std::fs::read(file).map(Zeroizing::new).map_err(|error| unreadable(&error))?;
            let keys = Arc::new(FileKeys::read(&pem).map_err(|error| unreadable(&error))?);
            tasks.background(watched(file.clone(), Arc::downgrade(&keys)));
            Ok(Signing { keys: Keys::File(keys), _kept: None })
        }
        AssertionKeys::Made { rotation } => {
            let alone = match standing.store_kind {
                StoreKind::Embedded { .. } | StoreKind::Memory => Alone::Yes,
                StoreKind::Redis(_) => Alone::No,
            };
            let keys = SharedKeys::new(Arc::clone(store), Arc::clone(ring), Arc::clone(clock), tasks.clone(), *rotation, alone);
            let kept = tasks.until_dropped(Arc::clone(&keys).keep());
            Ok(Signing { keys: Keys::Shared(keys), _kept: Some(kept) })
        }
    })?;
    let gateway = config.gateway.sites.first().origin().ascii_serialization();
    Ok(Some(Assertions::new(gateway, signing.keys.clone(), Arc::clone(clock))))
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
