//! What a browser's window shows: an answer, where it came from, and what a person finds in it.

use std::ops::Deref;

use url::Url;

use super::html::{self, Form};
use super::http::Answer;
use super::visit::Visit;

/// An answer in the browser's window (or frame), with where it came from.
#[derive(Clone, Debug)]
pub struct Page {
    /// The URL it was asked for at.
    pub url: Url,
    /// How it was asked for.
    pub visit: Visit,
    /// The answer itself, which a page also derefs to.
    pub answer: Answer,
}

impl Deref for Page {
    type Target = Answer;
    fn deref(&self) -> &Answer {
        &self.answer
    }
}

impl Page {
    /// Where it redirects; `None` when it does not.
    #[must_use]
    pub fn next(&self) -> Option<Url> {
        if !matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = self.location()?;
        Some(self.url.join(location).unwrap_or_else(|error| panic!("Location {location:?} is no URL: {error}")))
    }

    /// The page's forms.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        html::forms(&self.answer.text())
    }

    /// The page's first form; panics when there is none.
    #[must_use]
    pub fn form(&self) -> Form {
        self.forms().into_iter().next().unwrap_or_else(|| panic!("no form in {}\n{}", self.summary(), self.answer.text()))
    }

    /// The form whose action contains this; panics when there is none.
    #[must_use]
    pub fn form_to(&self, action: &str) -> Form {
        let found = self.forms().into_iter().find(|form| form.action.contains(action));
        found.unwrap_or_else(|| panic!("no form to {action} in {}\n{}", self.summary(), self.answer.text()))
    }

    /// The `href` of the first link whose text contains this; panics when there is none.
    #[must_use]
    pub fn link(&self, text: &str) -> String {
        let found = html::links(&self.answer.text()).into_iter().find(|(_, label)| label.contains(text));
        found.unwrap_or_else(|| panic!("no link {text:?} in {}\n{}", self.summary(), self.answer.text())).0
    }

    /// What a person reads on it.
    #[must_use]
    pub fn visible_text(&self) -> String {
        html::text(&self.answer.text())
    }

    /// Its title.
    #[must_use]
    pub fn title(&self) -> String {
        html::title(&self.answer.text())
    }

    /// One line for messages: method, URL, status, where to next.
    #[must_use]
    pub fn summary(&self) -> String {
        let next = self.location().map(|location| format!(" -> {location}")).unwrap_or_default();
        format!("{} {} = {}{next}", self.visit.method, self.url, self.status)
    }

    /// A visit that a link or form of this page begins.
    #[must_use]
    pub fn visit_from(&self, href: &str) -> Visit {
        let url = self.url.join(href).unwrap_or_else(|error| panic!("{href:?} is no URL: {error}"));
        let mut visit = Visit::to(url).from(&self.url);
        visit.referrer_policy = self.referrer_policy();
        visit
    }

    /// Its `Referrer-Policy`.
    #[must_use]
    pub fn referrer_policy(&self) -> String {
        self.header("referrer-policy").unwrap_or_default().trim().to_ascii_lowercase()
    }
}
