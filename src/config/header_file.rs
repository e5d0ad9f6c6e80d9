//! Files that stand in headers: read at the start, and again when they change.

use std::path::PathBuf;
use std::sync::Arc;

use crate::header::{HeaderFile, TOKEN_LIMIT};
use crate::provider::watched::Watched;
use crate::secret::Secret;

/// Opens it.
///
/// # Errors
/// Why it cannot be read now.
pub(super) fn open(path: &str) -> Result<HeaderFile, String> {
    let file = PathBuf::from(path);
    let of = file.clone();
    // What cannot be read is a value as well: nobody goes on with what the file held before it was taken away.
    let watched = Watched::new(vec![file], move || Ok(read(&of)))?;
    watched.get().map_err(|why| format!("{path}: {why}"))?;
    Ok(HeaderFile::new(path, Arc::new(move || watched.get())))
}

fn read(path: &std::path::Path) -> Result<Arc<Secret>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    if std::fs::metadata(path).map_err(cannot)?.len() > TOKEN_LIMIT as u64 {
        return Err(format!("is larger than {TOKEN_LIMIT} bytes"));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(cannot)?);
    // A line break at the end belongs to the editor.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("holds more than one line, or a control character".to_owned());
    }
    Ok(Arc::new(Secret::new(text)))
}
