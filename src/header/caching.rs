//! Who may keep an answer: what was made for somebody is theirs alone (RFC 9111 §5.2.2; RFC 6750 §2.3 wants it where
//! the token stood in the query, which a cache takes for the address).

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

/// Words for caches between us and the browser that come before `Cache-Control`: those of old. Those of RFC 9213 end in `-cache-control`, each
/// cache has its own.
const TARGETED: [HeaderName; 3] =
    [HeaderName::from_static("edge-control"), HeaderName::from_static("surrogate-control"), HeaderName::from_static("x-accel-expires")];

/// Keeps an answer out of caches that others share. One that says nothing of caches gets `private, no-cache`; of one that does `public` and
/// `s-maxage` are taken out, and `private` is added. What stands there for the browser alone stays.
pub fn keep_private(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_for_shared_caches(name)).cloned() {
        headers.remove(name);
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        return;
    }
    let kept = private(headers);
    headers.insert(CACHE_CONTROL, kept);
}

/// Whether a header says something to caches that others share, and to them alone.
#[must_use]
pub fn is_for_shared_caches(name: &HeaderName) -> bool {
    TARGETED.contains(name) || name.as_str().ends_with("-cache-control")
}

fn private(headers: &HeaderMap) -> HeaderValue {
    let mut kept: Vec<&str> = Vec::new();
    let mut is_private = false;
    for line in headers.get_all(CACHE_CONTROL) {
        let Ok(line) = line.to_str() else { return HeaderValue::from_static("private, no-cache") };
        for directive in directives(line) {
            let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
            match name.as_str() {
                "" | "public" | "s-maxage" => continue,
                // With field names it is said of those alone (§5.2.2.7).
                "private" | "no-store" => is_private |= !directive.contains('='),
                _ => {}
            }
            kept.push(directive);
        }
    }
    if !is_private {
        kept.insert(0, "private");
    }
    HeaderValue::try_from(kept.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("private, no-cache"))
}

/// Between commas that stand in no quoted string.
fn directives(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |character| {
        let was = escaped;
        escaped = quoted && character == '\\' && !was;
        quoted ^= character == '"' && !was;
        character == ',' && !quoted
    })
    .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_somebody_is_kept_for_others() {
        for (lines, expected) in [
            (&[][..], "private, no-cache"),
            (&["public"], "private"),
            (&["public, max-age=60"], "private, max-age=60"),
            (&["Public,MAX-AGE=60 , S-MaxAge=600"], "private, MAX-AGE=60"),
            (&["max-age=60", "public"], "private, max-age=60"),
            (&["no-cache"], "private, no-cache"),
            (&["no-store"], "no-store"),
            (&["private, max-age=60"], "private, max-age=60"),
            (&["private=\"set-cookie, x, public\", max-age=1"], "private, private=\"set-cookie, x, public\", max-age=1"),
            (&["no-cache=\"a\\\", public\", immutable"], "private, no-cache=\"a\\\", public\", immutable"),
            (&[""], "private"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-accel-expires", HeaderValue::from_static("600"));
            headers.insert("edge-control", HeaderValue::from_static("public"));
            for cache in ["cdn-cache-control", "cloudflare-cdn-cache-control", "vercel-cdn-cache-control"] {
                headers.insert(cache, HeaderValue::from_static("public"));
            }
            for line in lines {
                headers.append(CACHE_CONTROL, line.parse().unwrap());
            }
            keep_private(&mut headers);
            let found: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(found, [expected], "{lines:?}");
            assert_eq!(headers.len(), 1, "{headers:?}");
        }
    }
}
