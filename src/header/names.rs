//! The identity family: every header that an upstream might take for our word on who somebody is or where they come from.

use std::collections::HashSet;

use http::HeaderName;

/// Names that only we may set, compared with case folded and whatever is no letter or digit as `-`: WSGI and CGI servers see no difference between
/// `-` and `_` (CVE-2025-64484), and there are some that make `_` of everything else a name may hold (RFC 9110 §5.6.2), as of `.`.
#[derive(Clone, Debug)]
pub struct IdentityFamily {
    names: HashSet<String>,
    /// By the low bits of a name's first letter: which lengths (their low bits) names of the family have that begin so. Most headers are none of
    /// the family, and this tells it without a hash.
    lengths: [u64; 32],
}

/// Always in the family. Those for paths and addresses are here because upstreams route and log by them.
const ALWAYS: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "remote-user",
    "x-remote-user",
    "x-original-uri",
    "x-original-url",
    "x-original-host",
    "x-original-method",
    "x-original-forwarded-for",
    "x-rewrite-url",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "front-end-https",
    "x-url-scheme",
    "x-request-id",
    "proxy-authorization",
    "proxy",
    // RFC 9440: a word on who somebody is, for those who believe the proxy that writes it.
    "client-cert",
    "client-cert-chain",
];

/// Everything that starts so.
const PREFIXES: &[&str] = &["x-forwarded-", "x-auth-request-", "x-doorward-", "doorward-"];

impl IdentityFamily {
    /// The family, with the names that the config gives to headers of its own: stripped on all routes, also where they are not set.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let own = configured.into_iter().map(|name| folded(name.as_str()));
        let names: HashSet<String> = ALWAYS.iter().map(|name| (*name).to_owned()).chain(own).collect();
        let mut lengths = [0; 32];
        for name in &names {
            if let Some(known) = lengths.get_mut(first_letter(name)) {
                *known |= length_bit(name);
            }
        }
        Self { names, lengths }
    }

    fn names(&self, name: &str) -> bool {
        let possible = self.lengths.get(first_letter(name)).is_some_and(|known| known & length_bit(name) != 0);
        (possible && self.names.contains(name)) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Whether only we may set it.
    #[must_use]
    pub fn holds(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        // Most names are spelled plainly: told apart without building a string.
        if is_plain(name) { self.names(name) } else { self.names(&folded(name)) }
    }
}

fn first_letter(name: &str) -> usize {
    name.bytes().next().map_or(0, |byte| usize::from(byte & 31))
}

const fn length_bit(name: &str) -> u64 {
    1 << (name.len() & 63)
}

/// Whether a name means the same to everybody: letters, digits and `-` alone.
pub(super) fn is_plain(name: &str) -> bool {
    // Without a way out amid the name: so many bytes are looked at together.
    name.bytes().fold(true, |plain, byte| plain & (byte.is_ascii_alphanumeric() | (byte == b'-')))
}

/// Lower case, and `-` for whatever is no letter or digit.
#[must_use]
pub fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}
