//! Secrets that lie in files and stand in headers.

use std::fmt;
use std::sync::Arc;

use crate::fault::Fault;
use crate::reason::Reason;
use crate::secret::Secret;

/// Gives the text of the file as it is now, or says why there is none.
type Read = Arc<dyn Fn() -> Result<Arc<Secret>, String> + Send + Sync>;

/// A file whose text a header tells. As long as the file is the same one, so is the text that [`HeaderFile::text`] gives.
#[derive(Clone)]
pub struct HeaderFile {
    path: Arc<str>,
    read: Read,
}

impl HeaderFile {
    /// The file at `path`, read by `read`.
    #[must_use]
    pub fn new(path: &str, read: Read) -> Self {
        Self { path: path.into(), read }
    }

    /// Its text now.
    ///
    /// # Errors
    /// [`Reason::HeaderFileUnreadable`]: the header is not sent without it, nor with what the file held before.
    pub fn text(&self) -> Result<Arc<Secret>, Fault> {
        (self.read)().map_err(|why| Fault::new(Reason::HeaderFileUnreadable, format!("{}: {why}", self.path)))
    }
}

/// Where it lies, never what it holds.
impl fmt::Debug for HeaderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderFile({})", self.path)
    }
}

impl PartialEq for HeaderFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for HeaderFile {}
