//! `authorize` and `authorize_from_start` of `[provider]`: what the authorization request says beside the flow's own parameters.

use super::reader::{Section, TextOrList};
use crate::provider::authorize::{Fits, FromStart, may_be_passed_on, may_be_sent};

/// What is always sent.
pub(super) fn read_fixed(section: &Section<'_>) -> Vec<(String, String)> {
    let fixed = section.texts("authorize");
    for (name, value) in &fixed {
        if let Err(why) = may_be_sent(name) {
            section.problem("authorize", why);
        }
        if value.trim().is_empty() {
            section.problem("authorize", format!("{name} is empty; leave it out"));
        }
    }
    fixed
}

/// What `start` passes on: a text is a pattern for the whole value, a list names the values themselves.
pub(super) fn read_from_start(section: &Section<'_>) -> FromStart {
    const KEY: &str = "authorize_from_start";
    let mut passed = Vec::new();
    for (name, fits) in section.texts_or_lists(KEY) {
        if let Err(why) = may_be_passed_on(&name) {
            section.problem(KEY, why);
        }
        match fits {
            TextOrList::List(values) => passed.push((name, Fits::OneOf(values))),
            TextOrList::Text(pattern) => match Fits::pattern(&pattern) {
                Ok(fits) => passed.push((name, fits)),
                Err(why) => section.problem(KEY, format!("{name}: {why}")),
            },
        }
    }
    FromStart::new(passed)
}
