//! One parameter of an urlencoded text, be it a query or a form's body: found as a form parser finds it, taken out without touching another
//! byte.

use url::form_urlencoded;

/// Every value that `name` has in `text`, decoded. A name may be written with escapes; it is the same name then. Bytes that are no UTF-8 become
/// U+FFFD, which no token holds.
pub fn values_of<'a>(text: &'a [u8], name: &'a str) -> impl Iterator<Item = String> + 'a {
    form_urlencoded::parse(text).filter(move |(found, _)| found == name).map(|(_, value)| value.into_owned())
}

/// `text` without `name`: each pair of that name goes with one `&` beside it, everything else stays byte for byte. `None`: it is not there.
#[must_use]
pub fn without(text: &[u8], name: &str) -> Option<Vec<u8>> {
    let goes = |pair: &&[u8]| form_urlencoded::parse(pair).next().is_some_and(|(found, _)| found == name);
    let pairs = || text.split(|byte| *byte == b'&');
    if !pairs().any(|pair| goes(&pair)) {
        return None;
    }
    let staying: Vec<&[u8]> = pairs().filter(|pair| !goes(pair)).collect();
    Some(staying.join(&b'&'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "access_token";

    fn left(text: &str) -> Option<String> {
        without(text.as_bytes(), NAME).map(|left| String::from_utf8(left).unwrap())
    }

    #[test]
    fn the_pair_goes_and_every_other_byte_stays() {
        for (text, expected) in [
            ("access_token=T", Some("")),
            ("access_token", Some("")),
            ("access_token=", Some("")),
            ("a=1&access_token=T", Some("a=1")),
            ("access_token=T&a=1", Some("a=1")),
            ("a=1&access_token=T&b=%2b+x", Some("a=1&b=%2b+x")),
            ("a=1&&access_token=T&&b", Some("a=1&&&b")),
            ("access%5Ftoken=T&a", Some("a")),
            ("%61ccess_token=T&access_token=U&a", Some("a")),
            ("a=%zz&access_token=T&\u{e9}=;", Some("a=%zz&\u{e9}=;")),
            ("a=access_token=T", None),
            ("Access_Token=T", None),
            ("access_token_=T", None),
            ("xaccess_token=T", None),
            ("a=1;access_token=T", None),
            ("access_token%00=T", None),
            ("", None),
        ] {
            assert_eq!(left(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let values = |text: &'static str| values_of(text.as_bytes(), NAME).collect::<Vec<_>>();
        assert_eq!(values("a=1&access_token=a%2Eb%2B&b"), ["a.b+"]);
        assert_eq!(values("access_token=a&access%5ftoken=b&access_token"), ["a", "b", ""]);
        assert_eq!(values("access_token=%ff"), ["\u{fffd}"]);
        assert!(values("a=access_token").is_empty());
    }

    proptest! {
        /// What is found is what goes: no reader of the rest finds the parameter, and finds everything else as before.
        #[test]
        fn found_and_taken_out_are_the_same_pairs(text in "([a-c&=%;+]|access_token|%5F|%26|%3D){0,12}") {
            let found = values_of(text.as_bytes(), NAME).count();
            let rest = without(text.as_bytes(), NAME);
            prop_assert_eq!(found > 0, rest.is_some());
            let rest = rest.unwrap_or_else(|| text.clone().into_bytes());
            prop_assert_eq!(values_of(&rest, NAME).count(), 0);
            let others = |text: &[u8]| form_urlencoded::parse(text).filter(|(name, _)| name != NAME).map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>();
            prop_assert_eq!(others(text.as_bytes()), others(&rest));
        }
    }
}
