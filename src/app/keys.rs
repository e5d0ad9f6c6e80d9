//! The gateway's sealing keys: given, made beside the store at the first start, or made for this process only.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use zeroize::Zeroizing;

use super::StartError;
use crate::config::{Keys, parse_keys};
use crate::secret::{SealRing, encode_standard, random};
use crate::tasks::Tasks;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The ring; where its keys stand in a file, that is watched from now on.
pub(super) fn ring(keys: &Keys, tasks: &Tasks) -> Result<Arc<SealRing>, StartError> {
    let (keys, file) = match keys {
        Keys::Given { file, keys } => (keys.clone(), Some(file)),
        Keys::MadeAt(path) => (made_at(path)?, Some(path)),
        Keys::ForThisProcess => (vec![random()], None),
    };
    let ring = Arc::new(SealRing::new(&keys).ok_or_else(|| StartError::new("no sealing key"))?);
    if let Some(file) = file {
        tasks.background(watched(file.clone(), keys, Arc::downgrade(&ring)));
    }
    Ok(ring)
}

/// Takes over what the file holds when it changes. A file that holds no good keys changes nothing: the keys of before go on, and the log says why.
async fn watched(file: PathBuf, mut keys: Vec<[u8; 32]>, ring: Weak<SealRing>) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(ring) = ring.upgrade() else { return };
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path).map(Zeroizing::new)).await;
        let read = read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
        match read.and_then(|text| parse_keys(&text)) {
            Ok(found) if found == keys => told = None,
            Ok(found) => {
                ring.replace(&found);
                tracing::info!(file = file.display().to_string(), keys = found.len(), "the sealing keys were read again");
                (keys, told) = (found, None);
            }
            Err(error) if told.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(
                    file = file.display().to_string(),
                    error,
                    "the sealing keys changed and cannot be used; those of before go on"
                );
                told = Some(error);
            }
        }
    }
}

/// Reads the file, or makes it with one key, mode 0600. Two processes that start at once agree on one file.
fn made_at(path: &Path) -> Result<Vec<[u8; 32]>, StartError> {
    let failed = |error: std::io::Error| {
        StartError::new(format!("{} (the sealing keys; set keys.seal_file, or store.kind = \"memory\"): {error}", path.display()))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let line = format!("{}\n", encode_standard(&random::<32>()));
            file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse_keys(&text).map_err(|error| StartError::new(format!("{}: {error}", path.display())))
}
