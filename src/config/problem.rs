//! What is wrong with a config, all of it at once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// How messages about keys that nobody asked for begin.
pub const NO_KEY: &str = "is no key of the configuration";

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, the environment variable or the flag it stands in.
    pub source: String,
    /// The key path, such as `route[1].allow.groups`; empty for the whole.
    pub path: String,
    /// What is wrong and what would be right. Never holds a secret's value.
    pub message: String,
    /// Whether it stops the start.
    pub severity: Severity,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The gateway does not start.
    Error,
    /// It starts, and says so.
    Warning,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{kind}: {}", self.source)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes one.
    pub fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// A key of the top level that was found in a table: in TOML whatever is written below a `[table]` belongs to it, which is where keys that are
    /// added at the end of a file go astray. `asked` is every key that the config knows.
    pub fn point_to_the_top(&self, asked: &BTreeSet<String>) {
        for problem in self.0.borrow_mut().iter_mut().filter(|problem| problem.message.starts_with(NO_KEY)) {
            if let Some((table, key)) = problem.path.rsplit_once('.')
                && asked.contains(key)
            {
                problem.message = format!("is no key of {table:?} but one of the top level: write it above the first [table]");
            }
        }
    }

    /// Whether any of them stops the start.
    #[must_use]
    pub fn fatal(&self) -> bool {
        self.0.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// All of them, in the order they were found.
    #[must_use]
    pub fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}
