//! What is told: plain data, as JSON or as text for people. No secret is in it, neither of the config nor of what was asked about.

use serde::Serialize;

/// What would happen to a request, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// What was asked about.
    pub request: Asked,
    /// The routes in the order in which they are tried, with what became of each. Empty where none was looked for.
    pub routes: Vec<Tried>,
    /// The one that was found.
    pub route: Option<OnRoute>,
    /// Which credential counts.
    pub credential: Option<Shown>,
    /// Who that is.
    pub identity: Option<Who>,
    /// The policies, rule by rule.
    pub policies: Vec<Judged>,
    /// What would happen.
    pub outcome: Outcome,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// A request as it was read.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// The host that was asked for.
    pub host: String,
    /// The path as it was written.
    pub path: String,
    /// The path as it is matched and sent on; `None`: it has more than one reading, or the host was refused first.
    pub canonical_path: Option<String>,
    /// Who connects, by the walk over trusted proxies.
    pub address: String,
    /// `navigation` or `program`.
    pub audience: &'static str,
}

/// What became of one route.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// Its id.
    pub id: String,
    /// Its host pattern.
    pub host: String,
    /// Its path pattern.
    pub path: String,
    /// Whether it is the request's.
    pub selected: bool,
    /// Why, or why not.
    pub why: String,
}

/// What the route says.
#[derive(Clone, Debug, Serialize)]
pub struct OnRoute {
    /// Its id.
    pub id: String,
    /// `public`, `optional` or `protected`.
    pub access: &'static str,
    /// Which credentials it reads, in the words of `accept`.
    pub accept: Vec<&'static str>,
    /// Whether what its policy refuses passes all the same.
    pub dry_run: bool,
}

/// The credential that counts.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its word in `accept`; `None`: there is none, or none that can be read.
    pub kind: Option<&'static str>,
    /// Where it was found, or that it was supposed.
    pub found: String,
}

/// Somebody.
#[derive(Clone, Debug, Serialize)]
pub struct Who {
    /// Who vouches, in the words of `provider`.
    pub provider: String,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub sub: String,
    /// What the upstream is told.
    pub user: String,
    /// The address.
    pub email: Option<String>,
    /// Whether it counts.
    pub email_verified: bool,
    /// The groups; `None`: the provider left them out because they are too many.
    pub groups: Option<Vec<String>>,
    /// The scopes.
    pub scopes: Vec<String>,
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Its id.
    pub policy: String,
    /// Whether it is the route's `deny`: whom its rules mean is kept out, and it holds for everybody else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deny: bool,
    /// Whether somebody gets past it; `None`: nobody was there.
    pub holds: Option<bool>,
    /// What it says.
    pub rule: RuleTold,
}

/// One rule of a policy.
#[derive(Clone, Debug, Serialize)]
pub struct RuleTold {
    /// The config's key.
    pub key: String,
    /// What it wants.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wants: String,
    /// What it saw.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub saw: String,
    /// Whether it holds; `None`: nobody was there to hold it against.
    pub holds: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The rules inside of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleTold>,
}

/// What would happen.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What the gateway does.
    pub does: Does,
    /// The reason as the log and the metrics name it; `None`: it is not settled.
    pub reason: Option<&'static str>,
    /// What was found, where the reason does not say it all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The reason for which it would be refused, were the route not in dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_be: Option<&'static str>,
    /// The status of the gateway's own answer; `None`: it is the upstream's, or not settled.
    pub status: Option<u16>,
    /// Headers of that answer which mean something to whoever gets it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Line>,
    /// What goes to the upstream.
    pub upstream: Option<Sent>,
}

/// What the gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// Sends the request on.
    Forward,
    /// Sends the browser to sign in.
    SignIn,
    /// Answers itself: a refusal, or a status that the config gives in place of an upstream.
    Answer,
    /// One of its own endpoints answers.
    Endpoint,
    /// It depends on a credential that is not opened here.
    Unsettled,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its value; what is secret, or made anew for each request, is named between `«` and `»`.
    pub value: String,
}

/// Where an upstream of the config leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To its addresses, as they are told.
    To(String),
    /// Nowhere: the answer stands in the config.
    Answer(http::StatusCode),
}

/// A request as the upstream gets it.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Where to.
    pub to: String,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers that the gateway sets.
    pub set: Vec<Line>,
    /// Headers that pass as they were given.
    pub passed: Vec<Line>,
    /// Names of headers that were given and go no further.
    pub taken_out: Vec<String>,
}
