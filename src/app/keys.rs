//! The gateway's sealing keys: given, made beside the store at the first start, or made for this process only.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::StartError;
use crate::config::{Keys, parse_keys};
use crate::secret::{SealRing, encode_standard, random};

pub(super) fn ring(keys: &Keys) -> Result<SealRing, StartError> {
    let keys = match keys {
        Keys::Given(keys) => keys.clone(),
        Keys::MadeAt(path) => made_at(path)?,
        Keys::ForThisProcess => vec![random()],
    };
    SealRing::new(&keys).ok_or_else(|| StartError::new("no sealing key"))
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
