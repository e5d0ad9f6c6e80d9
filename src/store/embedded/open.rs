//! Finding or making the file, and saying what to do when that fails.

use std::any::Any;
use std::fmt;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, DatabaseError, ReadableDatabase as _, StorageError};

use super::tables;

/// redb would take a gigabyte. The sessions in use are in the gateway's own cache already.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why the file could not be opened, in words for whoever starts the gateway.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    InUse,
    Unwritable(String),
    Damaged(String),
    Newer(u64),
    Foreign,
}

impl OpenError {
    /// The writing thread could not be started.
    pub(super) fn thread(path: &Path, error: &io::Error) -> Self {
        Self { path: path.to_owned(), problem: Problem::Unwritable(format!("no thread to write with: {error}")) }
    }

    fn unwritable(path: &Path, error: &impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: Problem::Unwritable(error.to_string()) }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::InUse => write!(
                f,
                "store.path: another process has {path} open; give each gateway a `store.path` of its own, or let them share a Redis \
                 (`kind = \"redis\"`)"
            ),
            Problem::Unwritable(why) => write!(
                f,
                "store.path: cannot write {path}: {why}; point `store.path` to a place where this process may write, or set \
                 `kind = \"memory\"` (everybody signs in again after a restart)"
            ),
            Problem::Damaged(why) => write!(
                f,
                "store.path: {path} is damaged or no session store ({why}); move it away to begin with an empty one (everybody signs in \
                 again)"
            ),
            Problem::Newer(format) => write!(
                f,
                "store.path: {path} was written by a newer release (format {format}, this one knows {}); start that release, or move the \
                 file away to begin with an empty one (everybody signs in again)",
                tables::FORMAT
            ),
            Problem::Foreign => write!(f, "store.path: {path} is a redb file of something else; choose another `store.path`"),
        }
    }
}

impl std::error::Error for OpenError {}

/// The open file. After an error of the disk redb answers nothing more until it is opened again, so it can be: [`File::reopen`].
pub(super) struct File {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let database = open_guarded(path)?;
        Ok(Self { path: path.to_owned(), database: RwLock::new(Some(database)) })
    }

    /// Reads or writes, as long as the file is open.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        work(database.as_ref().ok_or(redb::Error::DatabaseClosed)?)
    }

    /// Closes the file and opens it again; whether that went well. If not it stays closed.
    pub(super) fn reopen(&self) -> bool {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closing writes, and may fail like anything else here.
        drop(catch_unwind(AssertUnwindSafe(|| database.take())));
        *database = open_guarded(&self.path).ok();
        database.is_some()
    }
}

/// redb checks what it reads, but a file that somebody has tampered with may still trip it: that is a damaged file, not a crash of ours.
fn open_guarded(path: &Path) -> Result<Database, OpenError> {
    catch_unwind(|| open(path))
        .unwrap_or_else(|panic| Err(OpenError { path: path.to_owned(), problem: Problem::Damaged(message(&*panic)) }))
}

pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no reason given").to_owned()
}

fn open(path: &Path) -> Result<Database, OpenError> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| OpenError::unwritable(path, &error))?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| OpenError::unwritable(path, &error))?;
    let mode = file.metadata().map_err(|error| OpenError::unwritable(path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|error| OpenError::unwritable(path, &error))?;
    }
    let problem = |problem| OpenError { path: path.to_owned(), problem };
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file).map_err(|error| problem(opening(error)))?;
    let format = database.begin_read().map_err(redb::Error::from).and_then(|reading| tables::format(&reading));
    match format.map_err(|error| problem(reading(error)))? {
        Some(tables::FORMAT) => {}
        Some(0) => return Err(problem(Problem::Foreign)),
        Some(format) => return Err(problem(Problem::Newer(format))),
        None => create(&database).map_err(|error| problem(Problem::Unwritable(error.to_string())))?,
    }
    Ok(database)
}

fn create(database: &Database) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    tables::create(&writing)?;
    writing.commit()?;
    Ok(())
}

fn opening(error: DatabaseError) -> Problem {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Problem::InUse,
        DatabaseError::Storage(StorageError::Io(error)) if !damage(&error) => Problem::Unwritable(error.to_string()),
        error => Problem::Damaged(error.to_string()),
    }
}

fn reading(error: redb::Error) -> Problem {
    match error {
        redb::Error::Io(error) if !damage(&error) => Problem::Unwritable(error.to_string()),
        error => Problem::Damaged(error.to_string()),
    }
}

/// A file that is too short, or whose first bytes are no redb file's, shows as one of these.
fn damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
