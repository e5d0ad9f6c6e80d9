//! `dry_run` of a route.

use super::reader::Section;
use crate::policy::{Policy, Rule};
use crate::route::{Access, DryRun};

/// Reads it. The start says that it is on: such a route lets everybody in who is known.
pub(super) fn read(section: &Section<'_>, access: Option<&Access>, deny: Option<&Policy>) -> DryRun {
    if !section.flag("dry_run", false) {
        return DryRun::Off;
    }
    match access {
        Some(Access::Public | Access::Optional(_)) if deny.is_none() => {
            section.problem("dry_run", "stands beside access, and such a route has no policy to try: remove one of them");
        }
        Some(Access::Protected(_, policy)) if policy.rule == Rule::AnyAuthenticated && deny.is_none() => {
            section.problem(
                "dry_run",
                "has nothing to try: allow = \"any-authenticated\" refuses nobody; write the rules to be tried, or remove it",
            );
        }
        Some(_) => {
            section.warning(
                "dry_run",
                "is on: everybody who is known passes here, and whom the policy would refuse is only logged and counted",
            );
        }
        None => {}
    }
    DryRun::On
}
