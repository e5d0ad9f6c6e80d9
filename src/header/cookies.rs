//! Cookies: reading ours among others, taking ours out, writing `Set-Cookie` (RFC 6265bis §4.1).

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

/// The pairs of all `Cookie` lines, in order. Names and values as sent, surrounding spaces and quotes of the value removed. A pair that is no
/// text is passed over and costs the others nothing: any page of a sibling host can set one. No spaces but ASCII's are removed: a name that begins
/// with another one does not begin with `__Host-` for browsers, which let any sibling host set it.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    raw_pairs(headers).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        Some((name.trim_ascii(), value.trim_ascii().trim_matches('"')))
    })
}

/// The values of all pairs of this name, as [`pairs`] gives them. Whatever has another name is not looked into.
pub fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    raw_pairs(headers).filter_map(move |pair| {
        let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
        // As a whole, so that a pair is text or is none.
        Some(std::str::from_utf8(value).ok()?.trim_ascii().trim_matches('"'))
    })
}

fn raw_pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(COOKIE).iter().flat_map(|line| Pieces(Some(line.as_bytes()))).map(<[u8]>::trim_ascii)
}

/// What stands between semicolons, as `split` gives it; many bytes are looked at together.
struct Pieces<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        use std::io::BufRead as _;
        let rest = self.0.take()?;
        // The standard library's fast search for a byte is behind this reader, which cannot fail.
        let mut reader = rest;
        let read = reader.skip_until(b';').unwrap_or(rest.len());
        match rest.get(..read).and_then(<[u8]>::split_last) {
            Some((b';', piece)) => {
                self.0 = Some(reader);
                Some(piece)
            }
            _ => Some(rest),
        }
    }
}

/// Removes every pair whose name `ours` claims; the others stay byte for byte, on one line (HTTP/2 may bring each pair on a line of its own,
/// and RFC 9113 §8.2.3 has them joined before HTTP/1.1 sees them).
pub fn remove(headers: &mut HeaderMap, ours: impl Fn(&str) -> bool) {
    // A name of ours is ASCII; a name that is no text is nobody's of ours.
    let goes = |pair: &[u8]| std::str::from_utf8(name_of(pair)).is_ok_and(&ours);
    if headers.get_all(COOKIE).iter().nth(1).is_none() && !raw_pairs(headers).any(goes) {
        return;
    }
    let kept: Vec<&[u8]> = raw_pairs(headers).filter(|pair| !pair.is_empty() && !goes(pair)).collect();
    let line = (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b"; "[..])));
    headers.remove(COOKIE);
    if let Some(Ok(line)) = line {
        headers.insert(COOKIE, line);
    }
}

/// Removes the `Set-Cookie` lines whose name `ours` claims: nobody behind us signs somebody in, or out. A cookie without a name comes back as its
/// bare value (`Set-Cookie: =a=b` as `Cookie: a=b`), so that there what follows is the name.
pub fn remove_set(headers: &mut HeaderMap, ours: impl Fn(&str) -> bool) {
    let goes = |line: &HeaderValue| {
        let pair = line.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let pair = pair.strip_prefix(b"=").unwrap_or(pair);
        std::str::from_utf8(name_of(pair)).is_ok_and(&ours)
    };
    if !headers.get_all(SET_COOKIE).iter().any(goes) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|line| !goes(line)).cloned().collect();
    headers.remove(SET_COOKIE);
    for line in kept {
        headers.append(SET_COOKIE, line);
    }
}

fn name_of(pair: &[u8]) -> &[u8] {
    let end = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
    pair.get(..end).unwrap_or(pair).trim_ascii()
}

/// How long a cookie is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// `Max-Age`.
    For(Duration),
    /// Until the browser closes.
    UntilBrowserCloses,
    /// Deleted now.
    Deleted,
}

/// `SameSite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Sent along when a person navigates here.
    Lax,
    /// Sent along with a form that another site posts here (`form_post`).
    None,
}

/// How cookies of ours are named and marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieStyle {
    /// Name of the session cookie, prefix and suffix included.
    pub session: String,
    /// What the name of every flow cookie starts with; the flow's handle follows.
    pub flow_prefix: String,
    /// Name of the cookie that holds a sign-out's `state`.
    pub sign_out: String,
    /// `Domain`, when hosts share a session.
    pub domain: Option<String>,
    /// Whether `Secure` is set: on https.
    pub secure: Secure,
    /// Of flow cookies.
    pub flow_same_site: SameSite,
}

