//! `dpop`, `dpop_nonce`, `dpop_proof` and `certificate_bound` of a route.

use super::reader::Section;
use crate::credential::CredentialKind;
use crate::route::{Binding, Bound, NonceRule, ProofFate};

/// Reads them. `kinds` are the credentials that the route takes, where that is known.
pub(super) fn read(section: &Section<'_>, kinds: Option<&[CredentialKind]>) -> Binding {
    let bound = |key| section.choice(key, Bound::Accepted, &[("accepted", Bound::Accepted), ("required", Bound::Required)]);
    let binding = Binding {
        dpop: bound("dpop"),
        certificate: bound("certificate_bound"),
        nonce: if section.flag("dpop_nonce", false) { NonceRule::Asked } else { NonceRule::Unasked },
        proof: section.choice("dpop_proof", ProofFate::Removed, &[("remove", ProofFate::Removed), ("forward", ProofFate::Forwarded)]),
    };
    let tokens = kinds.is_none_or(|kinds| kinds.contains(&CredentialKind::Bearer)) && section.text("access").as_deref() != Some("public");
    for key in ["dpop", "certificate_bound", "dpop_nonce", "dpop_proof"] {
        if section.has(key) && !tokens {
            section.problem(key, "is about tokens, and the route reads none; write accept = [\"bearer\"], or take the key out");
        }
    }
    binding
}
