//! Whether somebody may pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use doorward::credential::{Authenticated, Authentication, CredentialKind};
use doorward::decision::{Decision, Extra, decide};
use doorward::policy::{Policy, Rule};
use doorward::route::{Accept, Access, Route};

use crate::measure::{curve, step};
use crate::people::{self, NOW};

pub fn run() {
    let facts = people::facts("/dashboard");
    let extra = Extra::at(NOW, Duration::from_secs(60));
    let accept = || Accept::of(vec![CredentialKind::Session]);
    let protected = |rule| Arc::new(Route::new("app", 0, Access::Protected(accept(), Arc::new(Policy { id: "app".into(), rule }))));
    let public = Arc::new(Route::new("public", 0, Access::Public));
    let open = protected(Rule::AnyAuthenticated);
    let in_groups = |n: usize| {
        // The last of theirs is the one that counts.
        let wanted: BTreeSet<String> = (n - 1..2 * n - 1).map(|n| format!("group-{n}")).collect();
        (protected(Rule::Groups(wanted)), people::ann(n))
    };
    let (one, ten) = (in_groups(1), in_groups(10));
    let permitted = |route: &Arc<Route>, authentication| {
        let decision = decide(route, &facts, authentication, &extra);
        assert!(matches!(decision, Decision::Permit(_)));
    };
    let known =
        |identity: &Arc<_>| Authentication::Authenticated(Authenticated { identity: Arc::clone(identity), by: CredentialKind::Session });
    let anybody = || Authentication::Authenticated(Authenticated { identity: Arc::clone(&one.1), by: CredentialKind::Session });
    curve(
        "decide: a permit",
        vec![
            step("of a public route", || permitted(&public, anybody())),
            step("of anybody who is known", || permitted(&open, anybody())),
            step("of 1 group by 1", || permitted(&one.0, known(&one.1))),
            step("of 10 groups by 10", || permitted(&ten.0, known(&ten.1))),
        ],
    );
}
