//! Lists whose items are texts or tables.

use figment::value::Value;

use super::{Section, kind};

/// One of them.
pub enum Item<'a> {
    /// A text.
    Text(String),
    /// A table.
    Table(Section<'a>),
}

impl<'a> Section<'a> {
    /// A list of texts and tables; one alone counts as a list of one. `None` where the key is absent, or holds something else, or nothing.
    pub fn items(&self, key: &str) -> Option<Vec<Item<'a>>> {
        let items = match self.parsed_json(self.value(key)?) {
            Value::Array(_, items) if items.iter().any(|item| matches!(item, Value::Dict(..))) => items,
            table @ Value::Dict(..) => vec![table],
            _ => return self.list(key).map(|texts| texts.into_iter().map(Item::Text).collect()),
        };
        let one = items.len() == 1;
        let mut found = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(_, text) if !text.trim().is_empty() => found.push(Item::Text(text)),
                Value::Dict(_, dict) => found.push(Item::Table(self.inner(key, (!one).then_some(index), dict))),
                other => {
                    self.problem(key, format!("expected a list of texts and tables; item {index} is {}", kind(&other)));
                    return None;
                }
            }
        }
        Some(found)
    }
}
