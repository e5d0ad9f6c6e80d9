//! What somebody said: options with their values, and where each was said.

use std::collections::BTreeMap;

use super::options::{self, OptionRow};

/// An option with its values. Without `Debug`: some are secrets.
#[derive(Clone)]
pub struct Given {
    /// Which.
    pub row: &'static OptionRow,
    /// How it was written: `--cookie-domain`, `OAUTH2_PROXY_COOKIE_DOMAINS`, `cookie_domains`.
    pub said: String,
    /// What it was set to; empty texts are left out.
    pub values: Vec<String>,
    /// Where the value is to be had, when the input does not hold it: `key client-id of Secret login`.
    pub kept: Option<String>,
    /// Weaker places that said something else.
    pub overruled: Vec<String>,
}

impl Given {
    /// One that the input holds.
    #[must_use]
    pub fn new(row: &'static OptionRow, said: impl Into<String>, values: Vec<String>) -> Self {
        Self { row, said: said.into(), values, kept: None, overruled: Vec::new() }
    }

    /// One whose value stands elsewhere.
    #[must_use]
    pub fn kept(row: &'static OptionRow, said: impl Into<String>, place: impl Into<String>) -> Self {
        Self { kept: Some(place.into()), ..Self::new(row, said, Vec::new()) }
    }

    /// The value of an option that takes one: the last.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.values.last().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The value of a switch, in the spellings that Go takes.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.values.last().map(String::as_str), None | Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// Options by name.
#[derive(Clone, Default)]
pub struct Givens(BTreeMap<&'static str, Given>);

impl Givens {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Given> {
        self.0.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Given> {
        debug_assert!(options::by_flag(name).is_some(), "{name} is no option");
        self.0.get(name)
    }

    /// One that has a value.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<(&Given, &str)> {
        self.get(name).and_then(|given| Some((given, given.text()?)))
    }

    /// The values of a list, without empty ones.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.get(name).map(|given| given.values.clone()).unwrap_or_default();
        values.into_iter().filter(|value| !value.is_empty()).collect()
    }

    /// A switch that was set, when it was set to this.
    #[must_use]
    pub fn switched(&self, name: &str, on: bool) -> Option<&Given> {
        self.get(name).filter(|given| given.kept.is_none() && given.is_on() == on)
    }

    /// Adds one. In the same place a list grows, anything else takes the later value.
    pub fn add(&mut self, given: Given) {
        match self.0.get_mut(given.row.name) {
            Some(there) if given.row.kind == options::Kind::List => {
                there.values.extend(given.values);
                there.kept = there.kept.take().or(given.kept);
            }
            _ => drop(self.0.insert(given.row.name, given)),
        }
    }

    /// Adds one in place of what the same place said before.
    pub fn set(&mut self, given: Given) {
        self.0.insert(given.row.name, given);
    }

    /// Lays a stronger place over this one.
    pub fn overrule(&mut self, stronger: Self) {
        for (name, mut given) in stronger.0 {
            if let Some(weaker) = self.0.remove(name) {
                if weaker.values != given.values {
                    given.overruled.push(weaker.said);
                }
                given.overruled.extend(weaker.overruled);
            }
            self.0.insert(name, given);
        }
    }

    /// Takes those out that `belongs` names.
    pub fn split_off(&mut self, belongs: impl Fn(&str) -> bool) -> Self {
        let (taken, rest) = std::mem::take(&mut self.0).into_iter().partition(|(name, _)| belongs(name));
        self.0 = rest;
        Self(taken)
    }
}
