//! Stores as earlier releases wrote them: `tests/fixtures/`, whose README says what they hold.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::redis::Redis;
use super::temp::TempDir;

/// The store of one format. Its own files are never written: every opening is of a copy.
pub struct Fixture {
    from: PathBuf,
    /// What `session.json` says.
    pub session: Value,
}

impl Fixture {
    /// The one of this format.
    #[must_use]
    pub fn of_format(format: u8) -> Self {
        let from = PathBuf::from(format!("{}/tests/fixtures/format-{format}", env!("CARGO_MANIFEST_DIR")));
        let text = std::fs::read(from.join("session.json")).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        let session = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        Self { from, session }
    }

    /// A member of `session.json` that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.session[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.session))
    }

    /// The `Cookie` pair that opens the session.
    #[must_use]
    pub fn cookie(&self) -> String {
        let part = |name: &str| self.session["cookie"][name].as_str().expect("session.json has a cookie").to_owned();
        format!("{}={}", part("name"), part("value"))
    }

    /// The config's provider table for whoever signed the session in. Nobody is there.
    #[must_use]
    pub fn provider(&self) -> String {
        let (issuer, client_id) = (self.text("issuer"), self.text("client_id"));
        format!("[provider]\nissuer = \"{issuer}\"\nclient_id = \"{client_id}\"\nclient_secret = \"unused-but-needed-for-a-config\"\n")
    }

    /// A folder with copies of the embedded store (`doorward.redb`) and, beside it as a gateway would make it, the sealing key
    /// (`doorward.keys`).
    #[must_use]
    pub fn folder(&self) -> Arc<TempDir> {
        let dir = TempDir::new("fixture");
        dir.write_secret("doorward.redb", self.file("doorward.redb"));
        dir.write_secret("doorward.keys", format!("{}\n", self.text("seal_key")));
        Arc::new(dir)
    }

    /// A Redis that found the dump at its start, and the folder it runs in, which has to outlive it.
    pub async fn redis(&self) -> (TempDir, Redis) {
        let dir = TempDir::new("fixture");
        dir.write("dump.rdb", self.file("dump.rdb"));
        let redis = Redis::options().config(&format!("dir {}", dir.path().display())).start().await;
        (dir, redis)
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.from.join(name)).unwrap_or_else(|error| panic!("{name} of {}: {error}", self.from.display()))
    }
}
