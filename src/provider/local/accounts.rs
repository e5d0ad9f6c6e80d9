//! Who may sign in here: accounts of the config, and those of an htpasswd file, which is read again when it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::password::PasswordHash;
use super::totp::TotpKey;
use crate::provider::reread::Reread;
use crate::secret::{Secret, SecretSource, sha256};

/// Bytes of a name: it stands in headers, logs and pages.
const LONGEST_NAME: usize = 128;
/// Bytes of a users file: some hundred thousand accounts.
const LARGEST_FILE: u64 = 32 << 20;

/// Somebody who may sign in with a password.
#[derive(Clone)]
pub struct Account {
    /// What they are called, everywhere: `sub`.
    pub name: String,
    /// The hash of their password.
    pub password: SecretSource,
    /// Their address, as the operator wrote it.
    pub email: Option<String>,
    /// Their groups.
    pub groups: Vec<String>,
    /// The base32 secret of their authenticator app.
    pub totp: Option<SecretSource>,
}

impl Account {
    /// Their hash. A file that was rotated to something unreadable is told in the log and lets nobody in.
    pub(super) fn hash(&self) -> Option<PasswordHash> {
        let read = PasswordHash::parse(self.password.get().expose());
        read.inspect_err(|error| tracing::error!(user = self.name, error, "the password hash cannot be read")).ok()
    }

    /// Their authenticator's secret; `None` where they have none, or none that can be read.
    pub(super) fn totp_key(&self) -> Option<TotpKey> {
        let read = TotpKey::parse(self.totp.as_ref()?.get().expose());
        read.inspect_err(|error| tracing::error!(user = self.name, error, "the TOTP secret cannot be read")).ok()
    }
}

/// Whether this can be somebody's name.
///
/// # Errors
/// What was expected.
pub fn check_name(name: &str) -> Result<(), String> {
    let sound =
        !name.is_empty() && name.len() <= LONGEST_NAME && name.trim() == name && !name.contains(|c: char| c == ':' || c.is_control());
    // A colon ends the name in htpasswd files and in HTTP Basic.
    if sound {
        Ok(())
    } else {
        Err(format!("expected 1 to {LONGEST_NAME} bytes without a colon, control characters or blanks around them"))
    }
}

/// Everybody there is, by name.
pub struct Accounts(BTreeMap<String, Account>);

impl Accounts {
    /// These; of two with one name the first counts.
    #[must_use]
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        let mut all = BTreeMap::new();
        for account in accounts {
            all.entry(account.name.clone()).or_insert(account);
        }
        Self(all)
    }

    /// The account of this name, spelled exactly so.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Account> {
        self.0.get(name)
    }

    /// Everybody, by name.
    pub fn all(&self) -> impl Iterator<Item = &Account> {
        self.0.values()
    }

    /// What is verified in place of the hash of a name that nobody has. Where hashes differ in their cost, each such name takes the cost of
    /// some account, always the same on all replicas, so that neither its time nor a change of it tells anything.
    pub(super) fn decoy(&self, name: &str) -> Option<PasswordHash> {
        let (_, first) = self.0.first_key_value()?;
        let tag = sha256(&[first.password.get().expose().as_bytes(), name.as_bytes()].concat());
        let tag = u64::from_be_bytes(tag.first_chunk().copied().unwrap_or_default());
        let at = usize::try_from(tag % u64::try_from(self.0.len()).unwrap_or(1)).unwrap_or_default();
        self.0.values().nth(at)?.hash().map(|hash| hash.decoy())
    }
}

/// Reads an htpasswd file: `name:hash`, one a line; empty lines and lines that begin with `#` are skipped.
///
/// # Errors
/// Every line that is wrong, by number; never a hash.
pub fn parse_users(text: &str) -> Result<Vec<Account>, Vec<String>> {
    let mut accounts: Vec<Account> = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = match line.split_once(':') {
            None => Err("expected name:hash".to_owned()),
            Some((name, hash)) => check_name(name).map_err(|error| format!("the name: {error}")).and_then(|()| {
                PasswordHash::parse(hash).map_err(|error| format!("the hash of {name:?} {error}"))?;
                if names.insert(name.to_owned()) { Ok((name, hash)) } else { Err(format!("{name:?} is there twice")) }
            }),
        };
        match read {
            Ok((name, hash)) => accounts.push(Account {
                name: name.to_owned(),
                password: SecretSource::fixed(Secret::new(hash)),
                email: None,
                groups: Vec::new(),
                totp: None,
            }),
            Err(error) => wrong.push(format!("line {}: {error}", number + 1)),
        }
    }
    if wrong.is_empty() { Ok(accounts) } else { Err(wrong) }
}

/// The accounts as they are now. Touches the disk: to be asked off the request threads.
pub struct AccountSource(Source);

enum Source {
    Fixed(Arc<Accounts>),
    WithFile(Reread<Accounts>),
}

