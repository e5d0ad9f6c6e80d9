//! Headers that a `[[route]]` tells its upstream: `headers`, and which of our own (`identity_headers`).

use std::cell::RefCell;
use std::path::PathBuf;

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::reader::Section;
use super::route_parts::reserved;
use super::{header_file, secret_file};
use crate::header::{HeaderRule, HeaderTemplate, IdentityHeader};
use crate::route::{Access, ProofFate};

/// What the gateway writes after these, on every request: set here they would say nothing.
const WRITTEN_LATER: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "forwarded",
    "x-request-id",
    "traceparent",
    "tracestate",
    "doorward-assertion",
];

/// Reads `headers`.
pub(super) fn read(section: &Section<'_>, access: Option<&Access>) -> Vec<HeaderRule> {
    let mut rules = Vec::new();
    if section.has("headers") && matches!(access, Some(Access::Public)) {
        section.problem(
            "headers",
            "stands beside access = \"public\", where nobody is known and no header of yours is sent; remove one of them",
        );
    }
    for (name, template) in section.texts("headers") {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|header| !reserved(header));
        let Some(header) = header else {
            section.problem(
                "headers",
                format!("expected a header's name that frames nothing (not Host, Content-Length, Connection …); found {name:?}"),
            );
            continue;
        };
        if WRITTEN_LATER.contains(&header.as_str()) {
            section.problem("headers", format!("{name} is written by the gateway itself, after these; remove it"));
            continue;
        }
        if template.trim().is_empty() {
            section.problem("headers", format!("{name} is empty; write what is to be sent, or remove it"));
            continue;
        }
        if rules.iter().any(|rule: &HeaderRule| rule.name == header) {
            section.problem(
                "headers",
                format!("{name} is there twice, since capitals and small letters are the same in it; remove one of them"),
            );
            continue;
        }
        if header == AUTHORIZATION && access.and_then(accept).is_some_and(|proof| proof == ProofFate::Forwarded) {
            section.problem(
                "dpop_proof",
                "sends the caller's token on in Authorization, and headers put something else there; remove one of them",
            );
        }
        let opened = RefCell::new(Vec::new());
        let open = |path: &str| {
            opened.borrow_mut().push(PathBuf::from(path));
            header_file::open(path)
        };
        match HeaderTemplate::parse(&template, &open) {
            Ok(template) => rules.push(HeaderRule { name: header, template }),
            Err(error) => section.problem("headers", format!("{name}: {error}")),
        }
        for path in opened.into_inner() {
            secret_file::warn_if_open(section, "headers", &path);
        }
    }
    rules
}

fn accept(access: &Access) -> Option<ProofFate> {
    match access {
        Access::Public => None,
        Access::Optional(accept) | Access::Protected(accept, _) => Some(accept.binding.proof),
    }
}

/// Reads `identity_headers`.
pub(super) fn read_identity(section: &Section<'_>, access: Option<&Access>) -> Vec<IdentityHeader> {
    let all = || IdentityHeader::ALL.map(|(_, header)| header).to_vec();
    if !section.has("identity_headers") {
        return all();
    }
    if matches!(access, Some(Access::Public)) {
        section
            .problem("identity_headers", "stands beside access = \"public\", where nobody is known and none is sent; remove one of them");
    }
    // Here nothing is what is meant: none are sent.
    if section.is_empty_list("identity_headers") {
        return Vec::new();
    }
    let named = section.parsed_list("identity_headers", |word| {
        let found = IdentityHeader::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, header)| header);
        found.ok_or_else(|| {
            let words = IdentityHeader::ALL.map(|(word, _)| format!("{word:?}")).join(", ");
            format!("expected some of {words}, or [] for none; found {word:?}")
        })
    });
    named.unwrap_or_else(all)
}
