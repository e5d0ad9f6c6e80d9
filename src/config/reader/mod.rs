//! Reading a table of the config key by key. Every key that is asked for is known; what is left over is a mistake. Nothing stops at the first
//! problem. `scalar` and `fraction` read single values, `items` lists of both texts and tables, `strays` tells what is left over; lists and
//! tables are here.

mod fraction;
mod items;
mod scalar;
mod strays;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use figment::value::{Dict, Num, Value};

pub use items::Item;
pub use scalar::TrueOr;
pub use strays::Stray;

use super::layers::{Layers, Origin};
use super::problem::{Problem, Problems, Severity};

/// What all sections of one config share.
pub struct Reading<'a> {
    /// The merged layers.
    pub layers: &'a Layers,
    /// Where problems go.
    pub problems: &'a Problems,
    /// Every key path that was asked for, without indexes: what `config.toml.example` has to hold.
    pub asked: RefCell<BTreeSet<String>>,
    /// Files whose content is taken now and not looked at again.
    pub files: RefCell<BTreeSet<PathBuf>>,
    /// Keys that nobody asked for and that resemble none.
    pub strays: RefCell<Vec<Stray>>,
}

/// One table.
pub struct Section<'a> {
    reading: &'a Reading<'a>,
    dict: Dict,
    /// With indexes, for messages: `route[1].allow`.
    path: String,
    /// Without, for the list of known keys: `route.allow`.
    shape: String,
    known: RefCell<BTreeSet<String>>,
}

/// A value that may be either, with another meaning each.
pub enum TextOrList {
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

impl TextOrList {
    fn is_full(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::List(texts) => !texts.is_empty() && texts.iter().all(|text| !text.is_empty()),
        }
    }
}

impl<'a> Reading<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(layers: &'a Layers, problems: &'a Problems) -> Self {
        Self { layers, problems, asked: RefCell::default(), files: RefCell::default(), strays: RefCell::default() }
    }

    /// The whole config.
    #[must_use]
    pub fn root(&'a self) -> Section<'a> {
        Section { reading: self, dict: self.layers.root.clone(), path: String::new(), shape: String::new(), known: RefCell::default() }
    }
}

impl<'a> Section<'a> {
    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn note(&self, key: &str) {
        self.known.borrow_mut().insert(key.to_owned());
        let shape = if self.shape.is_empty() { key.to_owned() } else { format!("{}.{key}", self.shape) };
        self.reading.asked.borrow_mut().insert(shape);
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.note(key);
        self.dict.get(key)
    }

