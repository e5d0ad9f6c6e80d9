use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use redb::{Database, ReadableTableMetadata as _, TableDefinition, TableHandle as _};

use super::*;
use crate::clock::{Clock as _, ManualClock, SystemClock};
use crate::secret::{encode, random};
use crate::store::contract::{self, Expiry};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("doorward-embedded-{}", encode(&random::<9>()))))
    }

    fn settings(&self) -> EmbeddedSettings {
        EmbeddedSettings { path: self.0.join("state/sessions.redb") }
    }

    fn open(&self) -> Embedded {
        Embedded::open(&self.settings(), Arc::new(SystemClock)).unwrap()
    }

    /// What opening says, which must be an error.
    fn refused(&self) -> String {
        match Embedded::open(&self.settings(), Arc::new(SystemClock)) {
            Ok(_) => panic!("it opened"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn session(content: &[u8]) -> SealedSession {
    let now = SystemClock.now();
    let expires_at = now.plus(Duration::from_secs(3600));
    SealedSession { sealed: content.to_vec(), listing: vec![1], indexes: vec![[7; 32]], last_used: now, expires_at }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_keeps_the_contract() {
    let (folder, clock) = (Folder::new(), Arc::new(ManualClock::default()));
    let store = Embedded::open(&folder.settings(), Arc::clone(&clock) as SharedClock).unwrap();
    contract::run(Arc::new(store), clock, Expiry::ByClock).await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = Folder::new();
    let store = folder.open();
    let put = session(b"kept");
    store.put_session([1; 32], put.clone()).await.unwrap();
    store.touch_session([1; 32], put.last_used.plus(Duration::from_secs(9))).await.unwrap();
    store.put_login(LoginRecord::Flow, [2; 32], b"flow".to_vec(), put.expires_at).await.unwrap();
    drop(store);
    let store = folder.open();
    let found = store.session([1; 32]).await.unwrap().unwrap();
    assert_eq!((found.sealed.as_slice(), found.last_used), (&b"kept"[..], put.last_used.plus(Duration::from_secs(9))));
    assert_eq!(store.sessions_under([7; 32]).await.unwrap(), [[1; 32]]);
    assert_eq!(store.login(LoginRecord::Flow, [2; 32]).await.unwrap().as_deref(), Some(&b"flow"[..]));
}

#[test]
fn nobody_else_may_read_the_file() {
    let folder = Folder::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = folder.settings().path;
    drop(folder.open());
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(folder.open());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_file_that_is_open_already_is_refused() {
    let folder = Folder::new();
    let _open = folder.open();
    let refused = folder.refused();
    assert!(refused.contains("another process has") && refused.contains("store.path"), "{refused}");
}

#[test]
fn a_place_that_cannot_be_written_names_the_way_out() {
    let folder = Folder::new();
    fs::write(&folder.0, "a file where the folder should be").unwrap();
    let refused = folder.refused();
    assert!(refused.contains("store.path") && refused.contains("kind = \"memory\""), "{refused}");
    fs::remove_file(&folder.0).unwrap();
    fs::create_dir_all(folder.settings().path).unwrap();
    let refused = folder.refused();
    assert!(refused.contains("store.path") && refused.contains("kind = \"memory\""), "{refused}");
}

#[test]
fn what_is_no_store_is_refused_with_a_remedy() {
    for content in [&b"x"[..], b"no redb file at all", &[0; 4096], &[255; 100_000]] {
        let folder = Folder::new();
        fs::create_dir_all(folder.0.join("state")).unwrap();
        fs::write(folder.settings().path, content).unwrap();
        let refused = folder.refused();
        assert!(refused.contains("damaged") && refused.contains("move it away"), "{refused}");
        assert_eq!(fs::read(folder.settings().path).unwrap(), content, "left as it was");
    }
}

#[test]
fn a_newer_format_and_a_foreign_file_are_refused() {
    let folder = Folder::new();
    fs::create_dir_all(folder.0.join("state")).unwrap();
    let write = |table: TableDefinition<'_, &str, u64>, key: &str, value: u64| {
        let database = Database::create(folder.settings().path).unwrap();
        let writing = database.begin_write().unwrap();
        for other in writing.list_tables().unwrap().map(|table| table.name().to_owned()).collect::<Vec<_>>() {
            writing.delete_table(TableDefinition::<&str, u64>::new(&other)).unwrap();
        }
        writing.open_table(table).unwrap().insert(key, value).unwrap();
        writing.commit().unwrap();
    };
    write(TableDefinition::new("meta"), "format", 2);
    let refused = folder.refused();
    assert!(refused.contains("newer release (format 2, this one knows 1)"), "{refused}");
    write(TableDefinition::new("something"), "else", 1);
    let refused = folder.refused();
    assert!(refused.contains("of something else"), "{refused}");
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_a_panic() {
    let folder = Folder::new();
    let store = folder.open();
    for number in 0..200_u8 {
        store.put_session([number; 32], session(&[number; 500])).await.unwrap();
    }
    drop(store);
    let path = folder.settings().path;
    let sound = fs::read(&path).unwrap();
    for round in 0..60_usize {
        let mut bent = sound.clone();
        let at = usize::from(u16::from_le_bytes(random())) * bent.len() / (1 << 16);
        match round % 3 {
            0 => bent.truncate(at),
            1 => bent[at] ^= 1 << (round % 8),
            _ => bent.iter_mut().skip(at).take(5000).for_each(|byte| *byte = 0xff),
        }
        fs::write(&path, &bent).unwrap();
        if let Ok(store) = Embedded::open(&folder.settings(), Arc::new(SystemClock)) {
            for number in 0..200 {
                drop(store.session([number; 32]).await);
            }
            drop(store.put_session([1; 32], session(b"new")).await);
            drop(store.sweep().await);
        }
    }
}

#[tokio::test]
async fn nothing_is_left_after_its_time() {
    let (folder, clock) = (Folder::new(), Arc::new(ManualClock::default()));
    let store = Embedded::open(&folder.settings(), Arc::clone(&clock) as SharedClock).unwrap();
    let until = clock.now().plus(Duration::from_secs(60));
    for number in 0..600_u16 {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let bounds = LoginBounds { per_address: 5000, total: 5000 };
        store.put_login(LoginRecord::Flow, id, vec![1], until).await.unwrap();
        store.put_login(LoginRecord::Attempt, id, vec![1], until).await.unwrap();
        store.admit_login(id, [9; 32], until, bounds).await.unwrap();
    }
    store.put_session([1; 32], SealedSession { expires_at: until, ..session(b"x") }).await.unwrap();
    assert_eq!(store.sweep().await, Ok(0));
    clock.advance(Duration::from_secs(61));
    assert_eq!(store.sweep().await, Ok(1801));
    assert_eq!(store.sweep().await, Ok(0));
    drop(store);
    let database = Database::open(folder.settings().path).unwrap();
    let reading = database.begin_read().unwrap();
    for table in reading.list_tables().unwrap().filter(|table| table.name() != "meta").collect::<Vec<_>>() {
        let (name, rows) = (table.name().to_owned(), reading.open_untyped_table(table).unwrap().len().unwrap());
        assert_eq!(rows, 0, "{name}");
    }
}
