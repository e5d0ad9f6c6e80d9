//! A config in TOML with comments: tables in the order of `config.toml.example`, keys in the order in which they were set.

use std::fmt::Write as _;

/// The tables as they follow each other; `""` is what stands above all tables.
const ORDER: [&str; 14] = [
    "",
    "[provider]",
    "[[provider]]",
    "[tls]",
    "[admin]",
    "[session]",
    "[store]",
    "[keys]",
    "[[token_issuer]]",
    "[policy",
    "[[route]]",
    "[forward_auth]",
    "[pages]",
    "[limits]",
];

/// The config.
#[derive(Default)]
pub struct Document {
    tables: Vec<Table>,
}

/// A table of it.
pub struct Table {
    head: String,
    notes: Vec<String>,
    lines: Vec<Line>,
}

struct Line {
    key: String,
    value: String,
    from: Vec<String>,
    notes: Vec<String>,
    at_rest: bool,
}

impl Document {
    /// The one table with this head, made when it is not there.
    pub fn table(&mut self, head: &str) -> &mut Table {
        let at = self.tables.iter().position(|table| table.head == head);
        let at = at.unwrap_or_else(|| {
            self.tables.push(Table::new(head));
            self.tables.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.tables[at]
    }

    /// What stands above all tables.
    pub fn root(&mut self) -> &mut Table {
        self.table("")
    }

    /// Adds one of several tables with the same head.
    pub fn push(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// The text.
    #[must_use]
    pub fn write(&self, head: &[String]) -> String {
        let mut out = String::new();
        for line in head {
            let _ = writeln!(out, "{}", format!("# {line}").trim_end());
        }
        let place =
            |table: &&Table| ORDER.iter().position(|head| table.head == *head || (*head == "[policy" && table.head.starts_with(head)));
        let mut tables: Vec<&Table> = self.tables.iter().filter(|table| !table.lines.is_empty()).collect();
        tables.sort_by_key(|table| place(table).unwrap_or(ORDER.len()));
        for table in tables {
            out.push('\n');
            table.write(&mut out);
        }
        out
    }
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(head: &str) -> Self {
        Self { head: head.to_owned(), notes: Vec::new(), lines: Vec::new() }
    }

    /// Sets a key. `from` says which options it came from; empty where it came from none.
    pub fn set(&mut self, key: &str, value: String, from: &[&str]) -> &mut Self {
        let from = from.iter().map(|said| (*said).to_owned()).collect();
        match self.lines.iter_mut().find(|line| line.key == key) {
            Some(line) => {
                line.value = value;
                line.from = from;
            }
            None => self.lines.push(Line { key: key.to_owned(), value, from, notes: Vec::new(), at_rest: false }),
        }
        self
    }

    /// Writes a key with an example behind a `#`: nobody can say its value but the reader.
    pub fn leave(&mut self, key: &str, example: String, from: &[&str]) -> &mut Self {
        self.set(key, example, from);
        if let Some(line) = self.lines.last_mut() {
            line.at_rest = true;
        }
        self
    }

    /// Explains the key that was set last.
    pub fn explain(&mut self, text: impl Into<String>) -> &mut Self {
        if let Some(line) = self.lines.last_mut() {
            line.notes.push(text.into());
        }
        self
    }

    /// Explains the table.
    pub fn note(&mut self, text: impl Into<String>) -> &mut Self {
        self.notes.push(text.into());
        self
    }

    fn write(&self, out: &mut String) {
        self.notes.iter().for_each(|note| comment(out, note));
        if !self.head.is_empty() {
            let _ = writeln!(out, "{}", self.head);
        }
        for line in &self.lines {
            line.notes.iter().for_each(|note| comment(out, note));
            let rest = if line.at_rest { "#" } else { "" };
            let _ = write!(out, "{rest}{} = {}", bare_or_quoted(&line.key), line.value);
            if !line.from.is_empty() {
                let _ = write!(out, "  # from {}", one_line(&line.from.join(", ")));
            }
            out.push('\n');
        }
    }
}

/// Nothing of the input ends a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A comment, broken at spaces.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in one_line(text).split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > 120 && line.len() > 1 {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { key.to_owned() } else { text(key) }
}

/// A TOML string: literal where there are backslashes to keep readable, else basic.
#[must_use]
pub fn text(value: &str) -> String {
    if value.contains('\\') && !value.contains('\'') && !value.chars().any(char::is_control) {
        return format!("'{value}'");
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of strings.
#[must_use]
pub fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> String {
    array(values.into_iter().map(|value| text(value.as_ref())))
}

/// A list of values that are written already.
#[must_use]
pub fn array(values: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", values.into_iter().collect::<Vec<_>>().join(", "))
}

/// An inline table of values that are written already.
#[must_use]
pub fn inline<K: AsRef<str>>(pairs: impl IntoIterator<Item = (K, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{} = {value}", bare_or_quoted(key.as_ref()))).collect();
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_a_reader_of_toml() {
        use figment::providers::{Format as _, Toml};
        for value in ["plain", "a\"b", r"^/x\.(js|css)$", "it's \\ odd", "tab\tand\nline", "ümläut", "\u{7f}", "#no comment", "'''"] {
            let document = inline([("key.with dots", text(value))]);
            let read: serde_json::Value = Toml::from_str(&format!("it = {document}")).unwrap();
            assert_eq!(read["it"]["key.with dots"], value, "{document}");
        }
    }

    #[test]
    fn nothing_of_the_input_ends_a_comment() {
        let mut document = Document::default();
        document.root().set("key", text("value"), &["--x\nallow = 1"]).explain("a\nb = 2");
        let written = document.write(&["head\nline".replace('\n', " ")]);
        assert_eq!(written.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count(), 1, "{written}");
    }
}
