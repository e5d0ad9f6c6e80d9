//! Parameters of our endpoints: from a query or a form body, each name once.

use url::form_urlencoded;

use crate::fault::Fault;
use crate::reason::Reason;

/// Names and values, decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The query of `start` and `sign_in`. nginx cannot escape: an `rd` that comes first and holds a raw `?` takes the rest of the query
    /// with it, `&` and all.
    pub(super) fn parse_with_rd(query: &str) -> Self {
        let raw = query.strip_prefix("rd=").filter(|rest| rest.split('&').next().is_some_and(|rd| rd.contains('?')));
        match raw {
            Some(rest) => Self(vec![("rd".to_owned(), rest.to_owned())]),
            None => Self::parse(query.as_bytes()),
        }
    }

    /// The value of `name`, if it is there.
    ///
    /// # Errors
    /// [`Reason::ParameterRepeated`] when it is there twice.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(Fault::new(Reason::ParameterRepeated, format!("{name} is there twice")));
        }
        Ok(value)
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// A URL of ours with a query.
pub(super) fn with_query(base: &str, pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unescaped_rd_takes_the_rest() {
        let rd = |query| Parameters::parse_with_rd(query).one("rd").unwrap().map(str::to_owned);
        assert_eq!(rd("rd=https://own.test/a?b=c&d=e&state=x").as_deref(), Some("https://own.test/a?b=c&d=e&state=x"));
        assert_eq!(rd("rd=/a?b=%20").as_deref(), Some("/a?b=%20"));
        assert_eq!(rd("rd=https%3A%2F%2Fown.test%2Fa%3Fb%3Dc&state=x").as_deref(), Some("https://own.test/a?b=c"));
        assert_eq!(rd("rd=/a&state=x?").as_deref(), Some("/a"));
        assert_eq!(rd("state=x&rd=/a").as_deref(), Some("/a"));
    }

    #[test]
    fn a_name_counts_once() {
        let parameters = Parameters::parse(b"a=1&b=2&a=3");
        assert_eq!(parameters.one("b").unwrap(), Some("2"));
        assert_eq!(parameters.one("c").unwrap(), None);
        assert_eq!(parameters.one("a").unwrap_err().reason, Reason::ParameterRepeated);
    }
}
