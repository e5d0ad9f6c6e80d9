//! A policy on trial.

/// `dry_run` of a route: what becomes of those whom its policy refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// They are refused.
    #[default]
    Off,
    /// They pass, and it is told that they would have been refused. An identity is needed all the same, and one of the worth that the route asks for.
    On,
}