/// Whether cookies are for https alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// `https` outside.
    Yes,
    /// `http` outside: loopback, or `insecure_http`.
    No,
}

impl CookieStyle {
    /// Names by PRODUCT: `__Host-doorward`, `__Secure-doorward` with a domain, `doorward` on http.
    #[must_use]
    pub fn new(secure: Secure, domain: Option<String>, suffix: &str, flow_same_site: SameSite) -> Self {
        let prefix = match (secure, &domain) {
            (Secure::No, _) => "",
            (Secure::Yes, None) => "__Host-",
            (Secure::Yes, Some(_)) => "__Secure-",
        };
        Self {
            session: format!("{prefix}doorward{suffix}"),
            flow_prefix: format!("{prefix}doorward-flow{suffix}-"),
            sign_out: format!("{prefix}doorward-sign-out{suffix}"),
            domain,
            secure,
            flow_same_site,
        }
    }

    /// Whether a cookie of this name is ours.
    #[must_use]
    pub fn is_ours(&self, name: &str) -> bool {
        name == self.session || name == self.sign_out || name.starts_with(&self.flow_prefix)
    }

    /// `Set-Cookie` for the session.
    #[must_use]
    pub fn set_session(&self, value: &str, kept: Kept) -> Option<HeaderValue> {
        self.set(&self.session, value, kept, SameSite::Lax)
    }

    /// `Set-Cookie` for a flow.
    #[must_use]
    pub fn set_flow(&self, handle: &str, value: &str, kept: Kept) -> Option<HeaderValue> {
        self.set(&format!("{}{handle}", self.flow_prefix), value, kept, self.flow_same_site)
    }

    /// `Set-Cookie` for a sign-out on its way.
    #[must_use]
    pub fn set_sign_out(&self, value: &str, kept: Kept) -> Option<HeaderValue> {
        self.set(&self.sign_out, value, kept, SameSite::Lax)
    }

