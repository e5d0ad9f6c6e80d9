//! Permission as a value.

use std::sync::Arc;

use crate::credential::Authenticated;
use crate::fault::Fault;
use crate::reason::Reason;
use crate::route::Route;

/// That a request may pass. Only [`super::decide`] makes one, and forwarding as well as the forward-auth 200 need one:
///
/// ```compile_fail
/// use doorward::decision::Permit;
/// fn forge(route: std::sync::Arc<doorward::route::Route>) -> Permit {
///     Permit { route, who: None, reason: doorward::reason::Reason::Public }
/// }
/// ```
///
/// ```compile_fail
/// fn forge(route: &std::sync::Arc<doorward::route::Route>) -> doorward::decision::Permit {
///     doorward::decision::Permit::new(route, None, doorward::reason::Reason::Public)
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    route: Arc<Route>,
    who: Option<Authenticated>,
    reason: Reason,
    would_be: Option<Fault>,
}

impl Permit {
    pub(super) fn new(route: &Arc<Route>, who: Option<Authenticated>, reason: Reason) -> Self {
        Self { route: Arc::clone(route), who, reason, would_be: None }
    }

    /// On a route whose policy is on trial, for somebody whom it refuses.
    pub(super) fn on_trial(route: &Arc<Route>, who: Authenticated, would_be: Fault) -> Self {
        Self { would_be: Some(would_be), ..Self::new(route, Some(who), Reason::DryRun) }
    }

    /// What it would be refused for, were the route's policy not on trial.
    #[must_use]
    pub const fn would_be(&self) -> Option<&Fault> {
        self.would_be.as_ref()
    }

    /// On which route.
    #[must_use]
    pub const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// For whom; `None`: anybody.
    #[must_use]
    pub const fn who(&self) -> Option<&Authenticated> {
        self.who.as_ref()
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}
