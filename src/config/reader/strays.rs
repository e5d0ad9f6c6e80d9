//! Keys that nobody asked for: slips of the pen, and keys that ended up in the wrong table.

use super::{Reading, Section};
use crate::config::problem::{Problem, Severity};

/// A key that is unknown in its table. Where else it is known can be told when everything was read.
pub struct Stray {
    source: String,
    path: String,
    /// The table's, without indexes; empty at the top.
    table: String,
    key: String,
    known: Vec<String>,
}

impl Section<'_> {
    /// Notes what is left over. Call it when every key was asked for.
    pub fn finish(&self) {
        let known = self.known.borrow();
        for (key, value) in self.dict.iter().filter(|(key, _)| !known.contains(*key)) {
            let path = self.key_path(key);
            self.reading.strays.borrow_mut().push(Stray {
                source: self.reading.layers.source(Some(value), &path),
                path,
                table: self.shape.clone(),
                key: key.clone(),
                known: known.iter().cloned().collect(),
            });
        }
    }
}

impl Reading<'_> {
    /// Says what was probably meant, or where they belong. Call it when every table was read.
    pub fn tell_strays(&self) {
        for stray in self.strays.take() {
            let message = self.message(&stray);
            self.problems.push(Problem { source: stray.source, path: stray.path, message, severity: Severity::Error });
        }
    }

    fn message(&self, stray: &Stray) -> String {
        let asked = self.asked.borrow();
        let here = match stray.path.strip_suffix(&stray.key).map(|table| table.trim_end_matches('.')) {
            None | Some("") => "at the top".to_owned(),
            Some(table) if table.ends_with(']') => format!("of {table}"),
            Some(table) => format!("of [{table}]"),
        };
        if !stray.table.is_empty() && asked.contains(&stray.key) {
            return format!("is no key {here} but one of the top level: write it above the first [table]");
        }
        if let Some(name) = nearest(&stray.key, stray.known.iter().map(String::as_str)) {
            return format!("is no key of the configuration; did you mean {name:?}?");
        }
        let tables: Vec<String> = asked
            .iter()
            .filter_map(|path| path.rsplit_once('.'))
            .filter(|(table, key)| *key == stray.key && *table != stray.table)
            .map(|(table, _)| format!("[{table}]"))
            .take(3)
            .collect();
        if tables.is_empty() {
            return format!("is no key of the configuration; remove it, or write one that is known here: {}", stray.known.join(", "));
        }
        format!("is no key {here}; there is one of that name in {}", tables.join(", "))
    }
}

/// What was probably meant: the same word in another spelling, or one a slip or two apart.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |word: &str| word.replace(['-', '_'], "").to_ascii_lowercase();
    let (own, slips) = (bare(key), if key.len() <= 3 { 1 } else { 2 });
    known.map(|name| (distance(&own, &bare(name)), name)).min().filter(|(steps, _)| *steps <= slips).map(|(_, name)| name)
}

/// Edits between two words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, from) in left.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        let mut next = vec![before];
        for (to, above) in right.iter().zip(row.iter().skip(1)) {
            let step = (diagonal + usize::from(from != *to)).min(above + 1).min(before + 1);
            diagonal = *above;
            before = step;
            next.push(step);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_a_slip_apart_are_near() {
        assert_eq!(distance("client_secert", "client_secret"), 2);
        assert_eq!(distance("isuer", "issuer"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn another_spelling_is_the_same_word() {
        let known = ["client_id", "client_secret_file", "id", "issuer"];
        for (key, meant) in [
            ("clientSecretFile", Some("client_secret_file")),
            ("client-id", Some("client_id")),
            ("ISSUER", Some("issuer")),
            ("idx", Some("id")),
            ("isuser", Some("issuer")),
            ("isuerr", Some("issuer")),
            ("uri", None),
            ("tenant", None),
        ] {
            assert_eq!(nearest(key, known.into_iter()), meant, "{key}");
        }
    }
}