    fn set(&self, name: &str, value: &str, kept: Kept, same_site: SameSite) -> Option<HeaderValue> {
        let mut line = format!("{name}={value}; Path=/; HttpOnly");
        if let Some(domain) = &self.domain {
            line.push_str("; Domain=");
            line.push_str(domain);
        }
        if self.secure == Secure::Yes {
            line.push_str("; Secure");
        }
        line.push_str(match (same_site, self.secure) {
            (SameSite::None, Secure::Yes) => "; SameSite=None",
            // Browsers drop SameSite=None without Secure.
            (SameSite::None, Secure::No) | (SameSite::Lax, _) => "; SameSite=Lax",
        });
        match kept {
            Kept::For(time) => line.push_str(&format!("; Max-Age={}", time.as_secs())),
            Kept::UntilBrowserCloses => {}
            Kept::Deleted => line.push_str("; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        }
        HeaderValue::try_from(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_marks_as_browsers_demand() {
        let https = CookieStyle::new(Secure::Yes, None, "", SameSite::None);
        let line = https.set_session("v", Kept::For(Duration::from_secs(60))).unwrap();
        assert_eq!(line, "__Host-doorward=v; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=60");
        let line = https.set_flow("h", "v", Kept::UntilBrowserCloses).unwrap();
        assert_eq!(line, "__Host-doorward-flow-h=v; Path=/; HttpOnly; Secure; SameSite=None");
        let shared = CookieStyle::new(Secure::Yes, Some("example.com".into()), "-a", SameSite::Lax);
        let line = shared.set_session("", Kept::Deleted).unwrap();
        assert_eq!(
            line,
            "__Secure-doorward-a=; Path=/; HttpOnly; Domain=example.com; Secure; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
        let http = CookieStyle::new(Secure::No, None, "", SameSite::None);
        assert_eq!(http.set_flow("h", "v", Kept::UntilBrowserCloses).unwrap(), "doorward-flow-h=v; Path=/; HttpOnly; SameSite=Lax");
        assert!(https.is_ours("__Host-doorward-flow-x") && !https.is_ours("doorward") && !shared.is_ours("__Secure-doorward"));
    }

    proptest! {
        #[test]
        fn the_values_of_a_name_are_those_of_all_pairs(line in r#"([ab;= "\t]|ab|ab=){0,12}"#, other: bool) {
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, HeaderValue::from_str(&line).unwrap());
            if other {
                headers.append(COOKIE, HeaderValue::from_bytes(b"ab=c; ab=\xff; ab=d").unwrap());
            }
            for name in ["a", "ab"] {
                let of_pairs: Vec<_> = pairs(&headers).filter(|(found, _)| *found == name).map(|(_, value)| value).collect();
                prop_assert_eq!(values(&headers, name).collect::<Vec<_>>(), of_pairs);
            }
        }
    }

    #[test]
    fn ours_go_and_others_stay_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; doorward=x; c=\"d e\"; flag"));
        headers.append(COOKIE, HeaderValue::from_static("doorward=y"));
        headers.append(COOKIE, HeaderValue::from_static("e=f"));
        remove(&mut headers, |name| name == "doorward");
        let left: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(left, ["a=b; c=\"d e\"; flag; e=f"]);
        remove(&mut headers, |_| true);
        assert!(!headers.contains_key(COOKIE));
    }

    #[test]
    fn what_sets_a_cookie_of_ours_goes_and_others_stay_in_their_order() {
        let style = CookieStyle::new(Secure::No, None, "", SameSite::Lax);
        let mut headers = HeaderMap::new();
        for line in [
            "a=1; Path=/",
            "doorward=x; Path=/",
            " doorward =x",
            "=doorward=x",
            "doorward-flow-h=x; Max-Age=0",
            "doorward-sign-out=x",
            "doorwards=2",
            "b=doorward=x",
            "c",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        remove_set(&mut headers, |name| style.is_ours(name));
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Path=/", "doorwards=2", "b=doorward=x", "c"]);
    }

    #[test]
    fn another_kind_of_space_makes_another_name() {
        for space in ["\u{a0}", "\u{2000}", "\u{85}", "\u{3000}", "\u{feff}"] {
            let mut headers = HeaderMap::new();
            let line = format!("a=b; {space}__Host-doorward=x; __Host-doorward{space}=y; __Host-doorward \t=z");
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            let found: Vec<_> = pairs(&headers).filter(|(name, _)| *name == "__Host-doorward").collect();
            assert_eq!(found, [("__Host-doorward", "z")], "{space:?}");
        }
    }

    #[test]
    fn a_cookie_that_is_no_text_costs_the_others_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_bytes(b"x=\xc3\xa9; doorward=v; y=\xff; z=1").unwrap());
        assert!(pairs(&headers).any(|pair| pair == ("doorward", "v")));
        remove(&mut headers, |name| name == "doorward");
        assert_eq!(headers[COOKIE].as_bytes(), b"x=\xc3\xa9; y=\xff; z=1");
    }

    #[test]
    fn a_name_behind_a_space_that_browsers_do_not_know_is_another_name() {
        for space in ["\u{a0}", "\u{85}", "\u{1680}", "\u{2003}", "\u{2028}", "\u{3000}"] {
            let mut headers = HeaderMap::new();
            let line = format!("{space}__Host-doorward=x; __Host-doorward{space}=y; __Host-doorward=z{space}");
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            let found: Vec<_> = pairs(&headers).filter(|(name, _)| *name == "__Host-doorward").map(|(_, value)| value.to_owned()).collect();
            assert_eq!(found, [format!("z{space}")], "{space:?}");
            remove(&mut headers, |name| name == "__Host-doorward");
            assert!(headers[COOKIE].as_bytes().ends_with(b"=y"), "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_those_of_a_split(line in proptest::collection::vec(proptest::sample::select(b"a=; ".to_vec()), 0..24)) {
            let split: Vec<&[u8]> = line.split(|&byte| byte == b';').collect();
            prop_assert_eq!(Pieces(Some(&line)).collect::<Vec<_>>(), split);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in "[a-zA-Z0-9_-]{1,20}", value in "[a-zA-Z0-9_-]{0,60}") {
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, format!("x=1; {name}={value}; y=2").parse().unwrap());
            prop_assert!(pairs(&headers).any(|pair| pair == (name.as_str(), value.as_str())));
        }

        #[test]
        fn nothing_of_ours_survives(line in "[a-z=; \"]{0,40}") {
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, line.parse().unwrap());
            remove(&mut headers, |name| name == "a");
            prop_assert!(pairs(&headers).all(|(name, _)| name != "a"));
        }
    }
}