impl AccountSource {
    /// Those of the config and those of the file, which is read now for the first time.
    ///
    /// # Errors
    /// What is wrong with the file, line by line.
    pub fn new(fixed: Vec<Account>, file: Option<PathBuf>) -> Result<Self, Vec<String>> {
        let Some(file) = file else { return Ok(Self(Source::Fixed(Arc::new(Accounts::new(fixed))))) };
        let parse = Box::new(move |text: &str| Ok(Accounts::new(joined(&fixed, text)?)));
        Reread::new("users_file", file, LARGEST_FILE, parse).map(|file| Self(Source::WithFile(file)))
    }

    /// The accounts. While a changed file cannot be used, those of before go on, and the log says why.
    #[must_use]
    pub fn current(&self) -> Arc<Accounts> {
        match &self.0 {
            Source::Fixed(accounts) => Arc::clone(accounts),
            Source::WithFile(file) => file.current(),
        }
    }
}

fn joined(fixed: &[Account], text: &str) -> Result<Vec<Account>, Vec<String>> {
    let found = parse_users(text)?;
    let twice: Vec<String> = found
        .iter()
        .filter(|account| fixed.iter().any(|known| known.name == account.name))
        .map(|account| format!("{:?} is an account of the config already", account.name))
        .collect();
    if twice.is_empty() { Ok(fixed.iter().cloned().chain(found).collect()) } else { Err(twice) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HASH: &str = "$2y$04$FvZ/Pz0vn2hJpe5GgaD/HezSF2u4sY7TBWxdpLaMFNa7vYtT.jky.";

    fn names(source: &AccountSource) -> Vec<String> {
        source.current().all().map(|account| account.name.clone()).collect()
    }

    fn account(name: &str, hash: &str) -> Account {
        Account { name: name.into(), password: SecretSource::fixed(Secret::new(hash)), email: None, groups: vec![], totp: None }
    }

    #[test]
    fn an_htpasswd_file_tells_every_line_that_is_wrong() {
        let text = format!("# people\n\nann:{HASH}\nbob\n:{HASH}\ncarol:{{SHA}}xyz\nann:{HASH}\ndave:plain\r\nerna:{HASH}\r\n");
        let Err(wrong) = parse_users(&text) else { panic!("it was taken") };
        let found: Vec<&str> = wrong.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(found, ["line 4", "line 5", "line 6", "line 7", "line 8"], "{wrong:?}");
        assert!(wrong[2].contains("carol") && wrong[2].contains("SHA-1") && wrong[3].contains("twice"), "{wrong:?}");
        assert!(!wrong.join(" ").contains("plain\""), "{wrong:?}");
        let good = parse_users(&format!("# people\nann:{HASH}\r\nerna:{HASH}\n")).ok().unwrap();
        assert_eq!(good.iter().map(|account| account.name.as_str()).collect::<Vec<_>>(), ["ann", "erna"]);
    }

    #[test]
    fn a_changed_file_counts_and_a_broken_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("doorward-users-{}", crate::secret::encode(&crate::secret::random::<8>())));
        fs::write(&path, format!("ann:{HASH}\n")).unwrap();
        let source = AccountSource::new(vec![account("zoe", HASH)], Some(path.clone())).ok().unwrap();
        assert_eq!(names(&source), ["ann", "zoe"]);
        fs::write(&path, format!("ann:{HASH}\nbob:{HASH}\n")).unwrap();
        assert_eq!(names(&source), ["ann", "bob", "zoe"]);
        for broken in ["ann:{SHA}x\n".to_owned(), format!("zoe:{HASH}\n"), String::new(), format!("ann:{}", &HASH[..40])] {
            fs::write(&path, broken).unwrap();
            assert_eq!(names(&source), ["ann", "bob", "zoe"]);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(names(&source), ["ann", "bob", "zoe"]);
        fs::write(&path, format!("erna:{HASH}\n")).unwrap();
        assert_eq!(names(&source), ["erna", "zoe"]);
        fs::write(&path, "# nobody\n").unwrap();
        assert_eq!(names(&source), ["zoe"]);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn names_that_would_be_misread_are_none() {
        for name in ["", " ann", "ann ", "a:b", "a\nb", &"a".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["ann", "Ann Müller", "ann@example.com"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_name_that_nobody_has_takes_the_time_of_some_account_always_the_same() {
        let dear = HASH.replace("$04$", "$06$");
        let accounts = Accounts::new([account("ann", HASH), account("bob", &dear)]);
        let cost = |name: &str| accounts.decoy(name).unwrap().work();
        let costs: Vec<u64> = (0..40).map(|n| cost(&format!("nobody-{n}"))).collect();
        assert!(costs.contains(&16) && costs.contains(&64), "{costs:?}");
        assert_eq!(costs, (0..40).map(|n| cost(&format!("nobody-{n}"))).collect::<Vec<_>>());
        assert!(Accounts::new([]).decoy("ann").is_none());
    }
}
