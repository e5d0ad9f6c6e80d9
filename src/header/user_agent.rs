//! `User-Agent` (RFC 9110 §10.1.5) put into a few words for people. It is whatever the sender likes: shown, and nothing is decided by it.

use crate::session::ShownAs;

/// Products by the word that tells them, the more special before what they also claim to be: nearly all say `Mozilla`, most say `Chrome` and
/// `Safari` as well.
const BROWSERS: [(&str, &str); 20] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
    ("python-requests/", "Python"),
    ("Go-http-client/", "Go"),
    ("okhttp/", "okhttp"),
];

/// Systems likewise: Android says `Linux` too, and an iPhone `like Mac OS X`.
const SYSTEMS: [(&str, &str); 8] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("FreeBSD", "FreeBSD"),
    ("Linux", "Linux"),
];

const SOME: &str = "A browser on ";
const UNKNOWN: &str = "An unknown browser";

/// `Firefox on Linux`, from our own words only: nothing of the header itself is repeated.
fn browser_of(user_agent: &str) -> String {
    let named = |words: &[(&str, &'static str)]| words.iter().find(|(word, _)| user_agent.contains(word)).map(|(_, name)| *name);
    // `Version/` alone is Safari's; others of WebKit's family say it beside a name of their own.
    let browser = named(&BROWSERS).filter(|name| *name != "Safari" || user_agent.contains("Safari/"));
    match (browser, named(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => format!("{SOME}{system}"),
        (None, None) => UNKNOWN.to_owned(),
    }
}

/// The same of whoever holds a session, which may be an app of one's own rather than a browser.
#[must_use]
pub fn device_of(user_agent: &str, shown_as: ShownAs) -> String {
    match (shown_as, browser_of(user_agent).as_str()) {
        (ShownAs::Cookie, browser) => browser.to_owned(),
        (ShownAs::Token, UNKNOWN) => "An app".to_owned(),
        (ShownAs::Token, known) => format!("An app ({})", known.strip_prefix(SOME).unwrap_or(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_are_told_by_what_they_run_on() {
        for (user_agent, expected) in [
            ("okhttp/4.12.0", "An app (okhttp)"),
            ("Acme/2.1 (iPhone; iOS 26.1)", "An app (iPhone)"),
            ("Acme/2.1", "An app"),
            ("", "An app"),
        ] {
            assert_eq!(device_of(user_agent, ShownAs::Token), expected, "{user_agent}");
            assert_eq!(device_of(user_agent, ShownAs::Cookie), browser_of(user_agent));
        }
    }

    #[test]
    fn common_browsers_are_told_by_their_own_names() {
        for (user_agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "Chrome on Windows",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0 Safari/537.36",
                "Chrome on Linux",
            ),
            ("curl/8.5.0", "curl"),
            ("Mozilla/5.0 (X11; Linux x86_64)", "A browser on Linux"),
            ("", "An unknown browser"),
            ("<script>alert(1)</script>", "An unknown browser"),
        ] {
            assert_eq!(browser_of(user_agent), expected, "{user_agent}");
        }
    }
}
