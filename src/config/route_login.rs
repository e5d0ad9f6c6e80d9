//! `login` and `scopes` of a route: who is sent to sign in there, and with what.

use super::reader::Section;
use crate::credential::CredentialKind;
use crate::route::{Access, LoginMode};

/// Reads both.
pub(super) fn read(section: &Section<'_>, access: Option<&Access>) -> (LoginMode, Vec<String>) {
    let words = [("auto", LoginMode::Auto), ("never", LoginMode::Never), ("always", LoginMode::Always)];
    let login = section.choice("login", LoginMode::Auto, &words);
    let scopes = section.parsed_list("scopes", |text| {
        // RFC 6749 §3.3: what a scope is made of.
        let sound = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if sound { Ok(text.to_owned()) } else { Err(format!("expected scopes such as [\"orders:read\"], an item each; found {text:?}")) }
    });
    let takes_sessions = |access: &Access| match access {
        Access::Public => false,
        Access::Optional(accept) | Access::Protected(accept, _) => accept.takes(CredentialKind::Session),
    };
    for (key, what) in [("login", "nobody is sent to sign in"), ("scopes", "no login is begun")] {
        match access {
            Some(Access::Public) if section.has(key) => {
                section.problem(key, format!("stands beside access = \"public\", where {what}; remove one of them"));
            }
            Some(Access::Optional(_)) if section.has(key) && key == "login" => {
                section.problem(key, format!("stands beside access = \"optional\", where {what}; remove one of them"));
            }
            Some(access) if section.has(key) && !takes_sessions(access) => {
                section
                    .problem(key, format!("is for routes that accept \"session\"; here {what}: remove it, or add \"session\" to accept"));
            }
            _ => {}
        }
    }
    (login, scopes.unwrap_or_default())
}
