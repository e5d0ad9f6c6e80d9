//! `groups_claim` and `claims_from`: where what is said of people stands.

use super::reader::Section;
use crate::identity::{ClaimPath, GroupPaths};
use crate::provider::ClaimSource;

/// A claim by name or path, a list of them, or a table of them with what is put before the names that stand there.
pub(super) fn read_groups(section: &Section<'_>) -> Option<GroupPaths> {
    const KEY: &str = "groups_claim";
    if section.is_table(KEY) {
        if section.is_empty_table(KEY) {
            section.problem(KEY, "is empty, which names no place where groups are; leave it out");
        }
        let places =
            section.texts_of(KEY, "what is put before the names that stand there, as a text such as \"role:\", or \"\" for nothing");
        let read = |(path, before): (String, String)| match parse(&path) {
            Ok(path) => Some((path, before)),
            Err(why) => {
                section.problem(KEY, why);
                None
            }
        };
        return GroupPaths::several(places.into_iter().filter_map(read).collect());
    }
    let places = section.parsed_list(KEY, parse)?;
    GroupPaths::several(places.into_iter().map(|path| (path, String::new())).collect())
}

fn parse(text: &str) -> Result<ClaimPath, String> {
    ClaimPath::parse(text)
        .ok_or_else(|| format!("expected a claim's name or path, such as \"groups\" or \"realm_access.roles\"; found {text:?}"))
}

/// `claims_from`.
pub(super) fn read_sources(section: &Section<'_>) -> Vec<ClaimSource> {
    const KEY: &str = "claims_from";
    let read = section.parsed_list(KEY, |word| match word {
        "id_token" => Ok(ClaimSource::IdToken),
        "userinfo" => Ok(ClaimSource::Userinfo),
        "access_token" => Ok(ClaimSource::AccessToken),
        other => Err(format!("expected \"id_token\", \"userinfo\" or \"access_token\"; found {other:?}")),
    });
    let sources = read.unwrap_or_else(|| vec![ClaimSource::IdToken, ClaimSource::Userinfo]);
    if !sources.contains(&ClaimSource::IdToken) {
        section.problem(KEY, "lacks \"id_token\", which says who signed in and is always read");
    }
    sources
}
