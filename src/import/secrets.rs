//! Secrets do not go into the config: each becomes a file beside it, whose name the config holds.

use crate::secret::{self, Secret};

/// The files.
pub struct Secrets {
    folder: String,
    files: Vec<SecretFile>,
}

/// One of them.
pub struct SecretFile {
    /// Its name in the folder.
    pub name: String,
    /// What it holds; `None`: the input did not say it, and somebody has to put it there.
    pub content: Option<Secret>,
    /// What it is, in words.
    pub what: String,
}

impl Secrets {
    /// Files of this folder.
    #[must_use]
    pub fn new(folder: impl Into<String>) -> Self {
        Self { folder: folder.into(), files: Vec::new() }
    }

    /// Adds a file, and says its path.
    pub fn put(&mut self, name: &str, content: Option<&str>, what: impl Into<String>) -> String {
        let taken = |name: &str| self.files.iter().any(|file| file.name == name);
        let name =
            (1..).map(|n| if n == 1 { name.to_owned() } else { format!("{name}_{n}") }).find(|name| !taken(name)).unwrap_or_default();
        let path = format!("{}/{name}", self.folder.trim_end_matches('/'));
        self.files.push(SecretFile { name, content: content.map(|text| Secret::new(text.to_owned())), what: what.into() });
        path
    }

    /// Adds a file with a new sealing key, and says its path.
    pub fn seal_key(&mut self) -> String {
        let key = secret::encode_standard(&secret::random::<32>());
        self.put(
            "seal_keys",
            Some(&key),
            "a new key that seals sessions, the same file on every replica (head -c 32 /dev/urandom | base64)",
        )
    }

    /// All of them.
    #[must_use]
    pub fn into_files(self) -> Vec<SecretFile> {
        self.files
    }
}
