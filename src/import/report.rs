//! What the person who moves has to know: what was taken over, what is otherwise now, what nothing stands for.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::given::Given;

/// Where a line of the report belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is a key of the config now, or so by itself.
    Taken,
    /// Safer, or otherwise.
    Different,
    /// No counterpart.
    Missing,
}

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As it was written in the input.
    pub option: String,
    /// What became of it.
    pub text: String,
}

/// The report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What has to be done before the first start.
    pub first: Vec<String>,
    /// Taken over.
    pub taken: Vec<Row>,
    /// Now safer or different.
    pub different: Vec<Row>,
    /// No counterpart, with the nearest way.
    pub missing: Vec<Row>,
    accounted: std::collections::BTreeSet<String>,
}

impl Report {
    /// Says what became of an option.
    pub fn say(&mut self, part: Part, given: &Given, text: impl Into<String>) {
        self.accounted.insert(given.said.clone());
        let mut text = text.into();
        if !given.overruled.is_empty() {
            let _ = write!(text, " (over {}, as oauth2-proxy ranks them)", given.overruled.join(" and "));
        }
        self.note(part, given.said.clone(), text);
    }

    /// Says something of what was no option that was given: a default, a shape, an unknown word.
    pub fn note(&mut self, part: Part, about: impl Into<String>, text: impl Into<String>) {
        let row = Row { option: about.into(), text: text.into() };
        let rows = match part {
            Part::Taken => &mut self.taken,
            Part::Different => &mut self.different,
            Part::Missing => &mut self.missing,
        };
        if !rows.contains(&row) {
            rows.push(row);
        }
    }

    /// Something to do before the first start.
    pub fn first(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.first.contains(&text) {
            self.first.push(text);
        }
    }

    /// Whether anything was said of this option.
    #[must_use]
    pub fn accounts_for(&self, given: &Given) -> bool {
        self.accounted.contains(&given.said)
    }

    fn parts(&self) -> [(&'static str, &'static str, &[Row]); 3] {
        [
            ("taken_over", "Taken over", &self.taken),
            ("different", "Now safer or different", &self.different),
            ("no_counterpart", "No counterpart, with the nearest way", &self.missing),
        ]
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        if !self.first.is_empty() {
            out.push_str("Before the first start\n");
            for text in &self.first {
                let _ = writeln!(out, "  - {text}");
            }
        }
        for (_, title, rows) in self.parts().into_iter().filter(|(_, _, rows)| !rows.is_empty()) {
            if !out.is_empty() {
                out.push('\n');
            }
            let _ = writeln!(out, "{title}");
            let width = rows.iter().map(|row| row.option.chars().count()).filter(|width| *width <= 40).max().unwrap_or_default();
            for row in rows {
                let _ = writeln!(out, "  {:<width$}  {}", row.option, row.text);
            }
        }
        out
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut out = json!({ "first": self.first });
        for (key, _, rows) in self.parts() {
            let rows: Vec<Value> = rows.iter().map(|row| json!({ "option": row.option, "text": row.text })).collect();
            if let Some(table) = out.as_object_mut() {
                table.insert(key.to_owned(), rows.into());
            }
        }
        out
    }
}