    /// Its own key path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Notes a problem with `key`; with the table itself when `key` is empty.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.push(key, message.into(), Severity::Error);
    }

    /// Notes something that does not stop the start.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        self.push(key, message.into(), Severity::Warning);
    }

    fn push(&self, key: &str, message: String, severity: Severity) {
        let path = if key.is_empty() { self.path.clone() } else { self.key_path(key) };
        let source = self.reading.layers.source(self.dict.get(key), &path);
        self.reading.problems.push(Problem { source, path, message, severity });
    }

    fn expected<T>(&self, key: &str, what: &str, value: &Value) -> Option<T> {
        self.problem(key, format!("expected {what}; found {}", kind(value)));
        None
    }

    /// A list of texts; a single text counts as a list of one. Empty lists and empty items are mistakes: empty means deny, and nobody writes
    /// that on purpose.
    pub fn list(&self, key: &str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let texts: Option<Vec<String>> = match value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::String(_, text) if self.is_text(value) && text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            Value::String(_, text) if self.is_text(value) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
            Value::String(_, text) => Some(vec![text.clone()]),
            _ => None,
        };
        let Some(texts) = texts else {
            if matches!(value, Value::Array(..)) {
                self.problem(key, "holds something that is no text; expected texts in quotes, as [\"one\", \"other\"]");
                return None;
            }
            return self.expected(key, "a text in quotes, or a list of such, as [\"one\", \"other\"]", value);
        };
        if texts.is_empty() {
            self.problem(key, "is an empty list, which would allow nothing; leave the key out or name something");
            return None;
        }
        if texts.iter().any(|text| text.trim().is_empty()) {
            self.problem(key, "holds an empty item; take it out, or write what is meant there");
            return None;
        }
        Some(texts)
    }

    /// Whether the value under `key` is a list without items, where that is meant.
    #[must_use]
    pub fn is_empty_list(&self, key: &str) -> bool {
        matches!(self.value(key).map(|value| self.parsed_json(value)), Some(Value::Array(_, items)) if items.is_empty())
    }

    /// A list of which each item is read by `parse`; all bad items are told.
    pub fn parsed_list<T, E: std::fmt::Display>(&self, key: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Vec<T>> {
        let texts = self.list(key)?;
        let mut out = Vec::new();
        let mut sound = true;
        for text in &texts {
            match parse(text) {
                Ok(item) => out.push(item),
                Err(error) => {
                    sound = false;
                    self.problem(key, error.to_string());
                }
            }
        }
        sound.then_some(out)
    }

    /// A table under `key`; when it is absent an empty one, so that its keys are known all the same.
    #[must_use]
    pub fn section(&self, key: &str) -> Section<'a> {
        let value = self.value(key);
        let dict = match value.map(|value| (value, self.as_table(value))) {
            None => Dict::new(),
            Some((_, Some(dict))) => dict,
            Some((value, None)) => {
                self.problem(key, not_a_table(key, value));
                Dict::new()
            }
        };
        self.inner(key, None, dict)
    }

    /// One table or a list of them; none when the key is absent.
    #[must_use]
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let value = self.parsed_json(value);
        match value {
            Value::Dict(_, dict) => vec![self.inner(key, None, dict)],
            Value::Array(_, items) => {
                let mut sections = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    match item {
                        Value::Dict(_, dict) => sections.push(self.inner(key, Some(index), dict)),
                        other => self.problem(
                            key,
                            format!("expected tables, each a line [[{key}]] with its keys below; item {index} is {}", kind(&other)),
                        ),
                    }
                }
                sections
            }
            other => {
                self.problem(key, format!("expected a table, or several: lines [[{key}]] with their keys below; found {}", kind(&other)));
                Vec::new()
            }
        }
    }

    /// The tables under `key`, by name: `[policy.NAME]`.
    #[must_use]
    pub fn named_sections(&self, key: &str) -> Vec<(String, Section<'a>)> {
        let table = self.section(key);
        let mut out = Vec::new();
        for (name, value) in &table.dict {
            match self.as_table(value) {
                Some(dict) => {
                    let mut section = table.inner(name, None, dict);
                    section.shape = format!("{}.NAME", table.shape);
                    out.push((name.clone(), section));
                }
                None => table.problem(name, not_a_table(name, value)),
            }
        }
        out
    }

    /// A table of texts by free names: headers, say.
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<(String, String)> {
        self.texts_of(key, "a text in quotes")
    }

    /// The same; `what` says what a text there is, for whoever wrote something else.
    #[must_use]
    pub fn texts_of(&self, key: &str, what: &str) -> Vec<(String, String)> {
        let table = self.section(key);
        let mut out = Vec::new();
        for (name, value) in &table.dict {
            match value.as_str() {
                Some(text) => out.push((name.clone(), text.to_owned())),
                None => table.problem(name, format!("expected {what}; found {}", bare_kind(value))),
            }
        }
        out
    }

    /// A table of lists of texts by free names; numbers and booleans are taken as texts.
    #[must_use]
    pub fn lists(&self, key: &str) -> Vec<(String, Vec<String>)> {
        let table = self.section(key);
        let mut out = Vec::new();
        for (name, value) in &table.dict {
            let items: &[Value] = match value {
                Value::Array(_, items) => items,
                other => std::slice::from_ref(other),
            };
            let texts: Option<Vec<String>> = items.iter().map(plain).collect();
            match texts {
                Some(texts) if !texts.is_empty() && texts.iter().all(|text| !text.is_empty()) => out.push((name.clone(), texts)),
                _ => table.problem(name, "expected a text or a list of texts, none of them empty"),
            }
        }
        out
    }

    /// A table of texts or lists of texts by free names.
    #[must_use]
    pub fn texts_or_lists(&self, key: &str) -> Vec<(String, TextOrList)> {
        let table = self.section(key);
        let mut out = Vec::new();
        for (name, value) in &table.dict {
            let read = match value {
                Value::String(_, text) => Some(TextOrList::Text(text.clone())),
                Value::Array(_, items) => {
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().map(TextOrList::List)
                }
                _ => None,
            };
            match read.filter(TextOrList::is_full) {
                Some(read) => out.push((name.clone(), read)),
                None => table.problem(name, "expected a text or a list of texts, none of them empty"),
            }
        }
        out
    }

    /// Whether the value under `key` is a table.
    #[must_use]
    pub fn is_table(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| self.as_table(value).is_some())
    }

    /// Whether the value under `key` is a table with nothing in it.
    #[must_use]
    pub fn is_empty_table(&self, key: &str) -> bool {
        self.value(key).and_then(|value| self.as_table(value)).is_some_and(|table| table.is_empty())
    }

    /// Whether the value under `key` is a text rather than a table: `allow = "any-authenticated"`.
    #[must_use]
    pub fn is_word(&self, key: &str) -> bool {
        matches!(self.value(key), Some(value @ Value::String(..)) if !matches!(self.parsed_json(value), Value::Dict(..)))
    }

    fn inner(&self, key: &str, index: Option<usize>, dict: Dict) -> Section<'a> {
        let path = match index {
            Some(index) => format!("{}[{index}]", self.key_path(key)),
            None => self.key_path(key),
        };
        let shape = if self.shape.is_empty() { key.to_owned() } else { format!("{}.{key}", self.shape) };
        Section { reading: self.reading, dict, path, shape, known: RefCell::default() }
    }

    fn is_text(&self, value: &Value) -> bool {
        self.reading.layers.origin(value) == Origin::Text
    }

    /// A text of the environment that holds a JSON table or list, as that.
    fn parsed_json(&self, value: &Value) -> Value {
        match value {
            Value::String(tag, text) if self.is_text(value) && text.trim_start().starts_with(['[', '{']) => {
                match serde_json::from_str::<serde_json::Value>(text).ok().and_then(|json| Value::serialize(json).ok()) {
                    Some(mut parsed) => {
                        retag(&mut parsed, *tag);
                        parsed
                    }
                    None => value.clone(),
                }
            }
            _ => value.clone(),
        }
    }

    fn as_table(&self, value: &Value) -> Option<Dict> {
        match self.parsed_json(value) {
            Value::Dict(_, dict) => Some(dict),
            _ => None,
        }
    }
}

