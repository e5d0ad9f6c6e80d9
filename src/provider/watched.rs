//! What is made from files, and made again when one of them was written or replaced.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What files look like from outside; differs when one was written or replaced. Symbolic links are followed at each look, as Kubernetes swaps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks(Vec<Option<Look>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    /// Changes with the content, the owner and the mode alike.
    changed: (i64, i64),
    length: u64,
    device: u64,
    inode: u64,
}

impl Looks {
    /// As they are now.
    #[must_use]
    pub fn at<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let look = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some(Look { changed: (file.ctime(), file.ctime_nsec()), length: file.len(), device: file.dev(), inode: file.ino() })
        };
        Self(files.into_iter().map(look).collect())
    }
}

/// A value made from files. While the files cannot be used the last good value goes on: one may just be half written.
pub struct Watched<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    last: Mutex<(Looks, T)>,
}

impl<T: Clone> Watched<T> {
    /// Makes the first one.
    ///
    /// # Errors
    /// What `make` says is wrong with the files.
    pub fn new(files: Vec<PathBuf>, make: impl Fn() -> Result<T, String> + Send + Sync + 'static) -> Result<Self, String> {
        let looks = Looks::at(files.iter().map(PathBuf::as_path));
        let first = make()?;
        Ok(Self { files, make: Box::new(make), last: Mutex::new((looks, first)) })
    }

    /// The value that belongs to the files as they are.
    pub fn get(&self) -> T {
        let looks = Looks::at(self.files.iter().map(PathBuf::as_path));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != looks {
            match (self.make)() {
                Ok(value) => last.1 = value,
                Err(error) => tracing::error!(%error, "a file that was changed cannot be used; what it held before goes on"),
            }
            // Also when it failed: it is told once for each change.
            last.0 = looks;
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_counts_at_once_and_a_broken_one_not_at_all() {
        let file = std::env::temp_dir().join(format!("doorward-watched-{}", std::process::id()));
        fs::write(&file, "1").unwrap();
        let path = file.clone();
        let read = move || fs::read_to_string(&path).map_err(|error| error.to_string())?.parse::<u8>().map_err(|error| error.to_string());
        let watched = Watched::new(vec![file.clone()], read).unwrap();
        assert_eq!(watched.get(), 1);
        fs::write(&file, "22").unwrap();
        assert_eq!(watched.get(), 22);
        fs::write(&file, "broken").unwrap();
        assert_eq!(watched.get(), 22);
        fs::remove_file(&file).unwrap();
        assert_eq!(watched.get(), 22);
        fs::write(&file, "3").unwrap();
        assert_eq!(watched.get(), 3);
        fs::remove_file(&file).unwrap();
        assert!(Watched::new(vec![], || Err::<u8, _>("no".to_owned())).is_err());
    }
}
