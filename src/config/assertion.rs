//! The assertion: `assertion` and what goes with it on a route, and `[keys] assertion_file, assertion_rotation`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::routes::Routes;
use super::secret_file;
use crate::header::{AssertionRule, ToldClaim};
use crate::outbound::assertion::FileKeys;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What signs assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertionKeys {
    /// The keys of `keys.assertion_file`, which is read again when it changes.
    Given(PathBuf),
    /// Keys that the gateway makes and keeps in its store.
    Made {
        /// How long one signs; `None`: for ever.
        rotation: Option<Duration>,
    },
}

/// What a route tells its upstream; `None`: nothing.
pub(super) fn of_route(section: &Section<'_>, id: &str) -> Option<AssertionRule> {
    let wanted = section.flag("assertion", false);
    let audience = section.text("assertion_audience");
    let claims = section.parsed_list("assertion_claims", ToldClaim::parse);
    if !wanted {
        for key in ["assertion_audience", "assertion_claims"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "does nothing here: write assertion = true beside it, or remove it");
        }
        return None;
    }
    if section.text("access").as_deref() == Some("public") {
        section.problem(
            "assertion",
            "stands beside access = \"public\", which reads no credential: there would be nobody to tell of; remove one of them",
        );
    }
    if !section.has("assertion_audience") && !section.has("id") {
        section.problem("assertion", "needs an id of the route, which is the assertion's audience, or assertion_audience");
    }
    Some(AssertionRule { audience: audience.unwrap_or_else(|| id.to_owned()), claims: claims.unwrap_or_default() })
}

/// What `[keys]` says of them, where a route needs some.
pub(super) fn read_keys(section: &Section<'_>, routes: Option<&Routes>) -> Option<AssertionKeys> {
    let file = section.file("assertion_file");
    let rotation = section.parsed("assertion_rotation", |text| match (text, humantime::parse_duration(text)) {
        ("off", _) => Ok(None),
        (_, Ok(every)) if (DAY..=366 * DAY).contains(&every) => Ok(Some(every)),
        _ => Err(format!("expected \"off\" or a time such as \"30d\", from 1d to 366d; found {text:?}")),
    });
    let routes = routes?;
    let wanted = routes.table.routes().iter().any(|route| route.assertion.is_some());
    if !wanted {
        for key in ["assertion_file", "assertion_rotation"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "does nothing: no route has assertion = true");
        }
        return None;
    }
    let Some(file) = file else { return Some(AssertionKeys::Made { rotation: rotation.unwrap_or(Some(30 * DAY)) }) };
    if section.has("assertion_rotation") {
        section.problem("assertion_rotation", "stands beside assertion_file, whose keys you change yourself; remove one of them");
    }
    let read = std::fs::read(&file).map(zeroize::Zeroizing::new).map_err(|error| format!("cannot be read: {error}"));
    if let Err(error) = read.and_then(|pem| FileKeys::read(&pem)) {
        section.problem("assertion_file", format!("{}: {error}", file.display()));
        return None;
    }
    secret_file::warn_if_open(section, "assertion_file", &file);
    Some(AssertionKeys::Given(file))
}
