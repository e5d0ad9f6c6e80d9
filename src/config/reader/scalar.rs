//! Single values: texts, words, numbers, sizes, times, paths.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figment::value::Value;

use super::{Section, whole};

/// A switch that may also say more.
pub enum TrueOr<T> {
    /// `true`.
    True,
    /// What was written instead.
    Other(T),
}

impl Section<'_> {
    /// `true`, or a text read by `parse`, whose error says what else was expected.
    pub fn true_or<T, E: std::fmt::Display>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<TrueOr<T>> {
        let value = self.value(key)?;
        match value {
            Value::Bool(_, true) => Some(TrueOr::True),
            Value::String(_, text) if self.is_text(value) && text == "true" => Some(TrueOr::True),
            Value::Bool(_, false) => {
                self.problem(key, "is false; leave it out instead");
                None
            }
            Value::String(_, text) if text == "true" => {
                self.problem(key, format!("expected true without quotes: {key} = true"));
                None
            }
            Value::String(..) => self.parsed(key, parse).map(TrueOr::Other),
            other => self.expected(key, "true, or a text in quotes", other),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(_, text) if text.trim().is_empty() => {
                self.problem(key, "is empty; expected a text: write what is meant, or leave the key out");
                None
            }
            Value::String(_, text) => Some(text.clone()),
            other => self.expected(key, "a text in quotes", other),
        }
    }

    /// A text whose value must not show up in any message; the caller words the problem.
    pub fn secret_text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(_, text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A text that has to be there.
    pub fn required_text(&self, key: &str, example: &str) -> Option<String> {
        if !self.has(key) {
            self.problem(key, format!("is missing; for example: {key} = \"{example}\""));
            return None;
        }
        self.text(key)
    }

    /// A text read by `parse`, whose error says what was expected.
    pub fn parsed<T, E: std::fmt::Display>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, error.to_string());
                None
            }
        }
    }

    /// Something that the standard library reads (an address, say); `what` is what was expected.
    pub fn standard<T: FromStr>(&self, key: &str, what: &str) -> Option<T> {
        self.parsed(key, |text| text.parse::<T>().map_err(|_| format!("expected {what}; found {text:?}")))
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, key: &str, default: T, words: &[(&str, T)]) -> T {
        let Some(text) = self.text(key) else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let list = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        self.problem(key, format!("expected {list}; found {text:?}"));
        default
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        let Some(value) = self.value(key) else { return default };
        match value {
            Value::Bool(_, yes) => *yes,
            Value::String(_, text) if self.is_text(value) && text == "true" => true,
            Value::String(_, text) if self.is_text(value) && text == "false" => false,
            other => self.expected(key, "true or false, without quotes", other).unwrap_or(default),
        }
    }

    /// A whole number between bounds.
    pub fn number(&self, key: &str, default: u64, bounds: std::ops::RangeInclusive<u64>) -> u64 {
        self.number_of(key, "a whole number", default, bounds)
    }

    /// A whole number of something: `what` says of what.
    pub fn number_of(&self, key: &str, what: &str, default: u64, bounds: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(value) = self.value(key) else { return default };
        let number = match value {
            Value::Num(_, number) => whole(*number),
            Value::String(_, text) if self.is_text(value) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if bounds.contains(&number) => number,
            _ => {
                let (least, most) = (bounds.start(), bounds.end());
                self.expected(key, &format!("{what} from {least} to {most}, without quotes"), value).unwrap_or(default)
            }
        }
    }

    /// A size in bytes: a whole number, or a text with `KiB` or `MiB`.
    pub fn size(&self, key: &str, default: u64, bounds: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(value) = self.value(key) else { return default };
        let size = match value {
            Value::Num(_, number) => whole(*number),
            Value::String(_, text) => {
                let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
                let unit = match unit.trim() {
                    "" => Some(1),
                    "KiB" => Some(1 << 10),
                    "MiB" => Some(1 << 20),
                    _ => None,
                };
                unit.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit))
            }
            _ => None,
        };
        match size {
            Some(size) if bounds.contains(&size) => size,
            _ => {
                let what =
                    format!("a size such as \"64KiB\" or \"1MiB\", from {} to {}", told_size(*bounds.start()), told_size(*bounds.end()));
                self.expected(key, &what, value).unwrap_or(default)
            }
        }
    }

    /// A time with its unit: `"30s"`, `"10m"`, `"12h"`, `"7d"`.
    pub fn duration(&self, key: &str, default: Duration, bounds: std::ops::RangeInclusive<Duration>) -> Duration {
        let Some(value) = self.value(key) else { return default };
        let time = match value {
            Value::String(_, text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        match time {
            Some(time) if bounds.contains(&time) => time,
            _ => {
                let [least, most] = [bounds.start(), bounds.end()].map(|bound| told_time(*bound));
                let what = format!("a time with its unit, such as \"30s\", \"10m\", \"12h\" or \"7d\", from {least} to {most}");
                self.expected(key, &what, value).unwrap_or(default)
            }
        }
    }

    /// A path of the file system.
    pub fn file(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A path whose file is read while the config is, or while the gateway is made of it, and by nobody later: when it changes the whole
    /// config is read again.
    pub fn file_taken_now(&self, key: &str) -> Option<PathBuf> {
        let path = self.file(key)?;
        self.reading.files.borrow_mut().insert(path.clone());
        Some(path)
    }
}

/// In the largest unit that leaves no rest.
fn told_time(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    if millis > 0 {
        return format!("{}ms", time.as_millis());
    }
    let units = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

fn told_size(bytes: u64) -> String {
    let unit = [(1 << 20, "MiB"), (1 << 10, "KiB")].into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{}{name}", bytes / unit))
}
