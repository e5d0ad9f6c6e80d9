//! Texts that may be parts of a longer one.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is never changed. Many may share what they are parts of: what is said of somebody says most things twice, and sessions are
/// kept in numbers. Clones share it too.
#[derive(Clone, Default)]
pub struct Text {
    whole: Arc<String>,
    from: u32,
    to: u32,
}

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made only where this is a part.
        self.whole.get(self.from as usize..self.to as usize).unwrap_or_default()
    }
}

impl From<String> for Text {
    /// What is longer than 4 GiB is cut off to nothing; no text of ours is let in that is a thousandth of it.
    fn from(text: String) -> Self {
        let to = u32::try_from(text.len()).unwrap_or(0);
        Self { whole: Arc::new(text), from: 0, to }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<Text> for String {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// One text of which others are to be parts.
pub struct Packing(Text);

impl Packing {
    /// It begins with `first`; what of the others is not in it comes after.
    #[must_use]
    pub fn new<'a>(first: String, others: impl IntoIterator<Item = &'a str>) -> Self {
        let mut whole = first;
        for other in others {
            if !whole.contains(other) {
                whole.push_str(other);
            }
        }
        whole.shrink_to_fit();
        Self(whole.into())
    }

    /// The same text, as a part of the whole where it is one.
    #[must_use]
    pub fn part(&self, text: &str) -> Text {
        let place = self.0.find(text).and_then(|from| Some((u32::try_from(from).ok()?, u32::try_from(from + text.len()).ok()?)));
        match place {
            Some((from, to)) => Text { whole: Arc::clone(&self.0.whole), from, to },
            None => text.into(),
        }
    }
}

/// Scopes, each once and in order, as one text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Scopes(Text);

/// Between them. It is in no scope (RFC 6749 §3.3).
const BETWEEN: char = '\n';

impl Scopes {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        // Of nothing there is one part too, the empty one.
        self.0.split(BETWEEN).filter(|scope| !scope.is_empty())
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|one| one == scope)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text that they are, for a [`Packing`].
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The same as a part of it.
    pub(super) fn part_of(&self, packing: &Packing) -> Self {
        Self(packing.part(&self.0))
    }
}

impl<T: AsRef<str>> FromIterator<T> for Scopes {
    /// What can be no scope is none: the empty text, and whatever would read as two.
    fn from_iter<I: IntoIterator<Item = T>>(scopes: I) -> Self {
        let scopes: Vec<T> = scopes.into_iter().collect();
        let mut scopes: Vec<&str> =
            scopes.iter().map(AsRef::as_ref).filter(|scope| !scope.is_empty() && !scope.contains(BETWEEN)).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.join("\n").into())
    }
}

impl From<BTreeSet<String>> for Scopes {
    fn from(scopes: BTreeSet<String>) -> Self {
        scopes.into_iter().collect()
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_reads_as_the_text_it_was_made_of() {
        let packing = Packing::new("{\"sub\":\"änn\"}".to_owned(), ["änn", "corp", "", "orp"]);
        for (text, shared) in [("änn", true), ("corp", true), ("orp", true), ("", true), ("elsewhere", false)] {
            let part = packing.part(text);
            assert_eq!((part.as_str(), Arc::ptr_eq(&part.whole, &packing.0.whole)), (text, shared));
            assert_eq!((Text::from(text), String::from(part.clone())), (part, text.to_owned()));
        }
        assert_eq!(packing.0.as_str(), "{\"sub\":\"änn\"}corp");
        let text = Text::from("a");
        assert_eq!((serde_json::from_value::<Text>(json!(text)).unwrap(), text.cmp(&"b".into())), (text, Ordering::Less));
    }

    #[test]
    fn scopes_are_a_set_in_which_nothing_reads_as_two() {
        let scopes: Scopes = ["write", "", "read", "read", "ad min", "a\nroot"].into_iter().collect();
        assert_eq!(scopes.iter().collect::<Vec<_>>(), ["ad min", "read", "write"]);
        assert!(scopes.contains("ad min") && !scopes.contains("ad") && !scopes.contains("root") && !scopes.contains(""));
        assert_eq!(serde_json::to_value(&scopes).unwrap(), json!(["ad min", "read", "write"]));
        assert_eq!(serde_json::from_value::<Scopes>(json!(["write", "read", "ad min"])).unwrap(), scopes);
        assert!(Scopes::default().is_empty() && Scopes::default().iter().next().is_none() && !scopes.is_empty());
        assert_eq!(scopes.part_of(&Packing::new(String::new(), [scopes.text()])), scopes);
    }
}
