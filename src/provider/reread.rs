//! A file that is read again when it changes. What cannot be used changes nothing: what it said before goes on, and the log says why.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::watched::Looks;

/// Makes of a text what it says, or tells every line that is wrong.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, Vec<String>> + Send + Sync>;

/// What a file says now. Touches the disk: to be asked off the request threads.
pub(super) struct Reread<T> {
    /// Of the config, for the log.
    key: &'static str,
    file: PathBuf,
    most_bytes: u64,
    parse: Parse<T>,
    last: Mutex<(Looks, Arc<T>)>,
}

impl<T> Reread<T> {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// What is wrong with the file, line by line.
    pub(super) fn new(key: &'static str, file: PathBuf, most_bytes: u64, parse: Parse<T>) -> Result<Self, Vec<String>> {
        let looks = Looks::at([file.as_path()]);
        let first = parse(&read(&file, most_bytes)?)?;
        Ok(Self { key, file, most_bytes, parse, last: Mutex::new((looks, Arc::new(first))) })
    }

    /// What it says; read again only where it changed.
    pub(super) fn current(&self) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is read: what is written in between is found the next time.
        let looks = Looks::at([self.file.as_path()]);
        if looks != last.0 {
            last.0 = looks;
            let (key, file) = (self.key, self.file.display());
            match read(&self.file, self.most_bytes).and_then(|text| (self.parse)(written(&text)?)) {
                Ok(found) => {
                    last.1 = Arc::new(found);
                    tracing::info!(key, %file, "the file was read again");
                }
                Err(wrong) => tracing::error!(key, %file, error = wrong.join("; "), "the file cannot be used; what it said before goes on"),
            }
        }
        Arc::clone(&last.1)
    }
}

fn read(file: &Path, most_bytes: u64) -> Result<Zeroizing<String>, Vec<String>> {
    let told = |error: std::io::Error| vec![format!("cannot be read: {error}")];
    if fs::metadata(file).map_err(told)?.len() > most_bytes {
        return Err(vec![format!("is larger than {most_bytes} bytes")]);
    }
    Ok(Zeroizing::new(fs::read_to_string(file).map_err(told)?))
}

/// Many programs empty a file and fill it again in place. Whoever read it in between would shut everybody out.
fn written(text: &str) -> Result<&str, Vec<String>> {
    if text.is_empty() { Err(vec!["is empty; a line with a comment alone names nobody".to_owned()]) } else { Ok(text) }
}
