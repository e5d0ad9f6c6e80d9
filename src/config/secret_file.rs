//! Secrets by value or by file. A file is read again whenever the secret is needed, so that a rotated one counts without a restart; while it
//! cannot be read, the last good value goes on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::reader::Section;
use crate::secret::{Secret, SecretSource};

/// Reads `key` or `key_file`. A problem is noted when both are there, when the file cannot be read, and when the secret is empty or shorter
/// than `least` bytes.
pub fn read(section: &Section<'_>, key: &str, least: usize) -> Option<SecretSource> {
    let file_key = format!("{key}_file");
    let by_file = section.has(&file_key);
    if section.has(key) {
        if by_file {
            section.problem(key, format!("stands beside {file_key}; give one of them"));
            return None;
        }
        // The value is told to nobody, not even when it is of the wrong type.
        let Some(text) = section.secret_text(key) else {
            section.problem(key, "expected a text in quotes");
            return None;
        };
        return check(section, key, &text, least).then(|| SecretSource::fixed(Secret::new(text)));
    }
    if !by_file {
        return None;
    }
    read_from_file(section, &file_key, least)
}

/// Reads a secret that is taken from a file only. Problems are noted as by [`read`].
pub fn read_from_file(section: &Section<'_>, file_key: &str, least: usize) -> Option<SecretSource> {
    if !section.has(file_key) {
        return None;
    }
    let example = format!("{file_key} = \"/run/secrets/{}\"", file_key.trim_end_matches("_file"));
    // Somebody may have written the secret itself here.
    let Some(path) = section.secret_text(file_key).filter(|path| !path.trim().is_empty()).map(PathBuf::from) else {
        section.problem(file_key, format!("expected the path of a file that holds the secret, in quotes, such as {example}"));
        return None;
    };
    let text = match read_file(&path) {
        Ok(text) => text,
        Err(error) if !path.is_absolute() && !path.starts_with(".") && !path.starts_with("..") => {
            section.problem(file_key, format!("expected the path of a file that holds the secret, such as {example}; what is written here is none that could be read: {error}"));
            return None;
        }
        Err(error) => {
            section.problem(file_key, format!("{} cannot be read: {error}", path.display()));
            return None;
        }
    };
    warn_if_open(section, file_key, &path);
    if !check(section, file_key, &text, least) {
        return None;
    }
    Some(from_file(path, Secret::new(text), least))
}

/// Whether a secret file may be read by everybody; a warning names it.
pub fn warn_if_open(section: &Section<'_>, key: &str, path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(metadata) = std::fs::metadata(path)
        && metadata.permissions().mode() & 0o004 != 0
    {
        section.warning(key, format!("{} can be read by everybody on this machine; chmod 600 (or 640) it", path.display()));
    }
}

fn check(section: &Section<'_>, key: &str, text: &str, least: usize) -> bool {
    if text.trim().is_empty() {
        section.problem(key, "is empty; a secret is expected there");
        return false;
    }
    if text.len() < least {
        section.problem(key, format!("is too short: expected {least} characters or more"));
        return false;
    }
    true
}

/// A trailing line break belongs to the editor, not to the secret.
fn read_file(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn from_file(path: PathBuf, first: Secret, least: usize) -> SecretSource {
    let last = Mutex::new(first);
    SecretSource::new(Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match read_file(&path) {
            // As at the start; and a file that is just being written may be read half.
            Ok(text) if text.len() >= least.max(1) => *last = Secret::new(text),
            Ok(_) => tracing::error!(file = %path.display(), "the secret file is empty or too short; the last value goes on"),
            Err(error) => tracing::error!(file = %path.display(), %error, "the secret file cannot be read; the last value goes on"),
        }
        last.clone()
    }))
}
