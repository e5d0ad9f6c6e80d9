//! Numbers between 0 and 1.

use figment::value::{Num, Value};

use super::{Section, whole};

impl Section<'_> {
    /// A number from 0 to 1.
    pub fn fraction(&self, key: &str, default: f64) -> f64 {
        let Some(value) = self.value(key) else { return default };
        let number = match value {
            Value::Num(_, Num::F64(number)) => Some(*number),
            Value::Num(_, Num::F32(number)) => Some(f64::from(*number)),
            Value::Num(_, number) => whole(*number).and_then(|number| u8::try_from(number).ok()).map(f64::from),
            Value::String(_, text) if self.is_text(value) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (0.0..=1.0).contains(&number) => number,
            _ => self.expected(key, "a number from 0 to 1, such as 0.1 for one in ten, without quotes", value).unwrap_or(default),
        }
    }
}
