//! Who is allowed: an [`Identity`](crate::identity::Identity) against a [`Policy`]. Pure; every refusal says which requirement failed. `matching`
//! is the other way round, whom `deny` means; `emails_file` a list that changes; `told` what strangers may know of a policy, `trace` what an operator
//! is told rule by rule.

mod email;
mod emails_file;
mod evaluate;
mod matching;
mod told;
mod trace;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::identity::ClaimPath;

pub use email::EmailAddress;
pub use emails_file::EmailList;
pub use evaluate::Refusal;
pub use trace::Trace;

/// What an `allow` table or a `[policy.NAME]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name in logs: the policy's own, or the route's.
    pub id: String,
    /// What has to hold.
    pub rule: Rule,
}

/// What has to hold of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `allow = "any-authenticated"`.
    AnyAuthenticated,
    /// Each of these: the keys of one table.
    All(Vec<Rule>),
    /// One of these: `any_of`.
    Any(Vec<Rule>),
    /// `provider`: whose sessions or tokens the rest of the table speaks of.
    Provider(BTreeSet<String>),
    /// `emails`: one of these addresses, verified.
    Emails(BTreeSet<EmailAddress>),
    /// `emails_file`: one of the addresses of a file, verified.
    EmailsFile(Arc<EmailList>),
    /// `email_domains`: a verified address at one of these domains, by labels.
    EmailDomains(BTreeSet<String>),
    /// `groups`: a member of one of these.
    Groups(BTreeSet<String>),
    /// `scopes`: all of these.
    Scopes(BTreeSet<String>),
    /// `claims.PATH`: one of these values.
    Claim(ClaimPath, BTreeSet<String>),
}