/// Gives a value parsed out of a variable that variable's tag, so that its problems name it.
fn retag(value: &mut Value, tag: figment::value::Tag) {
    match value {
        Value::String(t, _) | Value::Char(t, _) | Value::Bool(t, _) | Value::Num(t, _) | Value::Empty(t, _) => *t = tag,
        Value::Dict(t, dict) => {
            *t = tag;
            dict.values_mut().for_each(|value| retag(value, tag));
        }
        Value::Array(t, items) => {
            *t = tag;
            items.iter_mut().for_each(|value| retag(value, tag));
        }
    }
}

fn whole(number: Num) -> Option<u64> {
    number
        .to_u128()
        .and_then(|number| u64::try_from(number).ok())
        .or_else(|| number.to_i128().and_then(|number| u64::try_from(number).ok()))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, yes) => Some(yes.to_string()),
        Value::Num(_, number) => whole(*number).map(|number| number.to_string()),
        _ => None,
    }
}

/// A value's kind, never its content: it may be a secret in the wrong place. Short words and numbers are told, since they help.
fn kind(value: &Value) -> String {
    match value {
        Value::String(_, text) if text.len() <= 12 => format!("{text:?}"),
        Value::Bool(_, yes) => yes.to_string(),
        Value::Num(_, number) => spelled(*number),
        other => bare_kind(other).to_owned(),
    }
}

/// The same without a word of the content: where secrets stand.
fn bare_kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(_, items) if items.is_empty() => "an empty list",
        Value::Array(..) => "a list",
    }
}

fn spelled(number: Num) -> String {
    let whole = number.to_u128().map(|number| number.to_string()).or_else(|| number.to_i128().map(|number| number.to_string()));
    whole.or_else(|| number.to_f64().map(|number| number.to_string())).unwrap_or_else(|| "a number".to_owned())
}

fn not_a_table(key: &str, value: &Value) -> String {
    format!("expected a table, such as {key} = {{ … }}; found {}", bare_kind(value))
}
