//! `emails_file`: addresses that change while the gateway runs. Nothing here reads the file; whoever does puts in what it says.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;

use super::EmailAddress;

/// The addresses of one file, as they are now.
pub struct EmailList {
    file: PathBuf,
    addresses: ArcSwap<BTreeSet<EmailAddress>>,
}

impl EmailList {
    /// What `file` says.
    #[must_use]
    pub fn new(file: PathBuf, addresses: BTreeSet<EmailAddress>) -> Self {
        Self { file, addresses: ArcSwap::from_pointee(addresses) }
    }

    /// Where it is read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether an address stands in it.
    #[must_use]
    pub fn holds(&self, address: &EmailAddress) -> bool {
        self.addresses.load().contains(address)
    }

    /// Puts other addresses in place of those of before.
    pub fn replace(&self, addresses: BTreeSet<EmailAddress>) {
        self.addresses.store(addresses.into());
    }

    /// Reads the text of such a file: one address a line, `#` begins a comment.
    ///
    /// # Errors
    /// Every line that is none, or that it names nobody: a file that is being written is empty for a moment, and who means nobody takes the route
    /// away.
    pub fn parse(text: &str) -> Result<BTreeSet<EmailAddress>, Vec<String>> {
        let mut addresses = BTreeSet::new();
        let mut wrong = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match EmailAddress::parse(line) {
                Some(address) => drop(addresses.insert(address)),
                None if line.is_empty() => {}
                None => wrong.push(format!("line {}: expected an e-mail address", number + 1)),
            }
        }
        if addresses.is_empty() && wrong.is_empty() {
            wrong.push("names nobody; expected one e-mail address a line".to_owned());
        }
        if wrong.is_empty() { Ok(addresses) } else { Err(wrong) }
    }
}

impl fmt::Debug for EmailList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailList").field("file", &self.file).finish_non_exhaustive()
    }
}

/// By the file: what it says changes.
impl PartialEq for EmailList {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for EmailList {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_a_line_and_comments() {
        let address = |text| EmailAddress::parse(text).unwrap();
        let found = EmailList::parse("# people\r\nAnn@Company.com\n\n  bob@x.test # until May\n").unwrap();
        assert_eq!(found, [address("ann@company.com"), address("bob@x.test")].into());
        let wrong = EmailList::parse("ann@company.com\nbob\n@x.test\n").unwrap_err();
        assert_eq!(wrong, ["line 2: expected an e-mail address", "line 3: expected an e-mail address"]);
        for nobody in ["", "\n", "# nobody\n"] {
            assert!(EmailList::parse(nobody).is_err());
        }
        let list = EmailList::new("/x".into(), found);
        assert!(list.holds(&address("bob@x.test")) && !list.holds(&address("eve@x.test")));
        list.replace([address("eve@x.test")].into());
        assert!(!list.holds(&address("bob@x.test")) && list.holds(&address("eve@x.test")));
    }
}
